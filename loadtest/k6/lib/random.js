// Seeded chance: one generator for each VU, so that a seed names the same visitors, though not the same moments.

import { seed } from './env.js';

// Bob Jenkins' small fast counting generator, 32 bits.
function sfc32(a, b, c, d) {
  return () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return (t >>> 0) / 4294967296;
  };
}

// Murmur3's finalizer.
export function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

export const uniform = sfc32(mix(seed), mix(seed + 0x9e3779b9), mix(__VU), mix(__VU + 0x7f4a7c15));
for (let i = 0; i < 12; i++) uniform();

export const chance = (p) => uniform() < p;

export const pick = (list) => list[Math.floor(uniform() * list.length)];

// One of [value, weight] pairs whose weights sum to 1.
export function weighted(pairs) {
  let left = uniform();
  for (const [value, weight] of pairs) {
    left -= weight;
    if (left < 0) return value;
  }
  return pairs[pairs.length - 1][0];
}

// Number of failures before a success, of that mean.
export const geometric = (mean) => Math.floor(Math.log(1 - uniform()) / Math.log(mean / (1 + mean)));

export function logNormal(median, sigma) {
  const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
  return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * uniform()));
}

export function hex(digits) {
  let text = '';
  while (text.length < digits) text += Math.floor(uniform() * 4294967296).toString(16).padStart(8, '0');
  return text.slice(0, digits);
}
