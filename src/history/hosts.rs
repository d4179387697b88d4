//! The hosts of now: by their names the past is found, by their tags it is chosen.

use std::sync::Arc;

use crate::catalog::{Catalog, HostChange, Tags};
use crate::frame::filter::Filter;

pub struct Hosts {
    catalog: Arc<Catalog>,
    since: u64,
    /// By slot.
    rows: Vec<Option<(Arc<str>, Tags)>>,
}

impl Hosts {
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            since: 0,
            rows: Vec::new(),
        }
    }

    /// True: a slot is another host's than before.
    pub fn refresh(&mut self) -> bool {
        let mut is_moved = false;
        for change in self.catalog.host_changes(&mut self.since) {
            let (slot, row) = match change {
                HostChange::Set { slot, name, tags } => (slot, Some((name, tags))),
                HostChange::Del { slot } => (slot, None),
            };
            let at = slot as usize;
            if self.rows.len() <= at {
                self.rows.resize(at + 1, None);
            }
            let name = |row: &Option<(Arc<str>, Tags)>| row.as_ref().map(|row| row.0.clone());
            is_moved |= name(&self.rows[at]) != name(&row);
            self.rows[at] = row;
        }
        is_moved
    }

    /// All is learnt anew when it is asked for again.
    pub fn forget(&mut self) {
        (self.since, self.rows) = (0, Vec::new());
    }

    pub fn slots(&self) -> usize {
        self.rows.len()
    }

    /// Every slot with its host, if it has one that the filter lets through.
    pub fn chosen<'a>(
        &'a self,
        filter: Option<&'a Filter>,
    ) -> impl Iterator<Item = Option<(&'a str, &'a [(String, String)])>> + Clone {
        self.rows.iter().map(move |row| {
            let (name, tags) = row.as_ref()?;
            let is_chosen = filter.is_none_or(|filter| filter.matches(name, tags));
            is_chosen.then_some((&**name, &**tags))
        })
    }
}
