// Approach 1, stateful: each host POSTs its reading by HTTP/1.1, once a second, to one node.

import http from 'k6/http';
import exec from 'k6/execution';
import * as common from './common.js';

export const options = {
  ...common.options,
  scenarios: {
    hosts: common.steady('host', common.HOSTS),
    probe: common.steady('probe', common.PROBES),
  },
};

const URL = `${common.NODES[0]}/api/metrics`;
const JSON_TYPE = { headers: { 'Content-Type': 'application/json' } };

export function host() {
  const number = exec.scenario.iterationInTest % common.HOSTS;
  const response = http.post(URL, JSON.stringify(common.reading(number)), JSON_TYPE);
  common.ingestMs.add(response.timings.duration, { via: 'http1' });
  common.judge(response, common.METRICS.length, 'HTTP/1.1');
}

export function probe() {
  common.judge(http.post(URL, JSON.stringify(common.probe()), JSON_TYPE), 1, 'HTTP/1.1');
}

export const handleSummary = common.summary;
