//! WebSocket: floods of fragments and pings, messages that break the protocol, foreign pages.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::peer::{Peer, Said};
use crate::siege::{Field, MIB, PLAN, Plan, besiege};
use crate::support::{Node, PATIENCE};

const FINAL: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const OPEN: &str = "open";

/// A frame of a client, masked with zeros so that the payload stays readable.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&header(first, payload.len() as u64)[..], payload].concat()
}

/// The frame's header alone, whatever it announces.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length.to_le_bytes()[0]),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&length.to_be_bytes()[6..]);
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

pub(crate) fn handshake(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{fields}\r\n"
    )
}

pub(crate) fn open(node: &Node, path: &str, fields: &str) -> Peer {
    open_on(Peer::connect(node).unwrap(), path, fields)
}

/// Reads the answer byte by byte: what follows it is frames.
pub(crate) fn open_on(mut peer: Peer, path: &str, fields: &str) -> Peer {
    peer.stream
        .write_all(handshake(path, fields).as_bytes())
        .unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        peer.stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    peer
}

pub(crate) const BINARY_VIEWER: &str = "Sec-WebSocket-Protocol: tidewall.v1\r\n";

/// The code of the close frame among what was heard: `close 1008`.
pub(crate) fn closing(peer: &Peer) -> String {
    let mut rest = &peer.heard[..];
    while let [first, second, after @ ..] = rest {
        let be = |bytes: &[u8]| bytes.iter().fold(0, |sum, &b| sum << 8 | usize::from(b));
        let (length, start) = match second & 0x7f {
            126 if 2 <= after.len() => (be(&after[..2]), 2),
            127 if 8 <= after.len() => (be(&after[..8]), 8),
            short => (usize::from(short), 0),
        };
        let Some(payload) = after.get(start..start + length) else {
            break;
        };
        if first & 0x0f == 8 && 2 <= length {
            return format!("close {}", be(&payload[..2]));
        }
        rest = &after[start + length..];
    }
    (if peer.ended { "cut off" } else { OPEN }).to_owned()
}

/// Opens, sends the same again and again until the node has had enough, and notes its close.
fn flood(field: &Field<'_>, path: &str, fields: &str, start: &[u8], again: &[u8]) {
    let mut peer = open(field.node, path, fields);
    let mut said = peer.say(start);
    while said == Said::All && closing(&peer) == OPEN && field.goes_on() {
        said = peer.say(again);
        peer.glance();
    }
    if field.goes_on() {
        field.meets(close_of(&mut peer));
    }
}

/// Waits for the close frame, or the end.
pub(crate) fn close_of(peer: &mut Peer) -> String {
    let until = Instant::now() + PATIENCE;
    while closing(peer) == OPEN && Instant::now() < until {
        peer.listen(Duration::from_millis(10));
    }
    closing(peer)
}

/// CVE-2026-48779, CVE-2026-62389: fragments without end, with a byte in each or empty.
#[test]
fn fragment_flood() {
    let plan = Plan {
        name: "WebSocket fragment flood, empty ones too",
        answers: &["close 1008"],
        also: &["cut off"],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let payload: &[u8] = if number % 2 == 0 { b"" } else { b"x" };
        let viewer = if number < 2 {
            ("/api/live", BINARY_VIEWER)
        } else {
            ("/api/metrics", "")
        };
        // Ping between the fragments: control frames may stand there.
        let again = [frame(0, payload).repeat(16), frame(FINAL | PING, b"")].concat();
        while field.goes_on() {
            flood(field, viewer.0, viewer.1, &frame(TEXT, payload), &again);
        }
    });
}

#[test]
fn ping_flood() {
    let plan = Plan {
        name: "WebSocket ping flood",
        answers: &["close 1008"],
        also: &["cut off"],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let viewer = if number < 2 {
            ("/api/live", BINARY_VIEWER)
        } else {
            ("/api/metrics", "")
        };
        let ping = frame(FINAL | PING, &[b'p'; 125]);
        while field.goes_on() {
            flood(field, viewer.0, viewer.1, b"", &ping);
        }
    });
}

#[test]
fn messages_that_break_the_rules() {
    let plan = Plan {
        name: "WebSocket: too big, unmasked, reserved bits, bad text, binary",
        answers: &["close 1009", "close 1002", "close 1007", "close 1003"],
        also: &["cut off"],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let ingest = ("/api/metrics", "");
        let live = ("/api/live", BINARY_VIEWER);
        let unmasked = b"\x81\x02hi".to_vec();
        let cases: [((&str, &str), Vec<u8>, &str); 17] = [
            (ingest, header(FINAL | TEXT, MIB + 1), "close 1009"),
            (ingest, header(FINAL | TEXT, u64::MAX >> 1), "close 1009"),
            (ingest, frame(TEXT, &[b' '; 1 << 20]), ""),
            (live, frame(FINAL | TEXT, &[b' '; 4097]), "close 1009"),
            (live, header(FINAL | TEXT, 1 << 40), "close 1009"),
            (ingest, unmasked.clone(), "close 1002"),
            (live, unmasked, "close 1002"),
            (ingest, frame(FINAL | 0x40 | TEXT, b"hi"), "close 1002"),
            (ingest, frame(FINAL | 0x10 | TEXT, b"hi"), "close 1002"),
            (live, frame(FINAL | 3, b"hi"), "close 1002"),
            (live, frame(FINAL | 0xb, b"hi"), "close 1002"),
            (ingest, frame(PING, b"hi"), "close 1002"),
            (ingest, frame(FINAL | PING, &[b'p'; 126]), "close 1002"),
            (ingest, frame(FINAL, b"hi"), "close 1002"),
            (ingest, frame(FINAL | TEXT, b"\xff\xfe"), "close 1007"),
            (live, frame(FINAL | TEXT, b"\xed\xa0\x80"), "close 1007"),
            (ingest, frame(FINAL | BINARY, b"hi"), "close 1003"),
        ];
        for case in cases
            .iter()
            .cycle()
            .skip(number)
            .take_while(|_| field.goes_on())
        {
            let ((path, fields), bytes, expected) = case;
            let mut peer = open(field.node, path, fields);
            peer.say(bytes);
            if expected.is_empty() {
                // As large as may be, then one byte more.
                peer.say(&frame(FINAL, b"x"));
            }
            let met = close_of(&mut peer);
            let expected = if expected.is_empty() {
                "close 1009"
            } else {
                expected
            };
            let as_stated = met == *expected || met == "cut off";
            field.meets(if as_stated {
                met
            } else {
                format!("{bytes:.16?}: {met}")
            });
        }
    });
}

/// Cross-site WebSocket hijacking: a page of another origin opens the wall, or posts, through its
/// reader's browser.
#[test]
fn foreign_origins() {
    let plan = Plan {
        name: "Cross-site WebSocket hijacking",
        flags: &["--allow-origin", "https://wall.example"],
        answers: &["403 foreign_origin", "101"],
        counter: "tidewall_refusals_total",
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let foreign = [
            "null",
            "http://evil.example",
            "https://wall.example.evil.example",
            "https://evil.wall.example",
            "https://wall.example:444",
            "http://wall.example",
            "https://wall.example.",
            "https://wall.example/",
            "https://wall.example@evil.example",
            "https://wall.example https://evil.example",
            "file://",
            "",
            "x",
            "http://x:80",
            "ftp://x",
            "http://",
        ];
        let own = [
            "https://wall.example",
            "HTTPS://WALL.example",
            "http://x",
            "http://X",
        ];
        let all = foreign.map(|o| (o, "403 foreign_origin")).into_iter();
        let all: Vec<_> = all.chain(own.map(|o| (o, "101"))).collect();
        for (origin, expected) in all
            .iter()
            .cycle()
            .skip(number)
            .take_while(|_| field.goes_on())
        {
            for path in ["/api/live", "/api/metrics", "/"] {
                let mut peer = Peer::connect(field.node).unwrap();
                let request = handshake(path, &format!("Origin: {origin}\r\n"));
                peer.say(request.as_bytes());
                while peer.answers().is_empty() && !peer.listen(Duration::from_millis(1)) {}
                let answered = &peer.answers()[0];
                let met = match answered.reason.as_str() {
                    "" => answered.status.to_string(),
                    reason => format!("{} {reason}", answered.status),
                };
                let as_stated = met == *expected;
                field.meets(if as_stated {
                    met
                } else {
                    format!("{path} {origin:?}: {met}")
                });
            }
        }
    });
}

/// Messages to a dashboard's control channel as fast as they go, answers read or not.
#[test]
fn control_floods() {
    let plan = Plan {
        name: "Viewer control floods: sub/unsub, views, resync, play, nonsense",
        attackers: 5,
        growth_max: 32 * MIB,
        kept_max: 8 * MIB,
        counter: "",
        also: &[
            "served",
            "close 1008",
            "close 1013",
            "close 4008",
            "cut off",
        ],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let sub = |id: usize| {
            let (slow, value) = (id % 7, id % 977);
            let view =
                format!(r#"{{"kind":"map","metric":"honest","where":"k{slow}!={value}","hz":10}}"#);
            frame(
                FINAL | TEXT,
                format!(r#"{{"op":"sub","id":{id},"view":{view}}}"#).as_bytes(),
            )
        };
        let op = |text: &str| frame(FINAL | TEXT, text.as_bytes()).repeat(500);
        let storms = [
            (0..500)
                .flat_map(|id| {
                    let unsub = format!(r#"{{"op":"unsub","id":{id}}}"#);
                    [sub(id), frame(FINAL | TEXT, unsub.as_bytes())].concat()
                })
                .collect::<Vec<u8>>(),
            (0..500).flat_map(sub).collect(),
            [sub(1), op(r#"{"op":"resync","id":1}"#)].concat(),
            op(r#"{"op":"play"}"#),
            op("x"),
        ];
        while field.goes_on() {
            let mut peer = open(field.node, "/api/live", BINARY_VIEWER);
            while field.goes_on() && peer.say(&storms[number]) == Said::All {
                peer.glance();
            }
            field.meets(if closing(&peer) == OPEN {
                "served".to_owned()
            } else {
                closing(&peer)
            });
        }
    });
}
