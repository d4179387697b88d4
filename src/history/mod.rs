//! What was: every sample that was merged is kept, by its own time, across restarts.
//!
//! ```text
//! aggregator ─ ring ─► keeper ─► journal (page cache each 50 ms, disk each second)
//!                        └─────► recent minutes, in memory ─► writer ─► store: a file a day
//!                                        reader ◄──── both ◄────────────┘        └─► shipper ─►
//!                                        MySQL
//! ```
//!
//! The keeper writes down what comes in and holds it by minute. A minute that has passed is sorted,
//! compressed and stored as one row a series by the writer; what the journal had of it is let go
//! then. At a start the journal gives back what no store has. None of this runs on a core.

pub mod bits;
pub mod block;
pub mod durable;
pub mod fold;
pub mod held;
pub mod hosts;
pub mod hours;
pub mod journal;
pub mod keeper;
pub mod lines;
pub mod log;
pub mod mysql;
pub mod names;
pub mod node;
pub mod picture;
pub mod question;
pub mod reader;
pub mod recent;
pub mod remote;
pub mod service;
pub mod shelf;
pub mod ship;
pub mod sketch;
pub mod sqlite;
pub mod steps;
pub mod sync;
pub mod unfolded;
pub mod verify;
pub mod walk;
pub mod writer;

use std::sync::Arc;

use ring::digest::{SHA256, digest};

use crate::sample::Sample;
use block::Point;

/// Milliseconds of one step of the fleet's own statistics.
pub const FLEET_STEP_MS: i64 = 10_000;
const _: () = assert!(block::MINUTE_MS % FLEET_STEP_MS == 0);

/// A series as the stores know it: the same number on every node and after every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesName {
    pub key: i64,
    /// [`metric_key`] of its metric.
    pub metric_key: i64,
    pub host: Arc<str>,
    /// With its labels in order.
    pub metric: Arc<str>,
    pub unit: Arc<str>,
}

impl SeriesName {
    pub fn new(host: &str, metric: &str, unit: &str) -> Self {
        Self {
            key: series_key(host, metric),
            metric_key: metric_key(metric),
            host: host.into(),
            metric: metric.into(),
            unit: unit.into(),
        }
    }
}

/// 64 bits of SHA-256: of a million series, two share a key once in 37 million fleets.
pub fn series_key(host: &str, metric: &str) -> i64 {
    let text = [host.as_bytes(), &[0], metric.as_bytes()].concat();
    let hash = digest(&SHA256, &text);
    let first = hash.as_ref().first_chunk::<8>().copied();
    i64::from_be_bytes(first.unwrap_or_default())
}

/// The key of a metric over all hosts, in the table of fleet statistics.
pub fn metric_key(metric: &str) -> i64 {
    series_key("", metric)
}

/// What is left of points when they are summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollup {
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    /// The value of the latest point.
    pub last: f64,
}

impl Rollup {
    pub const EMPTY: Rollup = Rollup {
        count: 0,
        sum: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        last: f64::NAN,
    };

    /// Points in order of time.
    pub fn of(points: &[Point]) -> Self {
        let mut rollup = Self::EMPTY;
        for point in points {
            rollup.add(point.value);
        }
        rollup
    }

    /// A value later than all before.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum = add(self.sum, value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
    }

    /// Takes in what is not earlier.
    pub fn merge(&mut self, later: &Rollup) {
        if 0 < later.count {
            self.count += later.count;
            self.sum = add(self.sum, later.sum);
            self.min = self.min.min(later.min);
            self.max = self.max.max(later.max);
            self.last = later.last;
        }
    }

    pub fn average(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// A sum that is a number: past the largest double there is infinity, and two of those can come to
/// none, which no store takes.
fn add(a: f64, b: f64) -> f64 {
    (a + b).clamp(f64::MIN, f64::MAX)
}

/// A minute of a series, as every store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Minutes since the epoch.
    pub minute: i64,
    pub series: i64,
    pub rollup: Rollup,
    /// A [`block`]; empty once the points were let go.
    pub points: Vec<u8>,
}

/// One metric over the fleet in [`FLEET_STEP_MS`]: each host's last value in it.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetRow {
    /// Its begin over [`FLEET_STEP_MS`].
    pub step: i64,
    pub metric: i64,
    pub hosts: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    /// A [`sketch`].
    pub spread: Vec<u8>,
}

/// The minute that a time is in, and the milliseconds from its begin.
pub fn minute_of(time_ms: i64) -> (i64, u16) {
    let minute = time_ms.div_euclid(block::MINUTE_MS);
    (minute, time_ms.rem_euclid(block::MINUTE_MS) as u16)
}

/// The time history gives a sample: its own, else that of its arrival.
pub fn time_of(sample: &Sample, arrival_ms: i64) -> i64 {
    if sample.time_ms == Sample::NO_TIME {
        arrival_ms
    } else {
        sample.time_ms
    }
}

#[cfg(test)]
mod rig;
#[cfg(test)]
mod stores;

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores of years and other nodes hold these numbers.
    #[test]
    fn keys_never_change() {
        assert_eq!(series_key("web-1", "cpu"), 4_847_338_512_329_558_223);
        assert_ne!(series_key("web-1", "cpu"), series_key("web-", "1cpu"));
        assert_eq!(metric_key("cpu"), series_key("", "cpu"));
    }

    #[test]
    fn times_before_the_epoch_have_minutes() {
        assert_eq!(minute_of(0), (0, 0));
        assert_eq!(minute_of(-1), (-1, 59_999));
        assert_eq!(minute_of(60_001), (1, 1));
    }

    #[test]
    fn rollups_merge_in_order() {
        let points = |values: &[f64]| {
            let point = |(at, &value): (usize, &f64)| Point {
                offset_ms: at as u16,
                value,
            };
            values.iter().enumerate().map(point).collect::<Vec<_>>()
        };
        let mut sum = Rollup::EMPTY;
        for part in [&[3.0, -1.0][..], &[], &[7.0, 2.0]] {
            sum.merge(&Rollup::of(&points(part)));
        }
        assert_eq!(sum, Rollup::of(&points(&[3.0, -1.0, 7.0, 2.0])));
        assert_eq!((sum.count, sum.last, sum.average()), (4, 2.0, 2.75));
    }

    /// A sender of 1e308 and, too late, of -1e308 had a minute that no store could take.
    #[test]
    fn sums_stay_numbers() {
        let mut most = Rollup::EMPTY;
        let mut least = Rollup::EMPTY;
        for _ in 0..3 {
            most.add(1e308);
            least.add(-1e308);
        }
        assert_eq!((most.sum, least.sum), (f64::MAX, f64::MIN));
        most.merge(&least);
        assert_eq!((most.sum, most.count), (0.0, 6));
    }
}
