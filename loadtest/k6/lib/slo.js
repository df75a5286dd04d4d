// The service level objectives, as thresholds.

// What no run may break, whatever its question: otherwise it has measured something else.
export const valid = {
  // The load was what it says: a page that k6 could not start in time would be missing from the latencies.
  dropped_iterations: ['count==0'],
  // A well-formed event is never refused.
  events_rejected: ['count==0'],
};

// Latency and errors of one phase. Lost feedback is counted afterwards, against the log.
export function sound(phase) {
  return {
    ...watched(phase),
    [`http_req_duration{name:personalize,phase:${phase}}`]: ['p(95)<100'],
    [`http_req_failed{name:personalize,phase:${phase}}`]: ['rate<0.01'],
    [`http_req_failed{name:feedback,phase:${phase}}`]: ['rate<0.01'],
    [`http_req_failed{name:explain,phase:${phase}}`]: ['rate<0.01'],
    [`checks{phase:${phase}}`]: ['rate>0.99'],
  };
}

// All of them: also the share of hits, of the pages that an edge can answer; those of all pages stand beside it.
export function objectives(phase) {
  return { ...sound(phase), [`edge_hits{kind:listing,phase:${phase}}`]: ['rate>=0.82'] };
}

// Figures that are wanted in the summary and judge nothing: k6 keeps those of a tag only where a threshold names it.
export function watched(phase) {
  return {
    [`http_req_duration{name:personalize,phase:${phase}}`]: ['max>=0'],
    [`http_req_failed{name:personalize,phase:${phase}}`]: ['rate>=0'],
    [`edge_hits{kind:listing,phase:${phase}}`]: ['rate>=0'],
    [`edge_hits{phase:${phase}}`]: ['rate>=0'],
    [`degraded{phase:${phase}}`]: ['rate>=0'],
  };
}
