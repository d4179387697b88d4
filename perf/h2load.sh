#!/usr/bin/env bash
# HTTP/2 POSTs by h2load (Debian's nghttp2-client), in clear and over TLS: every request answered,
# every sample in the ledger, and no stall where few streams share a connection.
#
#     perf/h2load.sh
#
# REQUESTS (200000) each for 1, 8 and 100 streams on 8 connections, PORT (18200) and the next one.

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

requests=${REQUESTS:-200000}
port=${PORT:-18200}
command -v h2load >/dev/null || fail "h2load is missing: apt-get install nghttp2-client"
mkdir -p "$floors"
build_tidewall
conditions perf/h2load.sh
printf '{"server_id":1,"metric_type":"cpu","value":53.2,"unit":"%%"}' >"$floors/body.json"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj /CN=localhost -keyout "$floors/key.pem" -out "$floors/cert.pem" 2>/dev/null

# accepted URL: what the ledger has of HTTP/2.
accepted() {
    curl -sk "$1/metrics" |
        awk '$1 == "tidewall_samples_accepted_total{protocol=\"http2\"}" { print $2 }'
}

# measure URL: three runs, and the ledger before and after each.
measure() {
    local url=$1 streams before after
    for streams in 1 8 100; do
        before=$(accepted "$url")
        timeout 120 taskset -c 1 h2load -n "$requests" -c 8 -m "$streams" \
            -d "$floors/body.json" "$url/api/metrics" >"$floors/h2load.txt"
        after=$(accepted "$url")
        printf '%s, 8 connections, %d streams\n' "${url%%:*}" "$streams"
        sed -n '/^finished/p; /^requests:/p; /^time for request/p' "$floors/h2load.txt"
        grep -q "$requests succeeded, 0 failed, 0 errored, 0 timeout" "$floors/h2load.txt" ||
            fail "not every request succeeded"
        [[ $((after - before)) == "$requests" ]] ||
            fail "the ledger has $((after - before)) of $requests samples"
    done
}

start "$port" target/release/tidewall serve --listen "127.0.0.1:$port" --cores 1 --history none
measure "http://127.0.0.1:$port"
stop
port=$((port + 1))
start "$port" target/release/tidewall serve --listen "127.0.0.1:$port" --cores 1 --history none \
    --tls-cert "$floors/cert.pem" --tls-key "$floors/key.pem"
measure "https://127.0.0.1:$port"
stop
echo "every request answered, every sample in the ledger"
