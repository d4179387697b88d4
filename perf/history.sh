#!/usr/bin/env bash
# history.sh [SECONDS] [SERVERS]: whether history keeps up with a fleet, to the last sample. Tells
# how late ticks were, what a sample takes of the disk, and whether each series' count and sum are
# those that were sent. HISTORY=mysql://… ships to a database besides; compare it by perf/sums.py.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
servers=${2:-10000}
bin=${TIDEWALL_BIN:-target/release/tidewall}
dir=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT

"$bin" serve --listen 127.0.0.1:0 --cores 1 --history "${HISTORY:-sqlite:$dir/history}" \
  --history-dir "$dir/history" >"$dir/server.txt" 2>&1 &
server=$!
until url=$(sed -n 's,^listening on \(.*\)/$,\1,p' "$dir/server.txt") && [ -n "$url" ]; do
  kill -0 "$server" || { cat "$dir/server.txt" >&2; exit 1; }
  sleep 0.1
done

"$bin" fleet --to "$url" --servers "$servers" --metrics 10 --viewers 0 --for "${seconds}s" \
  --sums "$dir/sums.tsv" 2>"$dir/progress.txt"

# Each minute is stored five seconds after its end; what is told of a database is seconds old.
metric() { curl -s "$url/metrics" | sed -n "s/^tidewall_$1 //p"; }
settled=0
for _ in $(seq 120); do
  if [ "$(metric history_pending)$(metric history_ship_lag_milliseconds)" = 00 ]; then
    settled=$((settled + 1))
  else
    settled=0
  fi
  [ "$settled" = 6 ] && break
  sleep 1
done
printf '\nticks, by how late at most in seconds\n'
curl -s "$url/metrics" | sed -n 's/^tidewall_tick_lateness_seconds_bucket/  /p'
grep -E '^Vm(HWM|RSS)' "/proc/$server/status"
kill -TERM "$server"
wait "$server"
perf/sums.py "$dir/sums.tsv" "$dir/history"
if [ -n "${SUMS:-}" ]; then cp "$dir/sums.tsv" "$SUMS"; fi
