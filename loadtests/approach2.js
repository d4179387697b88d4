// Approach 2, clustered: half of the hosts keep a WebSocket open and number what they send, the
// other half POST by HTTP/2; all by TLS, once a second, to nodes that are joined through Redis.

import http from 'k6/http';
import exec from 'k6/execution';
import { check } from 'k6';
import { WebSocket } from 'k6/experimental/websockets';
import * as common from './common.js';

const STREAMS = Math.floor(common.HOSTS / 2);
const SENDERS = 4;

export const options = {
  ...common.options,
  thresholds: {
    ...common.options.thresholds,
    'ingest_ms{via:websocket}': ['p(95)<250'],
    'ingest_ms{via:http2}': ['p(95)<250'],
  },
  scenarios: {
    // Each sender has an event loop and its share of the streams.
    streams: { executor: 'per-vu-iterations', exec: 'streams', vus: SENDERS, iterations: 1,
      maxDuration: `${common.SECONDS + 15}s` },
    posts: common.steady('post', common.HOSTS - STREAMS),
    probe: common.steady('probe', common.PROBES),
  },
};

const JSON_TYPE = { headers: { 'Content-Type': 'application/json' } };

export function streams() {
  const sender = exec.scenario.iterationInTest;
  for (let host = sender; host < STREAMS; host += SENDERS) stream(host);
}

/** One host: a document a second, each acknowledged by its `seq`. */
function stream(host) {
  const node = common.NODES[host % common.NODES.length].replace('http', 'ws');
  const socket = new WebSocket(`${node}/api/metrics`);
  const waiting = new Map();
  let [seq, timer] = [0, null];
  const send = () => {
    seq += 1;
    waiting.set(seq, Date.now());
    socket.send(JSON.stringify(common.reading(host, { seq })));
    common.sent.add(common.METRICS.length);
  };
  const end = () => {
    clearInterval(timer);
    check(waiting, { 'every message was acknowledged': (w) => seq > 0 && w.size === 0 });
    socket.close();
  };
  socket.onopen = () => {
    // Spread over the second, as machines are.
    setTimeout(() => { send(); timer = setInterval(send, 1000); }, (1000 * host) / STREAMS);
    setTimeout(() => clearInterval(timer), 1000 * common.SECONDS);
    setTimeout(end, 1000 * (common.SECONDS + 3));
  };
  socket.onmessage = ({ data }) => {
    const { ack_seq } = JSON.parse(data);
    if (!check(ack_seq, { 'the answer acknowledges': (s) => waiting.has(s) })) return;
    common.ingestMs.add(Date.now() - waiting.get(ack_seq), { via: 'websocket' });
    common.accepted.add(common.METRICS.length);
    waiting.delete(ack_seq);
  };
  socket.onerror = ({ error }) => check(error, { 'no stream failed': () => false });
}

export function post() {
  const posting = common.HOSTS - STREAMS;
  const number = STREAMS + (exec.scenario.iterationInTest % posting);
  const node = common.NODES[number % common.NODES.length];
  const body = JSON.stringify(common.reading(number));
  const response = http.post(`${node}/api/metrics`, body, JSON_TYPE);
  common.ingestMs.add(response.timings.duration, { via: 'http2' });
  common.judge(response, common.METRICS.length, 'HTTP/2.0');
}

/** To the first node alone: viewers of the others see what went through Redis. */
export function probe() {
  const url = `${common.NODES[0]}/api/metrics`;
  common.judge(http.post(url, JSON.stringify(common.probe()), JSON_TYPE), 1, 'HTTP/2.0');
}

export const handleSummary = common.summary;
