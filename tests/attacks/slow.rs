//! Peers that take their time. They mostly wait for the node's timeouts, so all of them go on at
//! once, each on a node of its own, unless they are measured.

use std::thread;
use std::time::{Duration, Instant};

use crate::h2::{DATA, H2, INITIAL_WINDOW_SIZE, PREFACE, frame, request, window_update};
use crate::http2::CALM;
use crate::peer::Peer;
use crate::siege::{Field, KIB, MIB, PLAN, Plan, besiege, besiege_node, counter, is_long, start};
use crate::support::PATIENCE;
use crate::tls::secure;
use crate::websocket::{BINARY_VIEWER, close_of, header, open, open_on};

#[test]
fn attacks_that_wait() {
    let attacks: &[fn()] = &[
        slow_head,
        slow_body,
        slow_body_over_http2,
        slow_read,
        shut_windows,
        handshakes_that_never_come,
        unfinished_messages,
        viewers_that_never_read,
        viewers_that_never_acknowledge,
        sockets_that_never_answer,
        tls_handshakes_that_never_finish,
    ];
    if is_long() {
        return attacks.iter().for_each(|attack| attack());
    }
    thread::scope(|scope| {
        for attack in attacks {
            scope.spawn(attack);
        }
    });
}

const SLOW: Plan = Plan {
    honest: 6,
    counter: "tidewall_refusals_total{reason=\"too_slow\"}",
    ..PLAN
};

/// Holds `count` connections and feeds each a little every so often, until it is told off; then
/// another takes its place. No connection is told off before `patience` has passed.
fn dribble(
    field: &Field<'_>,
    count: usize,
    patience: Duration,
    mut begin: impl FnMut(usize) -> Peer,
    crumb: &[u8],
) {
    let mut peers: Vec<(Peer, Instant)> = Vec::new();
    while field.goes_on() {
        while peers.len() < count {
            peers.push((begin(peers.len()), Instant::now()));
        }
        peers.retain_mut(|(peer, since)| {
            peer.say(crumb);
            peer.glance();
            if !peer.ended && peer.heard.is_empty() {
                return true;
            }
            let lasted = since.elapsed();
            peer.listen_to_the_end();
            let early = lasted + Duration::from_millis(500) < patience;
            let told = peer.verdict();
            field.meets(if early {
                format!("{told} after {lasted:?}")
            } else {
                told
            });
            false
        });
        field.rest(Duration::from_millis(500));
    }
}

/// CVE-2007-6750, slowloris.
fn slow_head() {
    let plan = Plan {
        name: "Slow head, 100 connections",
        seconds_min: 13,
        answers: &["408 too_slow"],
        ..SLOW
    };
    besiege(&plan, |field, _| {
        let begin = |_| {
            let mut peer = Peer::connect(field.node).unwrap();
            peer.say(b"GET / HTTP/1.1\r\nHost: x\r\nA: ");
            peer
        };
        dribble(field, 25, Duration::from_secs(10), begin, b"b");
    });
}

/// RUDY: by length or in chunks, and behind a head as large as may be.
fn slow_body() {
    let plan = Plan {
        name: "Slow body, 100 connections",
        seconds_min: 9,
        answers: &["408 too_slow"],
        ..SLOW
    };
    besiege(&plan, |field, number| {
        let begin = |at: usize| {
            let mut peer = Peer::connect(field.node).unwrap();
            let pad = "a".repeat(at % 2 * 15 * 1024);
            let length = match number % 2 {
                0 => "Content-Length: 1000000\r\n\r\n",
                _ => "Transfer-Encoding: chunked\r\n\r\nfff\r\n",
            };
            peer.say(
                format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nA: {pad}\r\n{length}").as_bytes(),
            );
            peer
        };
        dribble(field, 25, Duration::from_secs(5), begin, b" ");
    });
}

/// The same on streams of HTTP/2, which declare more than they bring: what was declared may not
/// shut out an honest body that comes in pieces.
fn slow_body_over_http2() {
    let plan = Plan {
        name: "HTTP/2 slow bodies, 100 streams of 8 MiB declared on each connection",
        attackers: 5,
        seconds_min: 9,
        answers: &["408", "honest 201"],
        // For what it goes on sending on streams that were answered and reset.
        also: &[CALM],
        ..SLOW
    };
    besiege(&plan, |field, number| {
        if number == 4 {
            return post_large_bodies(field);
        }
        let post = request("POST", "/api/metrics", &[("content-length", "8388608")]);
        while field.goes_on() {
            let mut h2 = H2::open(field.node, &[]);
            let streams = || (0..100).map(|at| 2 * at + 1);
            streams().for_each(|id| {
                h2.ask(id, &post, false);
            });
            while field.goes_on() && h2.status_of(1).is_none() && !h2.peer.ended {
                let crumbs = streams().flat_map(|id| frame(DATA, 0, id, b" "));
                h2.say(&crumbs.collect::<Vec<u8>>());
                field.rest(Duration::from_secs(1));
                h2.glance();
            }
            if field.goes_on() {
                field.meets(h2.fate_of(1));
            }
        }
    });
}

/// An honest client whose bodies are larger than one read.
fn post_large_bodies(field: &Field<'_>) {
    let pad = " ".repeat(100 * 1024);
    let body = format!(r#"{pad}{{"host":"large","metrics":{{"honest":1}}}}{pad}"#);
    while field.goes_on() {
        let mut http = field.node.connect();
        let length = body.len();
        let head =
            format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        http.send(head.as_bytes()).unwrap();
        for piece in body.as_bytes().chunks(60 * 1024) {
            let _ = http.send(piece);
            thread::sleep(Duration::from_millis(20));
        }
        let answer = http.read();
        let status = answer.map_or("cut off".to_owned(), |answer| answer.status.to_string());
        field.meets(format!("honest {status}"));
        field.rest(Duration::from_millis(500));
    }
}

/// Answers asked for and never read, or read in sips.
fn slow_read() {
    let plan = Plan {
        name: "Slow read, 40 connections",
        seconds_min: 16,
        // Answers, and requests that wait for them to go.
        growth_max: 40 * 3 * 64 * KIB + 8 * MIB,
        answers: &["cut off"],
        ..SLOW
    };
    besiege(&plan, |field, number| {
        let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2_000);
        let mut peers: Vec<Peer> = (0..10).map(|_| Peer::deaf(field.node).unwrap()).collect();
        for peer in &mut peers {
            peer.say(requests.as_bytes());
        }
        while field.goes_on() && !peers.is_empty() {
            peers.retain_mut(|peer| {
                if number % 2 == 1 {
                    peer.sip(300);
                }
                // Only what is sent tells of a reset while nothing is read.
                if !peer.is_broken() {
                    return true;
                }
                field.meets("cut off");
                false
            });
            field.rest(Duration::from_secs(1));
        }
    });
}

/// CVE-2019-9511, -9517: large answers for windows that stay shut, or open by a byte a second.
fn shut_windows() {
    let plan = Plan {
        name: "HTTP/2 windows that stay shut, 8 connections",
        attackers: 8,
        seconds_min: 16,
        // 100 answers of 32 KiB for each connection.
        growth_max: 8 * 100 * 32 * KIB,
        counter: "tidewall_refusals_total{reason=\"stalled_stream\"}",
        answers: &[CALM],
        ..SLOW
    };
    besiege(&plan, |field, number| {
        let get = request("GET", "/metrics", &[]);
        while field.goes_on() {
            let mut h2 = H2::open(field.node, &[(INITIAL_WINDOW_SIZE, 0)]);
            for at in 0..100 {
                h2.ask(2 * at + 1, &get, true);
            }
            while field.goes_on() && h2.goaway().is_none() && !h2.peer.ended {
                if number % 2 == 1 {
                    let sips = (0..100).flat_map(|at| window_update(2 * at + 1, 1));
                    h2.say(&sips.collect::<Vec<u8>>());
                }
                field.rest(Duration::from_secs(2));
                h2.glance();
            }
            if field.goes_on() {
                field.meets(h2.verdict());
            }
        }
    });
}

/// HTTP/2's preface in part, or nothing after it.
fn handshakes_that_never_come() {
    let plan = Plan {
        name: "HTTP/2 preface that never comes whole",
        seconds_min: 13,
        answers: &["408 too_slow"],
        also: &["cut off"],
        ..SLOW
    };
    besiege(&plan, |field, number| {
        let start = &PREFACE[..[10, 23][number % 2]];
        let begin = |_| {
            let mut peer = Peer::connect(field.node).unwrap();
            peer.say(start);
            peer
        };
        dribble(field, 25, Duration::from_secs(10), begin, b"");
    });
}

/// A message of a mebibyte of which the rest comes byte by byte, or fragment by fragment.
fn unfinished_messages() {
    const CONNECTIONS: u64 = 40;
    let plan = Plan {
        name: "Unfinished WebSocket messages, 40 of half a mebibyte",
        seconds_min: 13,
        growth_max: CONNECTIONS * 2 * MIB,
        answers: &["close 1008"],
        ..SLOW
    };
    besiege(&plan, |field, number| {
        while field.goes_on() {
            let mut peers: Vec<Peer> = (0..10)
                .map(|_| {
                    let mut peer = open(field.node, "/api/metrics", "");
                    peer.say(&header(0x81, MIB));
                    peer.say(&vec![b' '; 512 * 1024]);
                    peer
                })
                .collect();
            let began = Instant::now();
            while field.goes_on() && peers.iter().all(|peer| peer.heard.is_empty()) {
                for peer in &mut peers {
                    if number % 2 == 0 {
                        peer.say(b" ");
                    }
                    peer.glance();
                }
                field.rest(Duration::from_millis(500));
            }
            if field.goes_on() {
                assert!(
                    Duration::from_secs(9) < began.elapsed(),
                    "told off too soon"
                );
                for peer in &mut peers {
                    field.meets(close_of(peer));
                }
            }
        }
    });
}

/// Dashboards that stop reading: their frames are replaced by newer ones, never queued.
fn viewers_that_never_read() {
    const VIEWERS: u64 = 60;
    let plan = Plan {
        name: "60 viewers that never read, over HTTP/1.1 and HTTP/2",
        seconds_min: 38,
        growth_max: VIEWERS * 64 * KIB + 8 * MIB,
        counter: "tidewall_refusals_total{reason=\"stalled_viewer\"}",
        answers: &["let go", "RST_STREAM NO_ERROR"],
        ..SLOW
    };
    let node = start(&plan);
    // Enough to show that a frame does not fit a socket's buffers for long.
    let metrics = (0..40).map(|at| format!(r#""a-metric-with-a-long-name-{at}":{at}"#));
    let metrics = metrics.collect::<Vec<_>>().join(",");
    for host in 0..50 {
        let body = format!(r#"{{"host":"host-{host}","metrics":{{{metrics}}}}}"#);
        assert_eq!(node.connect().post(&body).unwrap().status, 201);
    }
    besiege_node(&node, &plan, |field, number| {
        if number % 2 == 1 {
            return shut_viewers(field, 15);
        }
        let deaf = |_| open_on(Peer::deaf(field.node).unwrap(), "/api/live", "");
        let _peers: Vec<Peer> = (0..15).map(deaf).collect();
        field.rest(Duration::from_secs(2));
        // A peer that reads nothing cannot see its end; the node's own count can.
        let viewers = || counter(field.node, &plan, "tidewall_viewers{");
        let until = Instant::now() + PATIENCE + Duration::from_secs(20);
        while 3 < viewers() && Instant::now() < until {
            thread::sleep(Duration::from_millis(200));
        }
        field.meets(if viewers() <= 3 { "let go" } else { "kept" });
    });
}

/// Viewers on streams of one connection whose windows stay shut.
fn shut_viewers(field: &Field<'_>, count: u32) {
    let mut h2 = H2::open(field.node, &[(INITIAL_WINDOW_SIZE, 0)]);
    let fields = request("CONNECT", "/api/live", &[(":protocol", "websocket")]);
    for at in 0..count {
        h2.ask(2 * at + 1, &fields, false);
    }
    h2.wait(|h2| h2.status_of(2 * count - 1).is_some());
    assert_eq!(h2.status_of(1), Some(200));
    while field.goes_on() {
        h2.glance();
        if h2.reset_of(1).is_some() || h2.goaway().is_some() || h2.peer.ended {
            let goaway = h2.goaway().map(|code| format!("GOAWAY {code}"));
            let reset = h2.reset_of(1).map(|code| format!("RST_STREAM {code}"));
            return field.meets(reset.or(goaway).unwrap_or("cut off".to_owned()));
        }
        field.rest(Duration::from_secs(1));
    }
}

/// A dashboard that reads and never says what it has painted: a hidden tab, or one that lies.
fn viewers_that_never_acknowledge() {
    let plan = Plan {
        name: "Viewers that acknowledge no frame",
        seconds_min: 19,
        counter: "tidewall_refusals_total{reason=\"slow_viewer\"}",
        answers: &["close 4008"],
        ..SLOW
    };
    besiege(&plan, |field, _| {
        while field.goes_on() {
            let mut peer = open(field.node, "/api/live", BINARY_VIEWER);
            let view = r#"{"op":"sub","id":1,"view":{"kind":"map","metric":"honest","hz":10}}"#;
            peer.say(&crate::websocket::frame(0x81, view.as_bytes()));
            if peer.listen(PATIENCE) {
                field.meets(crate::websocket::closing(&peer));
            }
        }
    });
}

/// WebSockets whose peer answers no ping.
fn sockets_that_never_answer() {
    let plan = Plan {
        name: "200 WebSockets that answer no ping",
        seconds_min: 36,
        counter: "tidewall_refusals_total{reason=\"too_slow\"}",
        answers: &["cut off"],
        growth_max: 200 * 16 * KIB + 8 * MIB,
        ..SLOW
    };
    besiege(&plan, |field, _| {
        let mut peers: Vec<Peer> = (0..50)
            .map(|_| open(field.node, "/api/metrics", ""))
            .collect();
        while field.goes_on() && !peers.is_empty() {
            peers.retain_mut(|peer| {
                peer.glance();
                if peer.ended {
                    field.meets("cut off");
                }
                !peer.ended
            });
            field.rest(Duration::from_secs(1));
        }
    });
}

/// Nothing at all, half a ClientHello, or one that comes byte by byte, where TLS is spoken.
fn tls_handshakes_that_never_finish() {
    let plan = Plan {
        name: "TLS handshakes that never finish, 100 connections",
        seconds_min: 8,
        counter: "tidewall_refusals_total{reason=\"tls_handshake\"}",
        answers: &["cut off"],
        ..SLOW
    };
    let secure = secure("slow", &plan);
    besiege_node(&secure.node, &plan, |field, number| {
        let start: &[u8] = [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"][number % 3];
        let begin = |_| {
            let mut peer = secure.peer();
            peer.say(start);
            peer
        };
        let crumb: &[u8] = if number == 2 { b"\x03" } else { b"" };
        dribble(field, 25, Duration::from_secs(5), begin, crumb);
    });
}
