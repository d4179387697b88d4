//! Random numbers for jitter, schedules and simulated values: repeatable from a seed, not secret.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64: every seed, 0 included, starts an independent-looking sequence.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded from the operating system's randomness, by way of the standard hasher's keys.
    pub(crate) fn random() -> Self {
        Self(RandomState::new().hash_one(0u8))
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits: every value is exact.
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [-1, 1).
    pub(crate) fn sway(&mut self) -> f64 {
        self.unit() * 2.0 - 1.0
    }

    /// Uniform in 0..n; `n` must not be 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// The gap to the next event of a Poisson process, in units of its mean.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// A WebSocket masking key.
    pub(crate) fn mask(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.next_u64().to_le_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_ranges_hold() {
        let (mut a, mut b) = (Rng::seeded(7), Rng::seeded(7));
        let mut sum = 0.0;
        for _ in 0..10_000 {
            assert_eq!(a.next_u64(), b.next_u64());
            assert!((0.0..1.0).contains(&a.unit()));
            assert!((-1.0..1.0).contains(&b.sway()));
            assert!(a.below(10) < 10);
            b.next_u64();
            let gap = a.exponential();
            b.next_u64();
            assert!(gap >= 0.0 && gap.is_finite());
            sum += gap;
        }
        assert!((0.9..1.1).contains(&(sum / 10_000.0)), "mean {sum}");
    }

    #[test]
    fn two_random_starts_differ() {
        assert_ne!(Rng::random().next_u64(), Rng::random().next_u64());
    }
}
