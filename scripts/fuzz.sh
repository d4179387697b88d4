#!/usr/bin/env bash
# fuzz.sh SECONDS: runs every fuzz target that long. What it finds stands in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
log=$PWD/target/fuzz.log

# Sanitizers are behind a nightly switch; this opens it on the stable compiler.
export RUSTC_BOOTSTRAP=1

# cargo-fuzz knows no --locked: this fails when the lock file would change.
cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null

mkdir -p target
fuzz/seeds.py
targets=(fuzz/fuzz_targets/*.rs)
count=${#targets[@]}
echo "   Building $count targets, some minutes the first time"
cargo fuzz build >"$log" 2>&1 || { tail -n 60 "$log" >&2; exit 1; }

total=$((count * seconds))
printf '   %s targets, %s s each: %s min %s s in all\n' \
  "$count" "$seconds" $((total / 60)) $((total % 60))
done=0
for path in "${targets[@]}"; do
  target=$(basename "$path" .rs)
  done=$((done + 1))
  printf '   %2s/%s %-17s' "$done" "$count" "$target"
  if ! cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 \
    -dict=fuzz/words.dict >"$log" 2>&1; then
    echo "failed"
    tail -n 60 "$log" >&2
    exit 1
  fi
  # Executions, edges of the program and of how often they were taken.
  grep -aE '[[:space:]]DONE[[:space:]]' "$log" |
    sed -E 's/^#([0-9]+).*(cov: [0-9]+ ft: [0-9]+).*/\1 runs, \2/'
done
