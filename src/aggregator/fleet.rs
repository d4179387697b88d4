//! The single writer: samples in, ticks and answers out. Pure: time comes in as [`Now`], so that
//! hours of silence are tested in no time.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Answer;
use super::content::Live;
use super::export::Exporter;
use super::matrix::Put;
use super::pace::Pace;
use super::silence::{Counts, Life};
use crate::catalog::{Catalog, HostChange};
use crate::clock::Now;
use crate::cluster::record::{Reach, Record};
use crate::cluster::roster::Roster;
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
                self.fold_into_other(slot, sample.value, stamp);
            }
        }
        self.samples += samples.len() as u64;
        self.settled_ms = None;
    }

    /// Takes in what peers heard. A cell that was heard before the one that is there is old news: it
    /// came by another way.
    pub fn fold_peers(&mut self, records: &[Sample], now: Now) {
        for record in records {
            self.fold_record(Record::unpack(record), now.mono_ms);
        }
        self.settled_ms = None;
    }

    /// Goes on writing down, for a keyframe, what this node heard; true once all is there.
    pub fn export(&self, exporter: &mut Exporter) -> bool {
        exporter.go_on(&self.live)
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

    /// This node has peers, who go by these names.
    pub fn set_roster(&mut self, roster: Arc<Roster>) {
        self.live.roster = Some(roster);
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

    fn fold_record(&mut self, record: Record, now_ms: u64) {
        match record {
            Record::Cell {
                peer,
                slot,
                column,
                value,
                heard_ms,
                is_arrival,
            } => {
                let (slot, heard_ms) = (self.home(slot), heard_ms.min(now_ms));
                if is_arrival {
                    self.live.silence.arrive_at(peer, slot, heard_ms);
                }
                let (stamp, matrix) = (heard_ms as u32, &mut self.live.matrix);
                let before = matrix.value(slot, column);
                // Of a keyframe's cells those count that are newer for sure: it may have got them
                // from here.
                let least = u32::from(!is_arrival);
                let is_old = before.is_some_and(|(_, at)| {
                    stamp.wrapping_sub(at).wrapping_sub(least) > u32::MAX / 2
                });
                if !is_old && matrix.put(slot, column, value, stamp) == Put::Full {
                    self.fold_into_other(slot, value, stamp);
                }
            }
            Record::Pulse {
                peer,
                slot,
                heard_ms,
                interval_ms,
            } => {
                let slot = self.home(slot);
                let heard_ms = heard_ms.min(now_ms);
                self.live.silence.adopt(peer, slot, heard_ms, interval_ms);
            }
            Record::Reach { peer, reach } => {
                let is_reachable = reach == Reach::Reachable;
                self.live.silence.reach(peer, is_reachable);
            }
        }
    }

    #[cold]
    fn fold_into_other(&mut self, slot: Slot, value: f64, stamp: u32) {
        let catalog = &self.catalog;
        let column = *self
            .other_column
            .get_or_insert_with(|| catalog.other_column());
        self.live.matrix.put_unbounded(slot, column, value, stamp);
        self.folded += 1;
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::aggregator::rig::Rig;
    use crate::frame::State;
    use crate::frame::view::Hz;
    use crate::limits::{OTHER, SLOT_REST};

    const HOUR_MS: u64 = 3_600_000;

    fn view(kind: Kind, hz: Hz) -> View {
        View {
            kind,
            hz,
            ..View::default_view()
        }
    }

    fn patch_of(tick: &Tick) -> String {
        let Some(patch) = &tick.hosts_patch else {
            return String::new();
        };
        let text = String::from_utf8_lossy(patch).into_owned();
        text[text.find('{').unwrap()..].to_owned()
    }

    #[test]
    fn series_past_the_bound_are_aggregated_into_other() {
        let mut rig = Rig::with_bounds(8, 8, 3);
        rig.send("a", &[("cpu", 1.0), ("memory", 2.0)]);
        rig.send("b", &[("cpu", 3.0), ("memory", 4.0), ("disk", 5.0)]);
        rig.send("a", &[("cpu", 6.0)]);
        let metrics = |rig: &mut Rig, host| rig.metrics(host);
        assert_eq!(
            metrics(&mut rig, "a"),
            [("cpu", 6.0), ("memory", 2.0)].map(Rig::owned)
        );
        assert_eq!(
            metrics(&mut rig, "b"),
            [(OTHER, 5.0), ("cpu", 3.0)].map(Rig::owned)
        );
        let totals = rig.fleet.totals();
        assert_eq!((totals.samples, totals.folded, totals.series), (6, 2, 4));
        rig.fleet.invariants();
    }

    #[test]
    fn hosts_past_the_bound_are_one_host() {
        let mut rig = Rig::with_bounds(2, 8, 100);
        for host in ["a", "b", "c", "d"] {
            rig.send(host, &[("cpu", 1.0)]);
        }
        rig.tick();
        assert_eq!(rig.state(OTHER), State::Ok);
        assert_eq!(rig.fleet.totals().hosts.ok, 3);
        assert_eq!(rig.fleet.totals().samples, 4);
    }

    #[test]
    fn a_forgotten_host_leaves_and_its_slot_goes_to_another() {
        let mut rig = Rig::new();
        rig.send("a", &[("cpu", 1.0)]);
        rig.tick();
        rig.wait(HOUR_MS + 1);
        rig.send("b", &[("cpu", 2.0)]);
        let tick = rig.tick();
        assert_eq!(
            patch_of(&tick),
            r#"{"op":"hosts_patch","from":1,"to":2,"set":[[1,"b",{}]],"del":[0]}"#
        );
        assert_eq!(rig.fleet.totals().series, 1);
        assert_eq!(rig.state("a"), State::None);
        rig.wait(SLOT_REST.as_millis() as u64);
        rig.tick();
        assert_eq!(rig.lookup_host("c"), 0);
        rig.send("c", &[("cpu", 3.0)]);
        assert_eq!(rig.state("c"), State::Ok);
        assert_eq!(rig.metrics("c"), [("cpu", 3.0)].map(Rig::owned));
        rig.fleet.invariants();
    }

    #[test]
    fn a_forgotten_host_s_late_sample_brings_it_back() {
        let mut rig = Rig::new();
        rig.tag("a", &[("dc", "fra")]);
        rig.send("a", &[("cpu", 1.0)]);
        rig.wait(HOUR_MS + 1);
        rig.tick();
        assert_eq!(rig.state("a"), State::None);
        rig.fold(0, 0, 5.0);
        assert_eq!(rig.state("a"), State::Ok);
        assert_eq!(rig.metrics("a"), [("cpu", 5.0)].map(Rig::owned));
        assert!(patch_of(&rig.tick()).contains(r#"[0,"a",{"dc":"fra"}]"#));
        rig.wait(SLOT_REST.as_millis() as u64);
        rig.tick();
        assert_eq!(rig.lookup_host("b"), 1, "slot 0 is taken");
        rig.fleet.invariants();
    }

    #[test]
    fn a_late_sample_follows_its_host_to_its_new_slot() {
        let mut rig = Rig::new();
        rig.send("a", &[("cpu", 1.0)]);
        rig.wait(HOUR_MS + 1);
        rig.tick();
        rig.send("a", &[("cpu", 2.0)]);
        assert_eq!(rig.lookup_host("a"), 1);
        rig.fold(0, 0, 9.0);
        assert_eq!(rig.metrics("a"), [("cpu", 9.0)].map(Rig::owned));
        assert_eq!(rig.fleet.totals().hosts.ok, 1);
        rig.wait(SLOT_REST.as_millis() as u64);
        rig.tick();
        rig.fold(0, 0, 7.0);
        rig.tick();
        assert_eq!(
            rig.metrics(OTHER),
            [("cpu", 7.0)].map(Rig::owned),
            "nobody's slot"
        );
        assert_eq!(rig.fleet.totals().samples, 4);
        rig.fleet.invariants();
    }

    #[test]
    fn a_live_host_s_dead_series_expires() {
        let mut rig = Rig::new();
        rig.send("a", &[("cpu", 1.0), ("gone", 2.0)]);
        for _ in 0..70 {
            rig.wait(60_000);
            rig.send("a", &[("cpu", 1.0)]);
            rig.tick();
        }
        assert_eq!(rig.metrics("a"), [("cpu", 1.0)].map(Rig::owned));
    }

    #[test]
    fn the_epoch_moves_once_a_tick_and_only_with_hosts() {
        let mut rig = Rig::new();
        assert_eq!((rig.tick().host_epoch, rig.tick().hosts_patch), (0, None));
        rig.send("a", &[("cpu", 1.0)]);
        rig.send("b", &[("cpu", 1.0)]);
        rig.tag("b", &[("dc", "fra")]);
        let tick = rig.tick();
        assert_eq!(tick.host_epoch, 1);
        assert_eq!(
            patch_of(&tick),
            r#"{"op":"hosts_patch","from":0,"to":1,"#.to_owned()
                + r#""set":[[0,"a",{}],[1,"b",{"dc":"fra"}]],"del":[]}"#
        );
        rig.tag("b", &[("dc", "fra")]);
        rig.send("a", &[("cpu", 2.0)]);
        assert_eq!((rig.tick().host_epoch, rig.tick().hosts_patch), (1, None));
        let (epoch, body) = rig.fleet.hosts(rig.now);
        assert_eq!(epoch, 1);
        assert_eq!(
            body.unwrap(),
            r#"{"epoch":1,"hosts":[[0,"a",{}],[1,"b",{"dc":"fra"}]]}"#
        );
    }

    #[test]
    fn views_are_encoded_at_their_rates() {
        let mut rig = Rig::new();
        rig.send("a", &[("cpu", 1.0)]);
        let rates = [Hz::TEN, Hz::FIVE, Hz::TWO, Hz::ONE, Hz::FIFTH];
        let watched = rates.map(|hz| rig.views.watch(view(Kind::Stats, hz)).ok().unwrap());
        let mut frames = [0; 5];
        for _ in 0..100 {
            for frame in rig.tick().frames {
                let at = watched.iter().position(|w| w.number == frame.view).unwrap();
                frames[at] += 1;
                assert_eq!(frame.seq, frames[at]);
            }
        }
        assert_eq!(frames, [100, 50, 20, 10, 2]);
        watched[4].ask_key();
        let tick = rig.tick();
        let key = tick
            .frames
            .iter()
            .find(|frame| frame.view == watched[4].number);
        assert!(
            key.unwrap().key.is_some(),
            "a KEY does not wait for its turn"
        );
        for watched in &watched[..4] {
            rig.views.release(watched);
        }
        let frames: usize = (0..50).map(|_| rig.tick().frames.len()).sum();
        assert_eq!(frames, 1);
    }

    #[test]
    fn equal_contents_are_worked_out_once() {
        let mut rig = Rig::new();
        rig.send("a", &[("cpu", 1.0)]);
        let (fast, slow) = (view(Kind::Stats, Hz::TEN), view(Kind::Stats, Hz::ONE));
        let first = rig.fleet.content(&fast, rig.now);
        assert!(Arc::ptr_eq(&first, &rig.fleet.content(&slow, rig.now)));
        rig.send("a", &[("cpu", 2.0)]);
        assert_ne!(first, rig.fleet.content(&slow, rig.now));
    }

    #[test]
    fn snapshots_know_what_was_never_seen() {
        let mut rig = Rig::new();
        rig.send("a", &[("cpu", 1.0)]);
        let host = |host: &str| Kind::Host {
            host: host.to_owned(),
        };
        let top = |metric: &str| Kind::Top {
            metric: metric.to_owned(),
            n: 5,
        };
        let mut check = |kind: Kind, expected: Option<Answer>| {
            let answer = rig.fleet.snapshot(&view(kind, Hz::ONE), rig.now);
            match expected {
                Some(expected) => assert_eq!(answer, expected),
                None => assert!(matches!(answer, Answer::Body(_))),
            }
        };
        check(host("a"), None);
        check(host("b"), Some(Answer::UnknownHost));
        check(top("cpu"), None);
        check(top("disk"), Some(Answer::UnknownMetric));
        check(
            Kind::Map {
                metric: "disk".into(),
            },
            Some(Answer::UnknownMetric),
        );
        check(Kind::Stats, None);
    }
}
