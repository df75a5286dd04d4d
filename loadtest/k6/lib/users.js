// Who comes: Zipf by inverse CDF. The head's CDF is a table that all VUs share; beyond it the sum is an integral, whose
// inverse is a formula.

import { SharedArray } from 'k6/data';
import { alpha, users } from './env.js';
import { chance, mix, uniform, weighted } from './random.js';

const HEAD = Math.min(users, 65536);
// Of sessions: visitors who have no id, and are known by their session only.
const ANONYMOUS = 0.08;

// Sum of k^-alpha over the ranks above `from` up to `to`, by the integral between the half steps.
function tail(from, to) {
  const at = (x) => (alpha === 1 ? Math.log(x) : Math.pow(x, 1 - alpha) / (1 - alpha));
  return at(to + 0.5) - at(from + 0.5);
}

const cdf = new SharedArray('zipf', () => {
  const sums = [];
  let sum = 0;
  for (let rank = 1; rank <= HEAD; rank++) sums.push((sum += Math.pow(rank, -alpha)));
  const total = sum + tail(HEAD, users);
  return sums.map((each) => each / total);
});

function rank() {
  const u = uniform();
  const head = cdf[HEAD - 1];
  if (u >= head) {
    if (HEAD === users) return HEAD;
    // The share of the tail's mass up to the rank is (u - head) / (1 - head).
    const share = (u - head) / (1 - head);
    const [low, high] = [HEAD + 0.5, users + 0.5];
    if (alpha === 1) return Math.round(low * Math.pow(high / low, share));
    const [from, to] = [Math.pow(low, 1 - alpha), Math.pow(high, 1 - alpha)];
    return Math.min(users, Math.round(Math.pow(from + share * (to - from), 1 / (1 - alpha))));
  }
  let [low, high] = [0, HEAD - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cdf[middle] <= u) low = middle + 1;
    else high = middle;
  }
  return low + 1;
}

// Hashed, so that neighbours in popularity are not neighbours in any store.
const name = (n) => `load-${mix(n).toString(16).padStart(8, '0')}${mix(n ^ 0x5bd1e995).toString(16).padStart(8, '0')}`;

const DEVICES = [['mobile', 0.55], ['desktop', 0.32], ['tablet', 0.08], ['tv', 0.05]];
const PLACES = [
  ['us-east', 0.22], ['us-west', 0.18], ['us-central', 0.1], ['eu-west', 0.17], ['eu-central', 0.13],
  ['ap-south', 0.08], ['ap-northeast', 0.07], ['sa-east', 0.05],
];

export function visitor() {
  const user = chance(ANONYMOUS) ? null : name(rank());
  return { user, device: weighted(DEVICES), geo: weighted(PLACES) };
}
