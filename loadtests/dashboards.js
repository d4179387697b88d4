// The audience, beside either approach: viewers of /api/live, spread over the nodes. Each takes the
// summary that any client gets, ten times a second.

import exec from 'k6/execution';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/experimental/websockets';
import * as common from './common.js';

const VIEWERS = Number(__ENV.VIEWERS || 500);
const LOOPS = 5;
// Every so many viewers one reads what it is sent: all of them would cost more than the nodes do.
const READS = 10;

// From the sending of the probe's sample to a viewer that has parsed the frame which shows it.
const freshnessMs = new Trend('freshness_ms', true);
const frames = new Counter('frames');
const bytes = new Counter('frame_bytes');

// Without Redis nothing crosses from node to node.
const joined = __ENV.CLUSTER === 'yes' && common.NODES.length > 1;
const acrossTheCluster = joined ? { 'freshness_ms{node:other}': ['p(95)<500'] } : {};

export const options = {
  insecureSkipTLSVerify: true,
  summaryTrendStats: common.options.summaryTrendStats,
  thresholds: {
    checks: ['rate==1'],
    'freshness_ms{node:own}': ['p(95)<500'],
    ...acrossTheCluster,
  },
  scenarios: {
    viewers: { executor: 'per-vu-iterations', vus: LOOPS, iterations: 1,
      maxDuration: `${common.SECONDS + 15}s` },
  },
};

export default function () {
  for (let viewer = exec.scenario.iterationInTest; viewer < VIEWERS; viewer += LOOPS) watch(viewer);
}

function watch(viewer) {
  const node = viewer % common.NODES.length;
  const socket = new WebSocket(`${common.NODES[node].replace('http', 'ws')}/api/live`);
  const reads = Math.floor(viewer / LOOPS) % READS === 0;
  let [seen, last, over] = [0, 0, false];
  socket.onmessage = ({ data }) => {
    seen += 1;
    frames.add(1);
    bytes.add(data.length);
    const probed = reads ? JSON.parse(data).metrics.sent_ms : undefined;
    if (probed === undefined || probed.max === last) return;
    const age = Date.now() - probed.max;
    // The first one may have been sent before this viewer came.
    if (last !== 0) freshnessMs.add(age, { node: node === 0 ? 'own' : 'other' });
    last = probed.max;
  };
  socket.onerror = ({ error }) => {
    console.error(`viewer ${viewer}: ${error}`);
    check(error, { 'no viewer failed': () => over });
  };
  setTimeout(() => {
    // A tenth of the frames may be coalesced on a busy machine.
    check(seen, { 'frames kept coming': (n) => n >= common.SECONDS * 5 });
    over = true;
    socket.close();
  }, 1000 * common.SECONDS);
}

export const handleSummary = common.summary;
