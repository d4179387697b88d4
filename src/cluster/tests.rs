//! Two nodes by hand: what one says, message by message, and what the other makes of it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::peers::{Peers, Wish};
use super::publisher::{Export, Publisher};
use super::record::{Reach, Record};
use super::roster::Standing;
use super::wire::{self, Body, Cell, Kind, Picture, Pulse, Seal};
use crate::catalog::lookup::Lookup;
use crate::catalog::{Catalog, HostChange, Tags};
use crate::clock::{HEAD_START_MS, Now};
use crate::limits::*;
use crate::observe::{Cluster as Counters, Refused};
use crate::sample::Sample;

const EPOCH: u64 = 1_000;

fn at(ms: u64) -> Now {
    Now {
        mono_ms: HEAD_START_MS + ms,
        wall_ms: 1_795_680_000_000 + ms as i64,
    }
}

fn seal() -> Seal {
    Seal::new(&[1; 32])
}

/// The node that speaks.
struct Speaker {
    lookup: Lookup,
    publisher: Publisher,
}

impl Speaker {
    fn new(node: &str, epoch: u64) -> Self {
        let catalog = Catalog::new();
        Self {
            lookup: Lookup::new(Arc::clone(&catalog)),
            publisher: Publisher::new(node, epoch, seal(), catalog),
        }
    }

    fn put(&mut self, host: &str, metric: &str, value: f64) {
        self.put_at(host, metric, value, 0);
    }

    fn put_at(&mut self, host: &str, metric: &str, value: f64, ms: u64) {
        self.lookup.begin();
        let slot = self.lookup.host(host);
        let column = self.lookup.column(metric, "");
        self.publisher.take(&[Sample {
            value,
            time_ms: at(ms).mono_ms as i64,
            slot,
            column,
            flags: 0,
        }]);
    }

    fn delta(&mut self, ms: u64) -> Vec<u8> {
        let mut message = Vec::new();
        self.publisher.delta(at(ms), &mut message);
        message
    }

    fn say(&mut self, kind: Kind, body: &Body, ms: u64) -> Vec<u8> {
        let mut message = Vec::new();
        self.publisher.say(kind, body, at(ms), &mut message);
        message
    }

    fn picture(&mut self, ms: u64) -> Picture {
        picture(&self.delta(ms))
    }

    fn keyframe(&mut self, cells: Vec<Cell>, ms: u64) -> (Vec<u8>, u64) {
        let draft = self.publisher.draft();
        let export = Export {
            mono_ms: at(ms).mono_ms,
            pulses: vec![Pulse {
                slot: 0,
                age_ms: 40,
                interval_ms: 1_000,
            }],
            cells,
        };
        let mut message = Vec::new();
        let seq = self.publisher.keyframe(draft, export, at(ms), &mut message);
        (message, seq)
    }
}

fn picture(message: &[u8]) -> Picture {
    let (head, body) = wire::open(message, &seal()).unwrap();
    match wire::read_body(head.kind, body).unwrap() {
        Body::Delta(picture) | Body::Keyframe(picture) => picture,
        other => panic!("{other:?}"),
    }
}

/// The node that listens.
struct Listener {
    catalog: Arc<Catalog>,
    counters: Arc<Counters>,
    peers: Peers,
}

impl Listener {
    fn new() -> Self {
        let (catalog, counters) = (Catalog::new(), Arc::<Counters>::default());
        let peers = Peers::new(
            "b",
            EPOCH,
            seal(),
            Arc::clone(&catalog),
            Arc::clone(&counters),
        );
        Self {
            catalog,
            counters,
            peers,
        }
    }

    /// A listener to a node that said enough for its clock to be known.
    fn to(speaker: &mut Speaker) -> Self {
        let mut listener = Self::new();
        for ms in 0..u64::from(CLUSTER_OFFSET_MESSAGES_MIN) {
            listener.hear(&speaker.delta(ms), ms);
        }
        assert_eq!(listener.standing(10), Some(Standing::Reachable));
        listener.records();
        listener
    }

    fn hear(&mut self, message: &[u8], ms: u64) {
        self.peers.receive(message, at(ms));
    }

    fn records(&mut self) -> Vec<Record> {
        let records = self.peers.records().drain(..);
        records.map(|sample| Record::unpack(&sample)).collect()
    }

    fn values(&mut self) -> Vec<f64> {
        let value = |record| match record {
            Record::Cell { value, .. } => Some(value),
            _ => None,
        };
        self.records().into_iter().filter_map(value).collect()
    }

    fn standing(&mut self, ms: u64) -> Option<Standing> {
        self.peers.poll(at(ms));
        let standings = self.peers.roster().standings(at(ms).mono_ms);
        standings.first().map(|standings| standings.state)
    }

    fn refused(&self, refused: Refused) -> u64 {
        self.counters.refused[refused as usize].get()
    }
}

#[test]
fn nothing_is_shown_before_a_peer_s_clock_is_known() {
    let (mut a, mut b) = (Speaker::new("a", 1), Listener::new());
    for ms in 0..3 {
        a.put_at("web-1", "cpu", ms as f64, ms);
        b.hear(&a.delta(ms), 500 + ms * 100);
        assert_eq!(b.records(), []);
    }
    // The fourth was on its way for 10 ms only: the three before it were late.
    a.put_at("web-1", "cpu", 3.0, 770);
    b.hear(&a.delta(800), 810);
    let heard: Vec<(f64, u64)> = b
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::Cell {
                value,
                heard_ms,
                is_arrival: true,
                ..
            } => Some((value, heard_ms - HEAD_START_MS)),
            _ => None,
        })
        .collect();
    assert_eq!(heard, [(0.0, 10), (1.0, 11), (2.0, 12), (3.0, 780)]);
    assert_eq!(b.catalog.find_host("web-1"), Some(0));
}

#[test]
fn a_gap_is_closed_by_a_keyframe_and_what_was_held() {
    let mut a = Speaker::new("a", 1);
    let mut b = Listener::to(&mut a);
    a.put("web-1", "cpu", 1.0);
    let lost = a.delta(100);
    a.put("web-2", "cpu", 2.0);
    let cell = Cell {
        column: 0,
        slot: 0,
        value: 1.0,
        age_ms: 40,
    };
    let (early, early_seq) = a.keyframe(vec![cell], 100);
    let after = a.delta(150);
    b.hear(&after, 150);
    assert_eq!(b.values(), [] as [f64; 0]);
    assert_eq!(b.standing(150), Some(Standing::Joining));
    assert_eq!(b.peers.wishes(), [Wish::Want("a".into())]);
    b.standing(150 + WANT_INTERVAL.as_millis() as u64 - 1);
    assert_eq!(b.peers.wishes(), []);
    b.standing(150 + WANT_INTERVAL.as_millis() as u64);
    assert_eq!(b.peers.wishes(), [Wish::Want("a".into())]);
    b.hear(
        &a.say(Kind::Stored, &Body::Stored { seq: early_seq }, 160),
        160,
    );
    assert_eq!(b.peers.wishes(), [Wish::Load("a".into())]);
    b.peers.keyframe("a", &early, at(170));
    assert_eq!(b.values(), [1.0, 2.0]);
    assert_eq!(b.standing(170), Some(Standing::Reachable));
    b.hear(&lost, 180);
    assert_eq!((b.values().len(), b.refused(Refused::Old)), (0, 1));
}

/// One from before the gap does not close it.
#[test]
fn an_old_keyframe_is_refused() {
    let mut a = Speaker::new("a", 1);
    let mut b = Listener::to(&mut a);
    let (old, seq) = a.keyframe(Vec::new(), 50);
    a.delta(100);
    b.hear(&a.delta(150), 150);
    b.hear(&a.say(Kind::Stored, &Body::Stored { seq }, 160), 160);
    b.standing(160);
    assert_eq!(b.peers.wishes(), [Wish::Want("a".into())]);
    b.peers.keyframe("a", &old, at(170));
    assert_eq!(b.refused(Refused::Old), 1);
    assert_eq!(b.standing(170), Some(Standing::Joining));
    let (other, _) = a.keyframe(Vec::new(), 180);
    b.peers.keyframe("z", &other, at(180));
    assert_eq!(b.refused(Refused::Malformed), 1);
}

#[test]
fn what_is_played_again_or_of_another_time_changes_nothing() {
    let mut a = Speaker::new("a", 5);
    let mut b = Listener::to(&mut a);
    a.put("web-1", "cpu", 1.0);
    let message = a.delta(100);
    b.hear(&message, 100);
    assert_eq!(b.values(), [1.0]);
    b.hear(&message, 110);
    let mut earlier = Speaker::new("a", 4);
    earlier.put("web-1", "cpu", 9.0);
    b.hear(&earlier.delta(120), 120);
    assert_eq!((b.values().len(), b.refused(Refused::Old)), (0, 2));
    let skew_ms = CLUSTER_SKEW_MAX.as_millis() as u64;
    b.hear(&a.delta(200), 200 + skew_ms);
    assert_eq!(b.refused(Refused::Skew), 0);
    b.hear(&a.delta(300), 301 + skew_ms);
    assert_eq!(b.refused(Refused::Skew), 1);
    let mut forged = a.delta(400);
    *forged.last_mut().unwrap() ^= 1;
    b.hear(&forged, 400);
    assert_eq!(b.refused(Refused::Forged), 1);
    let mut same_name = Speaker::new("b", EPOCH + 1);
    b.hear(&same_name.delta(500), 500);
    assert_eq!(b.refused(Refused::Name), 1);
    assert_eq!(b.counters.messages_received.get(), 4 + 7);
}

#[test]
fn a_new_start_forgets_the_numbers_of_the_old_one() {
    let mut a = Speaker::new("a", 1);
    a.put("old", "cpu", 1.0);
    let mut b = Listener::to(&mut a);
    let mut a = Speaker::new("a", 2);
    a.put("new", "mem", 2.0);
    for ms in 100..104 {
        b.hear(&a.delta(ms), ms);
    }
    assert_eq!(b.peers.wishes(), [Wish::Vouch]);
    let [
        Record::Restart { peer: 1 },
        Record::Cell {
            slot,
            column,
            value: 2.0,
            ..
        },
    ] = b.records()[..]
    else {
        panic!("one cell");
    };
    assert_eq!(Some(slot), b.catalog.find_host("new"));
    assert_eq!(Some(column), b.catalog.find_column("mem"));
}

#[test]
fn silence_is_noticed_at_its_bound_and_an_ordered_stop_is_none() {
    let mut a = Speaker::new("a", 1);
    let mut b = Listener::to(&mut a);
    let silent_ms = PEER_SILENT_AFTER.as_millis() as u64;
    b.hear(&a.delta(100), 100);
    assert_eq!(b.standing(99 + silent_ms), Some(Standing::Reachable));
    assert_eq!(b.records(), []);
    // The record comes with the poll that notices, the standing with the same.
    assert_eq!(b.standing(100 + silent_ms), Some(Standing::Unreachable));
    let gone = |reach| Record::Reach { peer: 1, reach };
    assert_eq!(b.records(), [gone(Reach::Unreachable)]);
    b.hear(&a.delta(200 + silent_ms), 200 + silent_ms);
    assert_eq!(b.records(), [gone(Reach::Reachable)]);
    b.hear(
        &a.say(Kind::Bye, &Body::Bye, 300 + silent_ms),
        300 + silent_ms,
    );
    assert_eq!(b.standing(400 + 2 * silent_ms), Some(Standing::Left));
    assert_eq!(b.records(), []);
}

#[test]
fn peers_are_bounded() {
    let mut b = Listener::new();
    for peer in 0..=PEERS_MAX {
        let mut a = Speaker::new(&format!("a{peer}"), 1);
        b.hear(&a.delta(0), 0);
        assert_eq!(b.refused(Refused::Crowd), u64::from(peer == PEERS_MAX));
    }
    let standings = b.peers.roster().standings(at(0).mono_ms);
    assert!(standings.is_empty(), "not yet polled");
    b.peers.poll(at(0));
    assert_eq!(b.peers.roster().standings(at(0).mono_ms).len(), PEERS_MAX);
    // After twice the time in which hosts are forgotten there is room for others.
    let later = 2 * FORGET_AFTER.as_millis() as u64;
    b.peers.poll(at(later));
    b.hear(&Speaker::new("late", 1).delta(later), later);
    assert_eq!(b.refused(Refused::Crowd), 1);
}

#[test]
fn what_is_held_is_bounded() {
    let mut a = Speaker::new("a", 1);
    let mut b = Listener::to(&mut a);
    a.delta(10);
    let (keyframe, _) = a.keyframe(Vec::new(), 10);
    let held = |b: &mut Listener, a: &mut Speaker, messages: usize| {
        for _ in 0..messages {
            b.hear(&a.delta(20), 20);
        }
        b.peers.keyframe("a", &keyframe, at(30));
        b.standing(30)
    };
    let at_bound = held(&mut b, &mut a, PEER_HELD_MESSAGES_MAX);
    assert_eq!(at_bound, Some(Standing::Reachable));
    let mut a = Speaker::new("a", 1);
    let mut b = Listener::to(&mut a);
    a.delta(10);
    let past_it = held(&mut b, &mut a, PEER_HELD_MESSAGES_MAX + 1);
    assert_eq!(past_it, Some(Standing::Joining), "a newer one is needed");
}

#[test]
fn a_message_names_what_was_never_told() {
    let mut a = Speaker::new("a", 1);
    let mut b = Listener::to(&mut a);
    let head = wire::Head {
        kind: Kind::Delta,
        node: "a",
        epoch: 1,
        seq: 5,
        mono_ms: at(9).mono_ms,
        wall_ms: at(9).wall_ms,
    };
    let cell = Cell {
        column: 7,
        slot: 9,
        value: 1.0,
        age_ms: 0,
    };
    let picture = Picture {
        cells: vec![cell],
        ..Picture::default()
    };
    let mut message = Vec::new();
    wire::encode(&head, &Body::Delta(picture), &seal(), &mut message);
    b.hear(&message, 10);
    assert_eq!(b.refused(Refused::Unknown), 1);
    assert_eq!(b.standing(10), Some(Standing::Joining));
}

#[test]
fn of_a_cell_only_the_newest_value_is_told_and_names_once() {
    let mut a = Speaker::new("a", 1);
    for value in [1.0, 3.0, 2.0] {
        a.put("web-1", "cpu", value);
    }
    let first = a.picture(0);
    let values: Vec<f64> = first.cells.iter().map(|cell| cell.value).collect();
    assert_eq!(
        (values, first.hosts.len(), first.columns.len()),
        (vec![2.0], 1, 1)
    );
    a.put("web-1", "cpu", 2.0);
    let second = a.picture(1);
    assert_eq!((second.cells.len(), second.hosts.len()), (1, 0));
    assert_eq!(a.picture(2), Picture::default());
}

#[test]
fn a_message_holds_so_many_cells_and_names() {
    let mut a = Speaker::new("a", 1);
    let hosts = CLUSTER_CELLS_MAX / 8 + 1;
    for host in 0..hosts {
        for metric in 0..8 {
            a.put(&format!("h{host}"), &format!("m{metric}"), 1.5);
        }
    }
    let (mut cells, mut messages) = (0, 0);
    while a.publisher.has_more() {
        let message = a.delta(0);
        assert!(message.len() <= CLUSTER_MESSAGE_BYTES_MAX);
        let picture = picture(&message);
        assert!(picture.cells.len() <= CLUSTER_CELLS_MAX);
        (cells, messages) = (cells + picture.cells.len(), messages + 1);
    }
    assert_eq!((cells, messages), (hosts * 8, 2));
    let long = "x".repeat(HOST_BYTES_MAX - 5);
    let fit = CLUSTER_NAMES_BYTES_MAX / (HOST_BYTES_MAX + 8) + 1;
    for host in 0..2 * fit {
        a.put(&format!("{long}{host:05}"), "m0", 1.0);
    }
    let first = a.picture(0).hosts.len();
    assert!((fit - 1..=fit + 1).contains(&first), "{first} of {fit}");
    assert!(a.publisher.has_more());
    assert_eq!(
        first + a.picture(0).hosts.len() + a.picture(0).hosts.len(),
        2 * fit
    );
}

/// Else two nodes whose senders disagree would swap a host's tags for ever.
#[test]
fn a_peer_s_tags_are_not_told_on() {
    let mut a = Speaker::new("a", 1);
    a.put("web-1", "cpu", 1.0);
    a.delta(0);
    let set = |a: &mut Speaker, dc: &str| {
        a.lookup.begin();
        a.lookup.tags(0, [("dc", dc)].into_iter());
    };
    set(&mut a, "fra");
    assert_eq!(
        a.picture(1).hosts.len(),
        1,
        "what this node was told itself"
    );
    set(&mut a, "ber");
    let tags: Tags = Arc::from([("dc".to_owned(), "ber".to_owned())]);
    a.publisher.heard_tags(0, tags);
    assert_eq!(a.picture(2).hosts.len(), 0);
    set(&mut a, "ams");
    assert_eq!(a.picture(3).hosts.len(), 1);
    set(&mut a, "ber");
    assert_eq!(a.picture(4).hosts.len(), 1, "the peer knows another by now");
}

#[test]
fn a_node_takes_its_hosts_back() {
    let mut before = Speaker::new("b", EPOCH + 50);
    before.put("web-1", "cpu", 1.0);
    before.delta(0);
    let cell = Cell {
        column: 0,
        slot: 0,
        value: 1.0,
        age_ms: 40,
    };
    let (keyframe, _) = before.keyframe(vec![cell], 0);
    let mut b = Listener::new();
    assert_eq!(b.peers.restore(&keyframe, at(1_000)), Some(EPOCH + 50));
    let heard_ms = HEAD_START_MS - 40;
    let records = b.records();
    assert!(matches!(records[0], Record::Pulse { peer: 0, heard_ms: at, .. } if at == heard_ms));
    assert!(matches!(records[1], Record::Cell { peer: 0, heard_ms: at, .. } if at == heard_ms));
    assert_eq!(b.peers.restore(&keyframe[1..], at(1_000)), None);
}

#[test]
fn slots_that_were_given_back_are_looked_up_anew() {
    let mut a = Speaker::new("a", 1);
    a.put("web-1", "cpu", 1.0);
    let mut b = Listener::to(&mut a);
    b.catalog.retire(0);
    b.catalog.free(0);
    let mut other = Lookup::new(Arc::clone(&b.catalog));
    assert_eq!(other.host("stranger"), 0);
    a.put("web-1", "cpu", 2.0);
    b.hear(&a.delta(50), 50);
    let [Record::Cell { slot, .. }] = b.records()[..] else {
        panic!("one cell");
    };
    assert_eq!(b.catalog.find_host("web-1"), Some(slot));
    let changes = b.catalog.host_changes(&mut 0);
    let is_stranger = |change: &HostChange| match change {
        HostChange::Set { slot, name, .. } => *slot == 0 && &**name == "stranger",
        HostChange::Del { .. } => false,
    };
    assert!(changes.iter().any(is_stranger));
}
