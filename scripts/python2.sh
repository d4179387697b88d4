#!/usr/bin/env bash
# python2.sh: prints where this machine's Python 2.7 is; fails when it has none.
set -euo pipefail
shopt -s nullglob
for path in python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python2.7; do
  # A shim of pyenv stands there even when it leads nowhere.
  if "$path" -m pip --version >/dev/null 2>&1; then
    command -v "$path"
    exit 0
  fi
done
exit 1
