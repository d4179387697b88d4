#!/usr/bin/env bash
# Memory of one idle keep-alive connection in the server's own process: at most 2,048 bytes.
#
#     perf/idle.sh
#
# Opens CONNECTIONS, each of which has one POST answered and then keeps silent. All name the same
# host, so that no host is counted; a load before that has filled rings and buffers. What the kernel
# holds for a socket is not counted: it costs the same in any server.
#
# CONNECTIONS (10000), PORT (18200).

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

connections=${CONNECTIONS:-10000}
port=${PORT:-18200}
bound=2048
export MIMALLOC_ALLOW_THP=0

# The opener prints its line once all are answered.
open_idle() {
    taskset -c 1 "$floors/load" "$port" "$connections" idle >"$floors/idle.txt" &
    local opener=$!
    started+=("$opener")
    for _ in $(seq 600); do
        [[ -s $floors/idle.txt ]] && return
        kill -0 "$opener" 2>/dev/null || fail "the opener ended"
        sleep 0.1
    done
    fail "not all of $connections connections were answered"
}

measure() {
    conditions "CONNECTIONS=$connections MIMALLOC_ALLOW_THP=0 $0"
    start "$port" target/release/tidewall serve --listen "127.0.0.1:$port" --cores 2 \
        --no-pin --history none
    load "$port" 64 5 >/dev/null
    sleep 1
    local before after
    before=$(own_bytes "$pid")
    open_idle
    sleep 3
    after=$(own_bytes "$pid")
    local open
    open=$(metric "$port" tidewall_connections)
    # And the one that asks.
    ((open == connections + 1)) || fail "$open connections are open"
    local each=$(((after - before) / connections))
    echo "before:  $before bytes, after a load of 64 connections that are closed again"
    echo "after:   $after bytes, with $connections connections open and idle"
    echo "each:    $each bytes, of $bound at most"
    ((each <= bound)) || fail "an idle connection costs $each bytes"
}

build_floors
build_tidewall
raise_open_files
out=$(runs_dir)
mkdir -p "$out"
# Not a pipe: in its subshell the server would be started, and forgotten.
measure > >(tee "$out/idle.txt")
