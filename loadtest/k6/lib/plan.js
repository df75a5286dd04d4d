// How pages arrive, and which part of a run a page belongs to.
//
// k6 spaces arrivals evenly. Each waits a uniform time on top, long enough to mix some fifty of them, so that over times
// shorter than that wait they come as a Poisson process does.

import { number, seconds } from './env.js';

const MIXED = 50;
// Seconds a page may take before more VUs are needed than were made beforehand.
const WORST = 0.5;

let phases = [];

export let jitter = 0;

// Stages of [seconds, pages a second at their end, phase], the first of which starts at `start`.
export function arrivals(start, stages) {
  const peak = stages.reduce((most, [, rate]) => Math.max(most, rate), start);
  jitter = Math.min(1, Math.max(0.1, MIXED / peak));
  let until = 0;
  phases = stages.map(([length, , phase]) => ({ until: (until += length * 1000), phase }));
  const vus = Math.ceil(peak * (jitter / 2 + WORST)) + 10;
  return {
    executor: 'ramping-arrival-rate',
    startRate: Math.round(start * 60),
    timeUnit: '60s',
    preAllocatedVUs: vus,
    maxVUs: vus * 4,
    stages: stages.map(([length, rate]) => ({ duration: `${Math.round(length * 1000)}ms`, target: Math.round(rate * 60) })),
    gracefulStop: '30s',
    exec: 'page',
  };
}

// The phase at so many milliseconds.
export function phaseAt(elapsed) {
  const phase = phases.find(({ until }) => elapsed < until);
  return phase ? phase.phase : phases[phases.length - 1].phase;
}

export const asked = (rate, duration) => ({ rate: number('RATE', rate), duration: seconds('DURATION', duration) });
