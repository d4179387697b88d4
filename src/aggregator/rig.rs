//! A fleet with a fake clock, for tests: hosts send by name, time passes when told to.

use std::sync::Arc;

use super::fleet::Fleet;
use crate::catalog::Catalog;
use crate::catalog::lookup::Lookup;
use crate::clock::Now;
use crate::frame::filter::Filter;
use crate::frame::view::{Hz, Kind, View};
use crate::frame::views::Views;
use crate::frame::{Content, Host, State, Tick};
use crate::sample::{Column, Sample, Slot};

pub(in crate::aggregator) struct Rig {
    lookup: Lookup,
    pub(in crate::aggregator) views: Arc<Views>,
    pub(in crate::aggregator) fleet: Fleet,
    pub(in crate::aggregator) now: Now,
}

impl Rig {
    const TICK_MS: u32 = 100;

    pub(in crate::aggregator) fn new() -> Self {
        Self::with_bounds(100_000, 1_000, usize::MAX)
    }

    pub(in crate::aggregator) fn with_bounds(hosts: usize, columns: usize, series: usize) -> Self {
        let catalog = Catalog::with_bounds(hosts, columns);
        let views = Views::new();
        Self {
            lookup: Lookup::new(Arc::clone(&catalog)),
            fleet: Fleet::with_bound(catalog, Arc::clone(&views), Self::TICK_MS, series),
            views,
            now: Now {
                mono_ms: 1_000,
                wall_ms: 1_763_918_083_000,
            },
        }
    }

    pub(in crate::aggregator) fn owned((name, value): (&str, f64)) -> (String, f64) {
        (name.to_owned(), value)
    }

    pub(in crate::aggregator) fn lookup_host(&mut self, host: &str) -> Slot {
        self.lookup.begin();
        self.lookup.host(host)
    }

    pub(in crate::aggregator) fn lookup(&mut self, host: &str, metric: &str) -> (Slot, Column) {
        (self.lookup_host(host), self.lookup.column(metric, ""))
    }

    pub(in crate::aggregator) fn send(&mut self, host: &str, metrics: &[(&str, f64)]) {
        let slot = self.lookup_host(host);
        for (metric, value) in metrics {
            let column = self.lookup.column(metric, "");
            self.fold(slot, column, *value);
        }
    }

    pub(in crate::aggregator) fn fold(&mut self, slot: Slot, column: Column, value: f64) {
        let sample = Sample {
            value,
            time_ms: Sample::NO_TIME,
            slot,
            column,
            flags: 0,
        };
        self.fleet.fold(&[sample], self.now);
    }

    pub(in crate::aggregator) fn tag(&mut self, host: &str, tags: &[(&str, &str)]) {
        let slot = self.lookup_host(host);
        self.lookup.tags(slot, tags.iter().copied());
    }

    pub(in crate::aggregator) fn wait(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        // The wall clock goes its own way: nothing but labels may come of it.
        self.now.wall_ms -= ms as i64;
    }

    /// The next tick, one interval on.
    pub(in crate::aggregator) fn tick(&mut self) -> Tick {
        self.wait(u64::from(Self::TICK_MS));
        let tick = self.fleet.tick(self.now, false);
        self.fleet.invariants();
        tick
    }

    pub(in crate::aggregator) fn content(&mut self, kind: Kind, filter: &str) -> Content {
        let view = View {
            kind,
            filter: Filter::parse(filter).ok(),
            hz: Hz::ONE,
            ..View::default_view()
        };
        (*self.fleet.content(&view, self.now)).clone()
    }

    pub(in crate::aggregator) fn host(&mut self, host: &str) -> Host {
        let host = host.to_owned();
        match self.content(Kind::Host { host }, "") {
            Content::Host(host) => host,
            content => panic!("not a host: {content:?}"),
        }
    }

    pub(in crate::aggregator) fn state(&mut self, host: &str) -> State {
        self.host(host).state
    }

    pub(in crate::aggregator) fn metrics(&mut self, host: &str) -> Vec<(String, f64)> {
        let metrics = self.host(host).metrics.into_iter();
        metrics.map(|metric| (metric.name, metric.value)).collect()
    }
}
