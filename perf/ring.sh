#!/usr/bin/env bash
# The ring beside rtrb (benches/ring.rs), recorded with its conditions.
#
#     perf/ring.sh
#
# Two threads that spin cannot be measured while a third wants their CPUs, so this runs with
# realtime priority where that is allowed, for about half a minute.

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

realtime=()
chrt -r 1 true 2>/dev/null && realtime=(chrt -r 1)
options=(--warm-up-time 0.5 --measurement-time 1 --sample-size 30)

# The last line names the executable: "  Executable benches/ring.rs (target/…)".
bench=$(cargo bench --bench ring --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\))$/\1/p')
[[ -x $bench ]] || fail "the bench did not build"
out=$(runs_dir)
mkdir -p "$out"
{
    conditions "${realtime[*]} cargo bench --bench ring -- ${options[*]}"
    timeout 300 "${realtime[@]}" "$bench" --bench "${options[@]}" 2>/dev/null |
        grep -E '^ring|  time:' | grep -v 'p = '
} | tee "$out/ring.txt"
