//! How often something is heard, learnt from the gaps between, and when its silence tells.

use std::time::Duration;

use crate::limits::{
    ARRIVAL_GAP_MIN, DOWN_INTERVALS, INTERVAL_MAX, INTERVAL_MIN, INTERVAL_UNKNOWN, STALE_INTERVALS,
};

/// The weight of a new gap in the learnt rhythm: one part in this many.
const SMOOTHING: f32 = 8.0;

/// A shorter gap is none.
pub const GAP_MIN_MS: u64 = millis(ARRIVAL_GAP_MIN);

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    /// 0 before the first gap.
    interval_ms: f32,
}

impl Rhythm {
    pub const UNKNOWN: Rhythm = Rhythm { interval_ms: 0.0 };

    /// What [`Rhythm::raw_ms`] gave.
    pub fn from_raw_ms(interval_ms: f32) -> Self {
        let is_one = interval_ms.is_finite() && 0.0 < interval_ms;
        let interval_ms = if is_one { interval_ms } else { 0.0 };
        Self { interval_ms }
    }

    /// As learnt; 0 before the first gap.
    pub fn raw_ms(self) -> f32 {
        self.interval_ms
    }

    pub fn is_known(self) -> bool {
        self.interval_ms != 0.0
    }

    /// A gap that is at least [`GAP_MIN_MS`]. One longer than it takes to be down counts as just
    /// that long: an outage must not pass for a rhythm, and a rhythm that slowed down is still
    /// learnt in a few arrivals.
    pub fn learn(&mut self, gap_ms: u64) {
        if self.is_known() {
            let gap_ms = gap_ms.min(self.down_after_ms());
            self.interval_ms += (gap_ms as f32 - self.interval_ms) / SMOOTHING;
        } else {
            self.interval_ms = gap_ms.min(millis(INTERVAL_MAX)) as f32;
        }
    }

    pub fn interval_ms(self) -> u64 {
        if !self.is_known() {
            return millis(INTERVAL_UNKNOWN);
        }
        (self.interval_ms.round() as u64).clamp(millis(INTERVAL_MIN), millis(INTERVAL_MAX))
    }

    /// The longest silence before it is stale.
    pub fn stale_after_ms(self) -> u64 {
        self.interval_ms() * u64::from(STALE_INTERVALS)
    }

    /// The longest silence before it is down.
    pub fn down_after_ms(self) -> u64 {
        self.interval_ms() * u64::from(DOWN_INTERVALS)
    }
}

const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_a_file_unchanged_and_no_bytes_make_it_wrong() {
        let mut rhythm = Rhythm::UNKNOWN;
        assert_eq!(Rhythm::from_raw_ms(rhythm.raw_ms()), rhythm);
        for gap_ms in [1_000, 1_080, 70] {
            rhythm.learn(gap_ms);
            assert_eq!(Rhythm::from_raw_ms(rhythm.raw_ms()), rhythm);
        }
        for raw in [f32::NAN, f32::INFINITY, -1.0, 0.0] {
            assert_eq!(Rhythm::from_raw_ms(raw), Rhythm::UNKNOWN);
        }
        assert_eq!(Rhythm::from_raw_ms(f32::MAX).interval_ms(), 300_000);
    }
}
