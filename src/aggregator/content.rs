//! What each kind of view shows of the live state.

use std::sync::Arc;

use super::columns::Columns;
use super::hosts::Hosts;
use super::matrix::Matrix;
use super::selection::Selections;
use super::silence::Silence;
use crate::cluster::roster::Roster;
use crate::frame::filter::Filter;
use crate::frame::view::{Expr, Kind};
use crate::frame::{Content, Host, HostMetric, Line, Map, MetricStats, Names, State, Stats, Top};
use crate::limits::{DEFAULT_METRICS, DEFAULT_TOP_ROWS, LINES_MAX, TOP_ROWS_MAX};
use crate::sample::{Column, Slot};
use crate::stats::{Key, Summary, TopRows, evaluate, key, scale};

/// The whole live state, and what was derived from it.
pub struct Live {
    pub hosts: Hosts,
    pub columns: Columns,
    pub matrix: Matrix,
    pub silence: Silence,
    pub selections: Selections,
    /// Names of peers; None: this node is alone.
    pub roster: Option<Arc<Roster>>,
    /// Values under evaluation, one bag a group; kept for their allocations.
    bags: Vec<Vec<Key>>,
}

impl Live {
    pub fn new(series_max: usize) -> Self {
        Self {
            hosts: Hosts::default(),
            columns: Columns::default(),
            matrix: Matrix::new(series_max),
            silence: Silence::default(),
            selections: Selections::default(),
            roster: None,
            bags: Vec::new(),
        }
    }

    pub fn content(&mut self, kind: &Kind, filter: Option<&Filter>, now_ms: u64) -> Content {
        match kind {
            Kind::Map { metric } => Content::Map(self.map(metric, filter)),
            Kind::Lines { exprs, by } => Content::Lines(self.lines(exprs, by.as_deref(), filter)),
            Kind::Top { metric, n } => Content::Top(self.top(metric, *n, filter)),
            Kind::Host { host } => Content::Host(self.host(host, now_ms)),
            Kind::Stats => Content::Stats(self.stats()),
        }
    }

    /// Down hosts keep their last value: their state says that it is old.
    fn map(&mut self, metric: &str, filter: Option<&Filter>) -> Map {
        let slots = self.hosts.rows().len();
        let mut values = vec![f64::NAN; slots];
        let mut states = self.silence.states().to_vec();
        states.resize(slots, State::None);
        let (name, unit, column) = self.column(metric);
        if let Some(column) = column {
            self.matrix.each(column, |slot, value| {
                if let Some(cell) = values.get_mut(slot as usize) {
                    *cell = value;
                }
            });
        }
        if let Some(filter) = filter {
            let chosen = self.selections.chosen(filter, &self.hosts);
            for (slot, _) in chosen.iter().enumerate().filter(|(_, chosen)| !**chosen) {
                values[slot] = f64::NAN;
                states[slot] = State::None;
            }
        }
        let range = column.and_then(|column| self.matrix.range(column));
        let (lo, hi) = scale(&unit, range);
        Map {
            metric: name,
            unit,
            lo,
            hi,
            values,
            states,
        }
    }

    /// Expressions in the order asked for, each with its groups, biggest first. A value of no hosts
    /// is a gap, a count of none is 0.
    fn lines(&mut self, exprs: &[Expr], by: Option<&str>, filter: Option<&Filter>) -> Vec<Line> {
        let groups_max = LINES_MAX / exprs.len().max(1);
        let groups: Option<Vec<String>> = by.map(|by| {
            let grouping = self.selections.grouping(by, filter, &self.hosts);
            grouping.names.iter().take(groups_max).cloned().collect()
        });
        let bags = groups.as_ref().map_or(1, Vec::len);
        let mut values = vec![0.0; exprs.len() * bags];
        // Expressions of one metric share one pass over its column.
        for (first, expr) in exprs.iter().enumerate() {
            if exprs[..first]
                .iter()
                .any(|other| other.metric == expr.metric)
            {
                continue;
            }
            self.gather(&expr.metric, by, filter, bags);
            for (at, other) in exprs.iter().enumerate().skip(first) {
                if other.metric == expr.metric {
                    for (group, keys) in self.bags[..bags].iter_mut().enumerate() {
                        values[at * bags + group] = evaluate(other.func, keys);
                    }
                }
            }
        }
        let line = |(at, value): (usize, f64)| Line {
            expr: exprs[at / bags].to_string(),
            group: groups.as_ref().map(|names| names[at % bags].clone()),
            value,
        };
        values.into_iter().enumerate().map(line).collect()
    }

    /// Fills the first bags with the metric's values of hosts that are not down.
    fn gather(&mut self, metric: &str, by: Option<&str>, filter: Option<&Filter>, bags: usize) {
        let column = self.columns.find(metric);
        if self.bags.len() < bags {
            self.bags.resize_with(bags, Vec::new);
        }
        let into = &mut self.bags[..bags];
        into.iter_mut().for_each(Vec::clear);
        let Some(column) = column else {
            return;
        };
        let states = self.silence.states();
        if let Some(by) = by {
            let of = &self.selections.grouping(by, filter, &self.hosts).of;
            self.matrix.each(column, |slot, value| {
                let group = of.get(slot as usize).copied().map(usize::from);
                if let Some(keys) = group.and_then(|group| into.get_mut(group))
                    && is_shown(states, slot)
                {
                    keys.push(key(value));
                }
            });
            return;
        }
        let chosen = filter.map(|filter| self.selections.chosen(filter, &self.hosts));
        self.matrix.each(column, |slot, value| {
            if is_shown(states, slot) && is_chosen(chosen, slot) {
                into[0].push(key(value));
            }
        });
    }

    fn top(&mut self, metric: &str, n: usize, filter: Option<&Filter>) -> Top {
        let mut rows = TopRows::new(n.min(TOP_ROWS_MAX));
        let (name, unit, column) = self.column(metric);
        if let Some(column) = column {
            let states = self.silence.states();
            let chosen = filter.map(|filter| self.selections.chosen(filter, &self.hosts));
            self.matrix.each(column, |slot, value| {
                if is_shown(states, slot) && is_chosen(chosen, slot) {
                    rows.offer(slot, key(value));
                }
            });
        }
        Top {
            metric: name,
            unit,
            rows: rows.finish(),
        }
    }

    fn host(&self, name: &str, now_ms: u64) -> Host {
        let Some(slot) = self.hosts.find(name) else {
            return Host {
                name: name.to_owned(),
                ..Host::default()
            };
        };
        let (age_ms, interval_ms) = self.silence.age_and_interval_ms(slot, now_ms);
        let metrics = self.columns.sorted().iter().filter_map(|&column| {
            let (value, stamp) = self.matrix.value(slot, column)?;
            Some(HostMetric {
                name: self.columns.name(column).to_string(),
                unit: self.columns.unit(column).to_string(),
                value,
                age_ms: u64::from((now_ms as u32).wrapping_sub(stamp)),
            })
        });
        let node = self.node_of(slot);
        let is_cut_off = self.silence.is_unreachable(self.silence.owner(slot));
        let cause = node.as_ref().filter(|_| is_cut_off);
        Host {
            name: name.to_owned(),
            slot: Some(slot),
            cause: cause.map(|node| format!("node {node} unreachable")),
            node,
            state: self.silence.state(slot),
            age_ms,
            interval_ms,
            tags: self
                .hosts
                .row(slot)
                .map_or_else(Vec::new, |host| host.tags.to_vec()),
            metrics: metrics.collect(),
        }
    }

    fn node_of(&self, slot: Slot) -> Option<String> {
        let name = self.roster.as_ref()?.name(self.silence.owner(slot))?;
        Some(name.to_string())
    }

    fn stats(&mut self) -> Stats {
        let counts = self.silence.counts();
        let metrics = self.commonest_columns();
        let metrics = metrics
            .into_iter()
            .filter_map(|column| self.metric_stats(column));
        Stats {
            ok: counts.ok,
            stale: counts.stale,
            down: counts.down,
            metrics: metrics.collect(),
        }
    }

    /// Ties by name, so that the picture does not change with who came first.
    fn commonest_columns(&self) -> Vec<Column> {
        let columns = self.columns.sorted().iter().copied();
        let mut columns: Vec<Column> = columns.filter(|&c| self.matrix.hosts(c) > 0).collect();
        columns.sort_by_key(|&column| std::cmp::Reverse(self.matrix.hosts(column)));
        columns.truncate(DEFAULT_METRICS);
        columns
    }

    /// None when all hosts that have the metric are down.
    fn metric_stats(&mut self, column: Column) -> Option<MetricStats> {
        if self.bags.is_empty() {
            self.bags.push(Vec::new());
        }
        let keys = &mut self.bags[0];
        keys.clear();
        let mut top = TopRows::new(DEFAULT_TOP_ROWS);
        let states = self.silence.states();
        self.matrix.each(column, |slot, value| {
            if is_shown(states, slot) {
                let key = key(value);
                keys.push(key);
                top.offer(slot, key);
            }
        });
        let summary = Summary::of(keys)?;
        let top = top.finish().into_iter();
        Some(MetricStats {
            name: self.columns.name(column).to_string(),
            unit: self.columns.unit(column).to_string(),
            hosts: keys.len() as u32,
            min: summary.min,
            avg: summary.avg,
            p50: summary.p50,
            p95: summary.p95,
            p99: summary.p99,
            max: summary.max,
            top: top
                .map(|(slot, value)| (self.hosts.host(slot).to_owned(), value))
                .collect(),
        })
    }

    /// The column's own spelling and unit; a metric not seen yet goes by the name asked for.
    fn column(&self, metric: &str) -> (String, String, Option<Column>) {
        let column = self.columns.find(metric);
        column.map_or_else(
            || (metric.to_owned(), String::new(), None),
            |at| {
                let (name, unit) = (self.columns.name(at), self.columns.unit(at));
                (name.to_string(), unit.to_string(), column)
            },
        )
    }
}

#[inline]
fn is_shown(states: &[State], slot: Slot) -> bool {
    let state = states.get(slot as usize);
    state.is_some_and(|state| !matches!(state, State::None | State::Down))
}

#[inline]
fn is_chosen(chosen: Option<&[bool]>, slot: Slot) -> bool {
    chosen.is_none_or(|chosen| chosen.get(slot as usize) == Some(&true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::rig::Rig;
    use crate::frame::view::Func;

    fn map(rig: &mut Rig, metric: &str, filter: &str) -> Map {
        let metric = metric.to_owned();
        match rig.content(Kind::Map { metric }, filter) {
            Content::Map(map) => map,
            content => panic!("not a map: {content:?}"),
        }
    }

    fn top(rig: &mut Rig, n: usize, filter: &str) -> Vec<(Slot, f64)> {
        let metric = "cpu".to_owned();
        match rig.content(Kind::Top { metric, n }, filter) {
            Content::Top(top) => top.rows,
            content => panic!("not a top: {content:?}"),
        }
    }

    fn stats(rig: &mut Rig) -> Stats {
        match rig.content(Kind::Stats, "") {
            Content::Stats(stats) => stats,
            content => panic!("not stats: {content:?}"),
        }
    }

    /// As `expr group value`, one a line.
    fn lines(rig: &mut Rig, exprs: &[(Func, &str)], by: Option<&str>, filter: &str) -> String {
        let exprs = exprs.iter().map(|&(func, metric)| Expr {
            func,
            metric: metric.to_owned(),
        });
        let kind = Kind::Lines {
            exprs: exprs.collect(),
            by: by.map(str::to_owned),
        };
        let Content::Lines(lines) = rig.content(kind, filter) else {
            panic!("not lines");
        };
        let line = |line: &Line| {
            let group = line.group.as_deref().unwrap_or("-");
            format!("{} {group} {}", line.expr, line.value)
        };
        lines.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// Four hosts, the last of them down.
    fn small_fleet() -> Rig {
        let mut rig = Rig::new();
        let hosts = [
            ("a", "fra", 50.0),
            ("b", "ber", 90.0),
            ("c", "fra", 70.0),
            ("d", "fra", 99.0),
        ];
        for (host, dc, value) in hosts {
            rig.tag(host, &[("dc", dc)]);
            rig.send(host, &[("cpu", value)]);
        }
        rig.wait(100_001);
        for (host, _, value) in &hosts[..3] {
            rig.send(host, &[("cpu", *value)]);
        }
        rig
    }

    #[test]
    fn a_map_is_one_column_over_all_slots() {
        use State::{Down, None, Ok};
        let mut rig = small_fleet();
        let all = map(&mut rig, "cpu", "");
        assert_eq!(all.values, [50.0, 90.0, 70.0, 99.0]);
        assert_eq!(all.states, [Ok, Ok, Ok, Down]);
        assert_eq!((all.lo, all.hi), (0.0, 100.0));
        let some = map(&mut rig, "cpu", "dc=fra");
        assert!(some.values[1].is_nan());
        assert_eq!(some.states, [Ok, None, Ok, Down]);
        let unknown = map(&mut rig, "disk", "");
        assert!(unknown.values.iter().all(|value| value.is_nan()));
        assert_eq!(unknown.states, all.states);
        rig.send("b", &[("cpu", 130.0)]);
        rig.send("b", &[("cpu", 10.0)]);
        let all = map(&mut rig, "cpu", "");
        assert_eq!((all.values[1], all.lo, all.hi), (10.0, 0.0, 200.0));
    }

    #[test]
    fn lines_are_statistics_by_group() {
        let mut rig = small_fleet();
        let max_and_count = [(Func::Max, "cpu"), (Func::Count, "cpu")];
        let mut check = |exprs: &[(Func, &str)], by: Option<&str>, filter: &str, expected: &str| {
            assert_eq!(lines(&mut rig, exprs, by, filter), expected);
        };
        check(&max_and_count, None, "", "max(cpu) - 90; count(cpu) - 3");
        check(
            &max_and_count,
            None,
            "dc=fra",
            "max(cpu) - 70; count(cpu) - 2",
        );
        check(
            &max_and_count,
            Some("dc"),
            "",
            "max(cpu) fra 70; max(cpu) ber 90; count(cpu) fra 2; count(cpu) ber 1",
        );
        check(
            &max_and_count,
            Some("dc"),
            "dc=ber",
            "max(cpu) ber 90; count(cpu) ber 1",
        );
        check(&max_and_count, Some("rack"), "", "");
        check(
            &[
                (Func::P50, "cpu"),
                (Func::Sum, "disk"),
                (Func::Count, "disk"),
                (Func::Min, "cpu"),
            ],
            None,
            "",
            "p50(cpu) - 70; sum(disk) - NaN; count(disk) - 0; min(cpu) - 50",
        );
    }

    #[test]
    fn lines_are_bounded_biggest_groups_first() {
        let mut rig = Rig::new();
        for i in 0..150 {
            let (host, group) = (format!("h{i}"), format!("g{}", i.max(10)));
            rig.tag(&host, &[("g", &group)]);
            rig.send(&host, &[("cpu", 1.0)]);
        }
        let text = lines(&mut rig, &[(Func::Count, "cpu"); 3], Some("g"), "");
        assert_eq!(text.split("; ").count(), 99);
        assert!(text.starts_with("count(cpu) g10 11; count(cpu) g100 1; "));
    }

    #[test]
    fn top_rows_are_of_hosts_that_are_not_down() {
        let mut rig = small_fleet();
        assert_eq!(top(&mut rig, 2, ""), [(1, 90.0), (2, 70.0)]);
        assert_eq!(top(&mut rig, 9, "dc=fra"), [(2, 70.0), (0, 50.0)]);
        assert_eq!(top(&mut rig, 9, "dc=rome"), []);
        rig.send("d", &[("cpu", 90.0)]);
        assert_eq!(top(&mut rig, 2, ""), [(1, 90.0), (3, 90.0)]);
    }

    #[test]
    fn a_host_shows_its_metrics_by_name_and_age() {
        let mut rig = Rig::new();
        rig.tag("a", &[("dc", "fra")]);
        rig.send("a", &[("memory", 2.0), ("cpu", 1.0)]);
        rig.wait(2_000);
        rig.send("a", &[("cpu", 3.0)]);
        rig.wait(300);
        let host = rig.host("a");
        assert_eq!((host.slot, host.state), (Some(0), State::Ok));
        assert_eq!((host.age_ms, host.interval_ms), (300, 2_000));
        assert_eq!(host.tags, [("dc".to_owned(), "fra".to_owned())]);
        let metrics = host.metrics.iter().map(|m| (&*m.name, m.value, m.age_ms));
        assert_eq!(
            metrics.collect::<Vec<_>>(),
            [("cpu", 3.0, 300), ("memory", 2.0, 2_300)]
        );
        let unknown = rig.host("z");
        assert_eq!(
            (unknown.name, unknown.slot, unknown.metrics.len()),
            ("z".into(), None, 0)
        );
    }

    #[test]
    fn stats_hold_the_commonest_metrics_of_hosts_that_are_not_down() {
        let mut rig = small_fleet();
        rig.send("a", &[("z", 1.0), ("y", 1.0)]);
        rig.send("b", &[("z", 3.0)]);
        let stats = stats(&mut rig);
        assert_eq!((stats.ok, stats.stale, stats.down), (3, 0, 1));
        let metrics = stats.metrics.iter().map(|m| (&*m.name, m.hosts));
        assert_eq!(
            metrics.collect::<Vec<_>>(),
            [("cpu", 3), ("z", 2), ("y", 1)]
        );
        let cpu = &stats.metrics[0];
        assert_eq!([cpu.min, cpu.avg, cpu.max], [50.0, 70.0, 90.0]);
        assert_eq!([cpu.p50, cpu.p95, cpu.p99], [70.0, 90.0, 90.0]);
        let top = [("b", 90.0), ("c", 70.0), ("a", 50.0)].map(Rig::owned);
        assert_eq!(cpu.top, top);
    }

    #[test]
    fn stats_are_bounded() {
        let mut rig = Rig::new();
        for i in 0..40 {
            rig.send("a", &[(&format!("m{i:02}"), 1.0)]);
        }
        for host in ["b", "c", "d", "e", "f", "g"] {
            rig.send(host, &[("m39", 1.0)]);
        }
        let stats = stats(&mut rig);
        assert_eq!(stats.metrics.len(), DEFAULT_METRICS);
        assert_eq!(
            (&*stats.metrics[0].name, stats.metrics[0].hosts),
            ("m39", 7)
        );
        assert_eq!(stats.metrics[0].top.len(), DEFAULT_TOP_ROWS);
        assert_eq!(stats.metrics[1].name, "m00");
        rig.wait(1_000_000);
        rig.send("b", &[("other", 1.0)]);
        let stats = self::stats(&mut rig);
        assert_eq!(stats.down, 6);
        let names: Vec<&str> = stats.metrics.iter().map(|m| &*m.name).collect();
        assert_eq!(
            names,
            ["m39"],
            "a metric of hosts that are all down is not shown"
        );
    }
}
