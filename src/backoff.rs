//! When to come back: full jitter, so that a fleet does not return as one wave.

use std::time::Duration;

use crate::limits::{RETRY_AFTER_MAX, RETRY_MAX, RETRY_MIN};
use crate::rng::Rng;

#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Uniform between [`RETRY_MIN`] and an end that doubles with each failure up to
    /// [`RETRY_MAX`]. What the server asked for is a lower bound, the jitter comes on top.
    pub(crate) fn next(&mut self, rng: &mut Rng, asked: Option<Duration>) -> Duration {
        self.failures = (self.failures + 1).min(16);
        let end = RETRY_MIN.saturating_mul(1 << self.failures).min(RETRY_MAX);
        let jitter = (end - RETRY_MIN).mul_f64(rng.unit());
        match asked {
            Some(asked) => asked.min(RETRY_AFTER_MAX) + jitter.min(RETRY_MIN),
            None => RETRY_MIN + jitter,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_in_range_and_grow() {
        let mut rng = Rng::seeded(1);
        let mut backoff = Backoff::default();
        assert!(backoff.next(&mut rng, None) <= RETRY_MIN * 2);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.next(&mut rng, None)).collect();
        assert!(waits.iter().all(|w| (RETRY_MIN..=RETRY_MAX).contains(w)));
        assert!(waits.iter().any(|w| *w > RETRY_MAX / 2));
        assert!(waits.iter().any(|w| *w < RETRY_MAX / 4));
        backoff.reset();
        assert!(backoff.next(&mut rng, None) <= RETRY_MIN * 2);
    }

    #[test]
    fn retry_after_is_a_lower_bound_and_bounded() {
        let mut rng = Rng::seeded(2);
        let mut backoff = Backoff::default();
        for _ in 0..50 {
            let wait = backoff.next(&mut rng, Some(Duration::from_secs(7)));
            assert!(wait >= Duration::from_secs(7) && wait <= Duration::from_millis(7_500));
        }
        let wait = backoff.next(&mut rng, Some(Duration::from_secs(86_400)));
        assert!(wait <= RETRY_AFTER_MAX + RETRY_MIN);
    }
}
