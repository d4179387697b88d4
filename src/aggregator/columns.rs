//! The aggregator's copy of the columns' names and units.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::catalog::ColumnEntry;
use crate::catalog::name::canonical;
use crate::sample::Column;

/// Invariant: `by_name` and `sorted` hold each column once.
#[derive(Default)]
pub struct Columns {
    entries: Vec<ColumnEntry>,
    by_name: HashMap<Arc<str>, Column, RandomState>,
    /// By name, so that a host's metrics need no sorting at each tick.
    sorted: Vec<Column>,
}

impl Columns {
    /// A new column, which is the next one, or the unit of a known one.
    pub fn apply(&mut self, entry: ColumnEntry) {
        let at = usize::from(entry.column);
        if let Some(known) = self.entries.get_mut(at) {
            *known = entry;
            return;
        }
        assert_eq!(at, self.entries.len(), "columns come in order");
        self.by_name.insert(Arc::clone(&entry.name), entry.column);
        let name = &entry.name;
        let place = self
            .sorted
            .partition_point(|&other| self.entries[usize::from(other)].name < *name);
        self.sorted.insert(place, entry.column);
        self.entries.push(entry);
    }

    /// The key's labels may come in any order.
    pub fn find(&self, key: &str) -> Option<Column> {
        self.by_name.get(&*canonical(key)).copied()
    }

    pub fn name(&self, column: Column) -> &Arc<str> {
        &self.entries[usize::from(column)].name
    }

    pub fn unit(&self, column: Column) -> &Arc<str> {
        &self.entries[usize::from(column)].unit
    }

    pub fn sorted(&self) -> &[Column] {
        &self.sorted
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_and_sorted_by_name() {
        let mut columns = Columns::default();
        let mut apply = |column: Column, name: &str, unit: &str| {
            columns.apply(ColumnEntry {
                column,
                name: Arc::from(name),
                unit: Arc::from(unit),
            });
        };
        apply(0, "memory", "");
        apply(1, "d{a=1,b=2}", "");
        apply(2, "cpu", "%");
        apply(0, "memory", "B");
        assert_eq!(columns.sorted(), [2, 1, 0]);
        assert_eq!(columns.find("d{b=2,a=1}"), Some(1));
        assert_eq!(columns.find("disk"), None);
        assert_eq!((&**columns.unit(0), columns.len()), ("B", 3));
    }
}
