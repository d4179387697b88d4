//! All integration tests in one binary: one link, one run.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that panics has said what it had to say"
)]

mod agents;
mod cluster;
mod deploy;
mod documents;
mod h2;
mod history;
mod http;
mod http2;
mod ledger;
mod live;
mod loadtests;
mod mariadb;
mod past;
mod proxy;
mod redis;
mod redis_ear;
mod redis_faults;
mod redis_server;
mod shared;
mod ship;
mod stop;
mod support;
mod tidy;
mod tls;
mod tokens;
mod vectors;
