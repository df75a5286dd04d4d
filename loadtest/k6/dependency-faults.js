// Services and engines die and freeze while visitors come: pages are never refused, and no event is lost. The script
// breaks nothing itself: `cargo xtask loadtest dependency-faults` calls loadtest/faults.sh meanwhile.

import { arrivals, asked } from './lib/plan.js';
import { objectives, valid, watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

const { rate, duration } = asked(50, '5m');
const stages = [[duration * 0.2, rate, 'warm'], [duration * 0.6, rate, 'faults'], [duration * 0.2, rate, 'after']];

export const options = all(arrivals(rate, stages), {
  ...valid, ...watched('warm'), ...watched('faults'), ...objectives('after'),
  // No bound on latency and hits meanwhile: the level tells what was left out.
  'http_req_failed{name:personalize,phase:faults}': ['rate<0.01'],
  'checks{phase:faults}': ['rate>0.95'],
});
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
