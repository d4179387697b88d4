//! The fleet by its rig: names, silence, views and answers.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::aggregator::rig::Rig;
use crate::frame::State;
use crate::frame::view::Hz;
use crate::limits::{OTHER, SLOT_REST};

const HOUR_MS: u64 = 3_600_000;

fn view(kind: Kind, hz: Hz) -> View {
    View {
        kind,
        hz,
        ..View::default_view()
    }
}

fn patch_of(tick: &Tick) -> String {
    let Some(patch) = &tick.hosts_patch else {
        return String::new();
    };
    let text = String::from_utf8_lossy(patch).into_owned();
    text[text.find('{').unwrap()..].to_owned()
}

#[test]
fn series_past_the_bound_are_aggregated_into_other() {
    let mut rig = Rig::with_bounds(8, 8, 3);
    rig.send("a", &[("cpu", 1.0), ("memory", 2.0)]);
    rig.send("b", &[("cpu", 3.0), ("memory", 4.0), ("disk", 5.0)]);
    rig.send("a", &[("cpu", 6.0)]);
    let metrics = |rig: &mut Rig, host| rig.metrics(host);
    assert_eq!(
        metrics(&mut rig, "a"),
        [("cpu", 6.0), ("memory", 2.0)].map(Rig::owned)
    );
    assert_eq!(
        metrics(&mut rig, "b"),
        [(OTHER, 5.0), ("cpu", 3.0)].map(Rig::owned)
    );
    let totals = rig.fleet.totals();
    assert_eq!((totals.samples, totals.folded, totals.series), (6, 2, 4));
    rig.fleet.invariants();
}

#[test]
fn hosts_past_the_bound_are_one_host() {
    let mut rig = Rig::with_bounds(2, 8, 100);
    for host in ["a", "b", "c", "d"] {
        rig.send(host, &[("cpu", 1.0)]);
    }
    rig.tick();
    assert_eq!(rig.state(OTHER), State::Ok);
    assert_eq!(rig.fleet.totals().hosts.ok, 3);
    assert_eq!(rig.fleet.totals().samples, 4);
}

#[test]
fn a_forgotten_host_leaves_and_its_slot_goes_to_another() {
    let mut rig = Rig::new();
    rig.send("a", &[("cpu", 1.0)]);
    rig.tick();
    rig.wait(HOUR_MS + 1);
    rig.send("b", &[("cpu", 2.0)]);
    let tick = rig.tick();
    assert_eq!(
        patch_of(&tick),
        r#"{"op":"hosts_patch","from":1,"to":2,"set":[[1,"b",{}]],"del":[0]}"#
    );
    assert_eq!(rig.fleet.totals().series, 1);
    assert_eq!(rig.state("a"), State::None);
    rig.wait(SLOT_REST.as_millis() as u64);
    rig.tick();
    assert_eq!(rig.lookup_host("c"), 0);
    rig.send("c", &[("cpu", 3.0)]);
    assert_eq!(rig.state("c"), State::Ok);
    assert_eq!(rig.metrics("c"), [("cpu", 3.0)].map(Rig::owned));
    rig.fleet.invariants();
}

#[test]
fn a_forgotten_host_s_late_sample_brings_it_back() {
    let mut rig = Rig::new();
    rig.tag("a", &[("dc", "fra")]);
    rig.send("a", &[("cpu", 1.0)]);
    rig.wait(HOUR_MS + 1);
    rig.tick();
    assert_eq!(rig.state("a"), State::None);
    rig.fold(0, 0, 5.0);
    assert_eq!(rig.state("a"), State::Ok);
    assert_eq!(rig.metrics("a"), [("cpu", 5.0)].map(Rig::owned));
    assert!(patch_of(&rig.tick()).contains(r#"[0,"a",{"dc":"fra"}]"#));
    rig.wait(SLOT_REST.as_millis() as u64);
    rig.tick();
    assert_eq!(rig.lookup_host("b"), 1, "slot 0 is taken");
    rig.fleet.invariants();
}

#[test]
fn a_late_sample_follows_its_host_to_its_new_slot() {
    let mut rig = Rig::new();
    rig.send("a", &[("cpu", 1.0)]);
    rig.wait(HOUR_MS + 1);
    rig.tick();
    rig.send("a", &[("cpu", 2.0)]);
    assert_eq!(rig.lookup_host("a"), 1);
    rig.fold(0, 0, 9.0);
    assert_eq!(rig.metrics("a"), [("cpu", 9.0)].map(Rig::owned));
    assert_eq!(rig.fleet.totals().hosts.ok, 1);
    rig.wait(SLOT_REST.as_millis() as u64);
    rig.tick();
    rig.fold(0, 0, 7.0);
    rig.tick();
    assert_eq!(
        rig.metrics(OTHER),
        [("cpu", 7.0)].map(Rig::owned),
        "nobody's slot"
    );
    assert_eq!(rig.fleet.totals().samples, 4);
    rig.fleet.invariants();
}

#[test]
fn a_live_host_s_dead_series_expires() {
    let mut rig = Rig::new();
    rig.send("a", &[("cpu", 1.0), ("gone", 2.0)]);
    for _ in 0..70 {
        rig.wait(60_000);
        rig.send("a", &[("cpu", 1.0)]);
        rig.tick();
    }
    assert_eq!(rig.metrics("a"), [("cpu", 1.0)].map(Rig::owned));
}

#[test]
fn the_epoch_moves_once_a_tick_and_only_with_hosts() {
    let mut rig = Rig::new();
    assert_eq!((rig.tick().host_epoch, rig.tick().hosts_patch), (0, None));
    rig.send("a", &[("cpu", 1.0)]);
    rig.send("b", &[("cpu", 1.0)]);
    rig.tag("b", &[("dc", "fra")]);
    let tick = rig.tick();
    assert_eq!(tick.host_epoch, 1);
    assert_eq!(
        patch_of(&tick),
        r#"{"op":"hosts_patch","from":0,"to":1,"#.to_owned()
            + r#""set":[[0,"a",{}],[1,"b",{"dc":"fra"}]],"del":[]}"#
    );
    rig.tag("b", &[("dc", "fra")]);
    rig.send("a", &[("cpu", 2.0)]);
    assert_eq!((rig.tick().host_epoch, rig.tick().hosts_patch), (1, None));
    let (epoch, body) = rig.fleet.hosts(rig.now);
    assert_eq!(epoch, 1);
    assert_eq!(
        body.unwrap(),
        r#"{"epoch":1,"hosts":[[0,"a",{}],[1,"b",{"dc":"fra"}]]}"#
    );
}

#[test]
fn views_are_encoded_at_their_rates() {
    let mut rig = Rig::new();
    rig.send("a", &[("cpu", 1.0)]);
    let rates = [Hz::TEN, Hz::FIVE, Hz::TWO, Hz::ONE, Hz::FIFTH];
    let watched = rates.map(|hz| rig.views.watch(view(Kind::Stats, hz)).ok().unwrap());
    let mut frames = [0; 5];
    for _ in 0..100 {
        for frame in rig.tick().frames {
            let at = watched.iter().position(|w| w.number == frame.view).unwrap();
            frames[at] += 1;
            assert_eq!(frame.seq, frames[at]);
        }
    }
    assert_eq!(frames, [100, 50, 20, 10, 2]);
    watched[4].ask_key();
    let tick = rig.tick();
    let key = tick
        .frames
        .iter()
        .find(|frame| frame.view == watched[4].number);
    assert!(
        key.unwrap().key.is_some(),
        "a KEY does not wait for its turn"
    );
    for watched in &watched[..4] {
        rig.views.release(watched);
    }
    let frames: usize = (0..50).map(|_| rig.tick().frames.len()).sum();
    assert_eq!(frames, 1);
}

#[test]
fn equal_contents_are_worked_out_once() {
    let mut rig = Rig::new();
    rig.send("a", &[("cpu", 1.0)]);
    let (fast, slow) = (view(Kind::Stats, Hz::TEN), view(Kind::Stats, Hz::ONE));
    let first = rig.fleet.content(&fast, rig.now);
    assert!(Arc::ptr_eq(&first, &rig.fleet.content(&slow, rig.now)));
    rig.send("a", &[("cpu", 2.0)]);
    assert_ne!(first, rig.fleet.content(&slow, rig.now));
}

#[test]
fn snapshots_know_what_was_never_seen() {
    let mut rig = Rig::new();
    rig.send("a", &[("cpu", 1.0)]);
    let host = |host: &str| Kind::Host {
        host: host.to_owned(),
    };
    let top = |metric: &str| Kind::Top {
        metric: metric.to_owned(),
        n: 5,
    };
    let mut check = |kind: Kind, expected: Option<Answer>| {
        let answer = rig.fleet.snapshot(&view(kind, Hz::ONE), rig.now);
        match expected {
            Some(expected) => assert_eq!(answer, expected),
            None => assert!(matches!(answer, Answer::Body(_))),
        }
    };
    check(host("a"), None);
    check(host("b"), Some(Answer::UnknownHost));
    check(top("cpu"), None);
    check(top("disk"), Some(Answer::UnknownMetric));
    check(
        Kind::Map {
            metric: "disk".into(),
        },
        Some(Answer::UnknownMetric),
    );
    check(Kind::Stats, None);
}
