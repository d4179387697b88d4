//! What the catalog's lock protects: both name maps and their bounds.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{ColumnEntry, HostChange, Offenders, Tags};
use crate::limits::{OFFENDER_BYTES_MAX, OFFENDERS_MAX, OTHER};
use crate::sample::{Column, Slot};

/// Keyed hashing: whoever chooses names must not choose their buckets. The seed is random per
/// process.
pub(super) type NameMap<V> = HashMap<Arc<str>, V, RandomState>;

/// An answer to a lookup.
pub(super) struct Found<Id> {
    pub(super) id: Id,
    /// None: folded into [`OTHER`], and not to be cached under the name asked for.
    pub(super) name: Option<Arc<str>>,
    pub(super) has_unit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Free,
    Live,
    Resting,
}

struct Host {
    name: Arc<str>,
    tags: Tags,
    life: Life,
}

/// Invariants: a name in `by_host` maps to a live row of that name and every live row is there;
/// rows besides `OTHER`'s are at most `hosts_max`. Change cursors are per row and not a log, since
/// a log that nobody reads would grow without bound.
pub(super) struct Registry {
    hosts_max: usize,
    by_host: NameMap<Slot>,
    hosts: Vec<Host>,
    /// Per slot: the version that changed it last. Apart from the rows so that a search for changes
    /// is a scan over 8 B a host.
    host_versions: Vec<u64>,
    host_version: u64,
    free: VecDeque<Slot>,
    other_slot: Option<Slot>,
    columns_max: usize,
    by_column: NameMap<Column>,
    columns: Vec<ColumnEntry>,
    column_versions: Vec<usize>,
    column_version: usize,
    other_column: Option<Column>,
    no_tags: Tags,
    offenders: Offenders,
}

impl Registry {
    pub(super) fn new(hosts_max: usize, columns_max: usize) -> Self {
        assert!(columns_max < usize::from(Column::MAX));
        Self {
            hosts_max,
            by_host: NameMap::default(),
            hosts: Vec::new(),
            host_versions: Vec::new(),
            host_version: 0,
            free: VecDeque::new(),
            other_slot: None,
            columns_max,
            by_column: NameMap::default(),
            columns: Vec::new(),
            column_versions: Vec::new(),
            column_version: 0,
            other_column: None,
            no_tags: Tags::from([]),
            offenders: Offenders::default(),
        }
    }

    pub(super) fn host_version(&self) -> u64 {
        self.host_version
    }

    pub(super) fn column_version(&self) -> usize {
        self.column_version
    }

    pub(super) fn host(&mut self, name: &str) -> Found<Slot> {
        let slot = match self.by_host.get(name) {
            Some(&slot) => slot,
            None if name == OTHER => self.other_host(),
            None => match self.unused_slot() {
                Some(slot) => {
                    self.settle(slot, Arc::from(name));
                    slot
                }
                None => {
                    self.offenders.hosts += 1;
                    note(&mut self.offenders.host_names, name);
                    return Found {
                        id: self.other_host(),
                        name: None,
                        has_unit: false,
                    };
                }
            },
        };
        Found {
            id: slot,
            name: Some(Arc::clone(&self.hosts[slot as usize].name)),
            has_unit: false,
        }
    }

    pub(super) fn column(&mut self, key: &str, unit: &str) -> Found<Column> {
        let given = self.columns.len() - usize::from(self.other_column.is_some());
        let column = match self.by_column.get(key) {
            Some(&column) => column,
            None if key == OTHER => self.other_column(),
            None if given < self.columns_max => self.add_column(key),
            None => {
                self.offenders.columns += 1;
                note(&mut self.offenders.column_names, key);
                return Found {
                    id: self.other_column(),
                    name: None,
                    has_unit: true,
                };
            }
        };
        // Many metrics share OTHER: none of their units is its own.
        let is_other = self.other_column == Some(column);
        let entry = &mut self.columns[usize::from(column)];
        if entry.unit.is_empty() && !unit.is_empty() && !is_other {
            entry.unit = Arc::from(unit);
            self.column_version += 1;
            self.column_versions[usize::from(column)] = self.column_version;
        }
        Found {
            id: column,
            name: Some(Arc::clone(&entry.name)),
            has_unit: is_other || !entry.unit.is_empty(),
        }
    }

    pub(super) fn other_column(&mut self) -> Column {
        if let Some(column) = self.other_column {
            return column;
        }
        let column = self.add_column(OTHER);
        self.other_column = Some(column);
        column
    }

    /// True when tags that were there before are replaced. The host [`OTHER`] has none: the many
    /// that share it would replace each other's for ever.
    pub(super) fn set_tags(&mut self, slot: Slot, mut tags: Vec<(String, String)>) -> bool {
        // Of a doubled key the last one counts, as in most JSON readers.
        tags.reverse();
        tags.sort_by(|a, b| a.0.cmp(&b.0));
        tags.dedup_by(|b, a| a.0 == b.0);
        let Some(host) = self.hosts.get_mut(slot as usize) else {
            return false;
        };
        if self.other_slot == Some(slot) || host.life != Life::Live || *host.tags == *tags {
            return false;
        }
        let replaced = !host.tags.is_empty();
        host.tags = tags.into();
        self.touch(slot);
        replaced
    }

    pub(super) fn retire(&mut self, slot: Slot) -> bool {
        let Some(host) = self.hosts.get_mut(slot as usize) else {
            return false;
        };
        if host.life != Life::Live {
            return false;
        }
        host.life = Life::Resting;
        self.by_host.remove(&host.name);
        self.touch(slot);
        true
    }

    pub(super) fn revive(&mut self, slot: Slot) -> bool {
        let Some(host) = self.hosts.get_mut(slot as usize) else {
            return false;
        };
        match host.life {
            Life::Live => true,
            Life::Resting if !self.by_host.contains_key(&host.name) => {
                host.life = Life::Live;
                self.by_host.insert(Arc::clone(&host.name), slot);
                self.touch(slot);
                true
            }
            Life::Resting | Life::Free => false,
        }
    }

    pub(super) fn heir(&mut self, slot: Slot) -> Slot {
        let name = self.hosts.get(slot as usize).map(|host| &host.name);
        let heir = name.and_then(|name| self.by_host.get(name));
        heir.copied().unwrap_or_else(|| self.other_host())
    }

    pub(super) fn free(&mut self, slot: Slot) {
        if self.other_slot == Some(slot) {
            return;
        }
        if let Some(host) = self.hosts.get_mut(slot as usize)
            && host.life == Life::Resting
        {
            host.life = Life::Free;
            host.name = Arc::from("");
            host.tags = Arc::clone(&self.no_tags);
            self.free.push_back(slot);
        }
    }

    pub(super) fn host_changes(&self, since: u64) -> Vec<HostChange> {
        let changed = self.host_versions.iter().zip(&self.hosts).enumerate();
        let changed = changed.filter(|(_, (version, _))| **version > since);
        changed
            .map(|(slot, (_, host))| match host.life {
                Life::Live => HostChange::Set {
                    slot: slot as Slot,
                    name: Arc::clone(&host.name),
                    tags: Arc::clone(&host.tags),
                },
                Life::Resting | Life::Free => HostChange::Del { slot: slot as Slot },
            })
            .collect()
    }

    pub(super) fn column_changes(&self, since: usize) -> Vec<ColumnEntry> {
        let changed = self.column_versions.iter().zip(&self.columns);
        let changed = changed.filter(|(version, _)| **version > since);
        changed.map(|(_, entry)| entry.clone()).collect()
    }

    pub(super) fn find_host(&self, name: &str) -> Option<Slot> {
        self.by_host.get(name).copied()
    }

    pub(super) fn find_column(&self, key: &str) -> Option<Column> {
        self.by_column.get(key).copied()
    }

    pub(super) fn offenders(&self) -> Offenders {
        self.offenders.clone()
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.by_host.len(), self.columns.len())
    }

    /// The cheap half of the struct's invariants: sums, no walk.
    pub(super) fn invariants(&self) {
        let given = self.hosts.len() - usize::from(self.other_slot.is_some());
        assert!(given <= self.hosts_max);
        assert!(self.by_host.len() + self.free.len() <= self.hosts.len());
        assert_eq!(self.by_column.len(), self.columns.len());
        assert!(self.columns.len() <= self.columns_max + 1);
    }

    fn unused_slot(&mut self) -> Option<Slot> {
        if let Some(slot) = self.free.pop_front() {
            return Some(slot);
        }
        let given = self.hosts.len() - usize::from(self.other_slot.is_some());
        (given < self.hosts_max).then(|| self.push_host())
    }

    fn push_host(&mut self) -> Slot {
        let slot = self.hosts.len() as Slot;
        self.hosts.push(Host {
            name: Arc::from(""),
            tags: Arc::clone(&self.no_tags),
            life: Life::Free,
        });
        self.host_versions.push(0);
        slot
    }

    fn settle(&mut self, slot: Slot, name: Arc<str>) {
        let host = &mut self.hosts[slot as usize];
        debug_assert_eq!(host.life, Life::Free);
        host.life = Life::Live;
        host.name = Arc::clone(&name);
        self.by_host.insert(name, slot);
        self.touch(slot);
    }

    fn other_host(&mut self) -> Slot {
        if let Some(slot) = self.other_slot {
            self.revive(slot);
            return slot;
        }
        let slot = self.push_host();
        self.settle(slot, Arc::from(OTHER));
        self.other_slot = Some(slot);
        slot
    }

    fn add_column(&mut self, name: &str) -> Column {
        let column = self.columns.len() as Column;
        let name: Arc<str> = Arc::from(name);
        self.by_column.insert(Arc::clone(&name), column);
        self.columns.push(ColumnEntry {
            column,
            name,
            unit: Arc::from(""),
        });
        self.column_version += 1;
        self.column_versions.push(self.column_version);
        column
    }

    fn touch(&mut self, slot: Slot) {
        self.host_version += 1;
        self.host_versions[slot as usize] = self.host_version;
    }
}

fn note(names: &mut Vec<String>, name: &str) {
    let name = &name[..name.floor_char_boundary(OFFENDER_BYTES_MAX)];
    if names.len() < OFFENDERS_MAX && !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}
