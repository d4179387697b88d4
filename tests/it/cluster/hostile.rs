//! Whoever reaches Redis and has not the key: heard, counted, and of no effect.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::cmd;
use tidewall::clock::wall_ms;
use tidewall::cluster::wire::{Body, Head, Kind, Picture as Content, Seal, encode};
use tidewall::limits::{
    CLUSTER_CHANNELS, CLUSTER_MESSAGE_BYTES_MAX, CLUSTER_UNPARSED_BYTES_MAX, MIB, PEERS_MAX,
};

use super::wall::{Cells, Picture, Traffic, await_agreement, host, is_partial, join, standing};
use crate::history::Scratch;
use crate::redis_server::{RedisServer, command};
use crate::support::{Node, Random, eventually};

const SECRET: [u8; 32] = *b"thirty-two bytes of a known key.";

/// Two nodes with a key, what they show, and what they said.
struct Target {
    server: RedisServer,
    nodes: [Node; 2],
    cells: Cells,
    recorded: Vec<(String, Vec<u8>)>,
    _folder: Scratch,
}

type Counts = BTreeMap<String, u64>;

impl Target {
    fn start(name: &str) -> Target {
        let folder = Scratch::new(name);
        std::fs::create_dir_all(folder.path()).unwrap();
        let file = format!("{}/key", folder.path());
        std::fs::write(&file, SECRET).unwrap();
        let server = RedisServer::start(&[]);
        let nodes = ["a", "b"].map(|name| join(name, &server.url(), &["--cluster-key", &file]));
        let traffic = ["a", "b"].iter().zip(&nodes);
        let traffic: Vec<_> = traffic
            .map(|(name, node)| Traffic::start(name, node))
            .collect();
        let recorded = record(&server);
        let cells = traffic.into_iter().flat_map(|traffic| traffic.stop().cells);
        let target = Target {
            cells: cells.collect(),
            server,
            nodes,
            recorded,
            _folder: folder,
        };
        target.await_peace();
        target
    }

    fn await_peace(&self) {
        let [a, b] = &self.nodes;
        eventually("nodes that hear each other", || {
            let hears = |node, peer| standing(node, peer) == "reachable" && !is_partial(node);
            hears(a, "b") && hears(b, "a")
        });
        await_agreement(&[a, b], &self.cells);
    }

    fn key_file(&self) -> String {
        format!("{}/key", self._folder.path())
    }

    fn publish(&self, channel: &str, message: &[u8]) {
        let mut publish = cmd("PUBLISH");
        let heard: usize = self.server.ask(publish.arg(channel).arg(message));
        assert_eq!(heard, self.nodes.len(), "all listen");
    }

    /// On the channel of nobody in particular.
    fn say(&self, message: &[u8]) {
        self.publish("{tidewall:7}:frames", message);
    }

    /// Says it all; of every reason so many more messages must be refused then, by each node in
    /// turn, and nothing else must happen.
    fn check(&self, what: &str, say: impl FnOnce(), refused: [&[(&str, u64)]; 2]) {
        let before = self.nodes.each_ref().map(counts);
        let pictures = self.nodes.each_ref().map(|node| Picture::of(node).cells);
        say();
        for (at, node) in self.nodes.iter().enumerate() {
            let mut expected = before[at].clone();
            for &(reason, more) in refused[at] {
                *expected.get_mut(reason).unwrap() += more;
            }
            eventually(&format!("{what}: {:?}", refused[at]), || {
                let now = counts(node);
                assert!(
                    now.iter().all(|(name, count)| *count <= expected[name]),
                    "{what}: {now:?}"
                );
                now == expected
            });
            assert_eq!(Picture::of(node).cells, pictures[at], "{what}");
            assert!(!is_partial(node), "{what}");
        }
    }
}

/// Refused messages by reason, and what tells of the link.
fn counts(node: &Node) -> Counts {
    let text = node.get("/metrics").body;
    let count = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        let name = name.strip_prefix("tidewall_cluster_")?;
        let reason = name
            .strip_prefix("refused_total{reason=\"")
            .and_then(|rest| rest.strip_suffix("\"}"));
        let link = ["links_total", "link_errors_total", "inbox_dropped_total"];
        let name = reason.or(link.into_iter().find(|&of| of == name))?;
        Some((name.to_owned(), value.parse().unwrap()))
    };
    let counts: Counts = text.lines().filter_map(count).collect();
    assert_eq!(counts.len(), 12, "{text}");
    counts
}

/// What nodes say in a second, by channel.
fn record(server: &RedisServer) -> Vec<(String, Vec<u8>)> {
    let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut ear = connection.as_pubsub();
    ear.psubscribe("{tidewall:*").unwrap();
    let until = Instant::now() + Duration::from_secs(1);
    let mut recorded = Vec::new();
    while Instant::now() < until {
        let message = ear.get_message().unwrap();
        let channel = message.get_channel_name().to_owned();
        recorded.push((channel, message.get_payload_bytes().to_vec()));
    }
    recorded
}

/// Messages of one node among the recorded.
fn of_node<'a>(recorded: &'a [(String, Vec<u8>)], node: &str) -> Vec<&'a (String, Vec<u8>)> {
    let name = node.as_bytes();
    let is_of =
        |message: &[u8]| usize::from(message[4]) == name.len() && message[5..].starts_with(name);
    recorded
        .iter()
        .filter(|(_, message)| is_of(message))
        .collect()
}

fn sealed(secret: &[u8], node: &str, kind: Kind, body: &Body, seq: u64, off_ms: i64) -> Vec<u8> {
    let mut message = Vec::new();
    let head = Head {
        kind,
        node,
        epoch: 1,
        seq,
        mono_ms: 1_000_000,
        wall_ms: wall_ms() + off_ms,
    };
    encode(&head, body, &Seal::new(secret), &mut message);
    message
}

fn empty(secret: &[u8], node: &str, off_ms: i64) -> Vec<u8> {
    sealed(
        secret,
        node,
        Kind::Delta,
        &Body::Delta(Content::default()),
        1,
        off_ms,
    )
}

fn both<'a>(refused: &'a [(&'a str, u64)]) -> [&'a [(&'a str, u64)]; 2] {
    [refused, refused]
}

#[test]
fn messages_without_the_key_change_nothing() {
    let target = Target::start("hostile");
    let recorded = &target.recorded;
    let (of_a, of_b) = (of_node(recorded, "a"), of_node(recorded, "b"));
    assert!(
        10 < of_a.len() && 10 < of_b.len(),
        "{} messages",
        recorded.len()
    );
    let forged = empty(&[7; 32], "x", 0);
    target.check(
        "another key",
        || target.say(&forged),
        both(&[("forged", 1)]),
    );
    let mut random = Random(2026);
    let flipped = 200;
    let flip = || {
        for _ in 0..flipped {
            let (channel, message) = &recorded[random.below(recorded.len() as u64) as usize];
            let mut message = message.clone();
            // Past the mark and the version, which have reasons of their own.
            let at = 3 + random.below(message.len() as u64 - 3) as usize;
            message[at] ^= 1 << random.below(8);
            target.publish(channel, &message);
        }
    };
    target.check("flipped bits", flip, both(&[("forged", flipped)]));
    let (channel, whole) = of_a[0];
    let cut = || {
        for bytes in 0..whole.len() {
            target.publish(channel, &whole[..bytes]);
        }
    };
    // Of what is too short for a seal nobody can say who forged it.
    let short = 53.min(whole.len());
    let counts = [
        ("malformed", short as u64),
        ("forged", (whole.len() - short) as u64),
    ];
    target.check("cut short", cut, both(&counts));
    let mut other = of_a[0].1.clone();
    other[2] += 1;
    target.check(
        "another version",
        || target.say(&other),
        both(&[("version", 1)]),
    );
    let again = || {
        for (channel, message) in recorded {
            target.publish(channel, message);
        }
    };
    // To the one who said it, it is its own word that comes back.
    let (of_a, of_b) = ([("old", of_a.len() as u64)], [("old", of_b.len() as u64)]);
    target.check("said again", again, [&of_b, &of_a]);
    target.await_peace();
}

#[test]
fn messages_with_the_key_are_of_now_and_of_nodes_that_are_there() {
    let target = Target::start("hostile-key");
    for off_ms in [-120_000, 120_000] {
        let off = empty(&SECRET, "x", off_ms);
        target.check("another time", || target.say(&off), both(&[("skew", 1)]));
    }
    // An earlier start of a node that is there: to itself another that has its name.
    let own = empty(&SECRET, "a", 0);
    target.check(
        "a name twice",
        || target.say(&own),
        [&[("name", 1)], &[("old", 1)]],
    );
    let keyframe = Body::Keyframe(Content::default());
    let misplaced = sealed(&SECRET, "x", Kind::Keyframe, &keyframe, 1, 0);
    target.check(
        "a keyframe by channel",
        || target.say(&misplaced),
        both(&[("malformed", 1)]),
    );
    let [a, b] = &target.nodes;
    let crowd = |kind: Kind, body: &Body| {
        for at in 0..PEERS_MAX + 2 {
            let name = format!("{kind:?}-{at}");
            target.say(&sealed(&SECRET, &name, kind, body, 1, 0));
        }
    };
    // Those who left make room for others.
    target.check(
        "a crowd that left",
        || crowd(Kind::Bye, &Body::Bye),
        both(&[]),
    );
    // Each takes its one peer and so many more, and misses them then.
    let refused = |node: &Node| counts(node)["crowd"];
    crowd(Kind::Delta, &Body::Delta(Content::default()));
    for (node, peer) in [(a, "b"), (b, "a")] {
        eventually("a crowd", || refused(node) == 3);
        assert_eq!(standing(node, peer), "reachable");
        eventually("a node that misses them", || is_partial(node));
    }
    await_agreement(&[a, b], &target.cells);
}

#[test]
fn messages_too_long_cost_a_link_at_most() {
    let target = Target::start("hostile-long");
    let longer = vec![7; CLUSTER_MESSAGE_BYTES_MAX + 1];
    target.check(
        "a byte too long",
        || target.say(&longer),
        both(&[("inbox_dropped_total", 1)]),
    );
    let errors = |node: &Node| counts(node)["link_errors_total"];
    let before = target.nodes.each_ref().map(errors);
    target.say(&vec![7; CLUSTER_UNPARSED_BYTES_MAX + MIB]);
    for (node, before) in target.nodes.iter().zip(before) {
        eventually("a link that ends", || before < errors(node));
    }
    target.await_peace();
}

/// The keys belong to whoever reaches Redis, too.
#[test]
fn keyframes_without_the_key_change_nothing() {
    let target = Target::start("hostile-keys");
    let set = |key: &str, value: &[u8]| {
        let mut set = cmd("SET");
        target.server.ask::<()>(set.arg(key).arg(value));
    };
    let keys: Vec<String> = target.server.ask(&command("KEYS *:key:a"));
    let mut get = cmd("GET");
    let of_a: Vec<u8> = target.server.ask(get.arg(&keys[0]));
    let (seconds, _): (i64, i64) = target.server.ask(&command("TIME"));
    let old = sealed(
        &SECRET,
        "old",
        Kind::Keyframe,
        &Body::Keyframe(Content::default()),
        1,
        -90_000,
    );
    for (name, value) in [
        ("noise", &[7; 100][..]),
        ("short", b"TW"),
        ("forged", &empty(&[7; 32], "forged", 0)),
        ("other", &of_a),
        ("old", &old),
        // What a node left before it came back, and is its own.
        ("c", &of_a),
    ] {
        for channel in 0..CLUSTER_CHANNELS {
            set(&format!("{{tidewall:{channel}}}:key:{name}"), value);
        }
        let mut add = cmd("ZADD");
        add.arg("{tidewall:0}:nodes").arg(seconds * 1_000).arg(name);
        target.server.ask::<usize>(&add);
    }
    let c = join(
        "c",
        &target.server.url(),
        &["--cluster-key", &target.key_file()],
    );
    eventually("keyframes that are refused", || {
        let counts = counts(&c);
        let refused = |reason: &str| counts[reason];
        let found = ["forged", "malformed", "skew", "name"].map(refused);
        // Noise and the short one are no messages; one is of another node.
        found == [1, 3, 1, 1]
    });
    let [a, b] = &target.nodes;
    await_agreement(&[a, b, &c], &target.cells);
    assert!(!is_partial(&c));
    assert!(host(&c, "a-0").is_some());
}
