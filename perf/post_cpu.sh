#!/usr/bin/env bash
# CPU time of one HTTP POST: tidewall beside a bare epoll loop, as a ratio within one run.
#
#     perf/post_cpu.sh [--self-test]
#
# Server on CPU 0, load on CPU 1, in ABBA blocks, so that a drift of the machine hits both sides.
# Counts user and system time of the whole server process, its idle ticks included. The promise is
# a ratio of at most 1.10. --self-test puts the floor on both sides and records nothing.
#
# CONNECTIONS (64), SECONDS_PER_BLOCK (3), ROUNDS of ABBA (4), PORT (18180, and the one after it).

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

connections=${CONNECTIONS:-64}
seconds=${SECONDS_PER_BLOCK:-3}
rounds=${ROUNDS:-4}
port=${PORT:-18180}
self_test=false
[[ ${1:-} == --self-test ]] && self_test=true

# Ticks of user and system time that process $1 has used; its name may hold spaces.
cpu_ticks() {
    local stat fields
    stat=$(<"/proc/$1/stat")
    read -ra fields <<<"${stat##*) }"
    echo $((fields[11] + fields[12]))
}

# block NAME PID PORT: one line, cost and count.
block() {
    local before after requests answer
    before=$(cpu_ticks "$2")
    answer=$(load "$3" "$connections" "$seconds")
    after=$(cpu_ticks "$2")
    requests=$(cut -d ' ' -f 2 <<<"$answer")
    awk -v name="$1" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n="$requests" \
        'BEGIN { printf "%-8s %7.3f us/POST %9d requests\n", name, ticks / hz * 1e6 / n, n }'
}

median() {
    sort -n | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

measure() {
    conditions "CONNECTIONS=$connections SECONDS_PER_BLOCK=$seconds ROUNDS=$rounds $0 $*"
    echo "subject: ${subject[*]}"
    start "$port" "${subject[@]}"
    local subject_pid=$pid answer_bytes
    # Also the warm-up. The floor then answers as many bytes.
    answer_bytes=$(load "$port" "$connections" 1 | cut -d ' ' -f 6)
    start "$((port + 1))" "$floors/epoll_echo" "$((port + 1))" "$answer_bytes"
    local floor_pid=$pid
    load "$((port + 1))" "$connections" 1 >/dev/null
    echo "answers: $answer_bytes bytes; $connections connections; blocks of $seconds s"
    for _ in $(seq "$rounds"); do
        block floor "$floor_pid" "$((port + 1))"
        block subject "$subject_pid" "$port"
        block subject "$subject_pid" "$port"
        block floor "$floor_pid" "$((port + 1))"
    done | tee "$floors/blocks.txt"
    local floor us
    floor=$(awk '/^floor/ { print $2 }' "$floors/blocks.txt" | median)
    us=$(awk '/^subject/ { print $2 }' "$floors/blocks.txt" | median)
    # One ratio a round, subject's two blocks over the floor's two around them.
    awk '{ sum[$1] += $2 }
         NR % 4 == 0 { print sum["subject"] / sum["floor"]; delete sum }' \
        "$floors/blocks.txt" >"$floors/ratios.txt"
    echo "median:  floor $floor us, subject $us us"
    echo "ratio:   $(median <"$floors/ratios.txt") median of $rounds rounds:" \
        "$(sort -n "$floors/ratios.txt" | tr '\n' ' ')"
}

build_floors
if $self_test; then
    subject=("$floors/epoll_echo" "$port")
    measure "$@"
else
    build_tidewall
    subject=(target/release/tidewall serve --listen "127.0.0.1:$port" --cores 1 --history none)
    out=$(runs_dir)
    mkdir -p "$out"
    # Not a pipe: in its subshell the servers would be started, and forgotten.
    measure "$@" > >(tee "$out/post_cpu.txt")
fi
