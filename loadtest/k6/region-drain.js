// One of the edges in EDGE, the first, is drained: its visitors go to the others, with the version of their state that
// they have seen. Do they notice? EDGE=http://A,http://B,http://C, of the same origin or of origins that share a log.

import { edges } from './lib/env.js';
import { arrivals, asked } from './lib/plan.js';
import { objectives, valid, watched } from './lib/slo.js';
import { options as all } from './lib/run.js';
import { visit } from './lib/visit.js';

if (edges.length < 2) throw new Error('EDGE must name two edges or more, with commas between');

const { rate, duration } = asked(50, '6m');
const stages = [
  [duration * 0.2, rate, 'warm'], [duration * 0.3, rate, 'before'], [duration * 0.1, rate, 'drain'], [duration * 0.4, rate, 'after'],
];
const drainAt = duration * 500;
// Names are looked up anew within this time, so sessions leave one by one.
const drainTime = duration * 100;

function route(session, elapsed) {
  if (session.edge !== 0 || elapsed < drainAt) return;
  const share = parseInt(session.id.slice(0, 8), 16) / 4294967296;
  if (share < (elapsed - drainAt) / drainTime) session.edge = 1 + (parseInt(session.id.slice(8), 16) % (edges.length - 1));
}

export const options = all(arrivals(rate, stages), {
  ...valid, ...watched('warm'), ...objectives('before'), ...watched('drain'), ...objectives('after'),
  'http_req_failed{name:personalize,phase:drain}': ['rate<0.01'],
});
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data, route);
