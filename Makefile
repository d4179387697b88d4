# Two commands on a fresh Debian-like machine that has cargo: `make demo`, `make test`.
# Each target gets what it lacks through scripts/need.sh, which says what it installs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
BIN := $(abspath $(or $(CARGO_TARGET_DIR),target)/release/tidewall)
# Seconds for each fuzz target, and for each attack.
T ?= 10
# Conformance suites to run; empty: all.
SUITE ?=
# The dashboard's packages, unless they stand there as the lock file wants them.
packages = { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci; }
step = @printf '\n== %s  %s\n' "$$(date +%T)" "$(1)"

.PHONY: demo test build lint unit dashboard browser loom fuzz bench-smoke deny attacks conformance loadtest setup
.NOTPARALLEL:

# The whole thing with made-up servers beside this real one; prints the URL to open.
demo: build
	$(BIN) demo

# All there is to check, the quick answers first.
test: lint unit dashboard browser loom fuzz bench-smoke deny
	$(call step,All checks passed)

build:
	@scripts/need.sh cargo cc node
	$(call step,Build the server with its dashboard)
	cargo build --release --locked

lint:
	@scripts/need.sh cargo cc node
	$(call step,Format)
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo fmt --check --manifest-path loom/Cargo.toml
	$(call step,Clippy)
	cargo clippy --locked --all-targets -- -D warnings
	$(call step,Clippy of the headless build)
	cargo clippy --locked --all-targets --no-default-features -- -D warnings

unit:
	@scripts/need.sh cargo cc node mariadb redis haproxy
	$(call step,Unit and integration tests)
	TIDEWALL_SIMULATION_SEEDS=100000 cargo test --locked

dashboard:
	@scripts/need.sh node
	$(call step,Dashboard: types and unit tests)
	cd dashboard && $(packages) && npm run typecheck && npm test

browser: build
	@scripts/need.sh browser openssl redis
	$(call step,Dashboard in a real browser)
	cd dashboard && $(packages) && TIDEWALL_BIN=$(BIN) CHROMIUM=$$(../scripts/browser.sh) npm run e2e

# Every interleaving of the ring's two threads, and that each memory ordering is needed.
loom:
	@scripts/need.sh cargo cc
	$(call step,Loom models of the ring)
	cargo test --release --locked --manifest-path loom/Cargo.toml

fuzz:
	@scripts/need.sh cargo cc python cargo-fuzz
	$(call step,Fuzz each target for $(T) s)
	scripts/fuzz.sh $(T)

# Each bench once and unoptimised, as the tests were built: whether it runs. Figures: `cargo bench`.
bench-smoke:
	@scripts/need.sh cargo cc node
	$(call step,Benches at smoke size)
	cargo bench --locked --profile dev --bench '*' -- --test

deny:
	@scripts/need.sh cargo cc cargo-deny
	$(call step,Dependencies)
	scripts/deny.sh

# Hostile peers for T seconds each, one kind after the other against the release build; the same
# tests that `cargo test` runs short and side by side. The table is left in target/attacks.md.
attacks: build
	@scripts/need.sh cargo cc node
	$(call step,Attacks for $(T) s each)
	scripts/attacks.sh $(T)

# Suites that nobody here wrote, against a real server; `SUITE=h2spec` runs one, `BLESS=1` freezes.
# Not part of `test`: it fetches the suites, and one of them wants Python 2.7.
conformance: build
	$(call step,Conformance suites)
	BIN=$(BIN) scripts/conformance.sh $(SUITE)

# Both approaches under the same load, by k6; LOAD_SECONDS=60 each. The report is left in
# loadtests/results. Not part of `test`: it loads this machine for minutes.
loadtest: build
	@scripts/need.sh python openssl redis mariadb k6
	$(call step,Load tests of both approaches)
	BIN=$(BIN) python3 loadtests/run.py

# What `test` needs, for machines that go offline later.
setup:
	@scripts/need.sh cargo cc node browser openssl mariadb redis haproxy cargo-fuzz cargo-deny
	cargo fetch --locked
	cd dashboard && $(packages)
