//! HTTP/1.1: heads that are bombs, bodies in crumbs, requests by the thousand.

use std::time::Duration;

use crate::peer::{Peer, Said};
use crate::siege::{KIB, MIB, PLAN, Plan, besiege};

/// A head bomb of one of three kinds: too many fields, too many bytes, too long a target.
#[test]
fn header_bomb() {
    let plan = Plan {
        name: "Header bomb",
        answers: &["431 head_too_large", "414 target_too_long"],
        // A peer that goes on sending after LINGER_BYTES_MAX is cut off before it reads.
        also: &["cut off"],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let start = "GET / HTTP/1.1\r\nHost: x\r\n";
        let bombs = [
            format!("{start}{}\r\n", "A: b\r\n".repeat(65)),
            format!("{start}{}\r\n", "A: b\r\n".repeat(100_000)),
            format!("{start}A: {}\r\n\r\n", "b".repeat(16 * 1024)),
            format!("{start}{}: b\r\n\r\n", "a".repeat(1 << 20)),
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(4096)),
            format!("GET /{}", "a".repeat(1 << 20)),
        ];
        for bomb in bombs
            .iter()
            .cycle()
            .skip(number)
            .take_while(|_| field.goes_on())
        {
            let mut peer = Peer::connect(field.node).unwrap();
            peer.say(bomb.as_bytes());
            peer.listen_to_the_end();
            field.meets(peer.verdict());
        }
    });
}

/// CVE-2023-43669: a head in crumbs made a server parse it anew with each, minutes of one core.
#[test]
fn dribbled_head() {
    let plan = Plan {
        name: "Dribbled head",
        attackers: 8,
        answers: &["408 too_slow"],
        // Crumbs that the kernel put together arrive as few reads; then the size ends it.
        also: &["431 head_too_large", "cut off"],
        ..PLAN
    };
    besiege(&plan, |field, _| {
        while field.goes_on() {
            let mut peer = Peer::connect(field.node).unwrap();
            peer.say(b"GET / HTTP/1.1\r\nHost: x\r\nA: ");
            while field.goes_on() && !peer.ended && peer.heard.is_empty() {
                if peer.say(b"b") == Said::Broken {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
                peer.glance();
            }
            if peer.ended || !peer.heard.is_empty() {
                peer.listen_to_the_end();
                field.meets(peer.verdict());
            }
        }
    });
}

/// Node CVE-2024-22019, Go CVE-2023-39326: bytes of framing without end around hardly any data.
#[test]
fn tiny_chunks() {
    let plan = Plan {
        name: "Tiny chunks, chunk extensions, endless trailers",
        answers: &["400 bad_chunk", "431 head_too_large"],
        also: &["cut off"],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let head = "POST /api/metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let extension = format!("1;{}\r\n \r\n", "e".repeat(16 * 1024));
        let bombs = [
            format!("{head}{}", "1\r\n \r\n".repeat(1_000)),
            format!("{head}{}", "f\r\n               \r\n".repeat(1_000)),
            format!("{head}{extension}"),
            format!("{head}0\r\n{}", "A: b\r\n".repeat(9)),
            format!("{head}0\r\nA: {}", "b".repeat(1 << 20)),
        ];
        for bomb in bombs
            .iter()
            .cycle()
            .skip(number)
            .take_while(|_| field.goes_on())
        {
            let mut peer = Peer::connect(field.node).unwrap();
            peer.say(bomb.as_bytes());
            peer.listen_to_the_end();
            field.meets(peer.verdict());
        }
    });
}

/// Requests by the thousand on one connection; who reads is answered in order, who does not is not
/// read from any more.
#[test]
fn pipelining_flood() {
    let plan = Plan {
        name: "Pipelining flood",
        attackers: 12,
        // Answers up to PIPELINE_OUT_BYTES_MAX and one more, one read's worth of requests.
        growth_max: 12 * 3 * 64 * KIB + 8 * MIB,
        counter: "tidewall_requests_total",
        answers: &["every answer", "reading stopped"],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        while number % 2 == 0 && field.goes_on() {
            let mut http = field.node.connect();
            http.send(requests.as_bytes()).unwrap();
            let good = (0..100).all(|_| http.read().is_some_and(|answer| answer.status == 200));
            field.meets(if good {
                "every answer"
            } else {
                "an answer is missing"
            });
        }
        if number % 2 == 1 {
            let mut peer = Peer::deaf(field.node).unwrap();
            while field.goes_on() && peer.say(requests.as_bytes()) == Said::All {}
            field.meets("reading stopped");
            field.rest(Duration::from_secs(3600));
        }
    });
}

/// Bodies that come but for their last bytes, by length and in chunks: what a core holds of them is
/// bounded, and an honest body that comes in pieces still gets in.
#[test]
fn hoarded_bodies() {
    const CONNECTIONS: usize = 100;
    let plan = Plan {
        name: "100 bodies of 8 MiB, all but their end",
        attackers: CONNECTIONS,
        seconds_min: 3,
        // CARRY_BYTES_MAX on each of two cores, and a quarter more for small bodies.
        growth_max: 2 * (256 + 64) * MIB + 64 * MIB,
        counter: "tidewall_refusals_total{reason=\"busy\"}",
        answers: &["held", "503 busy"],
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let size = 8 << 20;
        let (framing, piece) = match number % 2 {
            0 => (format!("Content-Length: {size}"), " ".repeat(64 * 1024)),
            _ => (
                "Transfer-Encoding: chunked".to_owned(),
                format!("10000\r\n{}\r\n", " ".repeat(64 * 1024)),
            ),
        };
        let mut peer = Peer::connect(field.node).unwrap();
        peer.say(format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n").as_bytes());
        for _ in 0..127 {
            // Stuck: part of the piece is under way, and the node holds what came before.
            if peer.say(piece.as_bytes()) != Said::All || !peer.heard.is_empty() {
                break;
            }
            peer.glance();
        }
        field.rest(Duration::from_secs(3600));
        peer.glance();
        field.meets(match peer.verdict().as_str() {
            "open" => "held".to_owned(),
            verdict => verdict.trim_end_matches(", open").to_owned(),
        });
    });
}
