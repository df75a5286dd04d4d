// What visitors do with a page, and when they say so: an impression of each slot, clicks that thin out by position,
// what follows from a click; told together when the page is left, some late, some twice, and again until answered.

import { Counter, Rate } from 'k6/metrics';
import { chance, logNormal, uniform } from './random.js';

// Chance of a click on the first slot; on slot k it is divided by k.
const ATTRACTION = 0.075;
const LATE = 0.01;
const TWICE = 0.02;
// Batches a VU sends beside one page at most.
const AT_ONCE = 4;
const PATIENCE = 1000;

const sent = new Counter('events_sent');
const acknowledged = new Counter('events_acknowledged');
const rejected = new Counter('events_rejected');
const late = new Counter('events_late');
const resent = new Counter('events_resent');
const repeated = new Counter('events_logged_twice');
const answered = new Rate('feedback_answered');

const outbox = [];
let number = 0;

// What the visitor does with the page, in the time until they leave it.
export function react(session, answer, run, now, stay) {
  const events = [];
  const event = (type, at, position, value) => {
    number += 1;
    const one = { event_id: `${run}-${__VU}-${number}`, type, item_id: answer.items[position].item_id, position };
    one[session.user === null ? 'session_id' : 'user_id'] = session.user === null ? session.id : session.user;
    one.request_id = answer.request_id;
    one.occurred_at = new Date(Math.floor(at)).toISOString();
    if (value !== undefined) one.value = value;
    events.push(one);
  };
  answer.items.forEach((_, position) => event('impression', now, position));
  answer.items.forEach((item, position) => {
    if (session.clicked || !chance(ATTRACTION / (position + 1))) return;
    session.clicked = item.item_id;
    const at = now + uniform() * stay * 0.5;
    event('click', at, position);
    event('dwell', at + stay * 0.4, position, Math.round(logNormal(20, 1)));
    if (chance(0.05)) event('like', at + stay * 0.3, position);
    if (session.page === 'cart' && chance(0.5)) {
      event('conversion', at + stay * 0.4, position, Math.round(logNormal(2500, 0.7)));
    }
  });
  if (events.length > 0 && chance(0.005)) event('hide', now + stay * 0.6, events[0].position);
  const [onTime, held] = [[], []];
  events.forEach((one) => (chance(LATE) ? held : onTime).push(one));
  if (onTime.length > 0) put(session, onTime, now + stay);
  if (held.length > 0) {
    late.add(held.length);
    put(session, held, now + stay + 15000 + 30000 * uniform());
  }
}

function put(session, events, due) {
  outbox.push({ session, body: JSON.stringify({ events }), count: events.length, due, tries: 0, again: false });
}

// The batches to send now.
export function due(now) {
  const ready = [];
  for (let i = 0; i < outbox.length && ready.length < AT_ONCE; ) {
    if (outbox[i].due <= now) ready.push(outbox.splice(i, 1)[0]);
    else i++;
  }
  for (const batch of ready) {
    if (batch.tries === 0) (batch.again ? resent : sent).add(batch.count);
    batch.tries += 1;
  }
  return ready;
}

export function settle(batch, response, now) {
  const taken = response.status === 202;
  answered.add(taken);
  if (!taken) {
    // 503 and no answer are to be tried again; the event ids make that safe.
    outbox.push({ ...batch, due: now + PATIENCE * Math.min(8, Math.pow(2, batch.tries - 1)) });
    return;
  }
  const answer = response.json();
  if (batch.again) {
    repeated.add(answer.accepted);
    return;
  }
  rejected.add(answer.rejected.length);
  acknowledged.add(answer.accepted + answer.duplicates);
  const version = response.headers['X-Attune-Version'];
  if (version) batch.session.version = version;
  if (chance(TWICE)) outbox.push({ ...batch, due: now + 1000 + 4000 * uniform(), tries: 0, again: true });
}
