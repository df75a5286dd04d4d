// How visitors walk: 1 + geometric pages, log-normal think times between them, and what kind of page is next.
//
// The rate of pages is the run's; sessions fill it. A page that is due goes to the session of this VU that has waited
// longest beyond its think time, and where there is none, a new visitor comes.

import { edges, think } from './env.js';
import { geometric, hex, logNormal, pick, uniform, weighted } from './random.js';
import { visitor } from './users.js';

const FURTHER_PAGES = 5;
const THINK = { median: 8, sigma: 0.8 };
// A click leads to the item's own page; these are the ways of those who clicked nothing. Some 60 % of all pages are home,
// 20 % product, 15 % search and 5 % cart, as in the simulated shop.
const FIRST = [['home', 0.85], ['search', 0.15]];
const NEXT = {
  home: [['home', 0.78], ['search', 0.17], ['cart', 0.05]],
  search: [['home', 0.65], ['search', 0.3], ['cart', 0.05]],
  product: [['home', 0.76], ['search', 0.14], ['cart', 0.1]],
  cart: [['home', 0.8], ['search', 0.2]],
};
const QUERIES = ['comedy', 'space', 'war', 'love', 'night', 'city', 'home', 'garden', 'blue', 'light', 'new', 'classic'];

const waiting = [];

function arrive() {
  const edge = Math.floor(uniform() * edges.length);
  return { id: hex(16), ...visitor(), edge, pages: 1 + geometric(FURTHER_PAGES), page: null, clicked: null, due: 0 };
}

export function take(now) {
  let best = -1;
  waiting.forEach((session, i) => {
    if (session.due <= now && (best < 0 || session.due < waiting[best].due)) best = i;
  });
  const session = best < 0 ? arrive() : waiting.splice(best, 1)[0];
  turn(session);
  return session;
}

function turn(session) {
  const wanted = session.page === null ? FIRST : NEXT[session.page];
  session.page = session.clicked ? 'product' : weighted(wanted);
  session.item = session.clicked;
  session.query = session.page === 'search' ? pick(QUERIES) : null;
  session.clicked = null;
}

// Milliseconds until the next page.
export const pause = () => 1000 * think * logNormal(THINK.median, THINK.sigma);

export function keep(session, now, after) {
  session.pages -= 1;
  session.due = now + after;
  if (session.pages > 0) waiting.push(session);
}
