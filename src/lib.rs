//! The live wall of a server fleet: servers push, one process merges them ten times a second, every
//! open dashboard sees it move. The modules stand in the order of a sample's way:
//!
//! ```text
//! accept ─ connection ─ route ─ decode ─ catalog ─ ring ═╗
//!   (core 0, pinned, its own runtime)                    ║
//! accept ─ connection ─ route ─ decode ─ catalog ─ ring ═╬═► aggregator ─► frame ─► broadcast
//!   (core 1 …)                                           ║   (one thread)  │       (every core)
//! Redis ─ cluster ────────────────────── catalog ─ ring ═╝                 └─► history, cluster
//! ```
//!
//! Everything that comes in is a ring; everything that goes out watches a snapshot. A fleet is a
//! matrix of host slots and columns. What is shown is encoded once and written many times.
//! Who may import whom is a table in `tests/it/tidy/imports.rs`.

pub mod run;

pub mod cli;

pub mod config;

pub mod server;

pub mod connection;

pub mod route;

pub mod auth;

pub mod endpoint;

pub mod decode;

pub mod catalog;

pub mod ring;

pub mod sample;

pub mod aggregator;

pub mod broadcast;

pub mod frame;

pub mod history;

pub mod cluster;

pub mod observe;

pub mod reject;

pub mod agent;

pub mod stats;

pub mod rhythm;

pub mod backoff;

pub mod rng;

pub mod percent;

pub mod duration;

pub mod calendar;

pub mod clock;

pub mod limits;

pub use run::run;
