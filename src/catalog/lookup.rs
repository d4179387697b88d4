//! One core's memory of the catalog: no lock and no allocation for a name seen before.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;

use super::Catalog;
use super::registry::NameMap;
use crate::limits::{HOSTS_MAX, SPELLINGS_MAX};
use crate::sample::{Column, Slot};

/// Bounds: hosts by the catalog's own bound, since only names that have a slot of their own are
/// kept; columns by [`SPELLINGS_MAX`], since one column has many spellings. Names are shared with
/// the catalog: a cached host costs about 28 B, not its name.
pub struct Lookup {
    catalog: Arc<Catalog>,
    hosts: NameMap<Slot>,
    columns: NameMap<Known>,
    /// Per slot: [`Lookup::tags_mark`] of the tags last handed on; 0 for none.
    tags: Vec<u64>,
    hasher: RandomState,
    retirements: u64,
    retags: u64,
}

#[derive(Clone, Copy)]
struct Known {
    column: Column,
    /// Then the unit that comes with a sample need not be looked at.
    has_unit: bool,
}

impl Lookup {
    pub fn new(catalog: Arc<Catalog>) -> Lookup {
        let mut lookup = Lookup {
            catalog,
            hosts: NameMap::default(),
            columns: NameMap::default(),
            tags: Vec::new(),
            hasher: RandomState::default(),
            retirements: 0,
            retags: 0,
        };
        lookup.begin();
        lookup
    }

    /// Once per batch: drops what was cached before a slot was retired. A retirement during the
    /// batch does no harm, since the slot rests longer than any batch takes.
    pub fn begin(&mut self) {
        // Pairs with the release increments in `Catalog::retire` and `Catalog::set_tags`.
        let retirements = self.catalog.retirements.load(Ordering::Acquire);
        self.retags = self.catalog.retags.load(Ordering::Acquire);
        if retirements != self.retirements {
            self.retirements = retirements;
            self.hosts.clear();
        }
    }

    /// Moves when slots were given back: those found before are void.
    pub fn generation(&self) -> u64 {
        self.retirements
    }

    /// Past the bound of hosts the slot of [`OTHER`](crate::limits::OTHER). That answer is not
    /// cached: an excess host costs a locked lookup per document, and the cache stays bounded.
    #[inline]
    pub fn host(&mut self, name: &str) -> Slot {
        match self.hosts.get(name) {
            Some(&slot) => slot,
            None => self.host_first_seen(name),
        }
    }

    /// The key as it was sent; an empty unit is none given.
    #[inline]
    pub fn column(&mut self, key: &str, unit: &str) -> Column {
        match self.columns.get(key) {
            Some(known) if known.has_unit || unit.is_empty() => known.column,
            _ => self.column_first_seen(key, unit),
        }
    }

    /// Hands a document's tags on when they are not what they were. No tags say nothing: a host
    /// that sends them now and then keeps them.
    pub fn tags<'a>(&mut self, slot: Slot, tags: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
        let Some(mark) = self.tags_mark(tags.clone()) else {
            return;
        };
        let at = slot as usize;
        if self.tags.get(at) == Some(&mark) || at > HOSTS_MAX {
            return;
        }
        if at >= self.tags.len() {
            self.tags.resize(at + 1, 0);
        }
        self.tags[at] = mark;
        let owned = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.catalog.set_tags(slot, owned.collect());
    }

    #[cold]
    fn host_first_seen(&mut self, name: &str) -> Slot {
        let found = self.catalog.host(name);
        if let Some(name) = found.name {
            self.hosts.insert(name, found.id);
        }
        found.id
    }

    #[cold]
    fn column_first_seen(&mut self, key: &str, unit: &str) -> Column {
        let found = self.catalog.column(key, unit);
        let known = Known {
            column: found.id,
            has_unit: found.has_unit,
        };
        if let Some(seen) = self.columns.get_mut(key) {
            *seen = known;
        } else if let Some(name) = found.name
            && self.columns.len() < SPELLINGS_MAX
        {
            let spelling = if *name == *key { name } else { Arc::from(key) };
            self.columns.insert(spelling, known);
        }
        found.id
    }

    /// One number for a set of tags: a sum, so that their order does not matter, and never 0. It
    /// covers the catalog's counters: when tags were replaced or a slot was retired on any core,
    /// every mark is void. None for no tags.
    fn tags_mark<'a>(&self, tags: impl Iterator<Item = (&'a str, &'a str)>) -> Option<u64> {
        let hashes = tags.map(|tag| self.hasher.hash_one(tag));
        let sum = hashes.reduce(u64::wrapping_add)?;
        let epoch = self.hasher.hash_one((self.retirements, self.retags));
        Some(sum.wrapping_add(epoch).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::HostChange;

    /// How often tags reached the catalog as a change: the version moves once for each.
    fn tags_of(catalog: &Catalog, slot: Slot) -> (String, u64) {
        let mut since = 0;
        let changes = catalog.host_changes(&mut since);
        let tags = changes.into_iter().find_map(|change| match change {
            HostChange::Set { slot: of, tags, .. } if of == slot => Some(tags),
            _ => None,
        });
        let tags = tags.unwrap_or_else(|| Arc::from([]));
        let text: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        (text.join(","), since)
    }

    #[test]
    fn tags_are_a_set_and_change_only_when_they_do() {
        let catalog = Catalog::new();
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        let slot = lookup.host("a");
        lookup.tags(slot, [("role", "web"), ("dc", "fra")].into_iter());
        let first = tags_of(&catalog, slot);
        assert_eq!(first.0, "dc=fra,role=web");
        lookup.tags(slot, [("dc", "fra"), ("role", "web")].into_iter());
        lookup.tags(slot, std::iter::empty());
        assert_eq!(tags_of(&catalog, slot), first);
        lookup.tags(slot, [("dc", "ber"), ("dc", "ams")].into_iter());
        assert_eq!(tags_of(&catalog, slot), ("dc=ams".to_owned(), first.1 + 1));
    }

    /// A host wanders between cores: core 1 saw `fra`, core 2 `ber`, then `fra` comes back to core
    /// 1, whose memory of having handed on `fra` is void.
    #[test]
    fn tags_that_another_core_replaced_are_handed_on_again() {
        let catalog = Catalog::new();
        let mut cores = [0; 2].map(|_| Lookup::new(Arc::clone(&catalog)));
        for (core, dc) in [(0, "fra"), (1, "ber"), (0, "fra"), (1, "ber")] {
            let lookup = &mut cores[core];
            lookup.begin();
            let slot = lookup.host("a");
            lookup.tags(slot, [("dc", dc)].into_iter());
            assert_eq!(tags_of(&catalog, slot).0, format!("dc={dc}"));
        }
    }

    #[test]
    fn a_host_that_returns_after_retirement_brings_its_tags() {
        let catalog = Catalog::with_bounds(4, 4);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        let slot = lookup.host("a");
        lookup.tags(slot, [("dc", "fra")].into_iter());
        catalog.retire(slot);
        catalog.free(slot);
        lookup.begin();
        lookup.host("b");
        lookup.begin();
        let slot = lookup.host("a");
        lookup.tags(slot, [("dc", "fra")].into_iter());
        assert_eq!(tags_of(&catalog, slot).0, "dc=fra");
    }

    #[test]
    fn caches_are_bounded() {
        let catalog = Catalog::with_bounds(4, 4);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        for i in 0..100 {
            lookup.host(&format!("host-{i}"));
            lookup.column(&format!("column-{i}"), "");
        }
        assert_eq!((lookup.hosts.len(), lookup.columns.len()), (4, 4));
        let labels: Vec<String> = (0..8).map(|i| format!("l{i}=v")).collect();
        let mut order: Vec<usize> = (0..8).collect();
        let catalog = Catalog::new();
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        // Heap's way through permutations: 9,000 spellings of one column.
        let mut counters = [0_usize; 8];
        let (mut i, mut seen) = (1, 0);
        while i < 8 && seen < SPELLINGS_MAX + 800 {
            let spelling: Vec<&str> = order.iter().map(|&at| &*labels[at]).collect();
            assert_eq!(
                lookup.column(&format!("d{{{}}}", spelling.join(",")), ""),
                0
            );
            seen += 1;
            while i < 8 && counters[i] >= i {
                counters[i] = 0;
                i += 1;
            }
            if i < 8 {
                order.swap(if i % 2 == 0 { 0 } else { counters[i] }, i);
                counters[i] += 1;
                i = 1;
            }
        }
        assert!(seen > SPELLINGS_MAX);
        assert_eq!(lookup.columns.len(), SPELLINGS_MAX);
        assert_eq!(catalog.counts().1, 1);
    }
}
