// Do the visitors come as the model says? Needs no platform: `k6 run loadtest/k6/test/model.js`.

import { check } from 'k6';
import { alpha, users } from '../lib/env.js';
import { geometric, logNormal, uniform } from '../lib/random.js';
import { visitor } from '../lib/users.js';

const N = 60000;

export const options = { iterations: 1, thresholds: { checks: ['rate==1'] } };

const sum = (values) => values.reduce((all, one) => all + one, 0);
const near = (seen, wanted, part) => Math.abs(seen - wanted) <= part * wanted;

// Of the weights of all visitors: the head one by one, the tail by the Euler-Maclaurin integral.
function weights() {
  const head = [];
  for (let rank = 1; rank <= 100000; rank++) head.push(Math.pow(rank, -alpha));
  const tail = (Math.pow(100000.5, 1 - alpha) - Math.pow(users + 0.5, 1 - alpha)) / (alpha - 1);
  return { head, total: sum(head) + tail };
}

// Variance over mean of the arrivals in windows of that many seconds: 1 for a Poisson process, 0 for even spacing.
function dispersion(rate, wait, window) {
  const bins = new Array(Math.floor(N / rate / window)).fill(0);
  for (let i = 0; i < N; i++) {
    const bin = Math.floor((i / rate + wait * uniform()) / window);
    if (bin < bins.length) bins[bin] += 1;
  }
  const mean = sum(bins) / bins.length;
  return sum(bins.map((n) => (n - mean) * (n - mean))) / bins.length / mean;
}

export default function () {
  const counts = {};
  let known = 0;
  for (let i = 0; i < N; i++) {
    const { user } = visitor();
    if (user === null) continue;
    known += 1;
    counts[user] = (counts[user] || 0) + 1;
  }
  const ranked = Object.values(counts).sort((a, b) => b - a);
  const { head, total } = weights();
  const think = Array.from({ length: N }, () => logNormal(8, 0.8)).sort((a, b) => a - b);
  const further = Array.from({ length: N }, () => geometric(5));
  const seen = {
    anonymous: 1 - known / N,
    first: ranked[0] / known,
    'first hundred': sum(ranked.slice(0, 100)) / known,
    'median think time': think[N / 2],
    'mean think time': sum(think) / N,
    'further pages': sum(further) / N,
    'dispersion within 20 ms': dispersion(50, 1, 0.02),
    'dispersion within 100 ms': dispersion(50, 1, 0.1),
    'dispersion of even spacing': dispersion(50, 0, 0.1),
  };
  console.log(JSON.stringify(seen));
  check(seen, {
    'one session in twelve has no id': (s) => near(s.anonymous, 0.08, 0.05),
    'the most frequent visitor has their share': (s) => near(s.first, head[0] / total, 0.05),
    'the first hundred have theirs': (s) => near(s['first hundred'], sum(head.slice(0, 100)) / total, 0.03),
    'think times are log-normal': (s) => near(s['median think time'], 8, 0.03) && near(s['mean think time'], 8 * Math.exp(0.32), 0.03),
    'sessions have five further pages': (s) => near(s['further pages'], 5, 0.03),
    'arrivals are Poisson over short times': (s) => near(s['dispersion within 20 ms'], 1, 0.05) && near(s['dispersion within 100 ms'], 0.9, 0.05),
    'even spacing is not': (s) => s['dispersion of even spacing'] < 0.2,
  });
}
