#!/usr/bin/env bash
# conformance.sh [SUITE...]: holds a real server against suites that nobody here wrote, and each
# case's outcome against conformance/expected. SUITE is any of those listed under `all`.
# The suites come from package registries, each in one version, into target/conformance.
# BLESS=1 writes the outcomes down instead.
set -euo pipefail
cd "$(dirname "$0")/.."
all=(json gunicorn h2spec httpwg autobahn)
[ $# -gt 0 ] || set -- "${all[@]}"

justjson=0.3.0
gunicorn=27.0.0
httpwg=0.2.5

here=$PWD
work=$here/target/conformance
logs=$work/logs
server=${BIN:-$here/target/release/tidewall}
echo_server=${server%/*}/examples/echo
mkdir -p "$work/results" "$work/report" "$logs"

step() { printf '\n== %s  %s\n' "$(date +%T)" "$*"; }
say() { printf '   %s\n' "$*"; }
die() { printf '   %s\n' "$*" >&2; exit 1; }

# Only processes that this script began, each by its id.
began=()
trap 'stop' EXIT
stop() {
  for pid in "${began[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${began[@]}"; do wait "$pid" 2>/dev/null || true; done
  began=()
}

# begin NAME COMMAND...: in the background, its words in a log.
begin() {
  local name=$1
  shift
  "$@" >"$logs/$name.log" 2>&1 &
  began+=($!)
}

# serve NAME FLAG...: a server on a free port; its address in $address.
serve() {
  local name=$1
  shift
  begin "$name" "$server" serve --listen 127.0.0.1:0 --history none --log error "$@"
  await "$name" 's,.*listening on https*://\([0-9.:]*\)/.*,\1,p'
}

# await NAME SED: the first line of the log that SED prints something of.
await() {
  for _ in $(seq 100); do
    address=$(sed -n "$2" "$logs/$1.log" | head -n 1)
    [ -z "$address" ] || return 0
    sleep 0.1
  done
  cat "$logs/$1.log" >&2
  die "$1 did not start"
}

# compare NAME: what the suite printed against what is frozen.
differs=0
compare() {
  if ! conformance/compare.py "$1" "$work/results/$1.txt"; then differs=1; fi
  stop
}

certificate() {
  scripts/need.sh openssl
  [ -f "$work/key.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -nodes -days 3650 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$logs/certificate.log"
}

json() {
  step "JSONTestSuite: is a body JSON?"
  scripts/need.sh cargo python
  # The crate carries the suite's files as its own tests.
  mkdir -p "$work/json/src"
  touch "$work/json/src/lib.rs"
  printf '%s\n' '[package]' 'name = "json"' 'version = "0.0.0"' 'edition = "2021"' \
    '[workspace]' '[dependencies]' "justjson = \"=$justjson\"" >"$work/json/Cargo.toml"
  local files
  files=$(cargo metadata --quiet --format-version 1 --manifest-path "$work/json/Cargo.toml" |
    python3 -c 'import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "justjson":
        print(os.path.dirname(package["manifest_path"]) + "/tests/JSONTestSuite")')
  serve json
  conformance/json_parsing.py "$address" "$files" >"$work/results/json.txt"
  compare json
}

gunicorn() {
  step "gunicorn's corpus of requests"
  scripts/need.sh python pip
  local source=$work/gunicorn-$gunicorn
  if [ ! -d "$source" ]; then
    say "fetch gunicorn $gunicorn"
    python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" \
      "gunicorn==$gunicorn" >"$logs/pip.log" 2>&1 || die "see $logs/pip.log"
    tar -xzf "$source.tar.gz" -C "$work"
  fi
  serve gunicorn
  conformance/gunicorn.py "$address" "$source/tests/requests" >"$work/results/gunicorn.txt"
  compare gunicorn
}

h2spec() {
  step "h2spec, strict, in clear and over TLS"
  scripts/need.sh go python
  if [ ! -x "$work/bin/h2spec" ]; then
    say "build h2spec $(sed -n 's/^require .*h2spec //p' conformance/h2spec/go.mod)"
    (cd conformance/h2spec && GOFLAGS='' GOPATH=$work/go GOCACHE=$work/go/cache \
      go build -modcacherw -o "$work/bin/h2spec" github.com/summerwind/h2spec/cmd/h2spec)
  fi
  serve h2spec
  conformance/h2spec.py "$work/bin/h2spec" "$address" >"$work/results/h2spec.txt"
  compare h2spec
  certificate
  serve h2spec-tls --tls-cert "$work/cert.pem" --tls-key "$work/key.pem"
  conformance/h2spec.py "$work/bin/h2spec" "$address" -t -k >"$work/results/h2spec-tls.txt"
  compare h2spec-tls
}

httpwg() {
  step "httpwg-cli: RFC 9113, in clear; it speaks no TLS"
  scripts/need.sh cargo cc python
  if [ ! -x "$work/bin/httpwg" ]; then
    say "cargo install httpwg-cli $httpwg"
    cargo install --quiet --locked --debug --root "$work" --target-dir "$work/build" \
      "httpwg-cli@$httpwg" 2>"$logs/httpwg-install.log" || die "see $logs/httpwg-install.log"
    rm -rf "$work/build"
  fi
  serve httpwg
  conformance/httpwg.py "$work/bin/httpwg" "$address" >"$work/results/httpwg.txt"
  compare httpwg
}

autobahn() {
  step "Autobahn against an echo of the server's WebSocket: plain, over TLS, over HTTP/2"
  scripts/need.sh cargo cc node python python2 haproxy
  local python2
  python2=$(scripts/python2.sh)
  if [ ! -d "$work/wstest" ]; then
    say "fetch $(grep ^autobahntestsuite conformance/autobahn.txt)"
    rm -rf "$work/wstest.part"
    "$python2" -m pip install --quiet --no-deps --target "$work/wstest.part" \
      --requirement conformance/autobahn.txt >"$logs/autobahn-install.log" 2>&1 ||
      die "see $logs/autobahn-install.log"
    mv "$work/wstest.part" "$work/wstest"
  fi
  say "build the echo"
  cargo build --release --locked --quiet --example echo
  begin echo "$echo_server"
  local direct tls http2
  await echo 's/^direct //p' && direct=$address
  await echo 's/^tls //p' && tls=$address
  await echo 's/^http2 //p' && http2=$address
  fuzz autobahn "ws://$direct"
  fuzz autobahn-tls "wss://$tls"
  # HAProxy turns each WebSocket handshake into an extended CONNECT (RFC 8441).
  local port
  port=$(python3 -c 'import socket
with socket.create_server(("127.0.0.1", 0)) as free: print(free.getsockname()[1])')
  sed -e "s/LISTEN/127.0.0.1:$port/" -e "s/SERVER/$http2/" conformance/haproxy.cfg \
    >"$work/haproxy.cfg"
  begin haproxy haproxy -db -f "$work/haproxy.cfg"
  fuzz autobahn-http2 "ws://127.0.0.1:$port"
  stop
}

# fuzz NAME URL: one run of Autobahn's client; what it talks to goes on running.
fuzz() {
  conformance/autobahn.py "$python2" "$work/wstest" "$2" "$work/report/$1" >"$work/results/$1.txt"
  if ! conformance/compare.py "$1" "$work/results/$1.txt"; then differs=1; fi
}

for suite in "$@"; do
  case " ${all[*]} " in
    *" $suite "*) "$suite" ;;
    *) die "no such suite: $suite (there are ${all[*]})" ;;
  esac
done
exit "$differs"
