//! The one place that reads time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks. Deadlines and ages use the monotonic half, labels the wall half, so
/// a step of the wall clock can neither stall nor age anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds: [`HEAD_START_MS`] when the process's [`Clock`] was made.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

/// What others heard before this process began has a time, too: peers tell ages of up to an hour.
pub const HEAD_START_MS: u64 = 2 * 3_600_000;

/// Copied into every thread; all copies share one origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub fn now(&self) -> Now {
        Now {
            mono_ms: self.mono_ms(),
            wall_ms: wall_ms(),
        }
    }

    pub fn mono_ms(&self) -> u64 {
        HEAD_START_MS + self.uptime_ms()
    }

    pub fn uptime_ms(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }
}

/// Milliseconds since the Unix epoch; 0 for a clock set before it.
pub fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
