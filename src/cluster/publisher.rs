//! What this node tells its peers: the newest values of what it heard itself, once a turn, with
//! the names they need; and keyframes for those who came late or missed something.
//!
//! A host or a column is told of by its name once, with its first cell, and by its number ever
//! after. A message that is lost leaves a gap in the sequence, and a keyframe closes it; so nothing
//! here waits for anybody, and nothing is kept to be sent again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::wire::{self, Body, Cell, ColumnName, Head, Host, Kind, Picture, Pulse, Seal};
use crate::catalog::{Catalog, ColumnEntry, HostChange, Tags};
use crate::clock::Now;
use crate::limits::{CLUSTER_CELLS_MAX, CLUSTER_NAMES_BYTES_MAX};
use crate::sample::{Column, Sample, Slot};

/// What the aggregator knows of hosts that were heard here, for a keyframe. Ages are of `mono_ms`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    pub mono_ms: u64,
    /// Of hosts that were heard here last.
    pub pulses: Vec<Pulse>,
    /// Sorted by column, then slot.
    pub cells: Vec<Cell>,
}

/// A keyframe that waits for its cells: the names as they were told up to `seq`.
pub struct Draft {
    seq: u64,
    picture: Picture,
}

#[derive(Default)]
struct Row {
    host: Option<(Arc<str>, Tags)>,
    is_told: bool,
    /// Told, and changed since.
    is_changed: bool,
    /// What a peer said of its tags: told on, it would make two nodes that disagree swap for ever.
    peer_tags: Option<Tags>,
}

struct Named {
    entry: ColumnEntry,
    is_told: bool,
    is_changed: bool,
}

#[derive(Clone, Copy)]
struct Pending {
    /// Column and slot as one number, to sort by.
    key: u64,
    value: f64,
    heard_ms: u64,
}

/// Invariant: whatever stands in `told` order was in a message of a lower sequence number, or in
/// none that anybody has, for the gap it left.
pub struct Publisher {
    node: String,
    epoch: u64,
    /// Of the last message; 0 before the first.
    seq: u64,
    seal: Seal,
    catalog: Arc<Catalog>,
    host_cursor: u64,
    column_cursor: usize,
    rows: Vec<Row>,
    columns: Vec<Named>,
    /// Slots and columns to tell again.
    changed_rows: VecDeque<Slot>,
    changed_columns: Vec<Column>,
    /// In the order they came.
    pending: Vec<Pending>,
    /// Some of what the aggregator has never came here: what a keyframe finds untold then is in no
    /// later message either.
    is_behind: bool,
    /// Cells of messages so far.
    cells: u64,
}

impl Publisher {
    pub fn new(node: &str, epoch: u64, seal: Seal, catalog: Arc<Catalog>) -> Self {
        Self {
            node: node.to_owned(),
            epoch,
            seq: 0,
            seal,
            catalog,
            host_cursor: 0,
            column_cursor: 0,
            rows: Vec::new(),
            columns: Vec::new(),
            changed_rows: VecDeque::new(),
            changed_columns: Vec::new(),
            pending: Vec::new(),
            is_behind: false,
            cells: 0,
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// There was a start of this epoch, and its hosts came back. Before the first message.
    pub fn outdo(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch.saturating_add(1));
        self.is_behind = true;
    }

    pub fn cells(&self) -> u64 {
        self.cells
    }

    /// What the aggregator merged; their time is when, by this node's monotonic clock: of two nodes
    /// that hear a host in one turn the later one counts. Bounded by the ring it comes through,
    /// which is emptied once a turn, and [`Publisher::lose`].
    pub fn take(&mut self, samples: &[Sample]) {
        let pending = samples.iter().map(|sample| Pending {
            key: u64::from(sample.column) << 32 | u64::from(sample.slot),
            value: sample.value,
            heard_ms: sample.time_ms as u64,
        });
        self.pending.extend(pending);
    }

    /// Samples were lost on the way here, or cannot be sent: peers shall miss a message.
    pub fn lose(&mut self) {
        self.pending.clear();
        self.seq += 1;
        self.is_behind = true;
    }

    /// The aggregator will tell of hosts that never came this way.
    pub fn fall_behind(&mut self) {
        self.is_behind = true;
    }

    pub fn has_more(&self) -> bool {
        self.has_cells() || !self.changed_rows.is_empty()
    }

    pub fn has_cells(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A peer's word on a host's tags, which are in the catalog by now.
    pub fn heard_tags(&mut self, slot: Slot, tags: Tags) {
        self.row(slot).peer_tags = Some(tags);
    }

    /// The next message: what came since the last one, empty if nothing did.
    pub fn delta(&mut self, now: Now, out: &mut Vec<u8>) {
        // After the samples were taken: whatever they name is in the catalog.
        self.read_catalog();
        let mut picture = Picture::default();
        let mut names_bytes = 0;
        self.tell_changed(&mut names_bytes, &mut picture);
        self.tell_cells(now, &mut names_bytes, &mut picture);
        self.cells += picture.cells.len() as u64;
        self.say(Kind::Delta, &Body::Delta(picture), now, out);
    }

    /// Any other message.
    pub fn say(&mut self, kind: Kind, body: &Body, now: Now, out: &mut Vec<u8>) {
        self.seq += 1;
        wire::encode(&self.head(kind, self.seq, now), body, &self.seal, out);
    }

    /// Takes down the names of now. The cells are to be asked for after this: they are then at
    /// least as new as all messages so far.
    pub fn draft(&mut self) -> Draft {
        self.read_catalog();
        let mut picture = Picture::default();
        for (slot, row) in self.rows.iter().enumerate() {
            if row.is_told {
                picture.hosts.extend(row.told(slot as Slot));
            }
        }
        let columns = self.columns.iter().filter(|column| column.is_told);
        picture.columns = columns.map(Named::told).collect();
        Draft {
            seq: self.seq,
            picture,
        }
    }

    /// A whole keyframe; the sequence number it stands for. Names that nobody was told of when it
    /// was drafted are told with the next message, their cells with the next keyframe.
    pub fn keyframe(&mut self, draft: Draft, export: Export, now: Now, out: &mut Vec<u8>) -> u64 {
        let Draft { seq, mut picture } = draft;
        let mut is_told = vec![false; self.rows.len()];
        for host in &picture.hosts {
            if let Host::Set { slot, .. } = host {
                is_told[*slot as usize] = true;
            }
        }
        let mut is_named = vec![false; self.columns.len()];
        for column in &picture.columns {
            is_named[usize::from(column.column)] = true;
        }
        let knows = |cell: &Cell| {
            is_told.get(cell.slot as usize) == Some(&true)
                && is_named.get(usize::from(cell.column)) == Some(&true)
        };
        let before = export.cells.len();
        picture.cells = export.cells;
        picture.pulses = export.pulses;
        for cell in &picture.cells {
            self.tell_with_next(cell, &is_told, &is_named);
        }
        picture.cells.retain(knows);
        let is_told = |slot: Slot| is_told.get(slot as usize) == Some(&true);
        picture.pulses.retain(|pulse| is_told(pulse.slot));
        // A gap: nobody has those that are missing, and the next keyframe will.
        let is_whole = picture.cells.len() == before;
        self.seq += u64::from(self.is_behind && !is_whole);
        self.is_behind &= !is_whole;
        let now = Now {
            mono_ms: export.mono_ms,
            ..now
        };
        let head = self.head(Kind::Keyframe, seq, now);
        wire::encode(&head, &Body::Keyframe(picture), &self.seal, out);
        seq
    }

    fn tell_with_next(&mut self, cell: &Cell, is_told: &[bool], is_named: &[bool]) {
        if is_told.get(cell.slot as usize) != Some(&true) {
            let row = self.row(cell.slot);
            if !row.is_told && row.host.is_some() {
                row.is_told = true;
                row.is_changed = true;
                self.changed_rows.push_back(cell.slot);
            }
        }
        if is_named.get(usize::from(cell.column)) != Some(&true)
            && let Some(named) = self.columns.get_mut(usize::from(cell.column))
            && !named.is_told
        {
            named.is_told = true;
            named.is_changed = true;
            self.changed_columns.push(cell.column);
        }
    }

    fn head(&self, kind: Kind, seq: u64, now: Now) -> Head<'_> {
        Head {
            kind,
            node: &self.node,
            epoch: self.epoch,
            seq,
            mono_ms: now.mono_ms,
            wall_ms: now.wall_ms,
        }
    }

    fn row(&mut self, slot: Slot) -> &mut Row {
        let at = slot as usize;
        if at >= self.rows.len() {
            self.rows.resize_with(at + 1, Row::default);
        }
        &mut self.rows[at]
    }

    fn read_catalog(&mut self) {
        for entry in self.catalog.column_changes(&mut self.column_cursor) {
            let at = usize::from(entry.column);
            if let Some(column) = self.columns.get_mut(at) {
                if column.is_told && !std::mem::replace(&mut column.is_changed, true) {
                    self.changed_columns.push(entry.column);
                }
                column.entry = entry;
            } else {
                self.columns.push(Named {
                    entry,
                    is_told: false,
                    is_changed: false,
                });
            }
        }
        for change in self.catalog.host_changes(&mut self.host_cursor) {
            let (slot, host) = match change {
                HostChange::Set { slot, name, tags } => (slot, Some((name, tags))),
                HostChange::Del { slot } => (slot, None),
            };
            let row = self.row(slot);
            let is_echo = matches!((&host, &row.host, &row.peer_tags),
                (Some((name, tags)), Some((before, _)), Some(said))
                    if name == before && tags == said);
            row.host = host;
            if !is_echo {
                row.peer_tags = None;
            }
            if row.is_told && !is_echo && !std::mem::replace(&mut row.is_changed, true) {
                self.changed_rows.push_back(slot);
            }
        }
    }

    /// As many as one message may hold; the columns, whose number is bounded, all.
    fn tell_changed(&mut self, names_bytes: &mut usize, picture: &mut Picture) {
        while *names_bytes <= CLUSTER_NAMES_BYTES_MAX
            && let Some(slot) = self.changed_rows.pop_front()
        {
            let row = &mut self.rows[slot as usize];
            row.is_changed = false;
            *names_bytes += row.bytes();
            if row.host.is_none() {
                row.is_told = false;
                row.peer_tags = None;
                picture.hosts.push(Host::Del { slot });
            } else {
                picture.hosts.extend(row.told(slot));
            }
        }
        for column in std::mem::take(&mut self.changed_columns) {
            let named = &mut self.columns[usize::from(column)];
            named.is_changed = false;
            *names_bytes += named.bytes();
            picture.columns.push(named.told());
        }
    }

    /// The newest value of each cell that is pending, as many as one message may hold.
    fn tell_cells(&mut self, now: Now, names_bytes: &mut usize, picture: &mut Picture) {
        // Stable: of equal keys the last one came last.
        self.pending.sort_by_key(|pending| pending.key);
        let pending = std::mem::take(&mut self.pending);
        for cells in pending.chunk_by(|a, b| a.key == b.key) {
            let newest = cells[cells.len() - 1];
            let (column, slot) = ((newest.key >> 32) as Column, newest.key as u32);
            let is_full = picture.cells.len() == CLUSTER_CELLS_MAX
                || !self.tell_names(slot, column, names_bytes, picture);
            if is_full {
                self.pending.push(newest);
            } else if self.rows[slot as usize].host.is_some() {
                picture.cells.push(Cell {
                    column,
                    slot,
                    value: newest.value,
                    age_ms: now.mono_ms.saturating_sub(newest.heard_ms) as u32,
                });
            }
        }
    }

    /// False when the names of this message are too many already.
    fn tell_names(
        &mut self,
        slot: Slot,
        column: Column,
        names_bytes: &mut usize,
        picture: &mut Picture,
    ) -> bool {
        let is_full = *names_bytes > CLUSTER_NAMES_BYTES_MAX;
        let row = self.row(slot);
        // A slot that has another host by now waits until that is told.
        if row.is_changed || is_full && !row.is_told {
            return false;
        }
        if !row.is_told && row.host.is_some() {
            row.is_told = true;
            *names_bytes += row.bytes();
            let told = row.told(slot);
            picture.hosts.extend(told);
        }
        let Some(named) = self.columns.get_mut(usize::from(column)) else {
            debug_assert!(false, "the catalog names a column before its samples");
            return false;
        };
        if !named.is_told {
            if is_full {
                return false;
            }
            named.is_told = true;
            *names_bytes += named.bytes();
            picture.columns.push(named.told());
        }
        true
    }
}

impl Row {
    /// What telling it takes, at most.
    fn bytes(&self) -> usize {
        self.host.as_ref().map_or(8, |(name, tags)| {
            let tags = tags.iter().map(|(key, value)| key.len() + value.len() + 4);
            name.len() + tags.sum::<usize>() + 8
        })
    }

    fn told(&self, slot: Slot) -> Option<Host> {
        let (name, tags) = self.host.as_ref()?;
        Some(Host::Set {
            slot,
            name: name.to_string(),
            tags: tags.to_vec(),
        })
    }
}

impl Named {
    fn bytes(&self) -> usize {
        self.entry.name.len() + self.entry.unit.len() + 8
    }

    fn told(&self) -> ColumnName {
        ColumnName {
            column: self.entry.column,
            name: self.entry.name.to_string(),
            unit: self.entry.unit.to_string(),
        }
    }
}
