// Twice the visitors within half a minute: the objectives hold during it and after it.

import { objectives } from './lib/slo.js';
import { spike } from './lib/spike.js';
import { visit } from './lib/visit.js';

export const options = spike(2, objectives);
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
