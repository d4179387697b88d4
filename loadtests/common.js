// What both approaches send, and how a run is summed up.

import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';

export const HOSTS = Number(__ENV.HOSTS || 200);
export const SECONDS = Number(__ENV.LOAD_SECONDS || 60);
export const NODES = (__ENV.NODES || 'http://127.0.0.1:8080').split(',');
// Probes a second: no divisor of the tick's ten, or all would come at one moment of a tick.
export const PROBES = 7;
export const METRICS = ['cpu', 'mem', 'load', 'disk', 'net'];

// From sending a document to hearing that it was accepted.
export const ingestMs = new Trend('ingest_ms', true);
export const sent = new Counter('samples_sent');
export const accepted = new Counter('samples_accepted');

/** One host's reading: the same shape and size for every host and approach. */
export function reading(host, more) {
  const metrics = {};
  for (const [at, name] of METRICS.entries()) {
    metrics[name] = Math.round(1000 * Math.abs(Math.sin(host + at + Date.now() / 1e5))) / 10;
  }
  return { host: `host-${host}`, tags: { dc: host % 2 ? 'fra' : 'ams' }, metrics, ...more };
}

/** A sample that says when it was sent: viewers tell by it how old it is when they see it. */
export function probe() {
  return { host: 'probe', metrics: { sent_ms: Date.now() } };
}

/** Whether a POST was taken whole; `samples` is how many it had. */
export function judge(response, samples, protocol) {
  sent.add(samples);
  const good = check(response, {
    'status is 201': (r) => r.status === 201,
    'all samples were accepted': (r) => r.body === `{"accepted":${samples}}`,
    [`protocol is ${protocol}`]: (r) => r.proto === protocol,
  });
  if (good) accepted.add(samples);
}

/** A fixed number of iterations a second, whatever each of them takes. */
export function steady(exec, rate) {
  return {
    executor: 'constant-arrival-rate',
    exec,
    rate,
    timeUnit: '1s',
    duration: `${SECONDS}s`,
    preAllocatedVUs: 50,
  };
}

export const options = {
  insecureSkipTLSVerify: true,
  summaryTrendStats: ['avg', 'min', 'p(50)', 'p(95)', 'p(99)', 'max', 'count'],
  // Everything is accepted; the rest is generous, for a machine shared with the load itself.
  thresholds: {
    checks: ['rate==1'],
    ingest_ms: ['p(95)<250'],
    // k6 itself was late for one in fifty at most.
    dropped_iterations: [`count<${(HOSTS * SECONDS) / 50}`],
  },
};

/** For the file that the runner names; the runner prints what matters. */
export function summary(data) {
  return { [__ENV.SUMMARY || 'stdout']: JSON.stringify(data, null, 1) };
}
