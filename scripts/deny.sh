#!/usr/bin/env bash
# deny.sh: what the three lock files bring in, against deny.toml. The advisories need a database
# from the network; without it they are left out, aloud.
set -euo pipefail
cd "$(dirname "$0")/.."

checks=(bans licenses sources)
if GIT_TERMINAL_PROMPT=0 timeout 120 cargo deny fetch db 2>target/deny-fetch.log; then
  checks=(advisories "${checks[@]}")
else
  echo "   NOT CHECKED: advisories. The RustSec database cannot be fetched from here:"
  sed -n '/^fatal/{s/^/   /p;q}' target/deny-fetch.log
fi
for manifest in Cargo.toml fuzz/Cargo.toml loom/Cargo.toml; do
  printf '   %s: %s\n' "$manifest" "${checks[*]}"
  cargo deny --locked --manifest-path "$manifest" check \
    --hide-inclusion-graph "${checks[@]}"
done
