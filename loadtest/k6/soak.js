// Is a long day's end like its beginning? The objectives hold early and late, so memory, disk and queues have not grown
// into the latencies.

import { arrivals, asked } from './lib/plan.js';
import { objectives, valid, watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

const { rate, duration } = asked(50, '8h');
const part = (share, phase) => [duration * share, rate, phase];
const stages = [part(0.05, 'warm'), part(0.15, 'early'), part(0.65, 'middle'), part(0.15, 'late')];

export const options = all(arrivals(rate, stages), {
  ...valid, ...watched('warm'), ...objectives('early'), ...watched('middle'), ...objectives('late'),
});
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
