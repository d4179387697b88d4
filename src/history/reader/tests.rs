#![allow(clippy::unwrap_used)]
#![allow(
    clippy::print_stdout,
    reason = "what was measured is told to who asked"
)]
//! What questions of a full store take. Where `TIDEWALL_STORE_HOSTS` says how many hosts it is to
//! have; else of very few, to see that it works.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use super::*;
use crate::frame::filter::Filter;
use crate::frame::view::Expr;
use crate::frame::view::Func;
use crate::history::journal::Position;
use crate::history::rig::{Rig, T0};
use crate::history::{SeriesName, minute_of};

const METRICS: usize = 10;

/// A day of hosts that send ten metrics each second; small steps and few digits, as such are.
fn fill(rig: &mut Rig, hosts: usize, minutes: i64) {
    let mut rng = crate::rng::Rng::seeded(7);
    let mut values = vec![500_i64; hosts * METRICS];
    let name = |at: usize| format!("host-{:05}", at / METRICS);
    let metrics = ["cpu", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"];
    for minute in 0..minutes {
        let mut recent = rig.desk.recent();
        for (at, value) in values.iter_mut().enumerate() {
            let index = recent.index(&SeriesName::new(&name(at), metrics[at % METRICS], "%"));
            for second in 0..60 {
                *value = (*value + rng.below(21) as i64 - 10).clamp(0, 1_000);
                let offset_ms = (second * 1_000 + at % 1_000) as u16;
                let minute = minute_of(T0).0 + minute;
                recent.add(index, minute, offset_ms, *value as f64 / 10.0, false);
            }
        }
        recent.pass(i64::MAX, Position(minute as u64 + 1));
        let passed = recent.next().unwrap();
        drop(recent);
        rig.store.write(&passed).unwrap();
        rig.desk.recent().stored();
    }
}

fn reader(rig: &Rig) -> Reader {
    Reader {
        asked: sync_channel(1).1,
        desk: Arc::default(),
        dir: rig.dir.clone(),
        counters: Arc::default(),
        remote: None,
        pictures: Pictures::new(rig.catalog.clone()),
        told: Vec::new(),
    }
}

fn question(query: &str, from_min: i64, to_min: i64) -> Question {
    let (from, to) = (T0 + from_min * MINUTE_MS, T0 + to_min * MINUTE_MS);
    Question::parse(&format!("metric=cpu&from={from}&to={to}{query}"), to).unwrap()
}

/// What is not in the page cache must come from the disk; where that may not be emptied it is told
/// as warm.
fn empty_page_cache() {
    rustix::fs::sync();
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
}

#[test]
fn a_day_is_answered() {
    let asked = std::env::var("TIDEWALL_STORE_HOSTS").ok();
    let hosts: usize = asked.as_ref().map_or(2, |hosts| hosts.parse().unwrap());
    let minutes = if asked.is_some() { 1_440 } else { 4 };
    let mut rig = Rig::new("reader-day");
    for host in 0..hosts {
        rig.lookup.host(&format!("host-{host:05}"));
    }
    let begun = Instant::now();
    fill(&mut rig, hosts, minutes);
    println!(
        "{hosts} hosts, {minutes} minutes: made in {:?}",
        begun.elapsed()
    );
    let mut reader = reader(&rig);
    let quarter = minutes / 4;
    for (what, question) in [
        (
            "one host",
            question("&host=host-00001&step=60000", 0, minutes),
        ),
        ("one host, 5 min", question("&host=host-00001", 0, minutes)),
        (
            "fleet p99",
            question("&stat=p99", minutes - quarter, minutes),
        ),
        ("fleet, all", question("", minutes - quarter, minutes)),
    ] {
        for cold in [true, false, false] {
            if cold && asked.is_some() {
                empty_page_cache();
            }
            let begun = Instant::now();
            let answer = reader.answer(&question).unwrap();
            println!("{what}, cold {cold}: {:?}", begun.elapsed());
            let Answer::Body(body) = answer else {
                panic!("{answer:?}");
            };
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(!body.contains("null,null"), "{body}");
        }
    }
    let lines = Lines {
        exprs: vec![Expr {
            func: Func::P99,
            metric: "cpu".into(),
        }],
        by: None,
        filter: Filter::parse("host~*").ok(),
        from_ms: T0 + (minutes - minutes.min(60)) * MINUTE_MS,
        to_ms: T0 + minutes * MINUTE_MS,
    };
    for cold in [true, false] {
        if cold && asked.is_some() {
            empty_page_cache();
        }
        reader.told.clear();
        let begun = Instant::now();
        let told = reader.lines(&lines).unwrap();
        println!("lines of chosen hosts, cold {cold}: {:?}", begun.elapsed());
        assert!(told[0].values.iter().all(|value| !value.is_nan()));
    }
}
