//! Slots and columns, as samples carry them, to the series that history knows by name.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::SeriesName;
use super::recent::Recent;
use crate::catalog::{Catalog, HostChange};
use crate::sample::{Column, Sample, Slot};

#[derive(Default)]
pub struct Names {
    host_cursor: u64,
    column_cursor: usize,
    hosts: Vec<Host>,
    /// Name and unit.
    columns: Vec<(Arc<str>, Arc<str>)>,
    /// The host's generation and the series' index.
    known: HashMap<(Slot, Column), (u32, u32), RandomState>,
}

#[derive(Clone, Default)]
struct Host {
    /// Stays while its slot rests: what is still under way is its own.
    name: Option<Arc<str>>,
    /// Moves when another host gets the slot.
    generation: u32,
}

impl Names {
    /// Learns what the catalog has learned. Slots that belong to another host than before are given
    /// back if asked for: of samples that waited too long it is not known whose they are.
    pub fn refresh(&mut self, catalog: &Catalog, doubt: bool) -> Vec<Slot> {
        let mut doubtful = Vec::new();
        for entry in catalog.column_changes(&mut self.column_cursor) {
            let at = usize::from(entry.column);
            if self.columns.len() <= at {
                self.columns
                    .resize(at + 1, (Arc::default(), Arc::default()));
            }
            self.columns[at] = (entry.name, entry.unit);
        }
        for change in catalog.host_changes(&mut self.host_cursor) {
            let HostChange::Set { slot, name, .. } = change else {
                continue;
            };
            let at = slot as usize;
            if self.hosts.len() <= at {
                self.hosts.resize(at + 1, Host::default());
            }
            let host = &mut self.hosts[at];
            if host.name.as_ref() != Some(&name) {
                if doubt && host.name.is_some() {
                    doubtful.push(slot);
                }
                host.name = Some(name);
                host.generation += 1;
            }
        }
        doubtful
    }

    /// The index of a sample's series; none for a slot that no host ever had.
    pub fn index(&mut self, sample: &Sample, recent: &mut Recent) -> Option<u32> {
        let host = self.hosts.get(sample.slot as usize)?;
        let place = (sample.slot, sample.column);
        if let Some(&(generation, index)) = self.known.get(&place)
            && generation == host.generation
        {
            return Some(index);
        }
        let (metric, unit) = self.columns.get(usize::from(sample.column))?;
        let name = SeriesName::new(host.name.as_deref()?, metric, unit);
        let index = recent.index(&name);
        self.known.insert(place, (host.generation, index));
        Some(index)
    }

    /// Indices are void.
    pub fn forget(&mut self) {
        self.known = HashMap::default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::lookup::Lookup;

    fn sample(slot: Slot, column: Column) -> Sample {
        Sample {
            value: 1.0,
            time_ms: 0,
            slot,
            column,
            flags: 0,
        }
    }

    #[test]
    fn a_slot_is_its_last_host_s() {
        let catalog = Catalog::with_bounds(1, 8);
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        let (mut names, mut recent) = (Names::default(), Recent::default());
        let (slot, column) = (lookup.host("a"), lookup.column("cpu", "%"));
        assert_eq!(
            names.index(&sample(slot, column), &mut recent),
            None,
            "not seen yet"
        );
        assert!(names.refresh(&catalog, true).is_empty());
        let first = names.index(&sample(slot, column), &mut recent).unwrap();
        assert_eq!(&*recent.name(first).unwrap().host, "a");
        catalog.retire(slot);
        assert!(names.refresh(&catalog, true).is_empty());
        assert_eq!(
            names.index(&sample(slot, column), &mut recent),
            Some(first),
            "it rests"
        );
        catalog.free(slot);
        lookup.begin();
        assert_eq!(lookup.host("b"), slot);
        assert_eq!(names.refresh(&catalog, true), [slot]);
        let second = names.index(&sample(slot, column), &mut recent).unwrap();
        assert_eq!(&*recent.name(second).unwrap().host, "b");
        assert_eq!(names.index(&sample(slot, 7), &mut recent), None);
    }
}
