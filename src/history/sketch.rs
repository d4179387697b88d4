//! How the values of many hosts are spread: what percentiles over hours are merged from.
//!
//! Values are counted in bins whose borders grow by [`GAMMA`], so that a quantile is off by at most
//! one percent of itself (the DDSketch of VLDB 2019, section 2). Merging adds counts, whatever the
//! order.

use std::collections::BTreeMap;

/// Each bin's upper border over its lower one: (1 + e) / (1 - e) for an error e of 1 %.
const GAMMA: f64 = 1.01 / 0.99;
/// What is closer to zero counts as zero.
const TINY: f64 = 1e-9;
/// So that the bin of the least counted value is 1: ln(1e-9) / ln(GAMMA) is -1,036.1.
const SHIFT: i32 = 1_038;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    /// Negative values in negative bins: the order of bins is that of values.
    bins: BTreeMap<i32, u64>,
}

/// A sketch's bytes were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sketch is damaged")]
pub struct SketchError;

impl Sketch {
    pub fn add(&mut self, value: f64) {
        *self.bins.entry(bin(value)).or_default() += 1;
    }

    /// One that was added; another is not there to be removed.
    pub fn remove(&mut self, value: f64) {
        let bin = bin(value);
        if let Some(count) = self.bins.get_mut(&bin) {
            *count -= 1;
            if *count == 0 {
                self.bins.remove(&bin);
            }
        }
    }

    pub fn merge(&mut self, other: &Sketch) {
        for (&bin, count) in &other.bins {
            *self.bins.entry(bin).or_default() += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.bins.values().sum()
    }

    /// The value of rank `ceil(q * count)`, within one percent; NaN when there is none.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (&bin, count) in &self.bins {
            seen += count;
            if rank <= seen {
                return value(bin);
            }
        }
        f64::NAN
    }

    /// Distances between bins and their counts, as variable-length numbers.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut before = 0;
        for (&bin, &count) in &self.bins {
            put_varint(out, super::bits::zigzag(i64::from(bin) - before));
            put_varint(out, count);
            before = i64::from(bin);
        }
    }

    pub fn decode(mut bytes: &[u8]) -> Result<Sketch, SketchError> {
        let mut sketch = Sketch::default();
        sketch.merge_encoded(&mut bytes)?;
        Ok(sketch)
    }

    /// Merges an encoded sketch without making it first.
    pub fn merge_encoded(&mut self, bytes: &mut &[u8]) -> Result<(), SketchError> {
        let mut bin = 0_i64;
        while !bytes.is_empty() {
            let step = take_varint(bytes).ok_or(SketchError)?;
            let count = take_varint(bytes).ok_or(SketchError)?;
            bin = bin.wrapping_add(super::bits::unzigzag(step));
            let key = i32::try_from(bin).map_err(|_| SketchError)?;
            let sum = self.bins.entry(key).or_default();
            *sum = sum.saturating_add(count);
        }
        Ok(())
    }
}

fn bin(value: f64) -> i32 {
    if value.abs() < TINY {
        return 0;
    }
    // Saturates; the greatest double is in bin 35,000 or so.
    let bin = (value.abs().ln() / GAMMA.ln()).ceil() as i32 + SHIFT;
    if value < 0.0 { -bin } else { bin }
}

/// The point of a bin that is at most one percent from all of it.
fn value(bin: i32) -> f64 {
    let size = |bin: i32| 2.0 * GAMMA.powi(bin - SHIFT) / (1.0 + GAMMA);
    match bin {
        0 => 0.0,
        1.. => size(bin),
        _ => -size(-bin),
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while 0x80 <= number {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|&value| sketch.add(value));
        sketch
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_percent(
            mut values in prop::collection::vec(
                prop_oneof![-1e6..1e6_f64, -1.0..1.0_f64, Just(0.0), 1e15..1e17_f64], 1..400),
            q in 0.0..=1.0_f64,
            cut in 0..400_usize,
        ) {
            let cut = cut.min(values.len());
            let mut sketch = of(&values[..cut]);
            sketch.merge(&of(&values[cut..]));
            prop_assert_eq!(&sketch, &of(&values));
            values.sort_by(f64::total_cmp);
            let rank = (q * values.len() as f64).ceil().max(1.0) as usize;
            let exact = values[rank - 1];
            let found = sketch.quantile(q);
            prop_assert!((found - exact).abs() <= exact.abs() * 0.010_001 + TINY);
            let mut bytes = Vec::new();
            sketch.encode(&mut bytes);
            prop_assert_eq!(Sketch::decode(&bytes), Ok(sketch.clone()));
            values.iter().for_each(|&value| sketch.remove(value));
            prop_assert_eq!(sketch, Sketch::default());
        }

        #[test]
        fn no_bytes_lead_astray(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Sketch::decode(&bytes).map(|sketch| sketch.quantile(0.5));
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert!(Sketch::default().quantile(0.5).is_nan());
        assert_eq!(of(&[f64::MAX, f64::MIN, 5e-324]).count(), 3);
    }
}
