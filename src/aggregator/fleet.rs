//! The single writer: samples in, ticks and answers out. Pure: time comes in as [`Now`], so that
//! hours of silence are tested in no time.

mod peers;

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Answer;
use super::content::Live;
use super::matrix::Put;
use super::pace::Pace;
use super::silence::{Counts, Life};
use crate::catalog::{Catalog, HostChange};
use crate::clock::Now;
use crate::frame::filter::Filter;
use crate::frame::json::snapshot_json;
use crate::frame::view::{Kind, View};
use crate::frame::views::{Views, Watched};
use crate::frame::websocket::text_frame;
use crate::frame::{Content, Encoder, Frame, Stamp, Tick};
use crate::limits::{FORGET_AFTER, SERIES_MAX};
use crate::sample::{Column, Sample, Slot};

/// What of a view decides its content: views that differ in rate or format share it.
type Spec = (Kind, Option<Filter>);

/// A watched view.
struct Running {
    watched: Arc<Watched>,
    encoder: Encoder,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub samples: u64,
    /// Samples of series past the bound, aggregated into the host's column
    /// [`OTHER`](crate::limits::OTHER).
    pub folded: u64,
    pub series: usize,
    pub columns: usize,
    pub hosts: Counts,
}

/// Invariant: while `settled_ms` is there, `contents` holds what the live state shows; a sample
/// takes `settled_ms` away, and the next settling empties `contents`.
pub struct Fleet {
    catalog: Arc<Catalog>,
    host_cursor: u64,
    column_cursor: usize,
    live: Live,
    samples: u64,
    folded: u64,
    other_column: Option<Column>,
    tick_ms: u32,
    flags: u16,
    ticks: u64,
    views: Arc<Views>,
    views_seen: u64,
    running: Vec<Running>,
    /// The time of the last settling; None when samples came since.
    settled_ms: Option<u64>,
    contents: HashMap<Spec, Arc<Content>, RandomState>,
}

impl Fleet {
    pub fn new(catalog: Arc<Catalog>, views: Arc<Views>, tick_ms: u32) -> Self {
        Self::with_bound(catalog, views, tick_ms, SERIES_MAX)
    }

    /// For tests.
    pub fn with_bound(
        catalog: Arc<Catalog>,
        views: Arc<Views>,
        tick_ms: u32,
        series_max: usize,
    ) -> Self {
        Self {
            catalog,
            host_cursor: 0,
            column_cursor: 0,
            live: Live::new(series_max),
            samples: 0,
            folded: 0,
            other_column: None,
            tick_ms,
            flags: 0,
            ticks: 0,
            views,
            views_seen: 0,
            running: Vec::new(),
            settled_ms: None,
            contents: HashMap::default(),
        }
    }

    /// Takes samples in. Warm, that is for series that are there, it allocates nothing and costs a
    /// few cache misses a sample.
    pub fn fold(&mut self, samples: &[Sample], now: Now) {
        let (now_ms, stamp) = (now.mono_ms, now.mono_ms as u32);
        for sample in samples {
            let mut slot = sample.slot;
            if !self.live.silence.heard(slot, now_ms) {
                slot = self.arrive(slot, now_ms);
            }
            let put = self
                .live
                .matrix
                .put(slot, sample.column, sample.value, stamp);
            if put == Put::Full {
                self.put_into_other(slot, sample.value, stamp);
                self.folded += 1;
            }
        }
        self.samples += samples.len() as u64;
        self.settled_ms = None;
    }

    /// One tick: every view that is due is encoded, once for all who watch it.
    pub fn tick(&mut self, now: Now, last: bool) -> Tick {
        self.settle(now.mono_ms);
        self.ticks += 1;
        self.expire_one_column(now.mono_ms);
        // Before the frames, so that they carry the epoch that the patch leads to.
        let hosts_patch = self.live.hosts.patch().map(|json| text_frame(&json));
        let stamp = self.stamp(now);
        self.refresh_views(now.mono_ms);
        let mut running = std::mem::take(&mut self.running);
        let mut frames = Vec::with_capacity(running.len());
        for view in &mut running {
            frames.extend(self.frame(view, &stamp, now.mono_ms));
        }
        self.running = running;
        Tick {
            tick: self.ticks,
            host_epoch: stamp.host_epoch,
            frames,
            hosts_patch,
            last,
        }
    }

    /// What a view shows now. Worked out once for equal views as long as nothing happens.
    pub fn content(&mut self, view: &View, now: Now) -> Arc<Content> {
        self.settle(now.mono_ms);
        let spec: Spec = (view.kind.clone(), view.filter.clone());
        if let Some(content) = self.contents.get(&spec) {
            return Arc::clone(content);
        }
        let filter = view.filter.as_ref();
        let content = Arc::new(self.live.content(&view.kind, filter, now.mono_ms));
        self.contents.insert(spec, Arc::clone(&content));
        content
    }

    /// Answers `GET /api/snapshot`.
    pub fn snapshot(&mut self, view: &View, now: Now) -> Answer {
        let content = self.content(view, now);
        match (&view.kind, &*content) {
            (Kind::Host { .. }, Content::Host(host)) if host.slot.is_none() => {
                return Answer::UnknownHost;
            }
            (Kind::Map { metric } | Kind::Top { metric, .. }, _)
                if self.live.columns.find(metric).is_none() =>
            {
                return Answer::UnknownMetric;
            }
            _ => {}
        }
        let stamp = self.stamp(now);
        Answer::Body(snapshot_json(view, &content, &stamp, &self.live.hosts).into())
    }

    /// Answers `GET /api/hosts`: the epoch and the body.
    pub fn hosts(&mut self, now: Now) -> (u32, Option<Bytes>) {
        self.settle(now.mono_ms);
        (self.live.hosts.epoch(), self.live.hosts.table())
    }

    /// What all frames say of the node from now on.
    pub fn set_flags(&mut self, flags: u16) {
        self.flags = flags;
    }

    pub fn totals(&self) -> Totals {
        Totals {
            samples: self.samples,
            folded: self.folded,
            series: self.live.matrix.series(),
            columns: self.live.columns.len(),
            hosts: self.live.silence.counts(),
        }
    }

    pub fn invariants(&self) {
        self.live.matrix.invariants();
        self.live.silence.invariants();
        self.live.hosts.invariants();
        assert!(self.folded <= self.samples);
    }

    /// A host's first sample in a while; returns the slot that its samples belong to. A slot that
    /// is not live is new, or was retired while the sample was on its way.
    fn arrive(&mut self, slot: Slot, now_ms: u64) -> Slot {
        let slot = self.home(slot);
        self.live.silence.arrive(slot, now_ms);
        slot
    }

    fn home(&self, slot: Slot) -> Slot {
        let is_live = self.live.silence.life(slot) == Life::Live;
        if is_live || self.catalog.revive(slot) {
            slot
        } else {
            self.catalog.heir(slot)
        }
    }

    #[cold]
    fn put_into_other(&mut self, slot: Slot, value: f64, stamp: u32) {
        let catalog = &self.catalog;
        let column = *self
            .other_column
            .get_or_insert_with(|| catalog.other_column());
        self.live.matrix.put_unbounded(slot, column, value, stamp);
    }

    /// Brings names and states up to now, and forgets who was silent for too long. After this the
    /// live state stands still until the next sample or the next millisecond.
    fn settle(&mut self, now_ms: u64) {
        let changed = self.read_catalog(now_ms);
        if self.settled_ms == Some(now_ms) && !changed {
            return;
        }
        let forgotten = self.live.silence.refresh(now_ms);
        if !forgotten.is_empty() {
            for &slot in &forgotten {
                self.live.silence.rest(slot, now_ms);
                self.catalog.retire(slot);
            }
            self.live.matrix.clear(&forgotten);
            self.read_catalog(now_ms);
        }
        while let Some(slot) = self.live.silence.rested(now_ms) {
            self.catalog.free(slot);
        }
        self.contents.clear();
        self.settled_ms = Some(now_ms);
    }

    fn read_catalog(&mut self, now_ms: u64) -> bool {
        let columns = self.catalog.column_changes(&mut self.column_cursor);
        let hosts = self.catalog.host_changes(&mut self.host_cursor);
        let changed = !columns.is_empty() || !hosts.is_empty();
        for entry in columns {
            self.live.columns.apply(entry);
        }
        for change in hosts {
            let (slot, is_set) = match &change {
                HostChange::Set { slot, .. } => (*slot, true),
                HostChange::Del { slot } => (*slot, false),
            };
            // Its sample is on the way; should it never come, the slot is not lost.
            if is_set && self.live.silence.life(slot) != Life::Live {
                self.live.silence.expect(slot, now_ms);
            }
            self.live.hosts.apply(change);
            self.live.selections.update(slot, self.live.hosts.row(slot));
        }
        changed
    }

    /// One column a tick: a few microseconds, and with every column's turn a few minutes apart.
    fn expire_one_column(&mut self, now_ms: u64) {
        let columns = self.live.matrix.columns() as u64;
        if let Some(column) = self.ticks.checked_rem(columns) {
            let age_max_ms = FORGET_AFTER.as_millis() as u32;
            self.live
                .matrix
                .expire(column as Column, now_ms as u32, age_max_ms);
        }
    }

    fn refresh_views(&mut self, now_ms: u64) {
        let Some(watched) = self.views.refresh(&mut self.views_seen) else {
            return;
        };
        let mut before = std::mem::take(&mut self.running);
        let running = watched.into_iter().map(|watched| {
            let known = before
                .iter()
                .position(|view| Arc::ptr_eq(&view.watched, &watched));
            known
                .map(|at| before.swap_remove(at))
                .unwrap_or_else(|| Running {
                    encoder: Encoder::new(watched.number, &watched.view),
                    pace: Pace::new(now_ms, u64::from(watched.view.hz.interval_ms())),
                    watched,
                })
        });
        self.running = running.collect();
    }

    /// A view's frame when it is due, and at once when a viewer waits for a KEY: at the lowest rate
    /// it would see nothing for seconds.
    fn frame(&mut self, view: &mut Running, stamp: &Stamp, now_ms: u64) -> Option<Frame> {
        let is_due = view
            .pace
            .take(now_ms, u64::from(self.tick_ms / 2))
            .is_some();
        let wants_key = view.watched.take_key_wish();
        if !is_due && !wants_key {
            return None;
        }
        let now = Now {
            mono_ms: now_ms,
            wall_ms: stamp.time_ms,
        };
        let content = self.content(&view.watched.view, now);
        if let Content::Map(map) = &*content {
            view.watched.set_scale([map.lo, map.hi]);
        }
        Some(
            view.encoder
                .encode(&content, stamp, &self.live.hosts, wants_key),
        )
    }

    fn stamp(&self, now: Now) -> Stamp {
        Stamp {
            tick: self.ticks,
            time_ms: now.wall_ms,
            tick_ms: self.tick_ms,
            host_epoch: self.live.hosts.epoch(),
            flags: self.flags,
        }
    }
}

#[cfg(test)]
mod tests;
