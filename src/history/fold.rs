//! The fleet's statistics of a minute, made of its series: each by its last value in each ten
//! seconds, else by what stands for it since an earlier one.
//!
//! What stands is known from minute to minute. What comes late takes the place of what stood: so
//! it is written down, too, with which value a series was counted, and how long.

use std::collections::HashMap as StdMap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::bits::{unzigzag, zigzag};
use super::block::{MINUTE_MS, Point};
use super::held::{Held, Lasts, STEPS};
use super::recent::Away;
use super::sketch::{Sketch, put_varint, take_varint};
use super::{FLEET_STEP_MS, FleetRow, Rollup};
use crate::limits::{FOLD_KEPT_MINUTES, FOLD_MINUTES_MAX, FOLD_SERIES_MAX};
use crate::rhythm::Rhythm;

type Series = HashMap<i64, Kept, RandomState>;

/// Invariant: `count` is the number of series, at most `most`.
pub struct Fold {
    /// By metric, then by series.
    metrics: HashMap<i64, Series, RandomState>,
    count: usize,
    most: usize,
    /// The last minute that was folded.
    until: Option<i64>,
}

/// How a series was counted so far: without a gap from step `since` to step `until`; after its last
/// point by the value `counted`.
#[derive(Clone, Copy, Debug)]
struct Kept {
    held: Held,
    counted: f64,
    since: i64,
    until: i64,
    /// It had points in the minute that is being folded.
    is_fresh: bool,
}

const UNKNOWN: Kept = Kept {
    held: Held::NONE,
    counted: f64::NAN,
    since: i64::MAX,
    until: i64::MIN,
    is_fresh: false,
};

/// What a minute's series do to one metric's step.
#[derive(Clone, Debug)]
pub struct Change {
    pub row: FleetRow,
    /// Values that were counted before, and are no more.
    pub gone: Vec<f64>,
}

impl Default for Fold {
    fn default() -> Self {
        Fold::with_bound(FOLD_SERIES_MAX)
    }
}

impl Fold {
    /// For tests.
    pub fn with_bound(most: usize) -> Self {
        Self {
            metrics: HashMap::default(),
            count: 0,
            most,
            until: None,
        }
    }

    /// Goes on after a minute.
    pub fn after(until: i64) -> Self {
        Self {
            until: Some(until),
            ..Self::default()
        }
    }

    /// Minutes before this one that are to be folded first: in them nobody may have said anything.
    pub fn before(&self, minute: i64) -> std::ops::Range<i64> {
        match self.until {
            Some(until) if 0 < self.count => (until + 1).max(minute - FOLD_MINUTES_MAX)..minute,
            _ => minute..minute,
        }
    }

    /// Minutes come in order, but for what is late.
    pub fn minute(&mut self, minute: i64, away: Away) -> Folding<'_> {
        let is_late = self.until.is_some_and(|until| minute <= until);
        let first = minute * STEPS as i64;
        Folding {
            is_late,
            minute,
            here: std::array::from_fn(|step| !away.has(first + step as i64)),
            sums: StdMap::new(),
            fold: self,
        }
    }

    fn kept(&self, metric: i64, series: i64) -> Kept {
        let known = self.metrics.get(&metric).and_then(|of| of.get(&series));
        known.copied().unwrap_or(UNKNOWN)
    }

    fn keep(&mut self, metric: i64, series: i64, kept: Kept) {
        let of = self.metrics.entry(metric).or_default();
        if let Some(known) = of.get_mut(&series) {
            *known = kept;
        } else if self.count < self.most {
            of.insert(series, kept);
            self.count += 1;
        }
    }

    /// Each metric with those of its series that a start could not learn again at once, for
    /// [`Fold::take_back`].
    pub fn slow(&self) -> impl Iterator<Item = (i64, Vec<u8>)> {
        let end = self.until.unwrap_or_default() * STEPS as i64;
        let slow = |kept: &Kept| {
            let is_fast = kept.held.rhythm.is_known()
                && kept.held.rhythm.interval_ms() <= FLEET_STEP_MS.cast_unsigned() / 2;
            !is_fast
        };
        self.metrics.iter().map(move |(&metric, of)| {
            let mut out = Vec::new();
            for (series, kept) in of.iter().filter(|(_, kept)| slow(kept)) {
                if out.is_empty() {
                    out.extend_from_slice(&end.to_le_bytes());
                }
                kept.encode(*series, end, &mut out);
            }
            if !out.is_empty() {
                let crc = crc32fast::hash(&out);
                out.extend_from_slice(&crc.to_le_bytes());
            }
            (metric, out)
        })
    }

    /// What [`Fold::slow`] gave of a metric. What is damaged is not taken.
    pub fn take_back(&mut self, metric: i64, bytes: &[u8]) {
        for (series, kept) in decode(bytes).unwrap_or_default() {
            self.keep(metric, series, kept);
        }
    }
}

/// What stands for each series of what [`Fold::slow`] gave.
pub fn held_in(bytes: &[u8]) -> impl Iterator<Item = (i64, Held)> {
    let kept = decode(bytes).unwrap_or_default().into_iter();
    kept.map(|(series, kept)| (series, kept.held))
}

/// One minute on its way into the fleet's statistics.
pub struct Folding<'f> {
    fold: &'f mut Fold,
    minute: i64,
    is_late: bool,
    here: [bool; STEPS],
    sums: StdMap<(i64, usize), Sum>,
}

struct Sum {
    rollup: Rollup,
    sketch: Sketch,
    gone: Vec<f64>,
}

impl Folding<'_> {
    /// All points of a series in the minute, in order.
    pub fn add(&mut self, metric: i64, series: i64, points: &[Point]) {
        let begin_ms = self.minute * MINUTE_MS;
        let mut kept = self.fold.kept(metric, series);
        let (before, mut lasts) = (kept, Lasts::NONE);
        for point in points {
            let time_ms = begin_ms + i64::from(point.offset_ms);
            lasts.put(begin_ms, time_ms, point.value);
            kept.held.hear(time_ms, point.value);
        }
        if self.is_late {
            self.replace(metric, &before, &mut kept, &lasts);
        } else {
            let filled = lasts.fill(before.held, kept.held.rhythm, begin_ms, self.here);
            kept.is_fresh = true;
            self.count(metric, &mut kept, filled);
        }
        self.fold.keep(metric, series, kept);
    }

    fn count(&mut self, metric: i64, kept: &mut Kept, values: [f64; STEPS]) {
        let first = self.minute * STEPS as i64;
        for (at, value) in values.into_iter().enumerate() {
            if !value.is_nan() {
                kept.count(first + at as i64);
                self.sum(metric, at).add(value);
            }
        }
        kept.counted = kept.held.value;
    }

    /// A step that was counted is counted once: by what came late, if nothing later was known.
    fn replace(&mut self, metric: i64, before: &Kept, kept: &mut Kept, lasts: &Lasts) {
        let first = self.minute * STEPS as i64;
        let heard = before.held.heard_ms.div_euclid(FLEET_STEP_MS);
        for (at, time_ms, value) in lasts.own() {
            let step = first + at as i64;
            let was_counted = before.since <= step && step <= before.until;
            let is_latest = before.held.heard_ms <= time_ms;
            if was_counted && !is_latest {
                continue;
            }
            let sum = self.sum(metric, at);
            sum.add(value);
            if was_counted && step == heard {
                sum.gone.push(before.held.value);
            } else if was_counted {
                sum.gone.push(before.counted);
            } else if is_latest {
                kept.count(step);
            }
        }
    }

    fn sum(&mut self, metric: i64, step: usize) -> &mut Sum {
        let none = || Sum {
            rollup: Rollup::EMPTY,
            sketch: Sketch::default(),
            gone: Vec::new(),
        };
        self.sums.entry((metric, step)).or_insert_with(none)
    }

    /// Counts whoever said nothing, and lets go of those that have long been silent.
    pub fn finish(mut self) -> Vec<Change> {
        let begin_ms = self.minute * MINUTE_MS;
        if !self.is_late {
            let mut metrics = std::mem::take(&mut self.fold.metrics);
            for (&metric, of) in &mut metrics {
                for kept in of.values_mut() {
                    if !std::mem::take(&mut kept.is_fresh) {
                        let held = kept.held;
                        let filled = Lasts::NONE.fill(held, held.rhythm, begin_ms, self.here);
                        self.count(metric, kept, filled);
                    }
                }
                let kept_ms = FOLD_KEPT_MINUTES * MINUTE_MS;
                of.retain(|_, kept| kept.held.stands(begin_ms - kept_ms));
            }
            metrics.retain(|_, of| !of.is_empty());
            self.fold.count = metrics.values().map(HashMap::len).sum();
            self.fold.metrics = metrics;
            self.fold.until = Some(self.minute);
        }
        let first = self.minute * STEPS as i64;
        let sums = self.sums.into_iter();
        let mut changes: Vec<Change> = sums.map(|(at, sum)| sum.change(first, at)).collect();
        changes.sort_unstable_by_key(|change| (change.row.metric, change.row.step));
        changes
    }
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.rollup.add(value);
        self.sketch.add(value);
    }

    fn change(self, first: i64, (metric, at): (i64, usize)) -> Change {
        let mut spread = Vec::new();
        self.sketch.encode(&mut spread);
        let row = FleetRow {
            step: first + at as i64,
            metric,
            hosts: self.rollup.count,
            sum: self.rollup.sum,
            min: self.rollup.min,
            max: self.rollup.max,
            spread,
        };
        Change {
            row,
            gone: self.gone,
        }
    }
}

impl Kept {
    fn count(&mut self, step: i64) {
        if self.until.checked_add(1) != Some(step) && self.until < step {
            self.since = step;
        }
        self.until = self.until.max(step);
    }

    /// Key, floats, and times as differences to the end of what was folded.
    fn encode(&self, series: i64, end: i64, out: &mut Vec<u8>) {
        let end_ms = end * FLEET_STEP_MS;
        out.extend_from_slice(&series.to_le_bytes());
        out.extend_from_slice(&self.held.value.to_le_bytes());
        out.extend_from_slice(&self.counted.to_le_bytes());
        out.extend_from_slice(&self.held.rhythm.raw_ms().to_le_bytes());
        for (end, at) in [
            (end_ms, self.held.heard_ms),
            (end, self.since),
            (end, self.until),
        ] {
            put_varint(out, zigzag(end.wrapping_sub(at)));
        }
    }
}

/// The inverse of [`Kept::encode`], series after series. None if a byte of it is wrong.
fn decode(bytes: &[u8]) -> Option<Vec<(i64, Kept)>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (first, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*first)
    }
    let (mut rest, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(rest).to_le_bytes() != *crc {
        return None;
    }
    let end = i64::from_le_bytes(take(&mut rest)?);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let series = i64::from_le_bytes(take(&mut rest)?);
        let [value, counted] = [take(&mut rest)?, take(&mut rest)?].map(f64::from_le_bytes);
        let rhythm = Rhythm::from_raw_ms(f32::from_le_bytes(take(&mut rest)?));
        let mut before = |end: i64| Some(end.wrapping_sub(unzigzag(take_varint(&mut rest)?)));
        let held = Held {
            heard_ms: before(end.wrapping_mul(FLEET_STEP_MS))?,
            value,
            rhythm,
        };
        let kept = Kept {
            held,
            counted,
            since: before(end)?,
            until: before(end)?,
            is_fresh: false,
        };
        found.push((series, kept));
    }
    Some(found)
}

#[cfg(test)]
mod tests;
