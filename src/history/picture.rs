//! What a map showed at a time: the question, its answer, and the minutes kept from one question
//! of a replay to the next.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::block::{self, MINUTE_MS, Point};
use super::keeper::Desk;
use super::recent::Found;
use super::shelf::{ReadError, Shelf};
use super::steps::Range;
use super::{FLEET_STEP_MS, Row, SeriesName, metric_key, minute_of};
use crate::catalog::{Catalog, HostChange, Tags, name};
use crate::frame::State;
use crate::frame::filter::Filter;
use crate::limits::{PICTURE_MINUTES_MAX, PICTURE_REST};
use crate::sample::Slot;

const STEPS: usize = (MINUTE_MS / FLEET_STEP_MS) as usize;

/// The last value of each host in the [`FLEET_STEP_MS`] that end at `at_ms`, a multiple of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub metric: String,
    pub filter: Option<Filter>,
    pub at_ms: i64,
    pub now_ms: i64,
}

/// By the slots of now: a host that has none now is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// NaN: none in the step.
    pub values: Vec<f64>,
    /// [`State::Ok`] of a host that the filter lets through: its state of then is not kept.
    pub states: Vec<State>,
}

/// None: there is no answer, now or at all.
pub type Reply = oneshot::Sender<Option<Shown>>;

/// Invariants: at most [`PICTURE_MINUTES_MAX`] minutes, the one used last at the end, and all are
/// by the slots that `hosts` has.
pub struct Pictures {
    catalog: Arc<Catalog>,
    hosts: Hosts,
    minutes: Vec<Minute>,
    used: Instant,
}

/// The hosts of now.
#[derive(Default)]
struct Hosts {
    since: u64,
    rows: Vec<Option<(Arc<str>, Tags)>>,
    by_name: HashMap<Arc<str>, Slot, RandomState>,
}

struct Minute {
    metric: i64,
    minute: i64,
    /// Steps that were not over then must be read again.
    read_ms: i64,
    /// By slot: the last value of each step, NaN where there is none.
    lasts: Vec<[f64; STEPS]>,
}

impl Pictures {
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            hosts: Hosts::default(),
            minutes: Vec::new(),
            used: Instant::now(),
        }
    }

    /// Lets go of what nobody asks for any more.
    pub fn rest(&mut self) {
        if PICTURE_REST <= self.used.elapsed() {
            self.minutes = Vec::new();
            self.hosts = Hosts::default();
        }
    }

    pub fn answer(
        &mut self,
        question: &Picture,
        desk: &Desk,
        dir: &Path,
    ) -> Result<Shown, ReadError> {
        self.used = Instant::now();
        if self.hosts.refresh(&self.catalog) {
            self.minutes.clear();
        }
        let metric = metric_key(&name::canonical(&question.metric));
        let (minute, offset_ms) = minute_of(question.at_ms - FLEET_STEP_MS);
        let is_sought = |known: &Minute| (known.metric, known.minute) == (metric, minute);
        let known = self.minutes.iter().position(is_sought);
        let known = known.map(|at| self.minutes.remove(at));
        let known = match known.filter(|known| question.at_ms <= known.read_ms) {
            Some(known) => known,
            None => Minute {
                metric,
                minute,
                read_ms: question.now_ms,
                lasts: self.hosts.read(metric, minute, desk, dir)?,
            },
        };
        let step = usize::from(offset_ms) / FLEET_STEP_MS as usize;
        let shown = self.hosts.show(&known, step, question.filter.as_ref());
        if PICTURE_MINUTES_MAX <= self.minutes.len() {
            self.minutes.remove(0);
        }
        self.minutes.push(known);
        Ok(shown)
    }
}

impl Hosts {
    /// True: a slot is another host's than before.
    fn refresh(&mut self, catalog: &Catalog) -> bool {
        let mut is_moved = false;
        for change in catalog.host_changes(&mut self.since) {
            let (slot, row) = match change {
                HostChange::Set { slot, name, tags } => (slot, Some((name, tags))),
                HostChange::Del { slot } => (slot, None),
            };
            let at = slot as usize;
            if self.rows.len() <= at {
                self.rows.resize(at + 1, None);
            }
            let before = std::mem::replace(&mut self.rows[at], row);
            let (before, after) = (before.map(|row| row.0), self.rows[at].as_ref());
            let after = after.map(|row| Arc::clone(&row.0));
            if before == after {
                continue;
            }
            is_moved = true;
            if let Some(before) = before
                && self.by_name.get(&before) == Some(&slot)
            {
                self.by_name.remove(&before);
            }
            if let Some(after) = after {
                self.by_name.insert(after, slot);
            }
        }
        is_moved
    }

    /// Of what this node itself keeps: memory first, see [`Shelf::open`].
    fn read(
        &self,
        metric: i64,
        minute: i64,
        desk: &Desk,
        dir: &Path,
    ) -> Result<Vec<[f64; STEPS]>, ReadError> {
        let begin_ms = minute * MINUTE_MS;
        let range = Range {
            from_ms: begin_ms,
            to_ms: begin_ms + MINUTE_MS - 1,
        };
        let mut found: Vec<(Arc<SeriesName>, Found)> = Vec::new();
        let span = (begin_ms, begin_ms + MINUTE_MS);
        desk.recent()
            .each_last(metric, span, FLEET_STEP_MS, |name, _, point| {
                found.push((Arc::clone(name), point));
            });
        let shelf = Shelf::open(dir, range)?;
        found.retain(|(_, point)| !shelf.has(point.time_ms, point.after));
        let mut lasts = vec![[(i64::MIN, f64::NAN); STEPS]; self.rows.len()];
        let mut put = |host: &str, time_ms: i64, value: f64| {
            let step = (time_ms - begin_ms) / FLEET_STEP_MS;
            let of_host = self
                .by_name
                .get(host)
                .map(|&slot| &mut lasts[slot as usize]);
            if let Some(last) = of_host.and_then(|steps| steps.get_mut(step as usize))
                && last.0 <= time_ms
            {
                *last = (time_ms, value);
            }
        };
        let mut points = Vec::new();
        shelf.each_host(metric, minute, |host, row| {
            each_of_row(row, &mut points, |time_ms, value| put(host, time_ms, value));
        })?;
        for (name, point) in &found {
            put(&name.host, point.time_ms, point.value);
        }
        let values = |steps: [(i64, f64); STEPS]| steps.map(|(_, value)| value);
        Ok(lasts.into_iter().map(values).collect())
    }

    fn show(&self, minute: &Minute, step: usize, filter: Option<&Filter>) -> Shown {
        let mut shown = Shown {
            values: vec![f64::NAN; self.rows.len()],
            states: vec![State::None; self.rows.len()],
        };
        for (slot, row) in self.rows.iter().enumerate() {
            let Some((name, tags)) = row else { continue };
            if filter.is_none_or(|filter| filter.matches(name, tags)) {
                shown.states[slot] = State::Ok;
                shown.values[slot] = minute.lasts[slot][step];
            }
        }
        shown
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

#[cfg(test)]
mod tests;
