// Are the objectives met at the usual rate, once the edge knows its visitors?

import { arrivals, asked } from './lib/plan.js';
import { objectives, valid, watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

const { rate, duration } = asked(50, '15m');
const stages = [[duration * 0.25, rate, 'warm'], [duration * 0.75, rate, 'measured']];

export const options = all(arrivals(rate, stages), { ...watched('warm'), ...valid, ...objectives('measured') });
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
