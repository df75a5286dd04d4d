// One arrival: the page, and beside it what its VU has to tell the platform by now.

import http from 'k6/http';
import exec from 'k6/execution';
import { check, sleep } from 'k6';
import { Rate, Trend } from 'k6/metrics';
import { edges, limit } from './env.js';
import { chance, uniform } from './random.js';
import { due, react, settle } from './feedback.js';
import { keep, pause, take } from './sessions.js';
import { headers } from './tracing.js';
import { jitter, phaseAt } from './plan.js';

http.setResponseCallback(http.expectedStatuses(200, 202));

const EXPLAINED = 0.05;
const hits = new Rate('edge_hits');
const levels = new Trend('page_level');
// Pages that are worse than the ladder's second step, without those whose visitors are meant to get favourites.
const degraded = new Rate('degraded');
const questions = [];

function page(session, edge, tags) {
  const body = { page_type: session.page, limit, context: { device: session.device, geo: session.geo, session_id: session.id } };
  if (session.user !== null) body.user_id = session.user;
  if (session.item !== null) body.item_id = session.item;
  if (session.query !== null) body.query = session.query;
  const params = { headers: headers(session), tags: { name: 'personalize', ...tags }, timeout: '5s' };
  return { method: 'POST', url: `${edge}/v1/personalize`, body: JSON.stringify(body), params };
}

function feedback(batch, tags) {
  const params = { headers: headers(batch.session), tags: { name: 'feedback', ...tags }, timeout: '10s' };
  return { method: 'POST', url: `${edges[batch.session.edge]}/v1/feedback`, body: batch.body, params };
}

function explanation(question, tags) {
  const { session, request, item } = question;
  const url = `${edges[session.edge]}/v1/explain?request_id=${request}&item_id=${encodeURIComponent(item)}`;
  return { method: 'GET', url, params: { headers: headers(session), tags: { name: 'explain', ...tags }, timeout: '15s' } };
}

// The visitor wonders about one of the items after a moment.
function wonder(session, answer, now) {
  if (answer.items.length === 0 || !chance(EXPLAINED)) return;
  const item = answer.items[Math.floor(uniform() * answer.items.length)].item_id;
  questions.push({ session, request: answer.request_id, item, due: now + 1000 + 2000 * uniform() });
}

export function visit(data, route) {
  sleep(jitter * uniform());
  const begun = Date.now();
  const elapsed = begun - exec.scenario.startTime;
  const tags = { phase: phaseAt(elapsed) };
  const session = take(begun);
  const batches = due(begun);
  const asked = questions.length > 0 && questions[0].due <= begun ? [questions.shift()] : [];
  if (route) [session, ...batches.map((batch) => batch.session), ...asked.map((one) => one.session)].forEach((one) => route(one, elapsed));
  const requests = [page(session, edges[session.edge], tags)];
  requests.push(...batches.map((batch) => feedback(batch, tags)), ...asked.map((one) => explanation(one, tags)));
  const responses = http.batch(requests);

  const now = Date.now();
  batches.forEach((batch, i) => settle(batch, responses[1 + i], now));
  asked.forEach((_, i) => check(responses[1 + batches.length + i], { 'an explanation': (r) => r.status === 200 && r.json('text') !== '' }, tags));
  const answer = responses[0];
  const whole = check(answer, { 'a page of items': (r) => r.status === 200 && r.json('items').length > 0 }, tags);
  const stay = pause();
  if (whole) {
    const shown = answer.json();
    // The origin alone knows what goes with an item or a query: the edge sends those pages there by design.
    const kind = session.item === null && session.query === null ? 'listing' : 'directed';
    hits.add(shown.cache === 'hit', { ...tags, kind, page: session.page });
    levels.add(shown.level, tags);
    degraded.add(shown.level >= 2 && shown.level_reason !== 'baseline_holdout', tags);
    if (answer.headers['X-Attune-Version']) session.version = answer.headers['X-Attune-Version'];
    react(session, shown, data.run, now, stay);
    wonder(session, shown, now);
  }
  keep(session, now, stay);
}
