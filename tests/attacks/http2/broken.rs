//! Frames that break a rule.

use crate::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, literal, request, reset, settings, window_update,
};
use crate::siege::{PLAN, start};

fn explore(name: &str, h2: &mut H2, stream: u32) {
    let fate = h2.fate_of(stream);
    eprintln!("{name}: {fate}");
}

#[test]
fn exploration() {
    let node = start(&PLAN);
    let post = request("POST", "/api/metrics", &[("content-length", "5")]);
    let open = |h2: &mut H2, id: u32| h2.ask(id, &post, false);
    type Trigger = Box<dyn Fn(u32) -> Vec<u8>>;
    let triggers: Vec<(&str, Trigger)> = vec![
        ("wu0", Box::new(|id| window_update(id, 0))),
        ("wu overflow", Box::new(|id| window_update(id, 0x7fff_ffff))),
        (
            "self dep",
            Box::new(|id| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat())),
        ),
        (
            "too much data",
            Box::new(|id| frame(DATA, 0, id, b"0123456789")),
        ),
        (
            "too little data",
            Box::new(|id| frame(DATA, END_STREAM, id, b"01")),
        ),
        (
            "data after end",
            Box::new(|id| {
                [
                    frame(DATA, END_STREAM, id, b"01234"),
                    frame(DATA, 0, id, b"0"),
                ]
                .concat()
            }),
        ),
        (
            "headers after end",
            Box::new(|id| {
                [
                    frame(DATA, END_STREAM, id, b"01234"),
                    frame(HEADERS, 5, id, &request("GET", "/", &[])),
                ]
                .concat()
            }),
        ),
        (
            "headers again",
            Box::new(|id| frame(HEADERS, 4, id, &request("GET", "/", &[]))),
        ),
        (
            "trailers pseudo",
            Box::new(|id| frame(HEADERS, 5, id, &request("GET", "/", &[]))),
        ),
        ("rst short", Box::new(|id| frame(RST_STREAM, 0, id, &[0]))),
        ("prio short", Box::new(|id| frame(PRIORITY, 0, id, &[0]))),
        ("wu short", Box::new(|id| frame(WINDOW_UPDATE, 0, id, &[0]))),
        ("bad pad", Box::new(|id| frame(DATA, 8, id, &[9, 0]))),
    ];
    for (name, trigger) in &triggers {
        let mut h2 = H2::open(&node, &[]);
        open(&mut h2, 1);
        h2.say(&trigger(1));
        explore(name, &mut h2, 1);
        let mut h2 = H2::open(&node, &[]);
        let mut id = 1;
        while h2.goaway().is_none() && id < 1000 && !h2.peer.ended {
            open(&mut h2, id);
            h2.say(&trigger(id));
            h2.glance();
            id += 2;
        }
        eprintln!("   {name} repeated: {} after {}", h2.verdict(), id / 2);
    }
    for (name, extra) in [
        ("te", ("transfer-encoding", "chunked")),
        ("connection", ("connection", "close")),
        ("upper", ("Foo", "bar")),
        ("crlf", ("foo", "a\r\nb: c")),
        ("nul", ("foo", "a\0b")),
        ("te gzip", ("te", "gzip")),
        ("space name", ("foo bar", "x")),
        ("pseudo late", (":path", "/")),
        ("unknown pseudo", (":foo", "/")),
        ("cl bad", ("content-length", "+5")),
        ("host differs", ("host", "y")),
        ("leading space", ("foo", " bar")),
    ] {
        let mut h2 = H2::open(&node, &[]);
        h2.ask(1, &request("GET", "/healthz", &[extra]), true);
        explore(name, &mut h2, 1);
    }
    for (name, block) in [
        (
            "no path",
            [
                literal(":method", "GET"),
                literal(":scheme", "http"),
                literal(":authority", "x"),
            ]
            .concat(),
        ),
        (
            "path CR",
            request("GET", "/healthz HTTP/1.1\r\nHost: x", &[]),
        ),
        ("method space", request("GET / HTTP/1.1", "/healthz", &[])),
        (
            "authority",
            [
                literal(":method", "GET"),
                literal(":scheme", "http"),
                literal(":authority", "x/y"),
                literal(":path", "/healthz"),
            ]
            .concat(),
        ),
        ("path no slash", request("GET", "healthz", &[])),
        ("path *", request("GET", "*", &[])),
        ("bad index", vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("index 0", vec![0x80]),
        ("table size", vec![0x3f, 0xff, 0xff, 0xff, 0x0f]),
        (
            "CONNECT",
            [literal(":method", "CONNECT"), literal(":authority", "x:80")].concat(),
        ),
        ("CONNECT full", request("CONNECT", "/", &[])),
        (
            "CONNECT ws live",
            request("CONNECT", "/api/live", &[(":protocol", "websocket")]),
        ),
    ] {
        let mut h2 = H2::open(&node, &[]);
        h2.ask(1, &block, true);
        explore(name, &mut h2, 1);
    }
    for (name, bytes) in [
        (
            "even stream",
            frame(HEADERS, 5, 2, &request("GET", "/", &[])),
        ),
        (
            "stream 0 headers",
            frame(HEADERS, 5, 0, &request("GET", "/", &[])),
        ),
        ("data idle", frame(DATA, 0, 5, b"x")),
        ("rst idle", reset(5)),
        ("wu idle", window_update(5, 1)),
        ("continuation alone", frame(CONTINUATION, 4, 1, b"x")),
        ("push promise", frame(5, 4, 1, &[0, 0, 0, 2])),
        ("ping short", frame(PING, 0, 0, &[0])),
        ("ping on stream", frame(PING, 0, 1, &[0; 8])),
        ("settings ack payload", frame(SETTINGS, ACK, 0, &[0; 6])),
        ("settings odd", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings frame size", settings(&[(5, 1)])),
        ("settings window", settings(&[(4, 0x8000_0000)])),
        ("settings push", settings(&[(2, 2)])),
        ("settings extended off", settings(&[(8, 2)])),
        ("huge frame", frame(DATA, 0, 1, &vec![0; 16385])),
        ("wu0 conn", window_update(0, 0)),
        ("wu overflow conn", window_update(0, 0x7fff_ffff)),
        ("goaway", frame(GOAWAY, 0, 0, &[0; 8])),
        (
            "interleaved",
            [
                frame(HEADERS, 0, 1, &request("GET", "/", &[])),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
        ),
        ("unknown kind", frame(0xee, 0, 1, &[0; 8])),
    ] {
        let mut h2 = H2::open(&node, &[]);
        h2.say(&bytes);
        h2.ask(101, &request("GET", "/healthz", &[]), true);
        explore(name, &mut h2, 101);
    }
    let _ = (END_HEADERS,);
}
