// What is asked of Weir and how it grows: environment variables, their defaults, and k6's scenarios for each profile.

function number(name, otherwise) {
  const text = __ENV[name];
  if (text === undefined || text === '') return otherwise;
  const n = Number(text);
  if (!Number.isInteger(n) || n < 0) throw new Error(`${name} must be a whole number, not "${text}"`);
  return n;
}

const SECONDS = { steady: 180, ramp: 300, spike: 120, soak: 3600 };

export const profile = __ENV.LOAD_PROFILE || 'steady';
if (!(profile in SECONDS)) throw new Error(`LOAD_PROFILE must be one of ${Object.keys(SECONDS).join(', ')}, not "${profile}"`);

export const url = __ENV.LOAD_URL || 'http://127.0.0.1:9360';
// In a cluster writes and queries have a Service each.
export const queryUrl = __ENV.LOAD_QUERY_URL || url;
export const rules = __ENV.LOAD_RULES === '1';
export const seconds = number('LOAD_SECONDS', SECONDS[profile]);
export const batch = number('LOAD_BATCH', 500);
export const samplesRate = number('LOAD_SAMPLES_PER_SECOND', 5000);
export const jsonRate = number('LOAD_JSON_PER_SECOND', 100);
export const queryRate = number('LOAD_QUERIES_PER_SECOND', 10);
export const peak = number('LOAD_PEAK', 5);
const vusMax = number('LOAD_VUS_MAX', 50);
if (seconds < 10) throw new Error('LOAD_SECONDS must be at least 10');
if (batch < 1 || samplesRate % batch !== 0) throw new Error('LOAD_SAMPLES_PER_SECOND must be a multiple of LOAD_BATCH, which must be at least 1');

// A constant rate is an objective of its own; the others look for the limit and may be told to come again.
export const constant = profile === 'steady' || profile === 'soak';

function scenario(exec, rate) {
  const common = { exec, timeUnit: '1s', preAllocatedVUs: Math.min(10, vusMax), maxVUs: vusMax, gracefulStop: '30s' };
  if (constant) return { ...common, executor: 'constant-arrival-rate', rate, duration: `${seconds}s` };
  const part = (share) => `${Math.max(1, Math.floor(seconds * share))}s`;
  const high = rate * peak;
  const stages =
    profile === 'ramp'
      ? [{ target: high, duration: part(1) }]
      : [
          { target: rate, duration: part(0.4) },
          { target: high, duration: '1s' },
          { target: high, duration: part(0.2) },
          { target: rate, duration: '1s' },
          { target: rate, duration: part(0.4) },
        ];
  return { ...common, executor: 'ramping-arrival-rate', startRate: rate, stages };
}

export function scenarios() {
  const all = {};
  if (samplesRate > 0) all.remote_write = scenario('remoteWrite', samplesRate / batch);
  if (jsonRate > 0) all.json = scenario('json', jsonRate);
  if (queryRate > 0) all.query = scenario('query', queryRate);
  if (rules) all.rules = { exec: 'ruleStates', executor: 'constant-arrival-rate', rate: 1, timeUnit: '1s', duration: `${seconds}s`, preAllocatedVUs: 2, gracefulStop: '30s' };
  return all;
}

// At a constant rate: nothing fails, 99 % of what was meant was reached, and in time. Always: what was accepted is there.
export function thresholds() {
  const all = { accepted_is_queryable: ['rate==1'], writes_wrong: ['count==0'], queries_failed: ['rate==0'] };
  if (rules) all.rules_healthy = ['rate==1'];
  if (!constant) return all;
  const reached = (rate) => [`count>=${Math.floor(rate * seconds * 0.99)}`];
  all.writes_failed = ['rate==0'];
  if (samplesRate > 0) {
    all.remote_write_samples = reached(samplesRate);
    all['http_req_duration{scenario:remote_write}'] = ['p(99)<=100'];
  }
  if (jsonRate > 0) {
    all.json_samples = reached(jsonRate);
    all['http_req_duration{scenario:json}'] = ['p(99)<=100'];
  }
  if (queryRate > 0) {
    all.queries_answered = reached(queryRate);
    all['http_req_duration{scenario:query}'] = ['p(99)<=500'];
  }
  return all;
}
