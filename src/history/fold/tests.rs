#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use super::*;

/// Seconds since the epoch, series and value.
type Point3 = (i64, i64, f64);

/// A step of one metric as a store has it after all changes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stored {
    hosts: u64,
    sum: f64,
    spread: Sketch,
}

/// A store of what folds say of metric 1.
#[derive(Default)]
struct Rig {
    fold: Fold,
    away: Away,
    steps: BTreeMap<i64, Stored>,
}

impl Rig {
    /// One write: minutes in order, each with all its points.
    fn write(&mut self, points: &[Point3]) {
        let minutes: Vec<i64> = points.iter().map(|p| p.0.div_euclid(60)).collect();
        let last = minutes.iter().max().copied().unwrap();
        let first = minutes.iter().min().copied().unwrap();
        let before = self.fold.before(last).start.min(first);
        for minute in before..=last {
            let mut folding = self.fold.minute(minute, self.away);
            let mut series: BTreeMap<i64, Vec<Point>> = BTreeMap::new();
            for &(at_s, of, value) in points.iter().filter(|p| p.0.div_euclid(60) == minute) {
                let offset_ms = (at_s.rem_euclid(60) * 1_000) as u16;
                series
                    .entry(of)
                    .or_default()
                    .push(Point { offset_ms, value });
            }
            if series.is_empty() && folding.is_late {
                continue;
            }
            for (of, points) in series {
                folding.add(1, of, &points);
            }
            for Change { row, gone } in folding.finish() {
                let step = self.steps.entry(row.step).or_default();
                step.hosts = step.hosts + row.hosts - gone.len() as u64;
                step.sum = step.sum + row.sum - gone.iter().sum::<f64>();
                step.spread.merge(&Sketch::decode(&row.spread).unwrap());
                gone.iter().for_each(|&gone| step.spread.remove(gone));
            }
        }
    }

    /// As after a kill: what is not slow is not known.
    fn restart(&mut self) {
        let mut fold = self.fold.until.map_or_else(Fold::default, Fold::after);
        for (metric, bytes) in self.fold.slow() {
            fold.take_back(metric, &bytes);
        }
        self.fold = fold;
    }

    fn hosts(&self, steps: std::ops::Range<i64>) -> Vec<u64> {
        let hosts = steps.map(|step| self.steps.get(&step).map_or(0, |step| step.hosts));
        hosts.collect()
    }
}

/// A point each so many seconds; its value is the series' number.
fn each(series: i64, every_s: i64, seconds: std::ops::Range<i64>) -> Vec<Point3> {
    let seconds = seconds.filter(|at_s| (at_s - series).rem_euclid(every_s) == 0);
    seconds.map(|at_s| (at_s, series, series as f64)).collect()
}

fn minute_by_minute(rig: &mut Rig, points: &[Point3], restarts: bool) {
    let last = points.iter().map(|p| p.0.div_euclid(60)).max().unwrap();
    for minute in 0..=last {
        let of_minute = |p: &&Point3| p.0.div_euclid(60) == minute;
        let points: Vec<Point3> = points.iter().filter(of_minute).copied().collect();
        if !points.is_empty() {
            rig.write(&points);
        }
        if restarts {
            rig.restart();
        }
    }
}

/// Hosts that send each half minute or minute were missing from two of three steps, or five of six.
#[test]
fn seldom_ones_count_in_every_step_until_their_rhythm_says_that_they_are_gone() {
    let mut told: Vec<Vec<u64>> = Vec::new();
    for restarts in [false, true] {
        let mut rig = Rig::default();
        let mut points = each(1, 1, 0..1_800);
        points.extend(each(2, 1, 0..600));
        points.extend(each(3, 30, 0..600));
        points.extend(each(4, 60, 0..600));
        points.extend(each(5, 300, 0..600));
        minute_by_minute(&mut rig, &points, restarts);
        let hosts = rig.hosts(0..180);
        // Of one of 300 s it is not known how seldom it is before its second point.
        assert!(hosts[..10].iter().all(|&hosts| hosts == 5), "{hosts:?}");
        assert!(hosts[10..30].iter().all(|&hosts| hosts == 4), "{hosts:?}");
        assert!(hosts[30..60].iter().all(|&hosts| hosts == 5), "{hosts:?}");
        // Their last points, and ten intervals: 599, 573 + 300, 544 + 600 and 305 + 3,000 s.
        assert!(hosts[60..87].iter().all(|&hosts| hosts == 4), "{hosts:?}");
        assert!(hosts[87..114].iter().all(|&hosts| hosts == 3), "{hosts:?}");
        assert!(hosts[114..].iter().all(|&hosts| hosts == 2), "{hosts:?}");
        assert_eq!((rig.steps[&50].sum, rig.steps[&179].sum), (15.0, 6.0));
        told.push(hosts);
    }
    assert_eq!(told[0], told[1], "a restart neither loses nor invents");
}

#[test]
fn minutes_in_which_nobody_speaks_are_told_with_the_next_one() {
    let mut rig = Rig::default();
    minute_by_minute(&mut rig, &each(7, 180, 0..1_000), false);
    let hosts = rig.hosts(1..96);
    let counted = hosts.iter().filter(|&&hosts| hosts == 1).count();
    // But for the time before its second point, when it was thought to send each ten seconds.
    assert_eq!((counted, &hosts[..9]), (hosts.len() - 8, &[1; 9][..]));
    let late = 1_000 + 60 * (FOLD_MINUTES_MAX + 100);
    rig.write(&each(7, 180, late..late + 200));
    let before = rig.fold.before(1_000_000);
    assert_eq!(before.end - before.start, FOLD_MINUTES_MAX);
}

#[test]
fn nothing_stands_while_the_node_is_away() {
    let mut rig = Rig::default();
    minute_by_minute(&mut rig, &each(4, 60, 0..300), false);
    rig.restart();
    rig.away = Away { left: 29, came: 41 };
    let rest: Vec<Point3> = each(4, 60, 420..600);
    rig.write(&rest);
    assert_eq!(
        rig.hosts(25..45),
        [[1; 5].as_slice(), &[0; 11], &[1; 4]].concat()
    );
}

/// Who sends a minute's points at once has half of them in a minute that was folded already.
#[test]
fn what_comes_late_takes_the_place_of_what_stood() {
    let mut rig = Rig::default();
    let value = |at_s: i64| (at_s * 7 % 90) as f64;
    let all: Vec<Point3> = (0..900).map(|at_s| (at_s, 1, value(at_s))).collect();
    let mut sent = 0;
    for at_s in 0..900_i64 {
        let is_batch = at_s % 60 == 25;
        if is_batch {
            let batch = &all[sent..at_s as usize];
            sent = at_s as usize;
            let cut = batch.partition_point(|p| p.0.div_euclid(60) < at_s.div_euclid(60));
            if 0 < cut {
                // Of a minute that was written with the batch before.
                rig.write(&batch[..cut]);
            }
            rig.write(&batch[cut..]);
        }
    }
    for step in 0..87 {
        let stored = &rig.steps[&step];
        assert_eq!(stored.hosts, 1, "{step}");
        assert_eq!(stored.spread.count(), 1, "{step}");
        if step < 84 {
            let last = step * 10 + 9;
            assert_eq!(stored.sum, value(last), "{step}");
        }
    }
    // Earlier than what is known, and counted: nothing changes. From before it was: it counts.
    let before = rig.steps.clone();
    rig.write(&[(305, 1, 1_000.0)]);
    assert_eq!(rig.steps, before);
    rig.write(&[(-35, 1, 1_000.0)]);
    assert_eq!(rig.steps[&-4].sum, 1_000.0);
}

#[test]
fn the_silent_are_let_go_and_no_more_are_kept_than_fit() {
    let mut rig = Rig::default();
    rig.write(&[(0, 1, 1.0), (0, 2, 2.0)]);
    assert_eq!(rig.fold.count, 2);
    let silent_s = 100 + FOLD_KEPT_MINUTES * 60;
    rig.write(&each(1, 1, silent_s - 60..silent_s));
    assert_eq!(rig.fold.count, 2);
    rig.write(&each(1, 1, silent_s..silent_s + 60));
    rig.write(&each(1, 1, silent_s + 60..silent_s + 120));
    assert_eq!(rig.fold.count, 1);
    for (bound, count) in [(2, 2), (3, 3), (4, 3)] {
        let mut rig = Rig {
            fold: Fold::with_bound(bound),
            ..Rig::default()
        };
        rig.write(&[1, 2, 3].map(|series| (55, series, 1.0)));
        assert_eq!(rig.fold.count, count);
        rig.write(&[(115, 1, 1.0)]);
        // Points of its own count all the same.
        assert_eq!(rig.hosts(5..7), [3, count as u64]);
    }
}

#[test]
fn damaged_bytes_are_not_taken() {
    let mut rig = Rig::default();
    minute_by_minute(&mut rig, &each(4, 60, 0..300), false);
    let (metric, bytes) = rig.fold.slow().next().unwrap();
    let (series, held) = held_in(&bytes).next().unwrap();
    assert_eq!((metric, series, held.value), (1, 4, 4.0));
    assert_eq!(
        (held.heard_ms, held.rhythm.interval_ms()),
        (244_000, 60_000)
    );
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 4;
        assert_eq!(held_in(&wrong).count(), 0, "byte {at}");
        assert_eq!(held_in(&bytes[..at]).count(), 0, "{at} bytes");
    }
}
