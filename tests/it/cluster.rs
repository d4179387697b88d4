//! Nodes that real Redis servers join: each shows what all were sent, whatever goes wrong between.

mod faults;
mod hostile;
mod kinds;
mod wall;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::redis_server::RedisServer;
use crate::support::{Live, Node, eventually};
use wall::{Wall, host, is_partial, join, standing};

/// What it may take, on a busy machine, until a node that joins has the whole fleet.
const JOINED: Duration = Duration::from_secs(5);

#[test]
fn every_node_shows_what_all_were_sent() {
    let server = RedisServer::start(&[]);
    let url = server.url();
    let mut wall = Wall::start(&[("a", &url), ("b", &url), ("c", &url)]);
    wall.await_whole("start");
    for (node, of) in [("a", "b"), ("b", "c"), ("c", "a")] {
        wall.await_motion(node, of);
    }
    let begun = Instant::now();
    wall.join("d", &url);
    let started = begun.elapsed();
    wall.await_all_hosts("d");
    let took = begun.elapsed();
    eprintln!("a fourth node is there after {started:?}, whole after {took:?}");
    assert!(took < JOINED, "{took:?}");
    let shown = host(wall.node("d"), "a-0").unwrap();
    assert_eq!(shown["host"]["tags"], json!({"dc": "a", "rack": "0"}));
    wall.end();
}

/// A viewer of two views of one metric, whose one host must only ever move on.
struct Watcher {
    live: Live,
    rows: BTreeMap<u64, (String, Value, String)>,
    frames: usize,
    last: f64,
}

impl Watcher {
    fn new(node: &Node) -> Watcher {
        let mut live = node.live(Some("tidewall.v1+json"));
        let views = [
            json!({"kind": "map", "metric": "hop", "hz": 10}),
            json!({"kind": "top", "metric": "hop", "n": 5, "hz": 10}),
        ];
        for (id, view) in views.into_iter().enumerate() {
            live.say(&json!({"op": "sub", "id": id, "view": view}).to_string());
        }
        Watcher {
            live,
            rows: BTreeMap::new(),
            frames: 0,
            last: 0.0,
        }
    }

    /// Until the host has this value.
    fn watch(mut self, last: f64) -> usize {
        while self.last < last {
            let frame = self.live.next_json();
            let (id, shown) = match frame["kind"].as_str() {
                Some("map") if frame["op"].is_null() => (0, self.map(&frame)),
                Some("top") if frame["op"].is_null() => (1, rows_of(&frame["rows"], "ok")),
                _ => continue,
            };
            self.frames += 1;
            let ack = json!({"op": "ack", "frames": [[id, frame["seq"]]]});
            self.live.say(&ack.to_string());
            if shown.is_empty() && self.last == 0.0 {
                continue;
            }
            assert_eq!(shown.len(), 1, "{frame}");
            let (name, value, state) = &shown[0];
            assert_eq!((name.as_str(), state.as_str()), ("hopper", "ok"), "{frame}");
            // Its name may come before its first value.
            let value = value.as_f64().unwrap_or_default();
            assert!(self.last <= value, "{} was shown before {frame}", self.last);
            self.last = value;
        }
        self.frames
    }

    fn map(&mut self, frame: &Value) -> Vec<(String, Value, String)> {
        if frame["type"] == "key" {
            self.rows.clear();
        }
        for slot in frame["gone"].as_array().into_iter().flatten() {
            self.rows.remove(&slot.as_u64().unwrap());
        }
        for row in frame["hosts"].as_array().unwrap() {
            let state = row[3].as_str().unwrap();
            let shown = rows_of(&json!([row]), state).remove(0);
            self.rows.insert(row[0].as_u64().unwrap(), shown);
        }
        self.rows.values().cloned().collect()
    }
}

fn rows_of(rows: &Value, state: &str) -> Vec<(String, Value, String)> {
    let rows = rows.as_array().unwrap().iter();
    let row = |row: &Value| {
        let name = row[1].as_str().unwrap().to_owned();
        (name, row[2].clone(), state.to_owned())
    };
    rows.map(row).collect()
}

/// Behind a balancer that deals requests out in turn.
#[test]
fn a_host_that_sends_to_each_node_in_turn_is_one_host_that_moves_on() {
    const HOPS: u32 = 12;
    let server = RedisServer::start(&[]);
    let nodes: Vec<Node> = ["a", "b", "c"]
        .iter()
        .map(|name| join(name, &server.url(), &[]))
        .collect();
    for (node, peer) in [(0, "b"), (0, "c"), (1, "a"), (1, "c"), (2, "a"), (2, "b")] {
        eventually("nodes that hear each other", || {
            standing(&nodes[node], peer) == "reachable"
        });
    }
    let watchers: Vec<Watcher> = nodes.iter().map(Watcher::new).collect();
    let threads: Vec<_> = watchers
        .into_iter()
        .map(|watcher| thread::spawn(move || watcher.watch(f64::from(HOPS))))
        .collect();
    for hop in 1..=HOPS {
        let body = format!(r#"{{"host":"hopper","metrics":{{"hop":{hop}}}}}"#);
        let node = &nodes[hop as usize % nodes.len()];
        assert_eq!(node.connect().post(&body).unwrap().status, 201);
        thread::sleep(Duration::from_millis(500));
    }
    let frames: Vec<usize> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    eprintln!("frames: {frames:?}");
    assert!(frames.iter().all(|&frames| 20 < frames), "{frames:?}");
    assert!(!nodes.iter().any(is_partial));
}
