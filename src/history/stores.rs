//! Tests of all that is on disk together: days, hours, and reading from both.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use super::block::MINUTE_MS;
use super::hours::Hours;
use super::journal::Position;
use super::question::Stat;
use super::recent::Recent;
use super::shelf::Shelf;
use super::sqlite::{MINUTES_A_DAY, Store, Written};
use super::steps::{FleetStep, Grid, Range, Step};
use super::{SeriesName, metric_key, minute_of, series_key};
use crate::frame::view::Func;

const DAY_MS: i64 = MINUTES_A_DAY * MINUTE_MS;
/// 2026-11-26.
const TODAY: i64 = 20_783 * DAY_MS;

struct Rig {
    dir: PathBuf,
    store: Store,
    recent: Recent,
    position: u64,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Rig {
    fn new(name: &str) -> Rig {
        let dir = std::env::temp_dir().join(format!("tidewall-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Rig {
            store: Store::open(&dir).unwrap(),
            recent: Recent::default(),
            position: 0,
            dir,
        }
    }

    fn add(&mut self, host: &str, time_ms: i64, value: f64) {
        let index = self.recent.index(&SeriesName::new(host, "cpu", "%"));
        let (minute, offset_ms) = minute_of(time_ms);
        self.recent.add(index, minute, offset_ms, value, false);
    }

    /// Stores all that was added.
    fn write(&mut self) -> Written {
        self.position += 100;
        self.recent.pass(i64::MAX, Position(self.position));
        let written = self.store.write(&self.recent.next().unwrap()).unwrap();
        self.recent.stored();
        written
    }

    fn shelf(&self, range: Range) -> Shelf {
        Shelf::open(&self.dir, range).unwrap()
    }

    fn points(&self, from_ms: i64, to_ms: i64) -> Vec<(i64, f64)> {
        let range = Range { from_ms, to_ms };
        let mut points = Vec::new();
        let shelf = self.shelf(range);
        shelf
            .each_point(series_key("a", "cpu"), range, |at, value| {
                points.push((at, value));
            })
            .unwrap();
        points
    }

    fn steps(&self, from_ms: i64, step_ms: i64, count: usize) -> Vec<Step> {
        let to_ms = from_ms + step_ms * count as i64;
        let range = Range { from_ms, to_ms };
        let grid = grid(range, step_ms);
        let mut steps = vec![Step::default(); count];
        let key = series_key("a", "cpu");
        self.shelf(range).sum_up(key, grid, &mut steps).unwrap();
        steps
    }

    fn fleet(&self, from_ms: i64, step_ms: i64, count: usize) -> Vec<FleetStep> {
        let to_ms = from_ms + step_ms * count as i64;
        let range = Range { from_ms, to_ms };
        let grid = grid(range, step_ms);
        let mut steps = vec![FleetStep::default(); count];
        let shelf = self.shelf(range);
        shelf
            .sum_up_fleet(metric_key("cpu"), grid, &HashMap::new(), &mut steps)
            .unwrap();
        steps
    }
}

fn grid(range: Range, step_ms: i64) -> Grid {
    Grid {
        range,
        first_ms: range.from_ms,
        step_ms,
    }
}

fn stats(step: &Step) -> [f64; 5] {
    let of = |func| step.value(Stat::Of(func));
    let sums = [Func::Count, Func::Sum, Func::Min, Func::Max].map(of);
    [sums[0], sums[1], sums[2], sums[3], step.value(Stat::Last)]
}

#[test]
fn what_comes_late_joins_its_row() {
    let mut rig = Rig::new("stores-late");
    for second in 0..60 {
        rig.add("a", TODAY + second * 1_000, second as f64);
    }
    let written = rig.write();
    assert_eq!((written.rows, written.samples, written.late), (1, 60, 0));
    rig.add("a", TODAY + 500, 1_000.0);
    rig.add("a", TODAY + 500, -5.0);
    rig.add("b", TODAY + 500, 7.0);
    let written = rig.write();
    assert_eq!((written.rows, written.samples, written.late), (2, 3, 3));
    let points = rig.points(TODAY, TODAY + MINUTE_MS);
    assert_eq!(points.len(), 62);
    assert_eq!(
        points[..4],
        [
            (TODAY, 0.0),
            (TODAY + 500, 1_000.0),
            (TODAY + 500, -5.0),
            (TODAY + 1_000, 1.0)
        ]
    );
    let step = rig.steps(TODAY, MINUTE_MS, 1);
    assert_eq!(
        stats(&step[0]),
        [62.0, 1_770.0 + 995.0, -5.0, 1_000.0, 59.0]
    );
    let fleet = &rig.fleet(TODAY, 10_000, 6);
    let counts: Vec<f64> = fleet.iter().map(|step| step.value(Func::Count)).collect();
    assert_eq!(
        counts,
        [2.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        "`a` was counted before"
    );
    assert_eq!(fleet[0].value(Func::Max), 9.0);
}

/// The same write again, as after a crash between the store and the journal.
#[test]
fn nothing_is_written_twice() {
    let mut rig = Rig::new("stores-twice");
    for day in 0..2 {
        rig.add("a", TODAY + day * DAY_MS, 1.0);
    }
    rig.recent.pass(i64::MAX, Position(100));
    let passed = rig.recent.next().unwrap();
    assert_eq!(rig.store.write(&passed).unwrap().rows, 2);
    let minute = minute_of(TODAY).0;
    assert_eq!(rig.store.write(&passed).unwrap(), Written::default());
    rig.store = Store::open(&rig.dir).unwrap();
    assert_eq!(rig.store.write(&passed).unwrap(), Written::default());
    assert_eq!(rig.store.position(), Position(100));
    assert!(rig.store.has(Position(99), minute));
    assert!(
        !rig.store.has(Position(100), minute),
        "not before the place"
    );
    assert!(
        !rig.store.has(Position(99), minute + MINUTES_A_DAY + 1),
        "a minute after"
    );
    assert!(
        !rig.store.has(Position(99), minute - MINUTES_A_DAY),
        "a day that is not there"
    );
}

/// The second write of a node that heard nothing after the first was taken for the first.
#[test]
fn two_writes_from_one_place_are_two() {
    let mut rig = Rig::new("stores-place");
    for minute in 0..2 {
        rig.add("a", TODAY + minute * MINUTE_MS, 1.0);
    }
    for minute in 0..2 {
        rig.recent.pass(minute_of(TODAY).0 + minute, Position(100));
        let written = rig.store.write(&rig.recent.next().unwrap()).unwrap();
        assert_eq!((written.rows, written.late), (1, 0));
        let again = rig.store.write(&rig.recent.next().unwrap()).unwrap();
        assert_eq!(again, Written::default());
        rig.recent.stored();
    }
    assert_eq!(rig.points(TODAY, TODAY + 2 * MINUTE_MS).len(), 2);
}

#[test]
fn points_go_and_sums_stay() {
    let mut rig = Rig::new("stores-strip");
    for second in 0..120 {
        rig.add("a", TODAY + second * 1_000, second as f64);
    }
    rig.write();
    let before: Vec<_> = rig.steps(TODAY, MINUTE_MS, 2).iter().map(stats).collect();
    let day = TODAY / DAY_MS;
    rig.store.strip(day).unwrap();
    assert!(rig.store.is_stripped(day));
    let after: Vec<_> = rig.steps(TODAY, MINUTE_MS, 2).iter().map(stats).collect();
    assert_eq!(before, after);
    let points = rig.points(TODAY, TODAY + 2 * MINUTE_MS);
    assert_eq!(
        points,
        [(TODAY, 29.5), (TODAY + MINUTE_MS, 89.5)],
        "averages"
    );
    assert_eq!(rig.fleet(TODAY, MINUTE_MS, 2)[1].value(Func::Max), 119.0);
    rig.add("a", TODAY + 5, 1_000.0);
    assert_eq!(rig.write().late, 1);
    let late = stats(&rig.steps(TODAY, MINUTE_MS, 1)[0]);
    assert_eq!((late[0], late[3]), (61.0, 1_000.0));
    rig.store = Store::open(&rig.dir).unwrap();
    assert!(rig.store.is_stripped(day));
}

#[test]
fn hours_remain_when_their_day_is_gone() {
    let mut rig = Rig::new("stores-hours");
    for minute in 0..180 {
        for (host, value) in [("a", minute as f64), ("b", 500.0)] {
            rig.add(host, TODAY + minute * MINUTE_MS, value);
        }
    }
    rig.write();
    let (day, now) = (TODAY / DAY_MS, minute_of(TODAY).0 + 180);
    let mut hours = Hours::new(&rig.dir);
    for _ in 0..5 {
        hours.make_one(&rig.store, now).unwrap();
    }
    assert!(
        !hours.has_day(&rig.store, day).unwrap(),
        "the third hour still rests"
    );
    // Late, for an hour that was made: made again, but not at once.
    rig.add("a", TODAY + 1, 10_000.0);
    rig.write();
    for at in [now, now + 20, now + 80] {
        hours.make_one(&rig.store, at).unwrap();
    }
    assert!(hours.has_day(&rig.store, day).unwrap());
    let before: Vec<_> = rig.steps(TODAY, 3_600_000, 3).iter().map(stats).collect();
    assert_eq!(before[0], [61.0, 1_770.0 + 10_000.0, 0.0, 10_000.0, 59.0]);
    rig.store.remove(day).unwrap();
    let after: Vec<_> = rig.steps(TODAY, 3_600_000, 3).iter().map(stats).collect();
    assert_eq!(before, after);
    let fleet = rig.fleet(TODAY, 3_600_000, 3);
    assert!(fleet.iter().all(|step| step.value(Func::Max) >= 500.0));
    let hosts: Vec<f64> = fleet.iter().map(|step| step.value(Func::Count)).collect();
    assert_eq!(hosts, [2.0, 2.0, 2.0]);
    assert!(
        rig.shelf(Range {
            from_ms: TODAY,
            to_ms: TODAY + 1
        })
        .knows(0, Some(series_key("a", "cpu")))
        .unwrap()
    );
    hours.expire(day).unwrap();
    assert_eq!(
        rig.steps(TODAY, 3_600_000, 1)[0].value(Stat::Last),
        59.0,
        "its month is not over"
    );
    hours.expire(day + 31).unwrap();
    assert!(rig.steps(TODAY, 3_600_000, 1)[0].value(Stat::Last).is_nan());
}

/// A host that sends each minute, and a node that is started again in between.
#[test]
fn what_stands_goes_through_a_restart_and_midnight() {
    let mut rig = Rig::new("stores-held");
    for minute in -5..5 {
        let begin_ms = TODAY + minute * MINUTE_MS;
        for second in 0..60 {
            rig.add("a", begin_ms + second * 1_000, 1.0);
        }
        rig.add("slow", begin_ms + 7_000, 5.0);
        rig.write();
        rig.store = Store::open(&rig.dir).unwrap();
        let (position, recent) = (rig.position, Recent::default());
        (rig.recent, rig.position) = (recent, position);
    }
    let fleet = rig.fleet(TODAY - 5 * MINUTE_MS, 10_000, 60);
    for (at, step) in fleet.iter().enumerate() {
        let told = [Func::Count, Func::Sum, Func::Max].map(|func| step.value(func));
        assert_eq!(told, [2.0, 6.0, 5.0], "{at}");
    }
    let range = Range {
        from_ms: TODAY,
        to_ms: TODAY + 5 * MINUTE_MS,
    };
    let shelf = rig.shelf(range);
    let held = shelf.held(metric_key("cpu")).unwrap();
    assert_eq!(
        held.len(),
        1,
        "who is heard at once again is not written down"
    );
    assert_eq!(held[&series_key("slow", "cpu")].value, 5.0);
    let unfolded = (minute_of(TODAY).0 + 5) * 6;
    assert_eq!(shelf.first_unfolded(), Some(unfolded));
}

/// A point that moved from memory into the store while a question was read.
#[test]
fn a_point_is_seen_once_wherever_it_is() {
    let mut rig = Rig::new("stores-once");
    rig.add("a", TODAY, 1.0);
    rig.recent.set_position(Position(50));
    let range = Range {
        from_ms: TODAY,
        to_ms: TODAY + MINUTE_MS,
    };
    let mut found = Vec::new();
    let (metric, key) = (metric_key("cpu"), Some(series_key("a", "cpu")));
    let read = |recent: &Recent, found: &mut Vec<_>| {
        recent.each_point(metric, key, (range.from_ms, range.to_ms), |_, point| {
            found.push(point);
        });
    };
    // Open, then waiting; in both cases the store has it by the time it is looked at.
    read(&rig.recent, &mut found);
    rig.recent.pass(i64::MAX, Position(60));
    read(&rig.recent, &mut found);
    assert!(
        found
            .iter()
            .all(|point| !rig.shelf(range).has(point.time_ms, point.after))
    );
    rig.store.write(&rig.recent.next().unwrap()).unwrap();
    assert!(
        found
            .iter()
            .all(|point| rig.shelf(range).has(point.time_ms, point.after))
    );
    rig.recent.stored();
    // One that came after that, for the same minute, is not in the store.
    rig.recent.set_position(Position(70));
    rig.add("a", TODAY + 1, 2.0);
    found.clear();
    read(&rig.recent, &mut found);
    assert!(!rig.shelf(range).has(found[0].time_ms, found[0].after));
}
