// Do the objectives hold at one and a half times the usual rate, reached in steps?

import { arrivals, asked } from './lib/plan.js';
import { objectives, valid, watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

const { rate, duration } = asked(50, '12m');
const step = (share, factor, phase) => [duration * share, rate * factor, phase];
const stages = [
  step(0.2, 1, 'warm'), step(0.2, 1, 'usual'), step(0.05, 1.25, 'rise'), step(0.2, 1.25, 'more'), step(0.05, 1.5, 'rise'),
  step(0.3, 1.5, 'stress'),
];

export const options = all(arrivals(rate, stages), {
  ...valid, ...watched('warm'), ...watched('rise'), ...objectives('usual'), ...objectives('more'), ...objectives('stress'),
});
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
