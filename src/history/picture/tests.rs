#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::catalog::lookup::Lookup;
use crate::history::journal::Position;
use crate::history::sqlite::Store;

/// 2026-11-26, and a minute of it.
const T0: i64 = 20_783 * 86_400_000;

struct Rig {
    dir: PathBuf,
    store: Store,
    desk: Desk,
    position: u64,
    lookup: Lookup,
    pictures: Pictures,
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
        let catalog = Catalog::with_bounds(4, 4);
        Rig {
            store: Store::open(&dir).unwrap(),
            dir,
            desk: Desk::default(),
            position: 0,
            lookup: Lookup::new(catalog.clone()),
            pictures: Pictures::new(catalog),
        }
    }

    fn add(&self, host: &str, metric: &str, after_ms: i64, value: f64) {
        let mut recent = self.desk.recent();
        let index = recent.index(&SeriesName::new(host, metric, "%"));
        let (minute, offset_ms) = minute_of(T0 + after_ms);
        recent.add(index, minute, offset_ms, value, false);
    }

    fn write(&mut self) {
        self.position += 100;
        let mut recent = self.desk.recent();
        recent.pass(i64::MAX, Position(self.position));
        self.store.write(&recent.next().unwrap()).unwrap();
        recent.stored();
        recent.set_position(Position(self.position));
    }

    fn shown(&mut self, at_s: i64, filter: &str) -> Shown {
        let question = Picture {
            metric: "cpu".into(),
            filter: Filter::parse(filter).ok(),
            at_ms: T0 + at_s * 1_000,
            now_ms: T0 + 90_000,
        };
        let answer = self.pictures.answer(&question, &self.desk, &self.dir);
        answer.unwrap()
    }

    /// NaN as -1.
    fn values(&mut self, at_s: i64) -> Vec<f64> {
        let values = self.shown(at_s, "").values.into_iter();
        values.map(|v| if v.is_nan() { -1.0 } else { v }).collect()
    }
}

/// Three hosts of now; `gone` has history, and no slot any more.
fn filled(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    for host in ["a", "b", "c"] {
        rig.lookup.host(host);
    }
    rig.lookup.tags(1, [("role", "db")].into_iter());
    for (host, after_ms, value) in [
        ("a", 0, 1.0),
        ("a", 9_999, 2.0),
        ("a", 3_000, 3.0),
        ("a", 10_000, 4.0),
        ("gone", 1, 9.0),
        ("b", 59_999, 5.0),
        ("b", 61_000, 6.0),
    ] {
        rig.add(host, "cpu", after_ms, value);
    }
    rig.add("c", "memory", 5, 7.0);
    rig
}

fn check(rig: &mut Rig) {
    assert_eq!(rig.values(10), [2.0, -1.0, -1.0]);
    assert_eq!(rig.values(20), [4.0, -1.0, -1.0]);
    assert_eq!(rig.values(30), [-1.0; 3]);
    assert_eq!(rig.values(60), [-1.0, 5.0, -1.0]);
    assert_eq!(rig.values(70), [-1.0, 6.0, -1.0]);
    assert_eq!(rig.values(0), [-1.0; 3]);
}

#[test]
fn each_step_has_the_last_values_of_its_hosts_wherever_they_are() {
    let mut rig = filled("picture-places");
    check(&mut rig);
    rig.write();
    rig.pictures.minutes.clear();
    check(&mut rig);
    // A later one of the same step in memory, and an earlier one.
    rig.add("a", "cpu", 9_998, 8.0);
    rig.add("a", "cpu", 10_001, 9.0);
    rig.pictures.minutes.clear();
    assert_eq!(rig.values(10), [2.0, -1.0, -1.0]);
    assert_eq!(rig.values(20), [9.0, -1.0, -1.0]);
}

#[test]
fn filters_are_those_of_now() {
    let mut rig = filled("picture-filter");
    let shown = rig.shown(60, "role=db");
    assert_eq!(shown.states, [State::None, State::Ok, State::None]);
    assert_eq!(shown.values[1], 5.0);
    let shown = rig.shown(10, "role=db");
    assert!(shown.values.iter().all(|value| value.is_nan()));
}

#[test]
fn a_minute_is_read_once_and_few_are_kept() {
    let mut rig = filled("picture-kept");
    check(&mut rig);
    assert_eq!(rig.pictures.minutes.len(), 3);
    // What comes now is not seen in what was read, but in steps that were not over then.
    rig.add("c", "cpu", 5, 1.0);
    assert_eq!(rig.values(10), [2.0, -1.0, -1.0]);
    rig.add("c", "cpu", 95_000, 1.0);
    assert_eq!(rig.values(100), [-1.0, -1.0, 1.0]);
    for minute in 0..2 * PICTURE_MINUTES_MAX as i64 {
        rig.values(60 * minute + 10);
    }
    assert_eq!(rig.pictures.minutes.len(), PICTURE_MINUTES_MAX);
}

/// A slot that another host was given would have shown the history of the one before.
#[test]
fn values_follow_names_and_not_slots() {
    let mut rig = filled("picture-slots");
    assert_eq!(rig.values(10), [2.0, -1.0, -1.0]);
    let catalog = Arc::clone(&rig.pictures.catalog);
    catalog.retire(0);
    assert_eq!(rig.values(10), [-1.0; 3]);
    catalog.free(0);
    rig.lookup.begin();
    assert_eq!(rig.lookup.host("gone"), 0);
    assert_eq!(rig.values(10), [9.0, -1.0, -1.0]);
}
