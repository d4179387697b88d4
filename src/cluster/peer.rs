//! One peer as this node follows it: its sequence, its names, its clock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{Peer as Number, Record};
use super::wire::{Cell, ColumnName, Host, Picture};
use crate::catalog::Tags;
use crate::catalog::lookup::Lookup;
use crate::clock::Now;
use crate::limits::{
    CLUSTER_OFFSET_MESSAGES_MIN, CLUSTER_OFFSET_WINDOW, FORGET_AFTER, PEER_HELD_BYTES_MAX,
    PEER_HELD_MESSAGES_MAX,
};
use crate::sample::{Column, Sample, Slot};

/// A delta that waits for the keyframe it builds on.
pub(super) struct Held {
    pub(super) seq: u64,
    pub(super) mono_ms: u64,
    pub(super) picture: Picture,
    bytes: usize,
}

pub(super) enum Sync {
    /// All up to `seq` is known.
    Whole { seq: u64 },
    /// Something up to `need` is not, and nobody brings it but a keyframe of at least `need`. What
    /// came after it, without a gap up to `seq`, is held.
    Gap {
        need: u64,
        seq: u64,
        held: VecDeque<Held>,
        held_bytes: usize,
        asked_ms: Option<u64>,
    },
}

impl Sync {
    fn gap(need: u64, asked_ms: Option<u64>) -> Self {
        Sync::Gap {
            need,
            seq: need,
            held: VecDeque::new(),
            held_bytes: 0,
            asked_ms,
        }
    }
}

/// What a message's place in the sequence makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// As it should be.
    Next,
    /// It goes on after what was missed.
    Held,
    /// It was here before.
    Old,
}

struct Known {
    name: Arc<str>,
    slot: Slot,
    /// Of the lookup when the slot was found.
    generation: u64,
}

/// The peer's monotonic clock on ours: the least difference seen is nearest to the truth, since a
/// message can be late but not early. Two windows, so that a drift is followed.
#[derive(Clone, Copy, Default)]
struct Offset {
    messages: u32,
    least: Option<i64>,
    before: Option<i64>,
    since_ms: u64,
}

pub(super) struct Peer {
    pub(super) number: Number,
    pub(super) epoch: u64,
    pub(super) sync: Sync,
    pub(super) heard_ms: u64,
    /// It is told to the aggregator as one that cannot be heard.
    pub(super) is_silent: bool,
    pub(super) has_left: bool,
    hosts: Vec<Option<Known>>,
    host_count: usize,
    columns: Vec<Option<Column>>,
    offset: Offset,
}

/// The picture names what this node was never told of: something was missed without a gap.
pub(super) struct Unknown;

/// Where pictures lead: this node's names, and records for its aggregator.
pub(super) struct Inlet<'a> {
    pub(super) lookup: &'a mut Lookup,
    pub(super) records: &'a mut VecDeque<Sample>,
    /// What a peer said of hosts' tags.
    pub(super) tagged: &'a mut Vec<(Slot, Tags)>,
}

impl Peer {
    pub(super) fn new(number: Number, epoch: u64) -> Self {
        Self {
            number,
            epoch,
            // Complete without a keyframe, but for the time.
            sync: Sync::gap(0, None),
            heard_ms: 0,
            is_silent: false,
            has_left: false,
            hosts: Vec::new(),
            host_count: 0,
            columns: Vec::new(),
            offset: Offset::default(),
        }
    }

    pub(super) fn hosts(&self) -> usize {
        self.host_count
    }

    /// A new start of the peer: numbers mean nothing any more.
    pub(super) fn restart(&mut self, epoch: u64) {
        let (number, is_silent) = (self.number, self.is_silent);
        *self = Self::new(number, epoch);
        self.is_silent = is_silent;
    }

    pub(super) fn hear(&mut self, mono_ms: u64, now: Now) {
        self.heard_ms = now.mono_ms;
        self.offset
            .see(now.mono_ms as i64 - mono_ms as i64, now.mono_ms);
    }

    /// Moves on in the sequence.
    pub(super) fn place(&mut self, seq: u64) -> Place {
        match &mut self.sync {
            Sync::Whole { seq: last } if seq == *last + 1 => {
                *last = seq;
                Place::Next
            }
            Sync::Gap { seq: last, .. } if seq == *last + 1 => {
                *last = seq;
                Place::Held
            }
            Sync::Whole { seq: last } | Sync::Gap { seq: last, .. } if seq <= *last => Place::Old,
            _ => {
                self.miss(seq - 1);
                self.skip_to(seq);
                Place::Held
            }
        }
    }

    /// Something up to `need` is missing.
    pub(super) fn miss(&mut self, need: u64) {
        let asked_ms = match self.sync {
            Sync::Gap { asked_ms, .. } => asked_ms,
            Sync::Whole { .. } => None,
        };
        self.sync = Sync::gap(need, asked_ms);
    }

    fn skip_to(&mut self, to: u64) {
        if let Sync::Gap { seq, .. } = &mut self.sync {
            *seq = to;
        }
    }

    /// Keeps a delta until the keyframe is there; past the bound a newer keyframe is needed.
    pub(super) fn hold(&mut self, seq: u64, mono_ms: u64, picture: Picture, bytes: usize) {
        let Sync::Gap {
            held, held_bytes, ..
        } = &mut self.sync
        else {
            return;
        };
        *held_bytes += bytes;
        held.push_back(Held {
            seq,
            mono_ms,
            picture,
            bytes,
        });
        if held.len() > PEER_HELD_MESSAGES_MAX || *held_bytes > PEER_HELD_BYTES_MAX {
            self.miss(seq);
        }
    }

    /// A keyframe that holds all up to `seq` was applied. Gives what was held and goes on from it.
    pub(super) fn close_gap(&mut self, seq: u64) -> VecDeque<Held> {
        let (mut held, last) = match &mut self.sync {
            Sync::Gap { held, seq, .. } => (std::mem::take(held), *seq),
            Sync::Whole { seq } => (VecDeque::new(), *seq),
        };
        held.retain(|held| held.seq > seq);
        debug_assert!(held.iter().all(|held| held.bytes > 0));
        self.sync = Sync::Whole { seq: last.max(seq) };
        held
    }

    /// Applies a keyframe: its names are all there are.
    pub(super) fn apply_keyframe(
        &mut self,
        picture: &Picture,
        heard_base_ms: i64,
        inlet: &mut Inlet<'_>,
    ) -> Result<(), Unknown> {
        self.hosts.clear();
        self.columns.clear();
        self.host_count = 0;
        self.apply_names(picture, inlet);
        for pulse in &picture.pulses {
            let slot = self.slot(pulse.slot, inlet.lookup)?;
            if pulse.age_ms > FORGET_AFTER.as_millis() as u64 {
                continue;
            }
            let record = Record::Pulse {
                peer: self.number,
                slot,
                heard_ms: (heard_base_ms - pulse.age_ms as i64).max(0) as u64,
                interval_ms: u32::try_from(pulse.interval_ms).unwrap_or(0),
            };
            inlet.records.push_back(record.pack());
        }
        self.apply_cells(&picture.cells, heard_base_ms, false, inlet)
    }

    pub(super) fn apply_delta(
        &mut self,
        picture: &Picture,
        mono_ms: u64,
        now: Now,
        inlet: &mut Inlet<'_>,
    ) -> Result<(), Unknown> {
        self.apply_names(picture, inlet);
        let heard_ms = self.here_ms(mono_ms, now);
        self.apply_cells(&picture.cells, heard_ms, true, inlet)
    }

    /// A time of the peer's monotonic clock on ours; never ahead of now.
    pub(super) fn here_ms(&self, mono_ms: u64, now: Now) -> i64 {
        let here_ms = self.offset.least().map(|offset| mono_ms as i64 + offset);
        here_ms.map_or(now.mono_ms as i64, |ms| ms.min(now.mono_ms as i64))
    }

    /// Whether its clock is known: not by one message, which may have been late.
    pub(super) fn is_timed(&self) -> bool {
        self.offset.messages >= CLUSTER_OFFSET_MESSAGES_MIN
    }

    fn apply_names(&mut self, picture: &Picture, inlet: &mut Inlet<'_>) {
        for host in &picture.hosts {
            match host {
                Host::Set { slot, name, tags } => self.set_host(*slot, name, tags, inlet),
                Host::Del { slot } => {
                    let known = self.hosts.get_mut(*slot as usize).and_then(Option::take);
                    self.host_count -= usize::from(known.is_some());
                }
            }
        }
        for ColumnName { column, name, unit } in &picture.columns {
            let at = usize::from(*column);
            if at >= self.columns.len() {
                self.columns.resize(at + 1, None);
            }
            self.columns[at] = Some(inlet.lookup.column(name, unit));
        }
    }

    fn set_host(
        &mut self,
        slot: Slot,
        name: &str,
        tags: &[(String, String)],
        inlet: &mut Inlet<'_>,
    ) {
        let at = slot as usize;
        if at >= self.hosts.len() {
            self.hosts.resize_with(at + 1, || None);
        }
        let own = inlet.lookup.host(name);
        if !tags.is_empty() {
            inlet
                .lookup
                .tags(own, tags.iter().map(|(key, value)| (&**key, &**value)));
            inlet.tagged.push((own, tags.to_vec().into()));
        }
        let known = Known {
            name: Arc::from(name),
            slot: own,
            generation: inlet.lookup.generation(),
        };
        self.host_count += usize::from(self.hosts[at].replace(known).is_none());
    }

    fn apply_cells(
        &mut self,
        cells: &[Cell],
        heard_base_ms: i64,
        is_arrival: bool,
        inlet: &mut Inlet<'_>,
    ) -> Result<(), Unknown> {
        for cell in cells {
            let slot = self.slot(cell.slot, inlet.lookup)?;
            let column = self.columns.get(usize::from(cell.column)).copied();
            let column = column.flatten().ok_or(Unknown)?;
            if cell.age_ms > FORGET_AFTER.as_millis() as u32 {
                continue;
            }
            let record = Record::Cell {
                peer: self.number,
                slot,
                column,
                value: cell.value,
                heard_ms: (heard_base_ms - i64::from(cell.age_ms)).max(0) as u64,
                is_arrival,
            };
            inlet.records.push_back(record.pack());
        }
        Ok(())
    }

    /// This node's slot of a host of the peer's; looked up anew when slots were given back since.
    #[inline]
    fn slot(&mut self, slot: Slot, lookup: &mut Lookup) -> Result<Slot, Unknown> {
        let known = self.hosts.get_mut(slot as usize).and_then(Option::as_mut);
        let known = known.ok_or(Unknown)?;
        if known.generation != lookup.generation() {
            known.slot = lookup.host(&known.name);
            known.generation = lookup.generation();
        }
        Ok(known.slot)
    }
}

impl Offset {
    fn see(&mut self, offset_ms: i64, now_ms: u64) {
        self.messages = self.messages.saturating_add(1);
        if now_ms.saturating_sub(self.since_ms) >= CLUSTER_OFFSET_WINDOW.as_millis() as u64 {
            self.before = self.least.take();
            self.since_ms = now_ms;
        }
        self.least = Some(self.least.map_or(offset_ms, |least| least.min(offset_ms)));
    }

    fn least(&self) -> Option<i64> {
        match (self.least, self.before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
