#!/usr/bin/env bash
# System calls of one HTTP POST on a keep-alive connection: exactly one read and one write.
#
#     perf/syscalls.sh [--self-test]
#
# Traces the running server during one POST, then during REQUESTS + 1 POSTs one after another; the
# difference is what REQUESTS cost, free of a connection's set-up and end. Only calls on TCP sockets
# count as reads and writes, and a read that finds nothing counts like any other. epoll_wait is
# reported and not judged: timers add to it. --self-test traces the bare floor instead.
#
# REQUESTS (1000), PORT (18190).

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

requests=${REQUESTS:-1000}
port=${PORT:-18190}
reads=read,readv,recvfrom,recvmsg
writes=write,writev,sendto,sendmsg
waits=epoll_wait,epoll_pwait,epoll_pwait2

# trace REQUESTS FILE: every call that the server makes meanwhile.
trace() {
    strace -f -q -yy -e "trace=$reads,$writes,$waits" -e signal=none -o "$2" -p "$pid" &
    local tracer=$!
    started+=("$tracer")
    for _ in $(seq 100); do
        attached && break
        sleep 0.05
    done
    attached || fail "strace could not attach"
    load "$port" 1 30 "$1" >/dev/null
    # The server sees the connection end.
    sleep 0.5
    kill -INT "$tracer"
    wait "$tracer" || true
    unset 'started[-1]'
}

attached() {
    ! grep -q '^TracerPid:[[:space:]]*0$' /proc/"$pid"/task/*/status
}

# count FILE CALLS ON: lines "… name(fd<ON…" of one of CALLS. An interrupted call is two lines; its
# second has no parenthesis after the name.
count() {
    grep -cE "(^| )(${2//,/|})\([0-9]+<$3" "$1" || true
}

build_floors
if [[ ${1:-} == --self-test ]]; then
    start "$port" "$floors/epoll_echo" "$port"
else
    build_tidewall
    start "$port" target/release/tidewall serve --listen "127.0.0.1:$port" --cores 1 --history none
fi
load "$port" 1 30 10 >/dev/null
trace 1 "$floors/trace-one.txt"
trace "$((requests + 1))" "$floors/trace-many.txt"

failed=false
for kind in reads writes waits; do
    on='(TCP|socket)'
    [[ $kind == waits ]] && on=
    few=$(count "$floors/trace-one.txt" "${!kind}" "$on")
    many=$(count "$floors/trace-many.txt" "${!kind}" "$on")
    per=$(awk -v n="$((many - few))" -v r="$requests" 'BEGIN { printf "%.3f", n / r }')
    printf '%-6s %6d for %d POSTs: %s each\n' "$kind" "$((many - few))" "$requests" "$per"
    if [[ $kind != waits && $((many - few)) != "$requests" ]]; then
        failed=true
    fi
done
if $failed; then
    fail "a POST must cost exactly one read and one write"
fi
