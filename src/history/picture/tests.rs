#![allow(clippy::unwrap_used)]
use super::*;
use crate::history::rig::{Rig, T0};

struct Wall {
    rig: Rig,
    pictures: Pictures,
}

impl Wall {
    fn shown(&mut self, at_s: i64, filter: &str) -> Shown {
        let question = Picture {
            metric: "cpu".into(),
            filter: Filter::parse(filter).ok(),
            at_ms: T0 + at_s * 1_000,
            now_ms: T0 + 90_000,
        };
        let answer = self
            .pictures
            .answer(&question, &self.rig.desk, &self.rig.dir);
        answer.unwrap()
    }

    /// NaN as -1.
    fn values(&mut self, at_s: i64) -> Vec<f64> {
        let values = self.shown(at_s, "").values.into_iter();
        values.map(|v| if v.is_nan() { -1.0 } else { v }).collect()
    }
}

/// Three hosts of now; `gone` has history, and no slot any more.
fn filled(name: &str) -> Wall {
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
    let pictures = Pictures::new(rig.catalog.clone());
    Wall { rig, pictures }
}

fn check(wall: &mut Wall) {
    assert_eq!(wall.values(10), [2.0, -1.0, -1.0]);
    assert_eq!(wall.values(20), [4.0, -1.0, -1.0]);
    // Heard each five seconds or so, it stands for some fifty.
    assert_eq!(wall.values(30), [4.0, -1.0, -1.0]);
    assert_eq!(wall.values(60)[1], 5.0);
    assert_eq!(wall.values(70)[1], 6.0);
    assert_eq!(wall.values(0), [-1.0; 3]);
}

#[test]
fn each_step_has_the_last_values_of_its_hosts_wherever_they_are() {
    let mut wall = filled("picture-places");
    check(&mut wall);
    wall.rig.write();
    wall.pictures.minutes.clear();
    check(&mut wall);
    // A later one of the same step in memory, and an earlier one.
    wall.rig.add("a", "cpu", 9_998, 8.0);
    wall.rig.add("a", "cpu", 10_001, 9.0);
    wall.pictures.minutes.clear();
    assert_eq!(wall.values(10), [2.0, -1.0, -1.0]);
    assert_eq!(wall.values(20), [9.0, -1.0, -1.0]);
}

#[test]
fn filters_are_those_of_now() {
    let mut wall = filled("picture-filter");
    let shown = wall.shown(60, "role=db");
    assert_eq!(shown.states, [State::None, State::Ok, State::None]);
    assert_eq!(shown.values[1], 5.0);
    let shown = wall.shown(10, "role=db");
    assert!(shown.values.iter().all(|value| value.is_nan()));
}

#[test]
fn a_minute_is_read_once_and_few_are_kept() {
    let mut wall = filled("picture-kept");
    check(&mut wall);
    assert_eq!(wall.pictures.minutes.len(), 3);
    // What comes now is not seen in what was read, but in steps that were not over then.
    wall.rig.add("c", "cpu", 5, 1.0);
    assert_eq!(wall.values(10), [2.0, -1.0, -1.0]);
    wall.rig.add("c", "cpu", 95_000, 1.0);
    assert_eq!(wall.values(100)[2], 1.0);
    for minute in 0..2 * PICTURE_MINUTES_MAX as i64 {
        wall.values(60 * minute + 10);
    }
    assert_eq!(wall.pictures.minutes.len(), PICTURE_MINUTES_MAX);
}

/// A slot that another host was given would have shown the history of the one before.
#[test]
fn values_follow_names_and_not_slots() {
    let mut wall = filled("picture-slots");
    assert_eq!(wall.values(10), [2.0, -1.0, -1.0]);
    let catalog = Arc::clone(&wall.rig.catalog);
    catalog.retire(0);
    assert_eq!(wall.values(10), [-1.0; 3]);
    catalog.free(0);
    wall.rig.lookup.begin();
    assert_eq!(wall.rig.lookup.host("gone"), 0);
    assert_eq!(wall.values(10), [9.0, -1.0, -1.0]);
}
