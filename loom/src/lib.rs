//! `src/ring.rs` under loom, and its twins: the same file with one memory ordering weakened.
//!
//! The models hold for the ring and must not hold for any twin (`tests/ring.rs`).

#![allow(dead_code, reason = "the models need less than the server does")]
#![allow(
    clippy::duplicate_mod,
    reason = "the models are compiled beside each twin"
)]

pub mod models;
#[path = "../../src/ring.rs"]
mod ring;
mod shim;

#[path = "../../src/sample.rs"]
mod sample;

include!(concat!(env!("OUT_DIR"), "/twins.rs"));

use sample::Sample;

/// A record that is told from others by its `number`.
fn sample(number: u32) -> Sample {
    Sample {
        value: f64::from(number),
        time_ms: Sample::NO_TIME,
        slot: number,
        column: 0,
        flags: 0,
    }
}
