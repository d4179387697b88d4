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
for path in fuzz/fuzz_targets/*.rs; do
  target=$(basename "$path" .rs)
  printf '   %s, %s s\n' "$target" "$seconds"
  if ! cargo fuzz run "$target" -- -max_total_time="$seconds" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    exit 1
  fi
  tail -n 1 "$log"
done
