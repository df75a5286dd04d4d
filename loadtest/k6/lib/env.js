// Parameters of a run, from the environment; a value that makes no sense ends the run before it begins.

export function number(name, otherwise) {
  const text = __ENV[name];
  if (text === undefined || text === '') return otherwise;
  const value = Number(text);
  if (!(value > 0 && value < Infinity)) throw new Error(`${name} must be a number above 0, not "${text}"`);
  return value;
}

const UNITS = { s: 1, m: 60, h: 3600 };

// Seconds of a text such as 90s, 15m or 1h30m.
export function seconds(name, otherwise) {
  const text = __ENV[name] || otherwise;
  const parts = text.match(/^(?:\d+[hms])+$/) && text.match(/\d+[hms]/g);
  if (!parts) throw new Error(`${name} must be a time such as 90s or 15m, not "${text}"`);
  const total = parts.reduce((sum, part) => sum + parseInt(part, 10) * UNITS[part.slice(-1)], 0);
  if (total === 0) throw new Error(`${name} must be above 0`);
  return total;
}

export const edges = (__ENV.EDGE || 'http://127.0.0.1:8080').split(',').map((edge) => {
  if (!/^https?:\/\/[^/]+$/.test(edge)) throw new Error(`EDGE must be http://HOST:PORT, not "${edge}"`);
  return edge;
});
export const seed = Math.floor(number('SEED', 1));
// Think times are multiplied by it.
export const think = number('THINK', 1);
// Visitors that exist, and the exponent of their popularity.
export const users = Math.floor(number('USERS', 28e6));
export const alpha = number('ALPHA', 1.2);
// Slots asked for on a page.
export const limit = Math.floor(number('LIMIT', 20));
