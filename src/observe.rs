//! Stub until part SERVER is merged: what the aggregator counts.

use std::sync::atomic::AtomicU64;

/// Written by the aggregator alone, with relaxed stores; read by `/metrics`.
#[derive(Debug, Default)]
pub struct Aggregated {
    pub samples: AtomicU64,
    pub ticks: AtomicU64,
    pub tick_lateness_us_max: AtomicU64,
    pub hosts_ok: AtomicU64,
    pub hosts_stale: AtomicU64,
    pub hosts_down: AtomicU64,
    pub series: AtomicU64,
    /// Samples of series past `SERIES_MAX`, aggregated into the column `OTHER`.
    pub series_folded: AtomicU64,
    pub columns: AtomicU64,
}
