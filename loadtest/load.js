// The load: writes by two protocols, queries, rules; and, once it has ended, whether everything that was accepted is there.
//
// Each virtual user writes series of its own (label `writer`) with times that only grow, so that no two samples of a run (label `run`) share
// series and time, and counting them is exact. The number accepted is k6's own, asked of its REST API, as virtual users share no memory.

import http from 'k6/http';
import { sleep } from 'k6';
import exec from 'k6/execution';
import { Counter, Rate } from 'k6/metrics';
import { label, Request } from './remote_write.js';
import * as profiles from './profiles.js';

const remoteWriteSamples = new Counter('remote_write_samples');
const jsonSamples = new Counter('json_samples');
const unknownSamples = new Counter('unacknowledged_samples');
const writesFailed = new Rate('writes_failed');
const writesWrong = new Counter('writes_wrong');
const queriesAnswered = new Counter('queries_answered');
const queriesFailed = new Rate('queries_failed');
const rulesHealthy = new Rate('rules_healthy');
const acceptedIsQueryable = new Rate('accepted_is_queryable');

const WINDOW_MS = 60000; // Counted in pieces, so that a long run stays below the limit of samples a query.
const K6_API = __ENV.LOAD_K6_API || 'http://127.0.0.1:6565';

export const options = {
  scenarios: profiles.scenarios(),
  thresholds: profiles.thresholds(),
  setupTimeout: '60s',
  teardownTimeout: '10m',
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
};

export function setup() {
  for (const url of [profiles.url, profiles.queryUrl]) {
    const ready = http.get(`${url}/ready`);
    if (ready.status !== 200) throw new Error(`${url}/ready answers ${ready.status}: ${ready.body || ready.error}`);
  }
  return { run: `${Date.now()}`, startMs: Date.now() };
}

let request = null;
let lastMs = 0;

function now() {
  lastMs = Math.max(Date.now(), lastMs + 1);
  return lastMs;
}

// 429 and 503 ask to come again and are failures only at a constant rate; every other status but `expected` is wrong at any load.
function wrote(response, expected, samples, counter) {
  const accepted = response.status === expected;
  writesFailed.add(!accepted);
  if (accepted) return counter.add(samples);
  unknownSamples.add(samples);
  if (response.status !== 429 && response.status !== 503) {
    writesWrong.add(1);
    console.error(`write: status ${response.status}: ${response.body || response.error}`);
  }
}

export function remoteWrite(data) {
  if (request === null) {
    const before = label('__name__', 'load_remote_write').concat(label('run', data.run));
    const after = label('writer', `${exec.vu.idInTest}`);
    const series = [];
    for (let i = 0; i < profiles.batch; i++) series.push(before.concat(label('series', `${i}`), after));
    request = new Request(series);
  }
  const at = now();
  const headers = { 'Content-Type': 'application/x-protobuf', 'Content-Encoding': 'snappy', 'X-Prometheus-Remote-Write-Version': '0.1.0' };
  const body = request.body(at, (i) => i + (at % 1000) / 1000);
  wrote(http.post(`${profiles.url}/api/v1/write`, body, { headers }), 204, profiles.batch, remoteWriteSamples);
}

export function json(data) {
  const at = now();
  const sample = { name: 'load_json', value: at % 100, timestamp: at, labels: { run: data.run, writer: `${exec.vu.idInTest}` } };
  wrote(http.post(`${profiles.url}/metrics`, JSON.stringify(sample), { headers: { 'Content-Type': 'application/json' } }), 202, 1, jsonSamples);
}

const QUERIES = [
  (run) => `load_remote_write{run="${run}",series="7"}`,
  (run) => `sum by (writer) (load_remote_write{run="${run}"})`,
  (run) => `max(load_json{run="${run}"})`,
  (run) => `quantile(0.9, avg_over_time(load_remote_write{run="${run}",series=~"1.."}[1m]))`,
];

function ask(path, form) {
  const response = http.post(`${profiles.queryUrl}${path}`, form);
  if (response.status === 200 && response.json('status') === 'success') return response.json('data.result');
  console.error(`${path}: status ${response.status}: ${response.body || response.error}`);
  return null;
}

// Every second query is over a range of five minutes.
export function query(data) {
  const i = exec.scenario.iterationInTest;
  const expr = QUERIES[Math.floor(i / 2) % QUERIES.length](data.run);
  const end = Date.now() / 1000;
  const result = i % 2 === 0 ? ask('/api/v1/query', { query: expr }) : ask('/api/v1/query_range', { query: expr, start: `${end - 300}`, end: `${end}`, step: '15' });
  queriesFailed.add(result === null);
  if (result !== null) queriesAnswered.add(1);
}

function loadRules() {
  const response = http.get(`${profiles.queryUrl}/api/v1/rules`);
  if (response.status !== 200) return [];
  return response.json('data.groups').filter((g) => g.name === 'load').flatMap((g) => g.rules);
}

// Before its first evaluation a rule's health is unknown.
export function ruleStates() {
  const found = loadRules();
  rulesHealthy.add(found.length > 0 && found.every((r) => r.health === 'ok' || r.health === 'unknown'));
}

// What k6 has counted; a counter that was never added to is not known to it.
function counted(name) {
  const response = http.get(`${K6_API}/v1/metrics/${name}`, { responseCallback: http.expectedStatuses(200, 404) });
  if (response.status === 404) return 0;
  if (response.status !== 200) throw new Error(`k6's REST API at ${K6_API} answers ${response.status}: ${response.error}`);
  return response.json('data.attributes.sample.count');
}

function queryable(data) {
  let sum = 0;
  const end = Date.now() + WINDOW_MS;
  for (let at = data.startMs - 1000; at < end; at += WINDOW_MS) {
    const expr = `sum(count_over_time({__name__=~"load_remote_write|load_json",run="${data.run}"}[${WINDOW_MS}ms]))`;
    const result = ask('/api/v1/query', { query: expr, time: `${(at + WINDOW_MS) / 1000}` });
    if (result === null) return NaN;
    if (result.length > 0) sum += Number(result[0].value[1]);
  }
  return sum;
}

export function teardown(data) {
  sleep(2); // k6 adds up what its virtual users measured many times a second, but not at once.
  const accepted = counted('remote_write_samples') + counted('json_samples');
  const unknown = counted('unacknowledged_samples');
  const found = queryable(data);
  const holds = accepted > 0 && found >= accepted && found <= accepted + unknown;
  console.log(`accepted ${accepted}, unacknowledged ${unknown}, queryable ${found}: ${holds ? 'all there' : 'MISMATCH'}`);
  acceptedIsQueryable.add(holds);
  if (!profiles.rules) return;
  const states = loadRules();
  const fires = states.some((r) => r.name === 'LoadArrives' && r.state === 'firing');
  const healthy = states.length > 0 && states.every((r) => r.health === 'ok');
  console.log(`rules: ${states.length}, ${healthy ? 'all evaluated' : 'NOT all evaluated'}, LoadArrives ${fires ? 'fires' : 'DOES NOT FIRE'}`);
  rulesHealthy.add(healthy && fires);
}
