// What do visitors see when the edge has just started with nothing in its caches, and all of them are there at once?
// The platform behind it knows them. `cargo xtask loadtest cold-cache` makes it so; the script alone only judges.

import { arrivals, asked } from './lib/plan.js';
import { objectives, valid, watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

const { rate, duration } = asked(50, '3m');
const stages = [[duration * 0.25, rate, 'cold'], [duration * 0.75, rate, 'measured']];

export const options = all(arrivals(rate, stages), {
  ...valid, ...objectives('measured'), ...watched('cold'),
  // The origin carries the misses meanwhile: the bound of the critical alert on latency, and nobody refused.
  'http_req_duration{name:personalize,phase:cold}': ['p(95)<150'],
  'http_req_failed{name:personalize,phase:cold}': ['rate<0.01'],
});
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
