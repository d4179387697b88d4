//! Which hosts a filter lets through, and which group each host is in: worked out when hosts
//! change, so that a tick compares no strings.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::hosts::{Host, Hosts};
use crate::frame::filter::Filter;
use crate::limits::SELECTIONS_MAX;
use crate::sample::Slot;
use crate::stats;

/// The hosts of a filter by the values of one tag.
pub struct Grouping {
    version: u64,
    /// Per slot: an index into `names`, or [`stats::NO_GROUP`].
    pub of: Vec<u16>,
    /// Biggest group first, ties by name; at most `LINES_MAX`, hosts of others are in none.
    pub names: Vec<String>,
}

/// Both maps are bounded: past [`SELECTIONS_MAX`] all is forgotten, and what is still watched is
/// worked out anew at its next tick.
#[derive(Default)]
pub struct Selections {
    chosen: HashMap<Filter, Vec<bool>, RandomState>,
    groupings: HashMap<(String, Option<Filter>), Grouping, RandomState>,
}

impl Selections {
    /// Per slot whether the filter lets it through; as long as the table.
    pub fn chosen(&mut self, filter: &Filter, hosts: &Hosts) -> &[bool] {
        if !self.chosen.contains_key(filter) {
            if self.chosen.len() >= SELECTIONS_MAX {
                self.chosen.clear();
            }
            let rows = hosts.rows().iter();
            let chosen = rows.map(|row| is_chosen(filter, row.as_ref())).collect();
            self.chosen.insert(filter.clone(), chosen);
        }
        &self.chosen[filter]
    }

    pub fn grouping(&mut self, by: &str, filter: Option<&Filter>, hosts: &Hosts) -> &Grouping {
        let key = (by.to_owned(), filter.cloned());
        let known = self.groupings.get(&key);
        if known.is_none_or(|known| known.version != hosts.version()) {
            if self.groupings.len() >= SELECTIONS_MAX && known.is_none() {
                self.groupings.clear();
            }
            let chosen = filter.map(|filter| self.chosen(filter, hosts));
            let grouping = group(by, chosen, hosts);
            self.groupings.insert(key.clone(), grouping);
        }
        &self.groupings[&key]
    }

    /// A host changed: every filter looks at it again, and at no other.
    pub fn update(&mut self, slot: Slot, host: Option<&Host>) {
        let at = slot as usize;
        for (filter, chosen) in &mut self.chosen {
            if at >= chosen.len() {
                chosen.resize(at + 1, false);
            }
            chosen[at] = is_chosen(filter, host);
        }
    }
}

fn is_chosen(filter: &Filter, host: Option<&Host>) -> bool {
    host.is_some_and(|host| filter.matches(&host.name, &host.tags))
}

fn group(by: &str, chosen: Option<&[bool]>, hosts: &Hosts) -> Grouping {
    let is_chosen = |slot: usize| chosen.is_none_or(|chosen| chosen[slot]);
    let rows = hosts.rows().iter().enumerate();
    let tags = rows.map(|(slot, host)| {
        let host = host.as_ref().filter(|_| is_chosen(slot));
        host.map(|host| &*host.tags)
    });
    let (of, names) = stats::group(by, tags);
    Grouping {
        version: hosts.version(),
        of,
        names,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::catalog::HostChange;
    use crate::limits::LINES_MAX;
    use crate::stats::NO_GROUP;

    fn apply(hosts: &mut Hosts, selections: &mut Selections, slot: Slot, dc: &str, role: &str) {
        let pairs = [("dc", dc), ("role", role)].into_iter();
        let pairs = pairs.filter(|(_, value)| !value.is_empty());
        hosts.apply(HostChange::Set {
            slot,
            name: Arc::from(format!("host-{slot}")),
            tags: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        });
        selections.update(slot, hosts.row(slot));
    }

    #[test]
    fn filters_follow_the_hosts() {
        let (mut hosts, mut selections) = (Hosts::default(), Selections::default());
        let web = Filter::parse("role=web").unwrap();
        assert!(selections.chosen(&web, &hosts).is_empty());
        apply(&mut hosts, &mut selections, 0, "fra", "web");
        apply(&mut hosts, &mut selections, 1, "fra", "db");
        apply(&mut hosts, &mut selections, 2, "ber", "web");
        assert_eq!(selections.chosen(&web, &hosts), [true, false, true]);
        let one = Filter::parse("host=host-1").unwrap();
        assert_eq!(selections.chosen(&one, &hosts), [false, true, false]);
        apply(&mut hosts, &mut selections, 1, "fra", "web");
        hosts.apply(HostChange::Del { slot: 0 });
        selections.update(0, hosts.row(0));
        assert_eq!(selections.chosen(&web, &hosts), [false, true, true]);
    }

    #[test]
    fn groups_are_ordered_by_size_then_name() {
        let (mut hosts, mut selections) = (Hosts::default(), Selections::default());
        for (slot, (dc, role)) in [
            ("fra", "web"),
            ("ber", "web"),
            ("ber", "db"),
            ("ams", "web"),
            ("", "web"),
        ]
        .into_iter()
        .enumerate()
        {
            apply(&mut hosts, &mut selections, slot as Slot, dc, role);
        }
        let all = selections.grouping("dc", None, &hosts);
        assert_eq!(all.names, ["ber", "ams", "fra"]);
        assert_eq!(all.of, [2, 0, 0, 1, NO_GROUP]);
        let web = Filter::parse("role=web").unwrap();
        let grouping = selections.grouping("dc", Some(&web), &hosts);
        assert_eq!(grouping.names, ["ams", "ber", "fra"]);
        assert_eq!(grouping.of, [2, 1, NO_GROUP, 0, NO_GROUP]);
        apply(&mut hosts, &mut selections, 4, "fra", "web");
        let grouping = selections.grouping("dc", Some(&web), &hosts);
        assert_eq!(grouping.names, ["fra", "ams", "ber"]);
        assert!(selections.grouping("rack", None, &hosts).names.is_empty());
    }

    #[test]
    fn both_are_bounded() {
        let (mut hosts, mut selections) = (Hosts::default(), Selections::default());
        for slot in 0..300 {
            apply(
                &mut hosts,
                &mut selections,
                slot,
                &format!("dc-{slot}"),
                "web",
            );
        }
        assert_eq!(
            selections.grouping("dc", None, &hosts).names.len(),
            LINES_MAX
        );
        for i in 0..=SELECTIONS_MAX {
            let filter = Filter::parse(&format!("dc=dc-{i}")).unwrap();
            let of = selections
                .grouping("role", Some(&filter), &hosts)
                .of
                .clone();
            assert_eq!(
                of.iter().filter(|&&group| group == 0).count(),
                usize::from(i < 300)
            );
        }
        assert!(selections.chosen.len() <= SELECTIONS_MAX);
        assert!(selections.groupings.len() <= SELECTIONS_MAX);
    }
}
