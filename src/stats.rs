//! Percentiles, extremes and top rows of a bag of values, and whose values go into which bag.
//!
//! Values travel as [`Key`]s: u64 that order as their floats do, so that selection compares plain
//! integers. A percentile is by nearest rank: the p-th is the smallest value with at least p % of
//! the values at or below it. It is always one of the values, never between two.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::frame::view::Func;
use crate::limits::LINES_MAX;
use crate::sample::Slot;

/// A float whose order is that of u64; -0 sorts before 0.
pub type Key = u64;

const SIGN: u64 = 1 << 63;

#[inline]
pub fn key(value: f64) -> Key {
    let bits = value.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

#[inline]
pub fn value(key: Key) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}

/// What the default view says of one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub min: f64,
    pub avg: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Summary {
    /// None of none. Reorders the keys.
    pub fn of(keys: &mut [Key]) -> Option<Summary> {
        let avg = average(keys)?;
        // From the highest down: each selection leaves what the next one needs to its left.
        let at = [99, 95, 50].map(|percent| rank(keys.len(), percent));
        let mut end = keys.len();
        let [p99, p95, p50] = at.map(|rank| {
            if rank < end {
                keys[..end].select_nth_unstable(rank);
                end = rank;
            }
            value(keys[rank])
        });
        let greatest = keys[at[0]..].iter().max();
        let least = keys[..=at[2]].iter().min();
        Some(Summary {
            min: least.map_or(f64::NAN, |&key| value(key)),
            avg,
            p50,
            p95,
            p99,
            max: greatest.map_or(f64::NAN, |&key| value(key)),
        })
    }
}

/// One expression's value: NaN of none, but a count of 0. Reorders the keys.
pub fn evaluate(func: Func, keys: &mut [Key]) -> f64 {
    if func == Func::Count {
        return keys.len() as f64;
    }
    if keys.is_empty() {
        return f64::NAN;
    }
    match func {
        Func::Min => keys.iter().min().map_or(f64::NAN, |&key| value(key)),
        Func::Max => keys.iter().max().map_or(f64::NAN, |&key| value(key)),
        Func::Avg => average(keys).unwrap_or(f64::NAN),
        Func::Sum => sum(keys).clamp(f64::MIN, f64::MAX),
        Func::P50 => percentile(keys, 50),
        Func::P90 => percentile(keys, 90),
        Func::P95 => percentile(keys, 95),
        Func::P99 => percentile(keys, 99),
        Func::Count => unreachable!("answered above"),
    }
}

fn percentile(keys: &mut [Key], percent: usize) -> f64 {
    let rank = rank(keys.len(), percent);
    value(*keys.select_nth_unstable(rank).1)
}

/// Nearest rank, counted from 0; `len` is not 0.
fn rank(len: usize, percent: usize) -> usize {
    (len * percent).div_ceil(100) - 1
}

fn sum(keys: &[Key]) -> f64 {
    keys.iter().map(|&key| value(key)).sum()
}

/// Between the extremes, which rounding of the sum could leave by a hair, and finite even where the
/// sum is not.
fn average(keys: &[Key]) -> Option<f64> {
    let n = keys.len() as f64;
    let (least, greatest) = (value(*keys.iter().min()?), value(*keys.iter().max()?));
    let sum = sum(keys);
    let mean = if sum.is_finite() {
        sum / n
    } else {
        keys.iter().map(|&key| value(key) / n).sum()
    };
    Some(mean.clamp(least, greatest))
}

/// The greatest n of a stream, ties by slot. Keeps a few times n candidates and cuts them back when
/// they are too many, so that any order of arrival costs O(1) a value.
pub struct TopRows {
    n: usize,
    /// Inverted keys, so that ascending order is greatest first, then lowest slot.
    rows: Vec<(Key, Slot)>,
    /// Rows at or past this one cannot be among the first n.
    bar: (Key, Slot),
}

impl TopRows {
    pub fn new(n: usize) -> Self {
        Self {
            n,
            rows: Vec::with_capacity(Self::room(n)),
            bar: (Key::MAX, Slot::MAX),
        }
    }

    #[inline]
    pub fn offer(&mut self, slot: Slot, key: Key) {
        let row = (!key, slot);
        if row < self.bar {
            self.rows.push(row);
            if self.rows.len() == Self::room(self.n) {
                self.cut();
            }
        }
    }

    /// Greatest first.
    pub fn finish(mut self) -> Vec<(Slot, f64)> {
        self.rows.sort_unstable();
        self.rows.truncate(self.n);
        let rows = self.rows.into_iter();
        rows.map(|(inverted, slot)| (slot, value(!inverted)))
            .collect()
    }

    fn cut(&mut self) {
        let Some(last) = self.n.checked_sub(1) else {
            self.bar = (0, 0);
            self.rows.clear();
            return;
        };
        self.bar = *self.rows.select_nth_unstable(last).1;
        self.rows.truncate(self.n);
    }

    fn room(n: usize) -> usize {
        (2 * n).max(32)
    }
}

/// The group of a host that is in none.
pub const NO_GROUP: u16 = u16::MAX;

/// Groups hosts, None for one that does not count, by the value of one of their tags: for each an
/// index into the names, or [`NO_GROUP`]. Biggest group first, ties by name; at most [`LINES_MAX`].
pub fn group<'a>(
    by: &str,
    hosts: impl Iterator<Item = Option<&'a [(String, String)]>> + Clone,
) -> (Vec<u16>, Vec<String>) {
    let value = |tags: Option<&'a [(String, String)]>| {
        let tag = tags?.iter().find(|(key, _)| key == by);
        tag.map(|(_, value)| value.as_str())
    };
    let mut sizes: HashMap<&str, (u32, u16), RandomState> = HashMap::default();
    for name in hosts.clone().filter_map(value) {
        sizes.entry(name).or_insert((0, NO_GROUP)).0 += 1;
    }
    let mut names: Vec<(&str, u32)> = sizes
        .iter()
        .map(|(name, (size, _))| (*name, *size))
        .collect();
    names.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    names.truncate(LINES_MAX);
    for ((name, _), id) in names.iter().zip(0..) {
        if let Some(entry) = sizes.get_mut(name) {
            entry.1 = id;
        }
    }
    let of = hosts.map(|tags| {
        let entry = value(tags).and_then(|name| sizes.get(name));
        entry.map_or(NO_GROUP, |entry| entry.1)
    });
    let of = of.collect();
    let names = names.into_iter().map(|(name, _)| name.to_owned());
    (of, names.collect())
}

/// The ends of a map's scale, PROTOCOL.md 2.3. `range` is of all values ever seen.
pub fn scale(unit: &str, range: Option<(f64, f64)>) -> (f64, f64) {
    /// Far enough from the greatest float that `(v - lo) * 252` stays finite.
    const END: f64 = 1e305;
    let Some((least, greatest)) = range else {
        return (0.0, 100.0);
    };
    if unit == "%" || (0.0 <= least && greatest <= 100.0) {
        return (0.0, 100.0);
    }
    let lo = if least < 0.0 {
        -step(-least, &[1.0]).min(END)
    } else {
        0.0
    };
    let hi = if greatest > 0.0 {
        step(greatest, &[1.0, 2.0, 5.0]).min(END)
    } else {
        0.0
    };
    (lo, hi)
}

/// The least of these mantissas times a power of ten that is not below x > 0. Powers come from
/// parsing, which is exact to the last bit where `powi` is not.
fn step(x: f64, mantissas: &[f64]) -> f64 {
    let about = x.log10().floor() as i32;
    for exponent in about - 1..=about + 1 {
        for mantissa in mantissas {
            let step = format!("{mantissa}e{exponent}").parse();
            if let Ok(step) = step
                && step >= x
            {
                return step;
            }
        }
    }
    f64::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(values: &[f64]) -> Vec<Key> {
        values.iter().map(|&value| key(value)).collect()
    }

    /// The definition, literally: the smallest value with at least p % at or below it.
    fn naive_percentile(values: &[f64], percent: usize) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let enough = |v: &f64| {
            let below = sorted.iter().filter(|o| o.total_cmp(v).is_le()).count();
            below * 100 >= percent * sorted.len()
        };
        sorted.iter().copied().find(enough).unwrap_or(f64::NAN)
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let check = |values: &[f64], func: Func, expected: f64| {
            let value = evaluate(func, &mut keys(values));
            assert_eq!(value.to_bits(), expected.to_bits(), "{func:?} {values:?}");
        };
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        check(&hundred, Func::P50, 50.0);
        check(&hundred, Func::P90, 90.0);
        check(&hundred, Func::P95, 95.0);
        check(&hundred, Func::P99, 99.0);
        check(&[3.0, 1.0, 2.0], Func::P50, 2.0);
        check(&[2.0, 1.0], Func::P50, 1.0);
        check(&[2.0, 1.0], Func::P99, 2.0);
        check(&[7.0], Func::P99, 7.0);
        check(&[7.0, -1.5], Func::Min, -1.5);
        check(&[7.0, -1.5], Func::Max, 7.0);
        check(&[7.0, -1.5], Func::Sum, 5.5);
        check(&[7.0, -1.0], Func::Avg, 3.0);
        check(&[7.0, -1.0], Func::Count, 2.0);
        check(&[], Func::Count, 0.0);
        check(&[], Func::Sum, f64::NAN);
        check(&[], Func::P50, f64::NAN);
        check(&[0.1; 3], Func::Avg, 0.1);
        check(&[f64::MAX, f64::MAX], Func::Avg, f64::MAX);
        check(&[f64::MAX, f64::MAX], Func::Sum, f64::MAX);
    }

    #[test]
    fn scales() {
        let check = |unit: &str, range: Option<(f64, f64)>, expected: (f64, f64)| {
            assert_eq!(scale(unit, range), expected, "{unit} {range:?}");
        };
        check("", None, (0.0, 100.0));
        check("", Some((0.0, 100.0)), (0.0, 100.0));
        check("%", Some((-5.0, 400.0)), (0.0, 100.0));
        check("ms", Some((0.0, 100.5)), (0.0, 200.0));
        check("", Some((3.0, 200.0)), (0.0, 200.0));
        check("", Some((3.0, 201.0)), (0.0, 500.0));
        check("", Some((3.0, 501.0)), (0.0, 1_000.0));
        check("B", Some((3.0, 1e9)), (0.0, 1e9));
        check("", Some((-0.3, 0.7)), (-1.0, 1.0));
        check("", Some((-0.1, 0.15)), (-0.1, 0.2));
        check("", Some((-11.0, -3.0)), (-100.0, 0.0));
        check("", Some((f64::MIN, f64::MAX)), (-1e305, 1e305));
        check("", Some((-5e-324, 5e-324)), (-1e-323, 5e-324));
    }

    /// Few enough distinct ones that ties occur.
    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![-5.0..5.0_f64, Just(1.0), Just(-0.0)]
    }

    proptest! {
        #[test]
        fn keys_order_as_floats_do(a in any::<f64>(), b in any::<f64>()) {
            prop_assert_eq!(key(a).cmp(&key(b)), a.total_cmp(&b));
            prop_assert_eq!(value(key(a)).to_bits(), a.to_bits());
        }

        #[test]
        fn summary_agrees_with_a_sort(
            values in prop::collection::vec(any_value(), 1..300)
        ) {
            let summary = Summary::of(&mut keys(&values));
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let p = |percent| naive_percentile(&values, percent).to_bits();
            let bits = summary.map(|s| [s.min, s.p50, s.p95, s.p99, s.max].map(f64::to_bits));
            let (least, greatest) = (sorted[0].to_bits(), sorted[sorted.len() - 1].to_bits());
            prop_assert_eq!(bits, Some([least, p(50), p(95), p(99), greatest]));
            for (func, percent) in
                [(Func::P50, 50), (Func::P90, 90), (Func::P95, 95), (Func::P99, 99)]
            {
                prop_assert_eq!(evaluate(func, &mut keys(&values)).to_bits(), p(percent));
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((evaluate(Func::Avg, &mut keys(&values)) - mean).abs() < 1e-9);
        }

        #[test]
        fn top_rows_agree_with_a_sort(
            values in prop::collection::vec(-20..20_i32, 0..500), n in 0..60_usize
        ) {
            let mut top = TopRows::new(n);
            for (slot, &value) in values.iter().enumerate() {
                top.offer(slot as Slot, key(f64::from(value)));
            }
            let mut naive: Vec<(Slot, f64)> =
                values.iter().zip(0..).map(|(&value, slot)| (slot, f64::from(value))).collect();
            naive.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            naive.truncate(n);
            prop_assert_eq!(top.finish(), naive);
        }
    }
}
