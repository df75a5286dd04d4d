// At which rate does it break? The rate rises from RATE to TIMES as much until an objective fails, which ends the run:
// exit code 99 is an answer here, and 0 says that the end of the ramp was not enough.

import { number } from './lib/env.js';
import { arrivals, asked } from './lib/plan.js';
import { watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

const { rate, duration } = asked(50, '10m');
const times = number('TIMES', 20);
const stages = [[duration * 0.1, rate, 'warm'], [duration * 0.9, rate * times, 'ramp']];
const ends = (threshold) => [{ threshold, abortOnFail: true, delayAbortEval: '10s' }];

export const options = all(arrivals(rate, stages), {
  'http_req_duration{name:personalize,phase:ramp}': ends('p(95)<100'),
  'http_req_failed{name:personalize,phase:ramp}': ends('rate<0.01'),
  ...watched('warm'), 'edge_hits{phase:ramp}': ['rate>=0'],
  dropped_iterations: ends('count==0'),
});
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
