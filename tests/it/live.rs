//! The live protocol against a real node: what a viewer holds is what the node knows.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidewall::frame::reader::{self, Body, Outcome, Picture};
use tungstenite::Message;

use crate::support::{Http, Live, Node, Random, eventually};

#[test]
fn a_plain_client_gets_a_json_frame_every_tick() {
    let node = Node::start(&[]);
    node.connect()
        .post(r#"{"host":"a","metrics":{"cpu":1.5}}"#)
        .unwrap();
    let mut live = node.live(None);
    let frames: Vec<Value> = (0..21).map(|_| live.next_json()).collect();
    let seq = |frame: &Value| frame["seq"].as_u64().unwrap();
    for pair in frames.windows(2) {
        assert!(seq(&pair[0]) < seq(&pair[1]), "in order, each once");
    }
    // A tick may only be missing if the node has owned up to it in its ledger.
    let missing = seq(&frames[20]) - seq(&frames[0]) - 20;
    let owned =
        node.metric("tidewall_frames_coalesced_total") + node.metric("tidewall_ticks_missed_total");
    assert!(
        missing <= owned,
        "{missing} ticks are missing, the node knows of {owned}"
    );
    // By the node's own clock, and one-sided: a busy machine is late, never early.
    let time = |at: usize| frames[at]["time"].as_u64().unwrap();
    let elapsed = time(20) - time(0);
    assert!(1_900 <= elapsed, "20 ticks of 100 ms took {elapsed} ms");
    eprintln!("20 ticks took {elapsed} ms");
    assert_eq!(frames[20]["hosts"]["ok"], 1);
    assert_eq!(frames[20]["metrics"]["cpu"]["max"], 1.5);
}

#[test]
fn mistakes_are_explained_and_survived() {
    let node = Node::start(&[]);
    let mut live = node.live(Some("tidewall.v1"));
    assert_eq!(live.next_json()["op"], "welcome");
    assert_eq!(live.next_json()["op"], "hosts");
    for (message, code) in [
        ("nonsense", "bad_message"),
        ("[]", "bad_message"),
        (r#"{"op":"dance"}"#, "bad_message"),
        (r#"{"op":"sub","view":{"kind":"stats"}}"#, "bad_message"),
        (r#"{"op":"sub","id":1}"#, "bad_view"),
        (r#"{"op":"sub","id":1,"view":{"kind":"pie"}}"#, "bad_view"),
        (
            r#"{"op":"sub","id":1,"view":{"kind":"map","metric":"cpu","hz":3}}"#,
            "bad_view",
        ),
        (
            r#"{"op":"sub","id":1,"view":{"kind":"map","metric":"cpu","where":"a="}}"#,
            "bad_view",
        ),
        (r#"{"op":"unsub","id":9}"#, "unknown_id"),
        (r#"{"op":"resync","id":9}"#, "unknown_id"),
        (r#"{"op":"ack","frames":7}"#, "bad_message"),
    ] {
        live.say(message);
        let answer = live.next_op("err");
        assert_eq!(answer["code"], code, "{message}: {answer}");
        assert!(answer["message"].is_string());
    }
    for id in 0..16 {
        let view = json!({"kind": "host", "host": format!("h{id}")});
        live.say(&json!({"op": "sub", "id": id, "view": view}).to_string());
        assert_eq!(live.next_op("schema")["id"], id);
    }
    live.say(r#"{"op":"sub","id":3,"view":{"kind":"stats"}}"#);
    assert_eq!(live.next_op("err")["code"], "duplicate_id");
    live.say(r#"{"op":"sub","id":16,"view":{"kind":"stats"}}"#);
    assert_eq!(live.next_op("err")["code"], "limit");
}

#[test]
fn foreign_pages_may_not_watch() {
    let node = Node::start(&[]);
    let handshake = |origin: &str, protocol: &str| {
        format!(
            "GET /api/live HTTP/1.1\r\nHost: x:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Origin: {origin}\r\n{protocol}\r\n"
        )
    };
    let status = |request: String| node.connect().ask(&request).unwrap().status;
    assert_eq!(status(handshake("http://x:1", "")), 101);
    assert_eq!(status(handshake("http://evil.example", "")), 403);
    assert_eq!(status(handshake("null", "")), 403);
    assert_eq!(
        status(handshake(
            "http://x:1",
            "Sec-WebSocket-Protocol: tidewall.v9\r\n"
        )),
        400
    );
    let plain = "GET /api/live HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
    assert_eq!(status(plain), 426);
}

/// A viewer as PROTOCOL.md section 2 describes it, which also misbehaves as networks do.
struct Viewer {
    live: Live,
    pictures: BTreeMap<u32, Picture>,
    hosts: BTreeMap<u64, Value>,
    epoch: u64,
    applied: u64,
    resyncs: u64,
}

impl Viewer {
    fn join(node: &Node) -> Viewer {
        let mut live = node.live(Some("tidewall.v1"));
        assert_eq!(live.next_json()["op"], "welcome");
        let pictures = BTreeMap::new();
        let mut viewer = Viewer {
            live,
            pictures,
            hosts: BTreeMap::new(),
            epoch: 0,
            applied: 0,
            resyncs: 0,
        };
        let hosts = viewer.live.next_op("hosts");
        viewer.fetch(node, &hosts);
        viewer.say(&json!({"op":"sub","id":7,"view":{"kind":"map","metric":"cpu","hz":10}}));
        viewer
    }

    fn say(&mut self, message: &Value) {
        self.live.say(&message.to_string());
    }

    fn fetch(&mut self, node: &Node, message: &Value) {
        let table: Value =
            serde_json::from_str(&node.get(message["url"].as_str().unwrap()).body).unwrap();
        self.epoch = table["epoch"].as_u64().unwrap();
        self.hosts.clear();
        self.set_hosts(&table["hosts"]);
    }

    fn set_hosts(&mut self, rows: &Value) {
        for row in rows.as_array().unwrap() {
            self.hosts.insert(row[0].as_u64().unwrap(), row[1].clone());
        }
    }

    /// Takes one message; `lose` drops a frame as if it had never come.
    fn step(&mut self, node: &Node, lose: bool, acks: bool) {
        let bytes = match self.live.next() {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                return self.hear(node, &message);
            }
            _ => return,
        };
        let frame = reader::parse(&bytes).unwrap();
        if acks {
            self.say(&json!({"op":"ack","frames":[[7, frame.header.seq]]}));
        }
        if lose {
            return;
        }
        let Some(picture) = self.pictures.get_mut(&frame.header.view) else {
            return;
        };
        match picture.apply(&frame) {
            Outcome::Applied => self.applied += 1,
            Outcome::NeedsResync => {
                self.resyncs += 1;
                self.say(&json!({"op":"resync","id":7}));
            }
            Outcome::Ignored => {}
        }
    }

    fn hear(&mut self, node: &Node, message: &Value) {
        match message["op"].as_str().unwrap() {
            "schema" => {
                let view = u32::try_from(message["view"].as_u64().unwrap()).unwrap();
                let kind = message["kind"].as_str().unwrap();
                self.pictures = [(view, Picture::new(kind, view).unwrap())].into();
            }
            "hosts" => self.fetch(node, message),
            "hosts_patch" if message["from"] == self.epoch => {
                for slot in message["del"].as_array().unwrap() {
                    self.hosts.remove(&slot.as_u64().unwrap());
                }
                self.set_hosts(&message["set"]);
                self.epoch = message["to"].as_u64().unwrap();
            }
            "hosts_patch" if self.epoch < message["to"].as_u64().unwrap() => {
                panic!(
                    "a gap in the patches: {} to {}",
                    self.epoch, message["from"]
                );
            }
            _ => {}
        }
    }

    /// The map in the terms of `GET /api/snapshot`: host name to byte and state.
    fn shown(&self) -> BTreeMap<String, (u8, u8)> {
        let picture = self.pictures.values().next();
        let Some(Body::Map { values, states, .. }) = picture.map(|picture| &picture.body) else {
            return BTreeMap::new();
        };
        let mut shown = BTreeMap::new();
        for (slot, (&value, &state)) in values.iter().zip(states).enumerate() {
            if state != 0 {
                let name = &self.hosts[&(slot as u64)];
                shown.insert(name.as_str().unwrap().to_owned(), (value, state));
            }
        }
        shown
    }
}

/// The node's own picture, quantised here by the words of PROTOCOL.md 2.3, not by the node's code.
fn known(node: &Node) -> BTreeMap<String, (u8, u8)> {
    let snapshot = node.snapshot("?kind=map&metric=cpu");
    let (lo, hi) = (
        snapshot["lo"].as_f64().unwrap(),
        snapshot["hi"].as_f64().unwrap(),
    );
    let states = ["none", "ok", "stale", "down", "muted", "warn", "crit"];
    let row = |row: &Value| {
        let quantum = match row[2].as_f64() {
            None => 255,
            Some(value) if value < lo => 253,
            Some(value) if hi < value => 254,
            Some(value) => ((value - lo) * 252.0 / (hi - lo) + 0.5).floor() as u8,
        };
        let state = states.iter().position(|state| row[3] == *state).unwrap();
        (
            row[1].as_str().unwrap().to_owned(),
            (quantum, u8::try_from(state).unwrap()),
        )
    };
    snapshot["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect()
}

fn post_updates(http: &mut Http, random: &mut Random, hosts: u64, count: u64) {
    let doc = |random: &mut Random| {
        let host = random.below(hosts);
        let value = random.below(100_000) as f64 / 1_000.0;
        format!(r#"{{"host":"web-{host}","metrics":{{"cpu":{value}}}}}"#)
    };
    let docs: Vec<String> = (0..count).map(|_| doc(random)).collect();
    assert_eq!(
        http.post(&format!("[{}]", docs.join(","))).unwrap().status,
        201
    );
}

#[test]
fn a_picture_equals_the_snapshot_after_every_kind_of_trouble() {
    let node = Node::start(&["--tick", "20ms"]);
    let (mut http, mut random) = (node.connect(), Random(2026));
    http.post(r#"{"host":"web-0","metrics":{"cpu":50}}"#)
        .unwrap();
    let mut viewer = Viewer::join(&node);
    let mut updates = 0;
    while updates < 10_000 {
        // Hosts join as the run goes on: the range they are drawn from grows.
        let count = 1 + random.below(40);
        post_updates(&mut http, &mut random, 20 + updates / 20, count);
        updates += count;
        let (lose, acks) = (random.below(15) == 0, random.below(12) != 0);
        match random.below(60) {
            0 => {
                viewer.say(&json!({"op":"pause"}));
                post_updates(&mut http, &mut random, 600, 30);
                viewer.say(&json!({"op":"play"}));
            }
            1 => viewer.say(&json!({"op":"resync","id":7})),
            2 => {
                viewer.say(&json!({"op":"unsub","id":7}));
                let view = json!({"kind":"map","metric":"cpu","hz":10});
                viewer.say(&json!({"op":"sub","id":7,"view":view}));
            }
            _ => {}
        }
        viewer.step(&node, lose, acks);
    }
    eprintln!(
        "{} frames applied, {} resyncs",
        viewer.applied, viewer.resyncs
    );
    assert!(
        50 < viewer.applied && 5 < viewer.resyncs,
        "the trouble was real"
    );
    // Equal while nothing moves: hosts that turn stale meanwhile only ask for another look.
    let mut shown = BTreeMap::new();
    eventually("the picture to equal the snapshot", || {
        for _ in 0..12 {
            viewer.step(&node, false, true);
        }
        shown = viewer.shown();
        !shown.is_empty() && shown == known(&node)
    });
    assert!(400 < shown.len(), "{} hosts", shown.len());
}
