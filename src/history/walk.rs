//! One metric by host, minute after minute: from memory and the stores' files together.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use super::block::{self, MINUTE_MS, Point};
use super::held::{Held, Lasts, STEPS};
use super::keeper::Desk;
use super::recent::{Away, Found};
use super::shelf::{ReadError, Shelf};
use super::steps::Range;
use super::{FLEET_STEP_MS, Row, metric_key, series_key};
use crate::catalog::name;

/// A host's place in what was asked for is its number in all that is said here.
pub struct Walk {
    shelf: Shelf,
    /// In order of keys, which is that of rows in a minute.
    keys: Vec<(i64, u32)>,
    /// What no store has, in order of time.
    found: Vec<(u32, Found)>,
    /// Of minutes that are stored, the steps in which the node was there.
    here: BTreeSet<i64>,
    away: Away,
    held: Vec<Held>,
}

impl Walk {
    /// Memory first, see [`Shelf::open`]. `hosts` that are None have nothing.
    pub fn begin<'a>(
        desk: &Desk,
        dir: &Path,
        metric: &str,
        hosts: impl Iterator<Item = Option<&'a str>>,
        minutes: RangeInclusive<i64>,
        until: Instant,
    ) -> Result<Walk, ReadError> {
        let metric_name = name::canonical(metric);
        let metric = metric_key(&metric_name);
        let (mut keys, mut places) = (Vec::new(), 0);
        for host in hosts {
            keys.extend(host.map(|host| (series_key(host, &metric_name), places)));
            places += 1;
        }
        keys.sort_unstable();
        let range = Range {
            from_ms: minutes.start() * MINUTE_MS,
            to_ms: (minutes.end() + 1) * MINUTE_MS,
        };
        let (mut lasts, mut here) = (Vec::new(), BTreeSet::new());
        let span = (range.from_ms, range.to_ms);
        let away = {
            let recent = desk.recent();
            recent.each_last(metric, span, FLEET_STEP_MS, |name, _, point| {
                lasts.push((name.key, point));
            });
            recent.away
        };
        let inner = Range {
            to_ms: range.to_ms - 1,
            ..range
        };
        let mut shelf = Shelf::open(dir, inner)?;
        shelf.hurry(until);
        lasts.retain(|(_, point)| !shelf.has(point.time_ms, point.after));
        let place = |(key, point): (i64, Found)| {
            let at = keys.binary_search_by_key(&key, |&(key, _)| key).ok()?;
            Some((keys[at].1, point))
        };
        let mut found: Vec<(u32, Found)> = lasts.into_iter().filter_map(place).collect();
        found.sort_by_key(|(_, point)| point.time_ms);
        shelf.each_fleet_step(metric, range, |step| {
            here.insert(step);
        })?;
        Ok(Walk {
            shelf,
            keys,
            found,
            here,
            away,
            held: vec![Held::NONE; places as usize],
        })
    }

    /// Goes on from what was held at the end of the minute before the first.
    pub fn go_on(&mut self, held: &[Held]) {
        for (mine, held) in self.held.iter_mut().zip(held) {
            *mine = *held;
        }
    }

    pub fn held(self) -> Vec<Held> {
        self.held
    }

    /// What each host shows in each step; minutes must be asked for in order.
    pub fn minute(&mut self, minute: i64) -> Result<Vec<[f64; STEPS]>, ReadError> {
        let begin_ms = minute * MINUTE_MS;
        let before = self.held.clone();
        let mut lasts = vec![Lasts::NONE; self.held.len()];
        let mut points = Vec::new();
        let Self {
            shelf, keys, held, ..
        } = self;
        shelf.each_of(keys, minute, |place, row| {
            let place = place as usize;
            each_of_row(row, &mut points, |time_ms, value| {
                lasts[place].put(begin_ms, time_ms, value);
                held[place].hear(time_ms, value);
            });
        })?;
        let of_minute = |(_, point): &(u32, Found)| point.time_ms.div_euclid(MINUTE_MS);
        let start = self
            .found
            .partition_point(|found| of_minute(found) < minute);
        let found = self.found[start..].iter();
        for (place, point) in found.take_while(|found| of_minute(found) == minute) {
            let place = *place as usize;
            lasts[place].put(begin_ms, point.time_ms, point.value);
            self.held[place].hear_last(point.time_ms, point.value, point.rhythm);
        }
        let first = begin_ms / FLEET_STEP_MS;
        let is_stored = self.shelf.has_minute(minute);
        let here = std::array::from_fn(|step| {
            let step = first + step as i64;
            if is_stored {
                self.here.contains(&step)
            } else {
                !self.away.has(step)
            }
        });
        let shown = lasts.iter().zip(&before).zip(&self.held);
        let fill = |((lasts, before), held): ((&Lasts, &Held), &Held)| {
            lasts.fill(*before, held.rhythm, begin_ms, here)
        };
        Ok(shown.map(fill).collect())
    }
}

/// A minute whose points were let go is its average in every step.
fn each_of_row(row: &Row, points: &mut Vec<Point>, mut each: impl FnMut(i64, f64)) {
    let begin_ms = row.minute * MINUTE_MS;
    if row.points.is_empty() || block::decode(&row.points, points).is_err() {
        for step in 0..STEPS as i64 {
            each(begin_ms + step * FLEET_STEP_MS, row.rollup.average());
        }
        return;
    }
    for point in points {
        each(begin_ms + i64::from(point.offset_ms), point.value);
    }
}
