// A spike: the rate rises to a multiple within half a minute, stays there, and falls again.

import { arrivals, asked } from './plan.js';
import { objectives, valid, watched } from './slo.js';
import { options as all } from './run.js';

export function spike(factor, during) {
  const { rate, duration } = asked(50, '5m');
  const rise = Math.min(30, duration * 0.1);
  const stages = [
    [duration * 0.3, rate, 'before'], [rise, rate * factor, 'rise'], [duration * 0.3, rate * factor, 'spike'],
    [rise, rate, 'fall'], [duration * 0.4 - 2 * rise, rate, 'after'],
  ];
  return all(arrivals(rate, stages), {
    ...valid, ...watched('before'), ...watched('rise'), ...during('spike'), ...watched('fall'), ...objectives('after'),
  });
}
