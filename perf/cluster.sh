#!/usr/bin/env bash
# cluster.sh [latency|faults|cost|agreement]...: nodes joined through Redis, all of it by default.
# What each is, says cluster.py; redis-server is from PATH. RUNS=10 is how often each fault comes.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release/tidewall} exec python3 perf/cluster.py "$@"
