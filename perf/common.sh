# What the measurements share; sourced, not run. Needs bash, cc, taskset, and two CPUs.
# Every process started here is remembered and ended by its id when the script ends.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

floors=target/perf
started=()

# Asks, and insists after 6 s: an ordered stop of the server takes 5 at most.
end_all() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${started[@]}"; do
        for _ in $(seq 60); do
            kill -0 "$pid" 2>/dev/null || continue 2
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}
trap end_all EXIT
trap 'exit 130' INT TERM

fail() {
    echo "$0: $*" >&2
    exit 1
}

build_floors() {
    local name
    mkdir -p "$floors"
    for name in epoll_echo load; do
        cc -O2 -Wall -Wextra -Werror -o "$floors/$name" "perf/floor/$name.c"
    done
}

build_tidewall() {
    cargo build --release --bin tidewall
}

# start PORT COMMAND...: runs it on CPU 0 and waits, at most 5 s, until it listens. Sets `pid`.
start() {
    local port=$1
    shift
    if listens "$port"; then
        fail "port $port is taken"
    fi
    taskset -c 0 "$@" >"$floors/server-$port.log" 2>&1 &
    pid=$!
    started+=("$pid")
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null ||
            fail "ended at once: $*: $(tail -n 3 "$floors/server-$port.log")"
        if listens "$port"; then
            return
        fi
        sleep 0.05
    done
    fail "does not listen on $port: $*"
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# load PORT CONNECTIONS SECONDS [REQUESTS]: from CPU 1, bounded in time whatever the server does.
load() {
    timeout "$((${3%.*} + 15))" taskset -c 1 "$floors/load" "$@"
}

# Bytes of memory that process $1 has to itself: its heap and stacks, not the binary nor the
# kernel's socket buffers. Start it with huge pages off (MIMALLOC_ALLOW_THP=0) to see what it asked
# for: with them memory comes 2 MiB at a time, and the first so many bytes seem to cost nothing.
own_bytes() {
    awk '/^RssAnon:/ { print $2 * 1024 }' "/proc/$1/status"
}

# metric PORT NAME: a gauge or a counter of /metrics, summed over cores.
metric() {
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3
    awk -v name="$2" '{ sub(/\{.*\}/, "", $1) } $1 == name { sum += $2 } END { print sum + 0 }' <&3
    exec 3>&-
}

# Ends the process that `start` started last.
stop() {
    kill "$pid"
    wait "$pid" || true
    unset 'started[-1]'
}

raise_open_files() {
    ulimit -n "$(ulimit -Hn)"
}

# The conditions that a number needs to mean anything.
conditions() {
    echo "command: $*"
    echo "date:    $(date -u +%FT%TZ)"
    echo "commit:  $(git describe --always --dirty --abbrev=12)"
    echo "cpu:     $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
    echo "kernel:  $(uname -sr)"
    echo "load:    $(cut -d ' ' -f 1-3 /proc/loadavg) before the run"
}

# Where results of today on this kind of machine go.
runs_dir() {
    local model
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    model=$(tr '[:upper:]' '[:lower:]' <<<"$model" | tr -cs 'a-z0-9' '-')
    model=${model#-}
    echo "perf/runs/$(date -u +%F)-$(nproc)x-${model%-}"
}
