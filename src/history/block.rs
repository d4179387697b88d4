//! A minute of one series, compressed: the points of one row.
//!
//! ```text
//! u32 CRC-32 of all that follows (little-endian) | u8 form | bits
//! bits: count (16) | times | values
//! times: first offset (16), then of more than one: last offset (16), grid (1), k (6), codes of
//!        each offset but the first, by grid:
//!   1    its distance from the line through first and last
//!   0    how much its distance from the offset before differs from the one before that
//! values, by form:
//!   1 steps   decimals (5), first mantissa, middle step, k (6), codes of the differing of steps
//!   2 levels  decimals (5), middle mantissa, k (6), codes of the differing of mantissas
//!   3 exact   first value (64), then XOR with the one before as Gorilla has it (VLDB 2015, 4.1.2)
//! ```
//!
//! A number is its length in bits (7) and as many bits; a code is a Rice code of parameter k, or
//! nothing where k is 63 and all are 0. Both stand for integers of either sign by zigzag.
//!
//! What people send are decimals: 53.2 is the mantissa 532 with one decimal, and mantissas differ
//! by little where the bits of doubles differ by much. A value is only written so if dividing gives
//! back the very same double. Steps suit what walks, levels what scatters; the shorter one is
//! taken. Times are milliseconds from the minute's begin, in order; equal times stay as often as
//! they are.

use super::bits::{Reader, Writer, best_k, unzigzag, zigzag};
use crate::limits::BLOCK_POINTS_MAX;

/// Milliseconds of what a block may hold.
pub const MINUTE_MS: i64 = 60_000;
const CRC_BYTES: usize = 4;
/// The k of codes that are all 0.
const NOTHING: u32 = 63;
const DECIMALS_MAX: u32 = 15;
/// Integers up to here are exact as doubles.
const MANTISSA_MAX: f64 = 9_007_199_254_740_992.0;

/// One point: milliseconds from its minute's begin, and the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub offset_ms: u16,
    pub value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("the block is shorter than its head")]
    Short,
    #[error("the block's checksum is wrong")]
    Checksum,
    #[error("the block's form {0} is not known")]
    Form(u8),
    #[error("the block ends within its points")]
    Cut,
    #[error("the block has a point outside its minute or its order")]
    Time,
}

/// Reused from block to block: encoding allocates nothing once warm.
#[derive(Default)]
pub struct Encoder {
    bits: Writer,
    mantissas: Vec<i64>,
    numbers: Vec<u64>,
    other: Vec<u64>,
}

impl Encoder {
    /// Appends the block of `points` to `out`. They are in order of time, within a minute, at least
    /// one and at most [`BLOCK_POINTS_MAX`].
    pub fn encode(&mut self, points: &[Point], out: &mut Vec<u8>) {
        assert!(!points.is_empty() && points.len() <= BLOCK_POINTS_MAX);
        debug_assert!(points.is_sorted_by_key(|point| point.offset_ms));
        self.bits.clear();
        self.bits.bits(points.len() as u64, 16);
        self.times(points);
        let form = self.values(points);
        let at = out.len();
        out.extend_from_slice(&[0; CRC_BYTES]);
        out.push(form);
        out.extend_from_slice(self.bits.bytes());
        let crc = crc32fast::hash(&out[at + CRC_BYTES..]);
        out[at..at + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// What jitters around a rhythm is closer to a line; what misses a beat only costs its steps.
    fn times(&mut self, points: &[Point]) {
        let (first, last) = (points[0].offset_ms, points[points.len() - 1].offset_ms);
        self.bits.bits(u64::from(first), 16);
        if points.len() == 1 {
            return;
        }
        self.bits.bits(u64::from(last), 16);
        let line = Line::new(first, last, points.len());
        self.numbers.clear();
        self.other.clear();
        let (mut before, mut distance) = (i64::from(first), 0);
        for (at, point) in points.iter().enumerate().skip(1) {
            let offset = i64::from(point.offset_ms);
            self.numbers.push(zigzag(offset - line.at(at)));
            self.other.push(zigzag(offset - before - distance));
            (before, distance) = (offset, offset - before);
        }
        let (line, steps) = (best_k(&self.numbers), best_k(&self.other));
        let on_line = line.1 <= steps.1;
        self.bits.bits(u64::from(on_line), 1);
        if on_line {
            codes(&mut self.bits, &self.numbers, line.0);
        } else {
            codes(&mut self.bits, &self.other, steps.0);
        }
    }

    fn values(&mut self, points: &[Point]) -> u8 {
        let Some(decimals) = self.find_mantissas(points) else {
            self.exact(points);
            return 3;
        };
        let mantissas = &self.mantissas;
        let last = mantissas[mantissas.len() - 1];
        let step = (last - mantissas[0]) / (mantissas.len() as i64 - 1).max(1);
        self.numbers.clear();
        self.numbers.extend(
            mantissas
                .windows(2)
                .map(|pair| zigzag(pair[1] - pair[0] - step)),
        );
        let middle = middle(mantissas);
        self.other.clear();
        self.other
            .extend(mantissas.iter().map(|&m| zigzag(m - middle)));
        let (steps, levels) = (best_k(&self.numbers), best_k(&self.other));
        self.bits.bits(u64::from(decimals), 5);
        if steps.1 <= levels.1 {
            number(&mut self.bits, mantissas[0]);
            number(&mut self.bits, step);
            codes(&mut self.bits, &self.numbers, steps.0);
            1
        } else {
            number(&mut self.bits, middle);
            codes(&mut self.bits, &self.other, levels.0);
            2
        }
    }

    /// The fewest decimals that give every value back bit by bit; the mantissas are left in place.
    fn find_mantissas(&mut self, points: &[Point]) -> Option<u32> {
        let mut decimals = 0;
        'more: while decimals <= DECIMALS_MAX {
            let scale = 10_f64.powi(decimals as i32);
            self.mantissas.clear();
            for point in points {
                let mantissa = (point.value * scale).round();
                // Not a number fails it too.
                let fits = mantissa.abs() < MANTISSA_MAX;
                if !fits {
                    return None;
                }
                // Through the integer, which has no -0.0.
                if (mantissa as i64 as f64 / scale).to_bits() != point.value.to_bits() {
                    decimals += 1;
                    continue 'more;
                }
                self.mantissas.push(mantissa as i64);
            }
            return Some(decimals);
        }
        None
    }

    fn exact(&mut self, points: &[Point]) {
        let mut before = points[0].value.to_bits();
        self.bits.bits(before, 64);
        // Leading zeros and length of the window that the last difference filled.
        let mut window = (0, 64);
        for point in &points[1..] {
            let bits = point.value.to_bits();
            let xor = bits ^ std::mem::replace(&mut before, bits);
            if xor == 0 {
                self.bits.bits(0, 1);
                continue;
            }
            let lead = xor.leading_zeros().min(31);
            let length = 64 - lead - xor.trailing_zeros();
            let (window_lead, window_length) = window;
            let end = 64 - window_lead - window_length;
            if window_lead <= lead && end <= xor.trailing_zeros() && window_length < length + 12 {
                self.bits.bits(0b10, 2);
                self.bits.bits(xor >> end, window_length);
            } else {
                window = (lead, length);
                self.bits.bits(0b11, 2);
                self.bits.bits(u64::from(lead), 5);
                self.bits.bits(u64::from(length - 1), 6);
                self.bits.bits(xor >> xor.trailing_zeros(), length);
            }
        }
    }
}

/// The line through the first and the last of some times, in whole milliseconds.
struct Line {
    first: i64,
    rise: i64,
    steps: i64,
}

impl Line {
    fn new(first: u16, last: u16, points: usize) -> Self {
        Self {
            first: i64::from(first),
            rise: i64::from(last) - i64::from(first),
            steps: points as i64 - 1,
        }
    }

    fn at(&self, point: usize) -> i64 {
        self.first + self.rise * point as i64 / self.steps
    }
}

fn number(bits: &mut Writer, value: i64) {
    let value = zigzag(value);
    let length = 64 - value.leading_zeros();
    bits.bits(u64::from(length), 7);
    bits.bits(value, length);
}

fn read_number(bits: &mut Reader<'_>) -> Option<i64> {
    let length = bits.bits(7)?;
    let value = (length <= 64).then(|| bits.bits(length as u32))??;
    Some(unzigzag(value))
}

fn codes(bits: &mut Writer, numbers: &[u64], k: u32) {
    if numbers.iter().all(|&n| n == 0) {
        bits.bits(u64::from(NOTHING), 6);
        return;
    }
    bits.bits(u64::from(k), 6);
    for &number in numbers {
        bits.rice(number, k);
    }
}

fn read_code(bits: &mut Reader<'_>, k: u32) -> Option<i64> {
    if k == NOTHING {
        return Some(0);
    }
    bits.rice(k).map(unzigzag)
}

fn middle(mantissas: &[i64]) -> i64 {
    let sum: i128 = mantissas.iter().map(|&m| i128::from(m)).sum();
    (sum / mantissas.len() as i128) as i64
}

/// Replaces what is in `points` by those of the block.
pub fn decode(block: &[u8], points: &mut Vec<Point>) -> Result<(), BlockError> {
    points.clear();
    let (crc, rest) = block
        .split_first_chunk::<CRC_BYTES>()
        .ok_or(BlockError::Short)?;
    let (&form, bits) = rest.split_first().ok_or(BlockError::Short)?;
    if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
        return Err(BlockError::Checksum);
    }
    let mut bits = Reader::new(bits);
    let count = bits.bits(16).ok_or(BlockError::Cut)? as usize;
    if count == 0 || BLOCK_POINTS_MAX < count {
        return Err(BlockError::Cut);
    }
    points.reserve(count);
    read_times(&mut bits, count, points)?;
    let read = match form {
        1 | 2 => read_mantissas(&mut bits, form == 1, points),
        3 => read_exact(&mut bits, points),
        form => return Err(BlockError::Form(form)),
    };
    read.ok_or(BlockError::Cut)
}

fn read_times(
    bits: &mut Reader<'_>,
    count: usize,
    points: &mut Vec<Point>,
) -> Result<(), BlockError> {
    let mut take = |n| bits.bits(n).ok_or(BlockError::Cut);
    let first = take(16)? as u16;
    let (mut last, mut on_line, mut k) = (first, false, NOTHING);
    if 1 < count {
        (last, on_line, k) = (take(16)? as u16, take(1)? == 1, take(6)? as u32);
    }
    let line = Line::new(first, last, count);
    let (mut offset, mut distance) = (i64::from(first), 0_i64);
    for at in 0..count {
        if 0 < at {
            let code = read_code(bits, k).ok_or(BlockError::Cut)?;
            let before = offset;
            offset = if on_line {
                line.at(at).wrapping_add(code)
            } else {
                before.wrapping_add(distance).wrapping_add(code)
            };
            distance = offset.wrapping_sub(before);
        }
        let is_in_order = points
            .last()
            .is_none_or(|last| i64::from(last.offset_ms) <= offset);
        if !is_in_order || !(0..MINUTE_MS).contains(&offset) {
            return Err(BlockError::Time);
        }
        points.push(Point {
            offset_ms: offset as u16,
            value: 0.0,
        });
    }
    Ok(())
}

fn read_mantissas(bits: &mut Reader<'_>, steps: bool, points: &mut [Point]) -> Option<()> {
    let scale = 10_f64.powi(bits.bits(5)? as i32);
    let mut base = read_number(bits)?;
    let step = if steps { read_number(bits)? } else { 0 };
    let k = bits.bits(6)? as u32;
    for (at, point) in points.iter_mut().enumerate() {
        let mut mantissa = base;
        if !steps || 0 < at {
            mantissa = base.wrapping_add(step).wrapping_add(read_code(bits, k)?);
        }
        if steps {
            base = mantissa;
        }
        point.value = mantissa as f64 / scale;
    }
    Some(())
}

fn read_exact(bits: &mut Reader<'_>, points: &mut [Point]) -> Option<()> {
    let mut value = bits.bits(64)?;
    let mut window = (0, 64);
    for (at, point) in points.iter_mut().enumerate() {
        if 0 < at && bits.bits(1)? == 1 {
            if bits.bits(1)? == 1 {
                let lead = bits.bits(5)? as u32;
                let length = bits.bits(6)? as u32 + 1;
                window = (lead, length);
            }
            let (lead, length) = window;
            let end = 64_u32.checked_sub(lead + length)?;
            value ^= bits.bits(length)? << end;
        }
        point.value = f64::from_bits(value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn encoded(points: &[Point]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::default().encode(points, &mut out);
        out
    }

    fn series(value: impl Fn(usize) -> f64) -> Vec<Point> {
        (0..60)
            .map(|at| Point {
                offset_ms: (at * 1_000 + at * at % 7) as u16,
                value: value(at),
            })
            .collect()
    }

    /// Bytes of a point, all told, at 60 points a minute and a jitter of 6 ms.
    #[test]
    fn what_a_point_costs() {
        let noise = |at: usize| (at * 7_919 % 101) as f64;
        for (name, points, most) in [
            ("constant", series(|_| 41.7), 0.75),
            (
                "percent",
                series(|at| (412.0 + noise(at) % 30.0) / 10.0),
                1.6,
            ),
            ("counter", series(|at| 1e9 + 1500.0 * at as f64), 0.85),
            ("bytes", series(|at| 4e6 + 1e4 * noise(at) + noise(at)), 3.4),
            ("ratios", series(|at| (at as f64).sin()), 9.3),
        ] {
            let bytes = encoded(&points).len() as f64 / points.len() as f64;
            assert!(bytes <= most, "{name}: {bytes:.2} B");
        }
    }

    #[test]
    fn every_damaged_bit_is_seen() {
        let block = encoded(&series(|at| at as f64 * 0.25));
        let mut points = Vec::new();
        for at in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert_eq!(
                decode(&damaged, &mut points),
                Err(BlockError::Checksum),
                "bit {at}"
            );
        }
        for at in 0..block.len() {
            assert!(decode(&block[..at], &mut points).is_err(), "{at} bytes");
        }
    }

    /// A checksum protects from decay, not from a foe: what decodes must still be in bounds.
    fn sealed(rest: &[u8]) -> Vec<u8> {
        [&crc32fast::hash(rest).to_le_bytes(), rest].concat()
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            (-1_000_000_i64..1_000_000, 0..4_i32).prop_map(|(m, d)| m as f64 / 10_f64.powi(d)),
            Just(-0.0),
            Just(0.0),
            Just(f64::MAX),
            Just(5e-324),
        ]
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            mut points in prop::collection::vec((0..60_000_u16, value()), 1..300)
        ) {
            points.sort_by_key(|&(offset_ms, _)| offset_ms);
            let points: Vec<Point> = points
                .into_iter()
                .map(|(offset_ms, value)| Point { offset_ms, value })
                .collect();
            let mut read = Vec::new();
            decode(&encoded(&points), &mut read).unwrap();
            prop_assert_eq!(read.len(), points.len());
            for (a, b) in read.iter().zip(&points) {
                prop_assert_eq!(
                    (a.offset_ms, a.value.to_bits()),
                    (b.offset_ms, b.value.to_bits())
                );
            }
        }

        #[test]
        fn no_block_leads_astray(rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut points = Vec::new();
            if decode(&sealed(&rest), &mut points).is_ok() {
                prop_assert!(points.len() <= BLOCK_POINTS_MAX);
                prop_assert!(points.is_sorted_by_key(|point| point.offset_ms));
            }
        }
    }

    #[test]
    fn a_block_holds_as_many_points_as_it_may() {
        let most: Vec<Point> = (0..BLOCK_POINTS_MAX)
            .map(|at| Point {
                offset_ms: (at % 60_000) as u16,
                value: at as f64,
            })
            .collect();
        let mut most = most;
        most.sort_by_key(|point| point.offset_ms);
        let mut read = Vec::new();
        decode(&encoded(&most), &mut read).unwrap();
        assert_eq!(read, most);
    }
}
