//! Every kind of hostile peer that is known, against a real node with honest clients beside.
//!
//! Each attack lasts `ATTACK_SECONDS` (2 when not said) and ends in the same questions: was the
//! attacker told what the documents say, did a counter show it, did all honest requests succeed,
//! did memory and descriptors stay within the stated bound and come back. `make attacks` runs them
//! long and one by one, and prints docs/OPERATIONS.md's table.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that panics has said what it had to say"
)]

mod h2;
mod honest;
mod http1;
mod http2;
mod payload;
mod peer;
mod resources;
mod siege;
mod slow;
mod smuggling;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "shared with another test, which needs the rest")]
mod support;
mod tls;
mod tokens;
mod watch;
mod websocket;
