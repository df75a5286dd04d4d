// Headers that name a request to those who trace it, and say that no person made it.

import { hex } from './random.js';

export function headers(session) {
  const head = {
    'content-type': 'application/json',
    traceparent: `00-${hex(32)}-${hex(16)}-01`,
    baggage: `synthetic_request=true,session.id=${session.id}`,
  };
  if (session.version) head['x-attune-version'] = session.version;
  return head;
}
