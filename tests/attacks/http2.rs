//! HTTP/2: resets, floods of frames that cost nothing, bombs of header fields.

mod broken;

use std::time::Duration;

use crate::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, H2, HEADERS, INITIAL_WINDOW_SIZE, NEWEST, PING,
    PRIORITY, SETTINGS, frame, indexed_literal, request, reset, window_update,
};
use crate::peer::Said;
use crate::siege::{Field, MIB, PLAN, Plan, besiege};

pub(crate) const FLOOD: &str = "tidewall_refusals_total{reason=\"http2_flood\"}";
pub(crate) const CALM: &str = "GOAWAY ENHANCE_YOUR_CALM";

/// An attack that ends in GOAWAY ENHANCE_YOUR_CALM, again and again.
const CALMED: Plan = Plan {
    counter: FLOOD,
    answers: &[CALM],
    // What it had sent beyond turned the node's close into a reset before it read.
    also: &["cut off"],
    ..PLAN
};

/// Sends what `next` gives until the node has had enough; notes how it ended.
fn flood(field: &Field<'_>, mut next: impl FnMut(u32) -> Vec<u8>) {
    while field.goes_on() {
        let mut h2 = H2::open(field.node, &[]);
        let mut round = 0;
        while field.goes_on() && h2.goaway().is_none() && !h2.peer.ended {
            if h2.say(&next(round)) == Said::Broken {
                break;
            }
            h2.glance();
            round += 1;
        }
        if field.goes_on() {
            field.meets(h2.verdict());
        }
    }
}

/// The client's streams of one round, `count` each.
fn streams(round: u32, count: u32) -> impl Iterator<Item = u32> {
    (round * count..(round + 1) * count).map(|at| 2 * at + 1)
}

/// HEADERS that end the stream.
fn whole(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, fields)
}

/// HEADERS of a request whose body is still to come.
fn begun(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, fields)
}

/// CVE-2023-44487. In one breath, so that streams are gone before the node saw them; or with a
/// pause, so that work was begun for each.
#[test]
fn rapid_reset() {
    let plan = Plan {
        name: "HTTP/2 rapid reset",
        ..CALMED
    };
    let fields = request("GET", "/api/snapshot", &[]);
    let body = request("POST", "/api/metrics", &[]);
    besiege(&plan, |field, number| {
        flood(field, |round| match (number % 3, round % 2) {
            (0, _) => {
                let pair = |id| [whole(id, &fields), reset(id)].concat();
                streams(round, 10).flat_map(pair).collect()
            }
            (_, 1) => streams(round / 2, 50).flat_map(reset).collect(),
            (1, _) => streams(round / 2, 50)
                .flat_map(|id| whole(id, &fields))
                .collect(),
            (_, _) => streams(round / 2, 50)
                .flat_map(|id| begun(id, &body))
                .collect(),
        });
    });
}

/// CVE-2025-8671, MadeYouReset: faults for which the server itself resets the stream.
#[test]
fn made_you_reset() {
    let plan = Plan {
        name: "HTTP/2 MadeYouReset, four triggers",
        ..CALMED
    };
    let post = request("POST", "/api/metrics", &[("content-length", "5")]);
    besiege(&plan, |field, number| {
        flood(field, |round| {
            let trigger = |id: u32| match number % 4 {
                0 => window_update(id, 0x7fff_ffff),
                1 => frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat()),
                2 => frame(DATA, 0, id, b"more than five"),
                _ => frame(DATA, END_STREAM, id, b"few"),
            };
            let pair = |id| [begun(id, &post), trigger(id)].concat();
            streams(round, 5).flat_map(pair).collect()
        });
    });
}

/// CVE-2024-27316 and its kind: a head that never ends, in frames large, small or empty.
#[test]
fn continuation_flood() {
    let plan = Plan {
        name: "HTTP/2 CONTINUATION flood",
        ..CALMED
    };
    let fields = request("GET", "/healthz", &[]);
    besiege(&plan, |field, number| {
        let more = [
            Vec::new(),
            crate::h2::literal("a", "b"),
            crate::h2::literal("a", &"b".repeat(16_000)),
            vec![NEWEST; 10_000],
        ];
        flood(field, |round| match round {
            0 => {
                let first = [&fields[..], &indexed_literal("a", "b")].concat();
                frame(HEADERS, END_STREAM, 1, &first)
            }
            _ => frame(CONTINUATION, 0, 1, &more[number % 4]),
        });
    });
}

/// CVE-2026-49975, CVE-2026-47774: one-byte references to a field in the dynamic table unfold to
/// many, and a shut window makes the node hold them. The connections stay and their memory is
/// looked at: 4 MB each at most.
#[test]
fn hpack_bomb() {
    const CONNECTIONS: usize = 20;
    let plan = Plan {
        name: "HTTP/2 HPACK bomb behind a shut window, 20 connections",
        attackers: CONNECTIONS,
        growth_max: CONNECTIONS as u64 * 4 * MIB,
        counter: "tidewall_refusals_total{reason=\"head_too_large\"}",
        answers: &["431", "held", CALM],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let mut h2 = H2::open(field.node, &[(INITIAL_WINDOW_SIZE, 0)]);
        let post = request("POST", "/api/metrics", &[]);
        let (entry, references) = match number % 4 {
            // As many fields as the list may have; more than that; and few, but large ones.
            0 | 1 => (indexed_literal("a", ""), 480),
            2 => (indexed_literal("a", ""), 4_000),
            _ => (indexed_literal("a", &"b".repeat(4_000)), 2),
        };
        let first = [&post[..], &entry].concat();
        h2.say(&begun(1, &first));
        let bomb = [&post[..], &vec![NEWEST; references]].concat();
        for id in streams(0, 100).skip(1) {
            h2.say(&begun(id, &bomb));
        }
        match number % 4 {
            3 => field.meets("held"),
            _ => field.meets(h2.fate_of(3)),
        }
        field.rest(Duration::from_secs(3600));
    });
}

/// CVE-2019-9518, RUSTSEC-2026-0258: DATA frames with nothing in them, or next to nothing.
#[test]
fn empty_data_flood() {
    let plan = Plan {
        name: "HTTP/2 empty DATA flood",
        ..CALMED
    };
    let post = request("POST", "/api/metrics", &[]);
    besiege(&plan, |field, number| {
        flood(field, |round| match round {
            0 => begun(1, &post),
            _ if number % 2 == 0 => frame(DATA, 0, 1, b"").repeat(100),
            // Padding counts, and carries nothing either.
            _ => frame(DATA, 0x8, 1, &[3, 0, 0, 0]).repeat(100),
        });
    });
}

#[test]
fn one_byte_data_flood() {
    let plan = Plan {
        name: "HTTP/2 DATA of one byte",
        also: &["400", "cut off", CALM],
        answers: &[],
        counter: "",
        // A turn's frames, each with its record in h2, are 2 MB; connections that have ended stay
        // for LINGER_TIMEOUT, so there are more of them than attackers.
        growth_max: 64 * 2 * MIB,
        ..PLAN
    };
    let post = request("POST", "/api/metrics", &[]);
    besiege(&plan, |field, _| {
        while field.goes_on() {
            let mut h2 = H2::open(field.node, &[]);
            h2.say(&begun(1, &post));
            let mut bytes = 0;
            while field.goes_on() && bytes < 200_000 && h2.goaway().is_none() && !h2.peer.ended {
                h2.say(&frame(DATA, 0, 1, b" ").repeat(1_000));
                h2.glance();
                bytes += 1_000;
            }
            h2.say(&frame(DATA, END_STREAM, 1, b""));
            field.meets(h2.fate_of(1));
        }
    });
}

/// CVE-2019-9512, -9515: frames that want an answer, or a look at a table, and carry nothing.
#[test]
fn control_frame_floods() {
    let plan = Plan {
        name: "HTTP/2 PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM floods",
        attackers: 6,
        ..CALMED
    };
    let fields = request("GET", "/healthz", &[]);
    besiege(&plan, |field, number| {
        flood(field, |round| {
            let priority = |id: u32| frame(PRIORITY, 0, id, &[0, 0, 0, 0, 7]);
            match number % 6 {
                0 => frame(PING, 0, 0, b"12345678").repeat(100),
                1 => frame(SETTINGS, 0, 0, b"").repeat(100),
                2 => streams(round, 100).flat_map(priority).collect(),
                3 => window_update(0, 1).repeat(100),
                4 if round == 0 => whole(1, &fields),
                4 => reset(1).repeat(100),
                _ => frame(0xbe, 0, 0, b"").repeat(100),
            }
        });
    });
}

/// More streams than are allowed, again and again.
#[test]
fn stream_exhaustion() {
    let plan = Plan {
        name: "HTTP/2 streams past MAX_CONCURRENT_STREAMS",
        answers: &["RST_STREAM REFUSED_STREAM", CALM],
        ..CALMED
    };
    let post = request("POST", "/api/metrics", &[]);
    besiege(&plan, |field, _| {
        let mut h2 = H2::open(field.node, &[]);
        for id in streams(0, 101) {
            h2.say(&begun(id, &post));
        }
        field.meets(h2.fate_of(201));
        flood(field, |round| {
            streams(round, 10).flat_map(|id| begun(id, &post)).collect()
        });
    });
}
