//! The aggregator's host table: names and tags by slot, its epoch, and the messages that tell
//! viewers of changes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde::{Serialize, Serializer};

use crate::catalog::{HostChange, Tags};
use crate::frame::Names;
use crate::limits::{HOST_TABLES_OLD_MAX, HOSTS_PATCH_BYTES_MAX};
use crate::sample::Slot;

pub struct Host {
    pub name: Arc<str>,
    pub tags: Tags,
}

/// Invariant: a slot is in `pending` once exactly when its flag in `is_pending` is set.
///
/// The epoch moves at ticks, rows move whenever the catalog is read: the table may be ahead of its
/// epoch. That is harmless, since a patch says how rows are and not how they changed: to apply one
/// that the table holds already changes nothing.
#[derive(Default)]
pub struct Hosts {
    rows: Vec<Option<Host>>,
    by_name: HashMap<Arc<str>, Slot, RandomState>,
    epoch: u32,
    /// Moves with every change of a row: what was derived from rows is void.
    version: u64,
    /// Changed slots that no patch has told of.
    pending: VecDeque<Slot>,
    is_pending: Vec<bool>,
    /// The whole table as JSON, and the epoch and version it was made for.
    table: Option<(u32, u64, Bytes)>,
    /// Tables of before that somebody may still be reading.
    old_tables: Vec<Bytes>,
}

#[derive(Serialize)]
struct Patch<'a> {
    op: &'static str,
    from: u32,
    to: u32,
    set: Vec<Row<'a>>,
    del: Vec<Slot>,
}

#[derive(Serialize)]
struct Table<'a> {
    epoch: u32,
    hosts: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a>(Slot, &'a str, TagsObject<'a>);

struct TagsObject<'a>(&'a [(String, String)]);

impl Serialize for TagsObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Hosts {
    pub fn apply(&mut self, change: HostChange) {
        let (slot, host) = match change {
            HostChange::Set { slot, name, tags } => (slot, Some(Host { name, tags })),
            HostChange::Del { slot } => (slot, None),
        };
        let at = slot as usize;
        if at >= self.rows.len() {
            self.rows.resize_with(at + 1, || None);
            self.is_pending.resize(at + 1, false);
        }
        // The name may have moved to another slot, told of before this one.
        if let Some(old) = &self.rows[at]
            && self.by_name.get(&old.name) == Some(&slot)
        {
            self.by_name.remove(&old.name);
        }
        if let Some(host) = &host {
            self.by_name.insert(Arc::clone(&host.name), slot);
        }
        self.rows[at] = host;
        self.version += 1;
        if !std::mem::replace(&mut self.is_pending[at], true) {
            self.pending.push_back(slot);
        }
    }

    pub fn find(&self, name: &str) -> Option<Slot> {
        self.by_name.get(name).copied()
    }

    pub fn row(&self, slot: Slot) -> Option<&Host> {
        self.rows.get(slot as usize)?.as_ref()
    }

    /// By slot, free slots included.
    pub fn rows(&self) -> &[Option<Host>] {
        &self.rows
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// The `hosts_patch` of this tick, PROTOCOL.md 2.2, which moves the epoch by one; None when
    /// nothing changed. When much did, the oldest changes go first and the rest with later ticks.
    pub fn patch(&mut self) -> Option<Vec<u8>> {
        let (mut set, mut del, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < HOSTS_PATCH_BYTES_MAX
            && let Some(slot) = self.pending.pop_front()
        {
            self.is_pending[slot as usize] = false;
            match &self.rows[slot as usize] {
                Some(host) => {
                    set.push(Row(slot, &host.name, TagsObject(&host.tags)));
                    bytes += host.bytes();
                }
                None => {
                    del.push(slot);
                    bytes += NUMBER_BYTES;
                }
            }
        }
        if set.is_empty() && del.is_empty() {
            return None;
        }
        let patch = Patch {
            op: "hosts_patch",
            from: self.epoch,
            to: self.epoch.wrapping_add(1),
            set,
            del,
        };
        let json = to_json(&patch);
        self.epoch = patch.to;
        Some(json)
    }

    /// The body of `GET /api/hosts`; made once per change, however many ask. None while slow
    /// readers hold [`HOST_TABLES_OLD_MAX`] of before: each is as large as the newest.
    pub fn table(&mut self) -> Option<Bytes> {
        if let Some((epoch, version, body)) = &self.table
            && (*epoch, *version) == (self.epoch, self.version)
        {
            return Some(body.clone());
        }
        self.old_tables.retain(|table| !table.is_unique());
        if HOST_TABLES_OLD_MAX <= self.old_tables.len() {
            return None;
        }
        let rows = self.rows.iter().zip(0..);
        let rows = rows.filter_map(|(row, slot)| {
            let host = row.as_ref()?;
            Some(Row(slot, &host.name, TagsObject(&host.tags)))
        });
        let body = Bytes::from(to_json(&Table {
            epoch: self.epoch,
            hosts: rows.collect(),
        }));
        let newest = (self.epoch, self.version, body.clone());
        if let Some((_, _, old)) = self.table.replace(newest) {
            self.old_tables.push(old);
        }
        Some(body)
    }

    pub fn invariants(&self) {
        assert_eq!(self.is_pending.len(), self.rows.len());
        let flags = self.is_pending.iter().filter(|&&flag| flag).count();
        assert_eq!(flags, self.pending.len());
        assert_eq!(self.rows.iter().flatten().count(), self.by_name.len());
    }
}

impl Names for Hosts {
    fn host(&self, slot: Slot) -> &str {
        self.row(slot).map_or("", |host| &host.name)
    }
}

/// A slot of five digits and its comma.
const NUMBER_BYTES: usize = 6;

impl Host {
    /// About what the row takes in JSON: escapes come on top, rarely.
    fn bytes(&self) -> usize {
        let tags = self.tags.iter();
        let tags: usize = tags.map(|(key, value)| key.len() + value.len() + 6).sum();
        self.name.len() + tags + NUMBER_BYTES + 7
    }
}

fn to_json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("numbers, strings and maps of strings serialise")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(slot: Slot, name: &str, tags: &[(&str, &str)]) -> HostChange {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        HostChange::Set {
            slot,
            name: Arc::from(name),
            tags: tags.collect(),
        }
    }

    fn patch(hosts: &mut Hosts) -> String {
        hosts.invariants();
        let patch = hosts.patch().unwrap_or_default();
        String::from_utf8_lossy(&patch).into_owned()
    }

    #[test]
    fn patches_say_how_rows_are_now() {
        let mut hosts = Hosts::default();
        assert_eq!(patch(&mut hosts), "");
        hosts.apply(set(1, "web\"1", &[("dc", "fra"), ("role", "web")]));
        hosts.apply(set(0, "db", &[]));
        hosts.apply(set(0, "db", &[("dc", "ber")]));
        assert_eq!(
            patch(&mut hosts),
            r#"{"op":"hosts_patch","from":0,"to":1,"set":[[1,"web\"1",{"dc":"fra","role":"web"}],"#
                .to_owned()
                + r#"[0,"db",{"dc":"ber"}]],"del":[]}"#
        );
        assert_eq!(patch(&mut hosts), "");
        hosts.apply(HostChange::Del { slot: 1 });
        assert_eq!(
            patch(&mut hosts),
            r#"{"op":"hosts_patch","from":1,"to":2,"set":[],"del":[1]}"#
        );
        assert_eq!((hosts.epoch(), hosts.host(0), hosts.host(1)), (2, "db", ""));
        assert_eq!(
            hosts.table().unwrap(),
            r#"{"epoch":2,"hosts":[[0,"db",{"dc":"ber"}]]}"#
        );
        assert_eq!(
            hosts.table().unwrap().as_ptr(),
            hosts.table().unwrap().as_ptr(),
            "made once"
        );
    }

    #[test]
    fn a_name_may_move_to_another_slot_before_its_old_one_goes() {
        let mut hosts = Hosts::default();
        hosts.apply(set(5, "a", &[]));
        hosts.apply(set(3, "a", &[]));
        hosts.apply(HostChange::Del { slot: 5 });
        hosts.invariants();
        assert_eq!(hosts.find("a"), Some(3));
        hosts.apply(set(3, "b", &[]));
        assert_eq!((hosts.find("a"), hosts.find("b")), (None, Some(3)));
    }

    #[test]
    fn a_great_change_is_told_in_pieces() {
        let mut hosts = Hosts::default();
        for slot in 0..5_000 {
            hosts.apply(set(slot, &format!("host-number-{slot}"), &[("dc", "fra")]));
        }
        let mut told = 0;
        let mut epoch = 0;
        while let Some(patch) = hosts.patch() {
            hosts.invariants();
            assert!(patch.len() <= HOSTS_PATCH_BYTES_MAX + 1_024);
            told += patch.windows(5).filter(|w| w == b"host-").count();
            epoch += 1;
        }
        assert_eq!((told, hosts.epoch()), (5_000, epoch));
        assert!((3..10).contains(&epoch));
    }

    /// Whoever reads slowly keeps a table of before, and there is one for each change.
    #[test]
    fn tables_that_somebody_reads_are_few() {
        let mut hosts = Hosts::default();
        let mut readers = Vec::new();
        for _ in 0..=HOST_TABLES_OLD_MAX {
            hosts.version += 1;
            readers.push(hosts.table().unwrap());
        }
        hosts.version += 1;
        assert_eq!(hosts.table(), None);
        readers.pop();
        assert_eq!(hosts.table(), None, "the newest is not one of before");
        readers.pop();
        assert!(hosts.table().is_some());
        assert!(hosts.table().is_some(), "the same table costs nothing more");
    }
}
