// Does everything work at all? A minute at a gentle rate. Nobody is known at its beginning, so hits are told, not judged.

import { arrivals, asked } from './lib/plan.js';
import { sound, valid, watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

const { rate, duration } = asked(20, '60s');
const stages = [[duration * 0.25, rate, 'warm'], [duration * 0.75, rate, 'measured']];
const alone = { events_logged_twice: ['count==0'] };

export const options = all(arrivals(rate, stages), { ...watched('warm'), ...valid, ...alone, ...sound('measured') });
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
