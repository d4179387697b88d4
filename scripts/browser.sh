#!/usr/bin/env bash
# browser.sh: prints where this machine's Chromium or Chrome is; fails when it has neither.
set -euo pipefail
for name in chromium chromium-browser google-chrome google-chrome-stable; do
  command -v "$name" && exit 0
done
exit 1
