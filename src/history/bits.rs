//! Bits and Rice codes, most significant bit first: what a block's numbers are written with.

/// A quotient of this many ones says that the number follows whole. One outlier must not cost a
/// block thousands of bits, nor a corrupt one a reader its time.
const ESCAPE: u32 = 24;

#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken; 0: it is full, or there is none.
    used: u32,
}

impl Writer {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.used = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The lowest `count` bits of `value`, at most 64.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while 0 < left {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let room = 8 - self.used;
            let taken = room.min(left);
            let part = (value >> (left - taken)) & ((1 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part as u8) << (room - taken);
            }
            self.used = (self.used + taken) % 8;
            left -= taken;
        }
    }

    /// A number as a quotient in ones and a remainder of `k` bits.
    pub(super) fn rice(&mut self, value: u64, k: u32) {
        let quotient = value >> k;
        if quotient < u64::from(ESCAPE) {
            let ones = quotient as u32;
            self.bits(((1_u64 << ones) - 1) << 1, ones + 1);
            self.bits(value, k);
        } else {
            self.bits((1 << ESCAPE) - 1, ESCAPE);
            self.bits(value, 64);
        }
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// None: there are not so many left.
    pub(super) fn bits(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        let mut left = count;
        while 0 < left {
            let byte = *self.bytes.get(self.at / 8)?;
            let used = (self.at % 8) as u32;
            let taken = (8 - used).min(left);
            let part = (u32::from(byte) >> (8 - used - taken)) & ((1 << taken) - 1);
            value = (value << taken) | u64::from(part);
            self.at += taken as usize;
            left -= taken;
        }
        Some(value)
    }

    pub(super) fn rice(&mut self, k: u32) -> Option<u64> {
        let mut quotient = 0;
        while self.bits(1)? == 1 {
            quotient += 1;
            if quotient == ESCAPE {
                return self.bits(64);
            }
        }
        let rest = self.bits(k)?;
        (u64::from(quotient) << k).checked_add(rest)
    }
}

/// The Rice parameter that costs the numbers fewest bits, and how many.
pub(super) fn best_k(numbers: &[u64]) -> (u32, u64) {
    let sum: u128 = numbers.iter().map(|&n| u128::from(n)).sum();
    let mean = (sum / numbers.len().max(1) as u128) as u64;
    // The best one lies beside the logarithm of the mean, unless outliers pull that up.
    let guess = 64 - mean.leading_zeros();
    (guess.saturating_sub(6)..=guess.min(62))
        .map(|k| (k, numbers.iter().map(|&n| rice_bits(n, k)).sum()))
        .min_by_key(|&(_, bits)| bits)
        .unwrap_or((0, 0))
}

fn rice_bits(value: u64, k: u32) -> u64 {
    let quotient = value >> k;
    if quotient < u64::from(ESCAPE) {
        quotient + 1 + u64::from(k)
    } else {
        u64::from(ESCAPE) + 64
    }
}

/// Small numbers of either sign to small ones without.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in prop::collection::vec((any::<u64>(), 0..64_u32, any::<bool>()), 0..200)
        ) {
            let mut writer = Writer::default();
            for &(value, k, rice) in &numbers {
                let value = value >> k;
                if rice { writer.rice(value, 63 - k) } else { writer.bits(value, 64 - k) }
            }
            let mut reader = Reader::new(writer.bytes());
            for &(value, k, rice) in &numbers {
                let read = if rice { reader.rice(63 - k) } else { reader.bits(64 - k) };
                prop_assert_eq!(read, Some(value >> k));
            }
        }

        #[test]
        fn zigzag_turns_back(value in any::<i64>()) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn the_end_is_no_number() {
        let mut reader = Reader::new(&[0xff; 3]);
        assert_eq!(reader.rice(0), None);
        assert_eq!(Reader::new(&[]).bits(1), None);
        assert_eq!(Reader::new(&[]).bits(0), Some(0));
    }
}
