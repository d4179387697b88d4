//! Frames and fields that break a rule: each with its own answer, and none of them carried out.

use crate::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame, literal, request, reset, settings, window_update,
};
use crate::siege::{PLAN, Plan, besiege};

/// What is sent on a fresh connection, and what becomes of stream 1 or of the connection.
struct Case {
    name: String,
    bytes: Vec<u8>,
    expected: &'static str,
}

const PROTOCOL: &str = "GOAWAY PROTOCOL_ERROR";
const STREAM: &str = "RST_STREAM PROTOCOL_ERROR";

/// The second: when the request was answered before the fault was read.
const LATE: &str = "GOAWAY PROTOCOL_ERROR or 400";

/// A name, what is sent, and what must become of it.
type Row<'r> = (&'r str, Vec<u8>, &'static str);

fn whole(fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, fields)
}

fn cases() -> Vec<Case> {
    let rows = [
        connection_rows(),
        stream_rows(),
        field_rows(),
        connect_rows(),
        setting_rows(),
    ];
    let cases = rows
        .into_iter()
        .flatten()
        .map(|(name, bytes, expected)| Case {
            name: name.to_owned(),
            bytes,
            expected,
        });
    cases.collect()
}

/// RFC 9113 sections 5.1, 6 and 6.10: the connection ends.
fn connection_rows() -> Vec<Row<'static>> {
    let get = request("GET", "/healthz", &[]);
    let head = frame(HEADERS, END_STREAM, 1, &get);
    let window = window_update(0, 0x7fff_ffff);
    let promise = frame(0x5, END_HEADERS, 1, &[0, 0, 0, 2]);
    vec![
        ("even stream", frame(HEADERS, 0x5, 2, &get), PROTOCOL),
        (
            "HEADERS on stream 0",
            frame(HEADERS, 0x5, 0, &get),
            PROTOCOL,
        ),
        ("DATA on an idle stream", frame(DATA, 0, 5, b"x"), PROTOCOL),
        ("RST_STREAM of an idle stream", reset(5), PROTOCOL),
        (
            "WINDOW_UPDATE of an idle stream",
            window_update(5, 1),
            PROTOCOL,
        ),
        (
            "CONTINUATION of nothing",
            frame(CONTINUATION, 0x4, 1, b"x"),
            PROTOCOL,
        ),
        ("PUSH_PROMISE", promise, PROTOCOL),
        ("short PING", frame(PING, 0, 0, &[0]), PROTOCOL),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        (
            "SETTINGS ack that says something",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            PROTOCOL,
        ),
        ("SETTINGS cut off", frame(SETTINGS, 0, 0, &[0; 5]), PROTOCOL),
        ("short RST_STREAM", frame(RST_STREAM, 0, 1, &[0]), PROTOCOL),
        ("short PRIORITY", frame(PRIORITY, 0, 1, &[0]), PROTOCOL),
        (
            "short WINDOW_UPDATE",
            frame(WINDOW_UPDATE, 0, 1, &[0]),
            PROTOCOL,
        ),
        (
            "frame past the size",
            frame(DATA, 0, 1, &[0; 16_385]),
            "GOAWAY FRAME_SIZE_ERROR",
        ),
        ("window opened by nothing", window_update(0, 0), PROTOCOL),
        ("window past 2^31", window, "GOAWAY FLOW_CONTROL_ERROR"),
        (
            "PING within a head",
            [head.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL,
        ),
        (
            "HEADERS within a head",
            [head.clone(), head].concat(),
            PROTOCOL,
        ),
        (
            "GOAWAY, then a request",
            [frame(GOAWAY, 0, 0, &[0; 8]), whole(&get)].concat(),
            "200",
        ),
        (
            "unknown frame",
            [frame(0xee, 0, 1, &[0; 8]), whole(&get)].concat(),
            "200",
        ),
    ]
}

/// Faults of one stream whose request is under way.
fn stream_rows() -> Vec<Row<'static>> {
    let post = request("POST", "/api/metrics", &[("content-length", "5")]);
    let get = request("GET", "/healthz", &[]);
    let after = |bytes: Vec<u8>| [frame(HEADERS, END_HEADERS, 1, &post), bytes].concat();
    let own = [&1_u32.to_be_bytes()[..], &[0]].concat();
    let padded = frame(DATA, 0x8, 1, &[9, 0]);
    let end = || frame(DATA, END_STREAM, 1, b"01234");
    vec![
        (
            "its window opened by nothing",
            after(window_update(1, 0)),
            PROTOCOL,
        ),
        (
            "its window past 2^31",
            after(window_update(1, 0x7fff_ffff)),
            "RST_STREAM FLOW_CONTROL_ERROR",
        ),
        (
            "its own dependency",
            after(frame(PRIORITY, 0, 1, &own)),
            STREAM,
        ),
        (
            "more DATA than declared",
            after(frame(DATA, 0, 1, b"0123456789")),
            STREAM,
        ),
        (
            "less DATA than declared",
            after(frame(DATA, END_STREAM, 1, b"01")),
            STREAM,
        ),
        (
            "fields again",
            after(frame(HEADERS, END_HEADERS, 1, &get)),
            STREAM,
        ),
        ("pseudo-fields in trailers", after(whole(&get)), STREAM),
        ("more padding than frame", after(padded), PROTOCOL),
        // Half closed: an end of the connection, so no reset to be had again and again.
        (
            "DATA after the end",
            after([end(), frame(DATA, 0, 1, b"0")].concat()),
            LATE,
        ),
        (
            "fields after the end",
            after([end(), whole(&get)].concat()),
            LATE,
        ),
    ]
}

/// RFC 9113 section 8: what an intermediary might turn into another request of HTTP/1.1.
fn field_rows() -> Vec<Row<'static>> {
    let with = |name: &str, value: &str| whole(&request("GET", "/healthz", &[(name, value)]));
    let asks = |method: &str, path: &str| whole(&request(method, path, &[]));
    let bare = |fields: &[(&str, &str)]| {
        let fields = fields.iter().flat_map(|(name, value)| literal(name, value));
        whole(&fields.collect::<Vec<u8>>())
    };
    let [method, scheme] = [(":method", "GET"), (":scheme", "http")];
    let authority = (":authority", "x/y");
    vec![
        (
            "transfer-encoding",
            with("transfer-encoding", "chunked"),
            STREAM,
        ),
        ("connection", with("connection", "close"), STREAM),
        ("te", with("te", "gzip"), STREAM),
        (
            "content-length that is none",
            with("content-length", "+5"),
            STREAM,
        ),
        ("upper case", with("Foo", "bar"), PROTOCOL),
        ("CR LF in a value", with("foo", "a\r\nb: c"), PROTOCOL),
        ("NUL in a value", with("foo", "a\0b"), PROTOCOL),
        ("space in a name", with("foo bar", "x"), PROTOCOL),
        ("a field without a name", with("", "x"), PROTOCOL),
        ("a path after the fields", with(":path", "/"), STREAM),
        ("unknown pseudo-field", with(":foo", "/"), PROTOCOL),
        ("Host that differs", with("host", "y"), "400"),
        (
            "request line in the path",
            asks("GET", "/healthz HTTP/1.1\r\nHost: x"),
            STREAM,
        ),
        ("space in the path", asks("GET", "/healthz x"), STREAM),
        ("relative path", asks("GET", "healthz"), STREAM),
        ("asterisk", asks("GET", "*"), "400"),
        (
            "request line in the method",
            asks("GET / HTTP/1.1", "/healthz"),
            PROTOCOL,
        ),
        (
            "no path",
            bare(&[method, scheme, (":authority", "x")]),
            STREAM,
        ),
        (
            "path in the authority",
            bare(&[method, scheme, authority, (":path", "/")]),
            STREAM,
        ),
        (
            "index past the table",
            whole(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            PROTOCOL,
        ),
        ("index 0", whole(&[0x80]), PROTOCOL),
        (
            "table past its size",
            whole(&[0x3f, 0xff, 0xff, 0xff, 0x0f]),
            PROTOCOL,
        ),
        ("integer without an end", whole(&[0xff; 40]), PROTOCOL),
        (
            "string past its frame",
            whole(&[0x00, 0x7f, 0x00]),
            PROTOCOL,
        ),
    ]
}

/// RFC 8441, abused.
fn connect_rows() -> Vec<Row<'static>> {
    let connect = |path: &str, protocol: &str| {
        let fields = request("CONNECT", path, &[(":protocol", protocol)]);
        frame(HEADERS, END_HEADERS, 1, &fields)
    };
    let get = request("GET", "/api/live", &[(":protocol", "websocket")]);
    let tunnel = [literal(":method", "CONNECT"), literal(":authority", "x:80")].concat();
    vec![
        (
            "CONNECT to a host",
            frame(HEADERS, END_HEADERS, 1, &tunnel),
            "400",
        ),
        (
            "CONNECT with a path",
            whole(&request("CONNECT", "/", &[])),
            STREAM,
        ),
        (
            "another protocol",
            connect("/api/live", "connect-udp"),
            "501",
        ),
        ("no protocol", connect("/api/live", ""), "501"),
        (
            "where there is none",
            connect("/api/none", "websocket"),
            "404",
        ),
        ("on a page", connect("/healthz", "websocket"), "404"),
        ("by GET", frame(HEADERS, END_HEADERS, 1, &get), STREAM),
        (
            "without CONNECT",
            whole(&request("GET", "/api/live", &[])),
            "400",
        ),
        ("a WebSocket", connect("/api/live", "WebSocket"), "200"),
    ]
}

/// A peer's own settings, impossible or so small that any answer breaks them (CVE-2026-50560).
fn setting_rows() -> Vec<Row<'static>> {
    let set = |name: u16, value: u32| {
        [
            settings(&[(name, value)]),
            whole(&request("GET", "/metrics", &[])),
        ]
        .concat()
    };
    vec![
        ("no room for fields", set(MAX_HEADER_LIST_SIZE, 0), "200"),
        (
            "a byte of room for fields",
            set(MAX_HEADER_LIST_SIZE, 1),
            "200",
        ),
        ("tiny frames", set(MAX_FRAME_SIZE, 1), PROTOCOL),
        (
            "frames past the largest",
            set(MAX_FRAME_SIZE, 1 << 24),
            PROTOCOL,
        ),
        (
            "window past 2^31",
            set(INITIAL_WINDOW_SIZE, 1 << 31),
            PROTOCOL,
        ),
        ("neither push nor none", set(0x2, 2), PROTOCOL),
        ("neither extended CONNECT nor none", set(0x8, 2), PROTOCOL),
    ]
}

#[test]
fn broken_rules() {
    let plan = Plan {
        name: "HTTP/2 broken rules, fields and settings",
        counter: "tidewall_refusals_total{reason=\"http2_protocol\"}",
        answers: &["as stated"],
        ..PLAN
    };
    let cases = cases();
    besiege(&plan, |field, number| {
        let mut rounds = 0;
        while rounds == 0 || field.goes_on() {
            rounds += 1;
            for case in cases.iter().skip(number).step_by(plan.attackers) {
                let mut h2 = H2::open(field.node, &[]);
                h2.say(&case.bytes);
                let met = h2.fate_of(1);
                let as_stated = case.expected.split(" or ").any(|expected| expected == met);
                field.meets(if as_stated {
                    "as stated".to_owned()
                } else {
                    format!("{}: {met}", case.name)
                });
            }
        }
    });
}
