//! Nodes that show one wall, hosts that send to them all the time, and what each node shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Http, Node, eventually};

pub(super) const METRICS: [&str; 3] = ["cpu", "mem", "disk.used{device=sda}"];
/// Hosts that send to each node.
const HOSTS: usize = 4;
const PERIOD: Duration = Duration::from_millis(50);
/// What no answer takes, though two cores run all tests.
const SLOW: Duration = Duration::from_secs(5);

/// By host and metric.
pub(super) type Cells = BTreeMap<(String, String), f64>;

/// What a node shows of all hosts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) cells: Cells,
    pub(super) states: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, Value>,
}

impl Picture {
    pub(super) fn of(node: &Node) -> Picture {
        let mut picture = Picture::default();
        for metric in METRICS {
            let escaped = metric.replace('{', "%7B").replace('}', "%7D");
            let target = format!("/api/snapshot?kind=map&metric={escaped}");
            let answer = node.get(&target);
            if answer.status == 404 {
                continue;
            }
            let map: Value = serde_json::from_str(&answer.body).unwrap();
            for row in map["hosts"].as_array().unwrap() {
                let text = |at: usize| row[at].as_str().unwrap().to_owned();
                if let Some(value) = row[2].as_f64() {
                    let before = picture.cells.insert((text(1), metric.to_owned()), value);
                    assert_eq!(before, None, "a host is shown twice: {row}");
                }
                picture.states.insert(text(1), text(3));
            }
        }
        let hosts: Value = serde_json::from_str(&node.get("/api/hosts").body).unwrap();
        for row in hosts["hosts"].as_array().unwrap() {
            let name = row[1].as_str().unwrap().to_owned();
            picture.tags.insert(name, row[2].clone());
        }
        picture
    }
}

/// Every one of them shows the same, and of values just these.
pub(super) fn await_agreement(nodes: &[&Node], cells: &Cells) {
    let pictures = || -> Vec<Picture> { nodes.iter().map(|node| Picture::of(node)).collect() };
    let begun = Instant::now();
    let agree = |pictures: &[Picture]| {
        let same = pictures.windows(2).all(|pair| pair[0] == pair[1]);
        same && pictures[0].cells == *cells
    };
    let mut last = Vec::new();
    while begun.elapsed() < crate::support::PATIENCE {
        last = pictures();
        if agree(&last) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!(
        "no agreement: {} cells were sent, shown {last:#?}",
        cells.len()
    );
}

pub(super) fn host(node: &Node, name: &str) -> Option<Value> {
    let answer = node.get(&format!("/api/snapshot?kind=host&host={name}"));
    (answer.status == 200).then(|| serde_json::from_str(&answer.body).unwrap())
}

pub(super) fn nodes(node: &Node) -> Value {
    serde_json::from_str(&node.get("/api/nodes").body).unwrap()
}

/// The state of a peer as a node knows it.
pub(super) fn standing(node: &Node, peer: &str) -> Value {
    let nodes = nodes(node);
    let peers = nodes["peers"].as_array().unwrap();
    let found = peers.iter().find(|of| of["name"] == peer);
    found.map_or(Value::Null, |found| found["state"].clone())
}

pub(super) fn is_partial(node: &Node) -> bool {
    let flags = node.snapshot("")["flags"].clone();
    let is_partial = flags.as_array().unwrap().contains(&"partial".into());
    assert!(is_partial || flags == Value::Array(Vec::new()), "{flags}");
    is_partial
}

/// What an answer of [`Traffic`] was worth.
#[derive(Default)]
pub(super) struct Sent {
    /// The last that was accepted.
    pub(super) cells: Cells,
    pub(super) samples: u64,
    slowest: Duration,
}

/// The hosts of one node, which do not stop sending before they are told to.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Sent>>,
}

impl Traffic {
    pub(super) fn start(name: &str, node: &Node) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (name, address, stopped) = (name.to_owned(), node.address, Arc::clone(&stop));
        let thread = Some(thread::spawn(move || send(&name, address, &stopped)));
        Traffic { stop, thread }
    }

    pub(super) fn stop(mut self) -> Sent {
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its node may have been killed; a test that cares asks what was sent.
            let _ = thread.join();
        }
    }
}

fn send(name: &str, address: SocketAddr, stop: &AtomicBool) -> Sent {
    let mut http = Http::connect(address).unwrap();
    let mut sent = Sent::default();
    for round in 1.. {
        if stop.load(Relaxed) {
            break;
        }
        let mut docs = Vec::new();
        for at in 0..HOSTS {
            let host = format!("{name}-{at}");
            let value = |metric: usize| f64::from(round) + 0.1 * at as f64 + 0.01 * metric as f64;
            let values = METRICS.iter().enumerate();
            let values = values.map(|(at, metric)| (*metric, value(at)));
            let metrics: serde_json::Map<_, _> = values
                .clone()
                .map(|(metric, value)| (metric.to_owned(), value.into()))
                .collect();
            let tags = serde_json::json!({ "dc": name, "rack": at.to_string() });
            docs.push(serde_json::json!({ "host": host, "tags": tags, "metrics": metrics }));
            let cells = values.map(|(metric, value)| ((host.clone(), metric.to_owned()), value));
            sent.cells.extend(cells);
        }
        let begun = Instant::now();
        let answer = http.post(&Value::Array(docs).to_string()).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        sent.slowest = sent.slowest.max(begun.elapsed());
        sent.samples += (HOSTS * METRICS.len()) as u64;
        thread::sleep(PERIOD);
    }
    sent
}

/// A node, and the hosts that send to it.
pub(super) struct Seat {
    pub(super) name: &'static str,
    /// Ends before its node does.
    traffic: Traffic,
    pub(super) node: Node,
}

/// Nodes of one wall.
pub(super) struct Wall {
    pub(super) seats: Vec<Seat>,
}

impl Wall {
    /// Each by its own way to Redis. They need not find it.
    pub(super) fn start(ways: &[(&'static str, &str)]) -> Wall {
        let mut wall = Wall { seats: Vec::new() };
        for &(name, url) in ways {
            wall.join(name, url);
        }
        wall
    }

    pub(super) fn join(&mut self, name: &'static str, url: &str) {
        let node = join(name, url, &[]);
        let traffic = Traffic::start(name, &node);
        self.seats.push(Seat {
            name,
            traffic,
            node,
        });
    }

    /// A node shows the hosts of all.
    pub(super) fn await_all_hosts(&self, name: &str) {
        let seat = self.seat(name);
        for of in &self.seats {
            for at in 0..HOSTS {
                let host = format!("{}-{at}", of.name);
                eventually(&format!("node {name} to show {host}"), || {
                    seat.is_well(&host)
                });
            }
        }
    }

    pub(super) fn node(&self, name: &str) -> &Node {
        &self.seat(name).node
    }

    fn seat(&self, name: &str) -> &Seat {
        self.seats.iter().find(|seat| seat.name == name).unwrap()
    }

    /// Everybody hears everybody, and all hosts are well.
    pub(super) fn await_whole(&self, after: &str) {
        let begun = Instant::now();
        for seat in &self.seats {
            let others = || self.seats.iter().filter(|other| other.name != seat.name);
            eventually(
                &format!("node {} to be whole after {after}", seat.name),
                || {
                    let hears = |of: &Seat| standing(&seat.node, of.name) == "reachable";
                    let mut hosts = self.seats.iter().map(|of| format!("{}-0", of.name));
                    !is_partial(&seat.node)
                        && others().all(hears)
                        && hosts.all(|host| seat.is_well(&host))
                },
            );
        }
        eprintln!("{after}: whole after {:?}", begun.elapsed());
    }

    /// A node shows that it cannot hear this peer, and goes on with its own hosts.
    pub(super) fn await_cut(&self, name: &str, peer: &str) {
        let seat = self.seat(name);
        eventually(&format!("node {name} to miss node {peer}"), || {
            seat.lacks(peer)
        });
        assert_eq!(standing(&seat.node, peer), "unreachable");
        self.await_motion(name, name);
    }

    /// A node sees the hosts of that node move.
    pub(super) fn await_motion(&self, name: &str, of: &str) {
        let seat = self.seat(name);
        let host = format!("{of}-0");
        let before = seat.value(&host);
        eventually(&format!("node {name} to see {host} move"), || {
            before < seat.value(&host) && seat.is_well(&host)
        });
    }

    /// Ends the traffic, whose every sample must be in the books and on every node.
    pub(super) fn end(self) {
        let mut cells = Cells::new();
        let mut nodes = Vec::new();
        let first = format!("{}-0", self.seats[0].name);
        for seat in self.seats {
            let sent = seat.traffic.stop();
            let node = seat.node;
            assert!(sent.slowest < SLOW, "{}: {:?}", seat.name, sent.slowest);
            let accepted = node.metric("tidewall_samples_accepted_total");
            assert_eq!(accepted, sent.samples, "node {}", seat.name);
            eventually("the rings to drain", || {
                node.metric("tidewall_samples_aggregated_total") == accepted
            });
            eprintln!(
                "{}: {accepted} samples, slowest {:?}",
                seat.name, sent.slowest
            );
            cells.extend(sent.cells);
            nodes.push(node);
        }
        await_agreement(&nodes.iter().collect::<Vec<_>>(), &cells);
        assert_same_age(&nodes, &first);
    }
}

/// All of them know when the host was heard last.
fn assert_same_age(nodes: &[Node], name: &str) {
    let begun = Instant::now();
    let ages = nodes.iter().map(|node| {
        let shown = host(node, name).unwrap();
        assert_eq!(shown["host"]["tags"]["rack"], "0");
        shown["host"]["age_ms"].as_u64().unwrap()
    });
    let ages: Vec<u64> = ages.collect();
    let most = 1_000 + begun.elapsed().as_millis() as u64;
    let spread = ages.iter().max().unwrap() - ages.iter().min().unwrap();
    eprintln!("{name} was heard so many ms ago: {ages:?}");
    assert!(spread < most, "{ages:?}");
}

impl Seat {
    fn is_well(&self, name: &str) -> bool {
        host(&self.node, name)
            .is_some_and(|shown| shown["host"]["state"] == "ok" && shown["host"]["cause"].is_null())
    }

    fn value(&self, name: &str) -> f64 {
        let shown = host(&self.node, name);
        let value = shown.and_then(|shown| shown["host"]["metrics"]["cpu"]["value"].as_f64());
        value.unwrap_or_default()
    }

    fn lacks(&self, peer: &str) -> bool {
        let Some(shown) = host(&self.node, &format!("{peer}-0")) else {
            return false;
        };
        let cause = format!("node {peer} unreachable");
        let is_told = shown["host"]["state"] == "stale" && shown["host"]["cause"] == cause;
        is_told && shown["flags"] == serde_json::json!(["partial"])
    }
}

/// A node of this name, whether Redis is there or not.
pub(super) fn join(name: &str, url: &str, flags: &[&str]) -> Node {
    Node::start(&[&["--redis", url, "--node", name][..], flags].concat())
}
