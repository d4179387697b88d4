//! The minutes that are in no store yet: points as they came, and their rows once a minute passed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::block::{self, MINUTE_MS, Point};
use super::fold::{Change, Fold};
use super::held::Held;
use super::journal::Position;
use super::{Rollup, Row, SeriesName};
use crate::limits::{BLOCK_POINTS_MAX, HISTORY_NAMES_MAX, HISTORY_POINTS_MAX};
use crate::rhythm::Rhythm;

/// Invariants: every index of a minute is one of `names`, and `points` is what all minutes hold.
#[derive(Default)]
pub struct Recent {
    names: Names,
    open: BTreeMap<i64, Minute>,
    passed: VecDeque<Arc<Passed>>,
    points: usize,
    /// Those of them that an earlier life of this node took.
    replayed: usize,
    position: Position,
    pub away: Away,
}

/// When the node was not there between two of its lives: nothing stood then. Steps after the first
/// and before the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Away {
    pub left: i64,
    pub came: i64,
}

impl Away {
    pub fn has(self, step: i64) -> bool {
        self.left < step && step < self.came
    }
}

/// Series by the small number that minutes know them by.
#[derive(Clone, Default)]
struct Names {
    list: Vec<Arc<SeriesName>>,
    by_key: HashMap<i64, u32, RandomState>,
}

/// A point that is in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub time_ms: i64,
    pub value: f64,
    /// How often its series is heard, as far as the order of arrivals shows.
    pub rhythm: Rhythm,
    /// A store that has its minute and knows a place past this one has the point too.
    pub after: Position,
}

/// One minute's points in the order they came: 14 bytes each, and nothing per series.
#[derive(Default)]
pub struct Minute {
    series: Vec<u32>,
    offsets_ms: Vec<u16>,
    values: Vec<f64>,
    /// How many of them an earlier life of this node took.
    replayed: usize,
}

/// Minutes on their way into the store, together all that came before a place in the journal.
pub struct Passed {
    /// Every sample of these minutes and older ones that the journal has before this is in here, or
    /// was stored before.
    pub position: Position,
    /// The latest minute that may be in here.
    pub until: i64,
    pub minutes: BTreeMap<i64, Minute>,
    pub names: Vec<Arc<SeriesName>>,
    pub away: Away,
}

impl Recent {
    /// The small number of a series.
    pub fn index(&mut self, name: &SeriesName) -> u32 {
        let Names { list, by_key } = &mut self.names;
        *by_key.entry(name.key).or_insert_with(|| {
            list.push(Arc::new(name.clone()));
            list.len() as u32 - 1
        })
    }

    pub fn name(&self, index: u32) -> Option<&Arc<SeriesName>> {
        self.names.list.get(index as usize)
    }

    /// Points that still fit.
    pub fn room(&self) -> usize {
        HISTORY_POINTS_MAX.saturating_sub(self.points)
    }

    pub fn points(&self) -> usize {
        self.points
    }

    /// Points of samples that this life of the node merged.
    pub fn aggregated(&self) -> u64 {
        (self.points - self.replayed) as u64
    }

    /// Of an index that [`Recent::index`] gave out since names were last forgotten.
    pub fn add(&mut self, index: u32, minute: i64, offset_ms: u16, value: f64, replayed: bool) {
        let open = self.open.entry(minute).or_default();
        open.series.push(index);
        open.offsets_ms.push(offset_ms);
        open.values.push(value);
        open.replayed += usize::from(replayed);
        self.replayed += usize::from(replayed);
        self.points += 1;
    }

    /// Makes all minutes up to `until` wait for the store; they can be read as before. True: names
    /// were forgotten, indices are void.
    pub fn pass(&mut self, until: i64, position: Position) -> bool {
        let forget = HISTORY_NAMES_MAX <= self.names.list.len();
        // Names can go only when no open minute leans on them.
        let until = if forget { i64::MAX } else { until };
        let later = self.open.split_off(&until.saturating_add(1));
        let minutes = std::mem::replace(&mut self.open, later);
        let Some((&last, _)) = minutes.last_key_value() else {
            return false;
        };
        let names = if forget {
            std::mem::take(&mut self.names).list
        } else {
            self.names.list.clone()
        };
        self.passed.push_back(Arc::new(Passed {
            position,
            until: until.min(last),
            minutes,
            names,
            away: self.away,
        }));
        forget
    }

    /// The oldest of what waits for the store.
    pub fn next(&self) -> Option<Arc<Passed>> {
        self.passed.front().cloned()
    }

    pub fn waiting(&self) -> usize {
        self.passed.len()
    }

    /// The oldest is in the store, or was given up.
    pub fn stored(&mut self) {
        if let Some(passed) = self.passed.pop_front() {
            self.points -= passed.len();
            self.replayed -= passed.len() - passed.aggregated() as usize;
        }
    }

    /// The earliest minute that is still open.
    pub fn first_open(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// Where the journal stood when it was last written: what is added from now on comes after it.
    pub fn set_position(&mut self, position: Position) {
        self.position = position;
    }

    /// Calls for every point of a metric's series in `from_ms..to_ms`, of the one host if one is
    /// given, in no order.
    pub fn each_point(
        &self,
        metric_key: i64,
        key: Option<i64>,
        (from_ms, to_ms): (i64, i64),
        mut each: impl FnMut(&Arc<SeriesName>, Found),
    ) {
        let within = super::minute_of(from_ms).0..=super::minute_of(to_ms).0;
        let mut scan =
            |minutes: &BTreeMap<i64, Minute>, names: &[Arc<SeriesName>], found: Found| {
                let is_sought = |name: &Arc<SeriesName>| {
                    name.metric_key == metric_key && key.is_none_or(|key| name.key == key)
                };
                let sought: Vec<bool> = names.iter().map(is_sought).collect();
                for (&minute, points) in minutes.range(within.clone()) {
                    for (at, &index) in points.series.iter().enumerate() {
                        if !sought[index as usize] {
                            continue;
                        }
                        let time_ms = minute * MINUTE_MS + i64::from(points.offsets_ms[at]);
                        if (from_ms..to_ms).contains(&time_ms) {
                            let value = points.values[at];
                            each(
                                &names[index as usize],
                                Found {
                                    time_ms,
                                    value,
                                    ..found
                                },
                            );
                        }
                    }
                }
            };
        let found = Found {
            time_ms: 0,
            value: 0.0,
            rhythm: Rhythm::UNKNOWN,
            after: self.position,
        };
        for passed in &self.passed {
            let after = Position(passed.position.0.saturating_sub(1));
            scan(&passed.minutes, &passed.names, Found { after, ..found });
        }
        scan(&self.open, &self.names.list, found);
    }

    /// Calls for the last point that each series of a metric has in each step of `step_ms`, a
    /// divisor of a minute, that lies in `from_ms..to_ms`. A series with points in two writes that
    /// wait has one for each.
    pub fn each_last(
        &self,
        metric_key: i64,
        (from_ms, to_ms): (i64, i64),
        step_ms: i64,
        mut each: impl FnMut(&Arc<SeriesName>, i64, Found),
    ) {
        let within = super::minute_of(from_ms).0..=super::minute_of(to_ms).0;
        let steps = (MINUTE_MS / step_ms) as usize;
        let mut lasts: Vec<Option<(u16, f64)>> = Vec::new();
        let mut held: Vec<Held> = Vec::new();
        let mut scan = |minutes: &BTreeMap<i64, Minute>, names: &[Arc<SeriesName>], after| {
            // A place for each series of the metric: a scan of millions must not hash.
            let mut sought = Vec::new();
            let mut places = vec![usize::MAX; names.len()];
            for (name, place) in names.iter().zip(&mut places) {
                if name.metric_key == metric_key {
                    *place = sought.len();
                    sought.push(name);
                }
            }
            held.clear();
            held.resize(sought.len(), Held::NONE);
            let mut backwards = vec![false; sought.len()];
            for (&minute, points) in minutes.range(within.clone()) {
                lasts.clear();
                lasts.resize(sought.len() * steps, None);
                for (at, &index) in points.series.iter().enumerate() {
                    let place = places[index as usize];
                    if place == usize::MAX {
                        continue;
                    }
                    let offset_ms = points.offsets_ms[at];
                    let time_ms = minute * MINUTE_MS + i64::from(offset_ms);
                    // Who sends backwards shows its rhythm only once it is in order.
                    backwards[place] |= time_ms + step_ms / 2 < held[place].heard_ms;
                    held[place].hear(time_ms, 0.0);
                    let step = usize::from(offset_ms) / step_ms as usize;
                    let last = &mut lasts[place * steps + step];
                    if last.is_none_or(|(before_ms, _)| before_ms <= offset_ms) {
                        *last = Some((offset_ms, points.values[at]));
                    }
                }
                for (at, last) in lasts.iter().enumerate() {
                    let Some((offset_ms, value)) = *last else {
                        continue;
                    };
                    let time_ms = minute * MINUTE_MS + i64::from(offset_ms);
                    if (from_ms..to_ms).contains(&time_ms) {
                        let found = Found {
                            time_ms,
                            value,
                            rhythm: if backwards[at / steps] {
                                Rhythm::UNKNOWN
                            } else {
                                held[at / steps].rhythm
                            },
                            after,
                        };
                        each(sought[at / steps], time_ms.div_euclid(step_ms), found);
                    }
                }
            }
        };
        for passed in &self.passed {
            let after = Position(passed.position.0.saturating_sub(1));
            scan(&passed.minutes, &passed.names, after);
        }
        scan(&self.open, &self.names.list, self.position);
    }

    /// Whether a name is known: nothing of it may be in any store.
    pub fn knows(&self, mut is: impl FnMut(&SeriesName) -> bool) -> bool {
        self.names.list.iter().any(|name| is(name))
    }
}

impl Minute {
    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The places of its points by series, each series' own in the order they came; and where each
    /// series begins in that.
    fn by_series(&self, series: usize) -> (Vec<u32>, Vec<u32>) {
        let mut starts = vec![0_u32; series + 1];
        for &index in &self.series {
            starts[index as usize + 1] += 1;
        }
        for at in 0..series {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut order = vec![0; self.series.len()];
        for (at, &index) in self.series.iter().enumerate() {
            let place = &mut next[index as usize];
            order[*place as usize] = at as u32;
            *place += 1;
        }
        (order, starts)
    }
}

/// What a minute becomes.
pub struct Rows {
    /// In order of series keys: appended to a table ordered by them, its pages fill up.
    pub rows: Vec<Row>,
    pub fleet: Vec<Change>,
    /// Points that no block had place for.
    pub thinned: u64,
}

impl Passed {
    pub fn len(&self) -> usize {
        self.minutes.values().map(Minute::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.minutes.values().all(Minute::is_empty)
    }

    /// Points that this life of the node merged into the live state.
    pub fn aggregated(&self) -> u64 {
        let replayed: usize = self.minutes.values().map(|m| m.replayed).sum();
        (self.len() - replayed) as u64
    }

    /// The rows of a minute, and what it does to the fleet's statistics, also where nobody said
    /// anything in it.
    pub fn rows(&self, minute: i64, encoder: &mut block::Encoder, fold: &mut Fold) -> Rows {
        let mut rows = Rows {
            rows: Vec::new(),
            fleet: Vec::new(),
            thinned: 0,
        };
        let mut folding = fold.minute(minute, self.away);
        let Some(points) = self.minutes.get(&minute) else {
            rows.fleet = folding.finish();
            return rows;
        };
        let (order, starts) = points.by_series(self.names.len());
        let mut present: Vec<u32> = (0..self.names.len() as u32)
            .filter(|&index| starts[index as usize] < starts[index as usize + 1])
            .collect();
        present.sort_unstable_by_key(|&index| self.names[index as usize].key);
        let mut of_one = Vec::new();
        for index in present {
            let name = &self.names[index as usize];
            let (start, end) = (starts[index as usize], starts[index as usize + 1]);
            of_one.clear();
            of_one.extend(order[start as usize..end as usize].iter().map(|&at| Point {
                offset_ms: points.offsets_ms[at as usize],
                value: points.values[at as usize],
            }));
            // Stable: of equal times the one that came later stays later.
            of_one.sort_by_key(|point| point.offset_ms);
            rows.thinned += of_one.len().saturating_sub(BLOCK_POINTS_MAX) as u64;
            rows.rows.push(row(minute, name.key, &of_one, encoder));
            folding.add(name.metric_key, name.key, &of_one);
        }
        rows.fleet = folding.finish();
        rows
    }
}

/// Makes a row of points that are in order; what a block does not hold is in the sums alone.
pub fn row(minute: i64, series: i64, points: &[Point], encoder: &mut block::Encoder) -> Row {
    let rollup = Rollup::of(points);
    let kept = &points[..points.len().min(BLOCK_POINTS_MAX)];
    let mut bytes = Vec::with_capacity(2 * kept.len() + 24);
    encoder.encode(kept, &mut bytes);
    Row {
        minute,
        series,
        rollup,
        points: bytes,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::history::sketch::Sketch;

    fn name(host: usize, metric: &str) -> SeriesName {
        SeriesName::new(&format!("web-{host}"), metric, "")
    }

    fn filled() -> Recent {
        let mut recent = Recent::default();
        for second in 0..120_usize {
            for host in 0..20 {
                let index = recent.index(&name(host, if host % 2 == 0 { "cpu" } else { "mem" }));
                let (minute, offset_ms) = super::super::minute_of(second as i64 * 1_000);
                // Backwards within each pair of seconds, as senders that retry have it.
                let offset_ms = offset_ms ^ 1_024;
                recent.add(index, minute, offset_ms, (host + second) as f64, false);
            }
        }
        recent
    }

    #[test]
    fn a_minute_becomes_a_row_a_series() {
        let mut recent = filled();
        assert!(!recent.pass(0, Position(7)));
        let passed = recent.next().unwrap();
        assert_eq!(
            (passed.len(), passed.until, recent.first_open()),
            (1_200, 0, Some(1))
        );
        let (mut encoder, mut fold) = (block::Encoder::default(), Fold::default());
        let rows = passed.rows(0, &mut encoder, &mut fold);
        assert!(rows.rows.is_sorted_by_key(|row| row.series));
        assert_eq!((rows.rows.len(), rows.thinned), (20, 0));
        let mut points = Vec::new();
        for row in &rows.rows {
            block::decode(&row.points, &mut points).unwrap();
            assert!(points.is_sorted_by_key(|point| point.offset_ms));
            assert_eq!(Rollup::of(&points), row.rollup);
            assert_eq!(row.rollup.count, 60);
        }
        // Two metrics, six steps, ten hosts each.
        assert_eq!(rows.fleet.len(), 12);
        for Change { row, gone } in &rows.fleet {
            assert_eq!((row.hosts, gone.len()), (10, 0));
            assert_eq!(Sketch::decode(&row.spread).unwrap().count(), 10);
        }
    }

    #[test]
    fn points_are_read_wherever_they_are_and_counted() {
        let mut recent = filled();
        let (metric, key) = (name(3, "mem").metric_key, name(3, "mem").key);
        let read = |recent: &Recent, from_ms, to_ms| {
            let mut found = Vec::new();
            recent.each_point(metric, Some(key), (from_ms, to_ms), |_, point| {
                found.push(point);
            });
            found
        };
        recent.set_position(Position(5));
        assert_eq!(read(&recent, 0, 120_000).len(), 120);
        recent.pass(0, Position(7));
        let both = read(&recent, 30_000, 90_000);
        assert_eq!(both.len(), 60);
        for point in both {
            let after = if point.time_ms < 60_000 { 6 } else { 5 };
            assert_eq!(point.after, Position(after));
        }
        recent.stored();
        assert_eq!(read(&recent, 0, 120_000).len(), 60);
        assert_eq!(recent.points(), 1_200);
        assert_eq!(recent.room(), HISTORY_POINTS_MAX - 1_200);
        let mut hosts = std::collections::BTreeSet::new();
        let cpu = name(0, "cpu").metric_key;
        recent.each_point(cpu, None, (60_000, 120_000), |name, _| {
            hosts.insert(name.host.to_string());
        });
        assert_eq!(hosts.len(), 10);
    }

    /// Ten seconds apart, newest first, as who imports them may send: it seemed to be a minute.
    #[test]
    fn a_rhythm_is_not_learnt_backwards() {
        let sent = |times_s: &[i64]| {
            let mut recent = Recent::default();
            let index = recent.index(&name(1, "cpu"));
            for time_s in times_s {
                let (minute, offset_ms) = super::super::minute_of(time_s * 1_000);
                recent.add(index, minute, offset_ms, 1.0, false);
            }
            let (mut last, metric) = (None, name(1, "cpu").metric_key);
            recent.each_last(metric, (0, 300_000), 10_000, |_, _, point| {
                last = last.max(Some((point.time_ms, point.rhythm.raw_ms() as i64)));
            });
            last
        };
        assert_eq!(sent(&[2, 12, 22, 62]), Some((62_000, 13_750)));
        assert_eq!(sent(&[132, 122, 72, 62, 12, 2]), Some((132_000, 0)));
        assert_eq!(sent(&[1, 3, 2, 5]), Some((5_000, 2_000)));
    }

    /// Hosts come and go for years: their names must not.
    #[test]
    fn names_are_forgotten_with_a_minute_once_there_are_too_many() {
        let mut recent = Recent::default();
        let mut other = name(0, "cpu");
        for at in 0..HISTORY_NAMES_MAX {
            other.key = at as i64;
            recent.index(&other);
            if at + 2 == HISTORY_NAMES_MAX {
                recent.add(0, -5, 0, 1.0, false);
                assert!(!recent.pass(0, Position(1)), "one below the bound");
            }
        }
        recent.add(0, 5, 0, 1.0, false);
        assert!(recent.pass(0, Position(1)));
        recent.stored();
        assert_eq!(recent.next().unwrap().names.len(), HISTORY_NAMES_MAX);
        assert_eq!(recent.index(&name(1, "cpu")), 0);
    }
}
