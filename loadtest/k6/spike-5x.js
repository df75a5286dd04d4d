// Five times the visitors within half a minute: nobody is refused, pages may be plainer and later, and after it all is
// as it was.

import { watched } from './lib/slo.js';
import { spike } from './lib/spike.js';
import { visit } from './lib/visit.js';

const survived = (phase) => ({
  ...watched(phase),
  [`http_req_failed{name:personalize,phase:${phase}}`]: ['rate<0.01'],
  [`checks{phase:${phase}}`]: ['rate>0.99'],
});

export const options = spike(5, survived);
export { setup, handleSummary } from './lib/run.js';
export const page = (data) => visit(data);
