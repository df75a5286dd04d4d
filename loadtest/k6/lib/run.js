// What every script has in common: its options, its run's name and its summary.

import exec from 'k6/execution';
import { edges, seed, think, users, alpha, limit } from './env.js';

export function options(arrivals, thresholds) {
  return {
    scenarios: { pages: arrivals },
    thresholds,
    // A tag more is a series more in every output.
    systemTags: ['status', 'name', 'scenario', 'error_code', 'check', 'expected_response'],
    summaryTrendStats: ['min', 'avg', 'med', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max', 'count'],
    userAgent: 'attune-loadtest',
    noConnectionReuse: false,
    batchPerHost: 8,
  };
}

// Event ids differ from those of every other run.
export const setup = () => ({ run: __ENV.RUN || `${seed}-${Date.now().toString(36)}` });

export function handleSummary(data) {
  const parameters = { edges, seed, think, users, alpha, limit };
  const whole = JSON.stringify({ parameters, ...data, options: exec.test.options }, null, 1);
  return __ENV.SUMMARY ? { [__ENV.SUMMARY]: whole } : { stdout: short(data) };
}

function short(data) {
  const lines = [];
  for (const [name, metric] of Object.entries(data.metrics).sort()) {
    for (const [rule, { ok }] of Object.entries(metric.thresholds || {})) {
      lines.push(`${ok ? 'ok    ' : 'FAILED'}  ${name}: ${rule}  ${JSON.stringify(metric.values)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
