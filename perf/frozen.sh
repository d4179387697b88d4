#!/usr/bin/env bash
# What viewers that never read cost the server in memory, and whether the others notice.
#
#     perf/frozen.sh
#
# First the price, at most 64 KiB each: RssAnon with FROZEN viewers beside the others and without,
# in PAIRS of fresh servers, after SETTLE seconds: before the server closes them for the
# acknowledgements they owe. Then the curve: SECONDS_IN_ALL with frozen viewers, a sample each
# second. No other viewer may miss a frame or lose its connection in any of it.
#
# SERVERS (1000), VIEWERS (500), FROZEN (100), PAIRS (3), SETTLE (12), SECONDS_IN_ALL (60),
# PORT (18210).

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

servers=${SERVERS:-1000}
viewers=${VIEWERS:-500}
frozen=${FROZEN:-100}
seconds=${SECONDS_IN_ALL:-60}
settle=${SETTLE:-12}
pairs=${PAIRS:-3}
port=${PORT:-18210}
bound=$((64 * 1024))
export MIMALLOC_ALLOW_THP=0
report=$floors/frozen.json
curve=$floors/frozen-curve.txt

# Second, RssAnon and open viewers, from now until the server ends.
sample() {
    local second=0
    while kill -0 "$pid" 2>/dev/null; do
        echo "$second $(own_bytes "$pid") $(metric "$port" tidewall_viewers)"
        second=$((second + 1))
        sleep 1
    done
}

# run FROZEN SECONDS: a fleet against a fresh server; leaves the curve and the report.
run() {
    start "$port" target/release/tidewall serve --listen "127.0.0.1:$port" --cores 1 \
        --no-pin --history none
    sample >"$curve" 2>/dev/null &
    # Probes that come late on a busy machine are no matter here: the report is what counts.
    timeout "$(($2 + 60))" taskset -c 1 target/release/tidewall fleet \
        --to "http://127.0.0.1:$port" --servers "$servers" --viewers "$viewers" \
        --frozen-viewers "$1" --for "$2s" --report "$report" \
        >"$floors/frozen-fleet.txt" 2>&1 || true
    stop
    [[ $(figure connected) == "$viewers" ]] || fail "$(figure connected) viewers of $viewers"
    [[ $(figure frozen_connected) == "$1" ]] || fail "$(figure frozen_connected) frozen of $1"
    local name
    for name in gaps unfit resyncs errors; do
        [[ $(figure "$name") == 0 ]] || fail "healthy viewers had $(figure "$name") $name"
    done
    grep -q '"closes": {}' "$report" || fail "healthy viewers were closed"
}

# A number of the report, by a name that stands there once.
figure() {
    sed -n "s/^ *\"$1\": \([0-9.]*\),*$/\1/p" "$report"
}

# Mean RssAnon of the seconds FROM to TO.
mean() {
    awk -v from="$1" -v to="$2" \
        'from <= $1 && $1 <= to { sum += $2; n++ } END { printf "%d\n", sum / n }' "$curve"
}

price() {
    local with without each sum=0
    for _ in $(seq "$pairs"); do
        run 0 "$settle"
        without=$(mean $((settle - 3)) $((settle - 1)))
        run "$frozen" "$settle"
        with=$(mean $((settle - 3)) $((settle - 1)))
        each=$(((with - without) / frozen))
        sum=$((sum + each))
        echo "price:   $without bytes without, $with with $frozen frozen viewers: $each each"
    done
    each=$((sum / pairs))
    echo "price:   $each bytes each, mean of $pairs pairs, of $bound at most"
    ((each <= bound)) || fail "a frozen viewer costs $each bytes"
}

measure() {
    conditions "SERVERS=$servers VIEWERS=$viewers FROZEN=$frozen PAIRS=$pairs SETTLE=$settle" \
        "SECONDS_IN_ALL=$seconds MIMALLOC_ALLOW_THP=0 $0"
    price
    run "$frozen" "$seconds"
    echo "curve:   $(mean 2 10) bytes in seconds 2 to 10," \
        "$(mean $((seconds - 9)) "$seconds") in the last 10"
    # Not the fleet's count: a close waits behind what the frozen peer has not read.
    echo "frozen:  $(awk -v n="$viewers" '$3 > n { last = $1 } END { print last }' "$curve")" \
        "was the last second with more than $viewers viewers; the server closed the others"
    echo "healthy: no gap, resync, error or close;" \
        "$(figure frames_per_second_min) frames a second at least, $(figure frames) in all"
    echo "second, bytes, viewers:"
    cat "$curve"
}

build_tidewall
mkdir -p "$floors"
raise_open_files
out=$(runs_dir)
mkdir -p "$out"
# Not a pipe: in its subshell the servers would be started, and forgotten.
measure > >(tee "$out/frozen.txt")
