#!/usr/bin/env bash
# attacks.sh SECONDS: runs every attack of tests/attacks that long, alone, against the release
# build (or the one that TIDEWALL_BIN names), and prints what each met and cost as a table.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
table=$target/attacks.md

export ATTACK_SECONDS=$1 ATTACK_TABLE=$table
export TIDEWALL_BIN=${TIDEWALL_BIN:-$target/release/tidewall}
mkdir -p "$target"
{
  printf '| attack | lasted | met | own memory in MiB: before → peak (at most) → after'
  printf ' | files | CPU %% of a core | honest requests'
  printf ' | calm p50 / p99 ms | attacked p50 / p99 ms |\n'
  printf -- '|---|---|---|---|---|---|---|---|---|\n'
} >"$table"
# All attacks are tried even when one fails.
status=0
cargo test --locked --no-fail-fast --test attacks -- --test-threads 1 || status=$?
cat "$table"
exit "$status"
