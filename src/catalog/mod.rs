//! Names to numbers: host -> slot, column -> id.
//!
//! One [`Catalog`] is shared by all cores and locked on the first sight of a name only; each core
//! has a [`Lookup`](lookup::Lookup) that answers from its own cache ever after. Both are bounded:
//! a name past the bound is folded into [`OTHER`](crate::limits::OTHER), counted, and remembered
//! as an offender.
//!
//! A slot's life: free -> live (a name was seen) -> resting (the aggregator retired it) -> free.
//! While it rests, its name may come back to it ([`Catalog::revive`]) and nobody else gets it, so
//! that a sample already on its way cannot land on a stranger. Columns live for ever.

pub mod lookup;
pub mod name;
mod registry;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::{COLUMNS_MAX, HOSTS_MAX};
use crate::sample::{Column, Slot};
use registry::{Found, Registry};

/// A host's tags, sorted by key; shared by the catalog and the aggregator.
pub type Tags = Arc<[(String, String)]>;

#[derive(Clone, Debug, PartialEq)]
pub enum HostChange {
    Set {
        slot: Slot,
        name: Arc<str>,
        tags: Tags,
    },
    Del {
        slot: Slot,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnEntry {
    pub column: Column,
    pub name: Arc<str>,
    /// Empty until a sample names one. The first one stays: hosts that disagree about a unit must
    /// not make everybody's schema flicker.
    pub unit: Arc<str>,
}

/// Who hit the bounds. Counts are lookups: one a document for hosts, one a value for columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offenders {
    pub hosts: u64,
    pub columns: u64,
    /// The first few names of each, cut to a bounded length.
    pub host_names: Vec<String>,
    pub column_names: Vec<String>,
}

/// All atomics are written under the lock; a reader that sees one moved takes the lock for what
/// moved. Release stores pair with the acquire loads in [`Catalog::host_changes`],
/// [`Catalog::column_changes`] and [`Lookup::begin`](lookup::Lookup::begin).
pub struct Catalog {
    registry: Mutex<Registry>,
    host_version: AtomicU64,
    column_version: AtomicUsize,
    /// Moves when a slot is retired: slots cached before are void.
    retirements: AtomicU64,
    /// Moves when a host's tags are replaced: another core may have cached the old ones.
    retags: AtomicU64,
}

impl Catalog {
    pub fn new() -> Arc<Catalog> {
        Catalog::with_bounds(HOSTS_MAX, COLUMNS_MAX)
    }

    /// For tests. [`OTHER`](crate::limits::OTHER) comes on top of both bounds.
    pub fn with_bounds(hosts: usize, columns: usize) -> Arc<Catalog> {
        Arc::new(Catalog {
            registry: Mutex::new(Registry::new(hosts, columns)),
            host_version: AtomicU64::new(0),
            column_version: AtomicUsize::new(0),
            retirements: AtomicU64::new(0),
            retags: AtomicU64::new(0),
        })
    }

    /// The aggregator forgot this host: its name leaves the map, its slot begins to rest.
    pub fn retire(&self, slot: Slot) {
        let mut registry = self.locked();
        if registry.retire(slot) {
            self.publish(&registry);
            self.retirements.fetch_add(1, Ordering::Release);
        }
    }

    /// A late sample came for a retired slot: takes the name back, unless it was given another
    /// slot meanwhile ([`Catalog::heir`]).
    pub fn revive(&self, slot: Slot) -> bool {
        let mut registry = self.locked();
        let live = registry.revive(slot);
        self.publish(&registry);
        live
    }

    /// Where samples for a slot that cannot be revived belong: its name's new slot, else the
    /// host [`OTHER`](crate::limits::OTHER).
    pub fn heir(&self, slot: Slot) -> Slot {
        let mut registry = self.locked();
        let heir = registry.heir(slot);
        self.publish(&registry);
        heir
    }

    /// The slot has rested: another name may have it.
    pub fn free(&self, slot: Slot) {
        self.locked().free(slot);
    }

    /// Hosts that changed since the last call with the same cursor, each once and as it is now.
    /// One atomic load when none did.
    pub fn host_changes(&self, since: &mut u64) -> Vec<HostChange> {
        if self.host_version.load(Ordering::Acquire) == *since {
            return Vec::new();
        }
        let registry = self.locked();
        let changes = registry.host_changes(*since);
        *since = registry.host_version();
        changes
    }

    /// Columns that are new or were given their unit since the last call with the same cursor.
    pub fn column_changes(&self, since: &mut usize) -> Vec<ColumnEntry> {
        if self.column_version.load(Ordering::Acquire) == *since {
            return Vec::new();
        }
        let registry = self.locked();
        let changes = registry.column_changes(*since);
        *since = registry.column_version();
        changes
    }

    pub fn find_host(&self, name: &str) -> Option<Slot> {
        self.locked().find_host(name)
    }

    /// The key's labels may come in any order.
    pub fn find_column(&self, key: &str) -> Option<Column> {
        self.locked().find_column(&name::canonical(key))
    }

    /// The column that series past their bound are folded into.
    pub fn other_column(&self) -> Column {
        let mut registry = self.locked();
        let column = registry.other_column();
        self.publish(&registry);
        column
    }

    pub fn offenders(&self) -> Offenders {
        self.locked().offenders()
    }

    /// Live hosts and columns.
    pub fn counts(&self) -> (usize, usize) {
        self.locked().counts()
    }

    fn host(&self, name: &str) -> Found<Slot> {
        let mut registry = self.locked();
        let found = registry.host(name);
        self.publish(&registry);
        found
    }

    fn column(&self, key: &str, unit: &str) -> Found<Column> {
        let key = name::canonical(key);
        let mut registry = self.locked();
        let found = registry.column(&key, unit);
        self.publish(&registry);
        found
    }

    fn set_tags(&self, slot: Slot, tags: Vec<(String, String)>) {
        let mut registry = self.locked();
        if registry.set_tags(slot, tags) {
            self.retags.fetch_add(1, Ordering::Release);
        }
        self.publish(&registry);
    }

    fn publish(&self, registry: &Registry) {
        let (hosts, columns) = (registry.host_version(), registry.column_version());
        self.host_version.store(hosts, Ordering::Release);
        self.column_version.store(columns, Ordering::Release);
        if cfg!(debug_assertions) {
            registry.invariants();
        }
    }

    /// A panic under the lock cannot leave a half-made row: every row is pushed whole.
    fn locked(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::lookup::Lookup;
    use super::*;
    use crate::limits::{OFFENDER_BYTES_MAX, OFFENDERS_MAX, OTHER};

    fn names(changes: &[HostChange]) -> Vec<String> {
        let one = |change: &HostChange| match change {
            HostChange::Set { slot, name, .. } => format!("{slot}={name}"),
            HostChange::Del { slot } => format!("{slot}-"),
        };
        changes.iter().map(one).collect()
    }

    #[test]
    fn hosts_past_the_bound_are_folded_and_remembered() {
        let catalog = Catalog::with_bounds(3, 8);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        let slots: Vec<Slot> = ["a", "b", "c"].map(|name| lookup.host(name)).to_vec();
        assert_eq!(slots, [0, 1, 2]);
        assert_eq!(catalog.offenders(), Offenders::default());
        let long = "x".repeat(200);
        for _ in 0..2 {
            assert_eq!(lookup.host(&long), 3);
            assert_eq!(lookup.host("d"), 3);
        }
        assert_eq!(lookup.host(OTHER), 3);
        assert_eq!(lookup.host("c"), 2);
        let offenders = catalog.offenders();
        assert_eq!(offenders.hosts, 4);
        assert_eq!(offenders.host_names, [&long[..OFFENDER_BYTES_MAX], "d"]);
        let mut since = 0;
        let changes = names(&catalog.host_changes(&mut since));
        assert_eq!(changes, ["0=a", "1=b", "2=c", "3=__other__"]);
        assert_eq!(catalog.host_changes(&mut since), []);
        assert_eq!(catalog.counts(), (4, 0));
    }

    #[test]
    fn columns_past_the_bound_are_folded_and_offenders_are_bounded() {
        let catalog = Catalog::with_bounds(3, 2);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        assert_eq!(lookup.column("cpu", "%"), 0);
        assert_eq!(lookup.column("memory", ""), 1);
        for i in 0..100 {
            assert_eq!(lookup.column(&format!("m{i}é{}", "é".repeat(80)), "s"), 2);
        }
        let offenders = catalog.offenders();
        assert_eq!((offenders.hosts, offenders.columns), (0, 100));
        assert_eq!(offenders.column_names.len(), OFFENDERS_MAX);
        let longest = offenders.column_names.iter().map(String::len).max();
        assert!(longest <= Some(OFFENDER_BYTES_MAX));
        let mut since = 0;
        let columns = catalog.column_changes(&mut since);
        let columns: Vec<(&str, &str)> = columns.iter().map(|c| (&*c.name, &*c.unit)).collect();
        assert_eq!(columns, [("cpu", "%"), ("memory", ""), (OTHER, "")]);
    }

    #[test]
    fn a_unit_is_given_once() {
        let catalog = Catalog::new();
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        let mut since = 0;
        let mut changes = || {
            let changes = catalog.column_changes(&mut since);
            let changes = changes.iter().map(|c| c.unit.to_string());
            changes.collect::<Vec<_>>()
        };
        lookup.column("cpu", "");
        assert_eq!(changes(), [""]);
        lookup.column("cpu", "%");
        assert_eq!(changes(), ["%"]);
        lookup.column("cpu", "percent");
        lookup.column("cpu", "");
        assert_eq!(changes(), Vec::<String>::new());
    }

    #[test]
    fn labels_in_any_order_are_one_column() {
        let catalog = Catalog::new();
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        for _ in 0..2 {
            assert_eq!(lookup.column("d{b=1,a=2}", ""), 0);
            assert_eq!(lookup.column("d{a=2,b=1}", ""), 0);
        }
        assert_eq!(catalog.find_column("d{b=1,a=2}"), Some(0));
        let changes = catalog.column_changes(&mut 0);
        assert_eq!(&*changes[0].name, "d{a=2,b=1}");
    }

    #[test]
    fn a_slot_rests_before_another_host_gets_it() {
        let catalog = Catalog::with_bounds(2, 8);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        let mut since = 0;
        assert_eq!((lookup.host("a"), lookup.host("b")), (0, 1));
        catalog.host_changes(&mut since);
        catalog.retire(0);
        assert_eq!(names(&catalog.host_changes(&mut since)), ["0-"]);
        assert_eq!(catalog.find_host("a"), None);
        lookup.begin();
        assert_eq!(lookup.host("c"), 2, "no slot is free: folded");
        catalog.free(0);
        assert_eq!(lookup.host("c"), 0);
        assert_eq!(
            names(&catalog.host_changes(&mut since)),
            ["0=c", "2=__other__"]
        );
        catalog.free(0);
        assert_eq!(
            catalog.find_host("c"),
            Some(0),
            "a live slot cannot be freed"
        );
    }

    #[test]
    fn a_late_sample_revives_its_host_unless_the_name_moved() {
        let catalog = Catalog::with_bounds(4, 8);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        assert_eq!((lookup.host("a"), lookup.host("b")), (0, 1));
        lookup.tags(0, [("dc", "fra")].into_iter());
        catalog.retire(0);
        assert!(catalog.revive(0));
        assert_eq!(catalog.find_host("a"), Some(0));
        let changes = catalog.host_changes(&mut 0);
        assert!(matches!(&changes[0], HostChange::Set { tags, .. } if tags[0].1 == "fra"));
        catalog.retire(1);
        lookup.begin();
        assert_eq!(lookup.host("b"), 2, "registered anew");
        assert!(!catalog.revive(1));
        assert_eq!(catalog.heir(1), 2);
        catalog.free(1);
        assert!(!catalog.revive(1));
        assert_eq!(catalog.heir(1), 3, "nobody's: the host OTHER");
        assert_eq!(catalog.find_host(OTHER), Some(3));
    }

    #[test]
    fn the_host_other_keeps_its_slot() {
        let catalog = Catalog::with_bounds(1, 8);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        assert_eq!((lookup.host("a"), lookup.host("b")), (0, 1));
        catalog.retire(1);
        catalog.free(1);
        lookup.begin();
        assert_eq!(lookup.host("c"), 1);
        assert_eq!(catalog.counts().0, 2);
    }

    #[test]
    fn two_cores_that_see_a_name_first_agree() {
        let catalog = Catalog::new();
        let names: Vec<String> = (0..2_000).map(|i| format!("host-{i}")).collect();
        let core = |reversed: bool| {
            let mut lookup = Lookup::new(Arc::clone(&catalog));
            let mut order: Vec<usize> = (0..names.len()).collect();
            if reversed {
                order.reverse();
            }
            let mut slots = vec![0; names.len()];
            for i in order {
                slots[i] = lookup.host(&names[i]);
                lookup.column(&names[i], "");
            }
            slots
        };
        let (a, b) = std::thread::scope(|scope| {
            let a = scope.spawn(|| core(false));
            let b = scope.spawn(|| core(true));
            (a.join().unwrap(), b.join().unwrap())
        });
        assert_eq!(a, b);
        let mut sorted = a;
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..2_000));
        assert_eq!(catalog.counts(), (2_000, 2_000));
    }
}
