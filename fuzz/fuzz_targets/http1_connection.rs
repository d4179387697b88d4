//! Two connections of one core, spoken to in turns and in pieces by clients that mostly know how:
//! each hears what its own stream says, whatever the core learnt from the other.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use tidewall::connection::memo::Heads;
use tidewall_fuzz::connection::Connection;
use tidewall_fuzz::http;

#[derive(Arbitrary, Debug)]
struct Act<'d> {
    second: bool,
    cuts: [u8; 2],
    piece: Piece<'d>,
}

#[derive(Arbitrary, Debug)]
enum Piece<'d> {
    Get {
        target: u8,
        fields: Vec<u8>,
    },
    Post {
        target: u8,
        fields: Vec<u8>,
        body: &'d [u8],
        says: Length<'d>,
    },
    Chunked {
        fields: Vec<u8>,
        chunks: Vec<&'d [u8]>,
        style: u8,
    },
    /// The bytes of an earlier act.
    Again(u8),
    /// As an agent does: nothing changes but the body.
    Plain(u8),
    EmptyLine,
    Raw(&'d [u8]),
}

#[derive(Arbitrary, Debug)]
enum Length<'d> {
    True,
    Of(u16),
    Text(&'d str),
}

const TARGETS: [&str; 10] = [
    "/",
    "/api/metrics",
    "/api/snapshot?kind=map&metric=cpu",
    "/a?b=%7Bc%7D{d}|",
    "*",
    "http://a:1/x",
    "HTTP://A:1",
    "https://b/",
    "/#",
    "",
];

/// The later ones are refused.
const FIELDS: [&str; 26] = [
    "Connection: close",
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Protocol: tidewall.v1, tidewall.token.t",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Content-Type: application/json",
    "Content-Encoding: gzip",
    "Accept-Encoding: gzip",
    "If-None-Match: \"x\"",
    "Origin: http://a:1",
    "Cookie: a=b; tidewall=t",
    "Cookie: tidewall; tidewalls=u;tidewall=\"v=w\"",
    "Authorization: Bearer t",
    "X-API-Key: t",
    "Access-Control-Request-Method: POST",
    "Expect: 100-continue",
    "X:",
    "x-\u{e9}t\u{e9}: \u{e9}t\u{e9}",
    "Expect: 200-ok",
    "Host: a:1",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked",
    "Content-Length: 3",
    " folded",
    "Content-Length : 3",
    "A: b\nC: d",
];

fn head(method: &str, target: u8, fields: &[u8], more: &str) -> Vec<u8> {
    let target = TARGETS[usize::from(target) % TARGETS.len()];
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a:1\r\n");
    for field in fields.iter().take(8) {
        text += FIELDS[usize::from(*field) % FIELDS.len()];
        text += "\r\n";
    }
    (text + more + "\r\n").into_bytes()
}

impl Piece<'_> {
    fn bytes(&self, before: &[Vec<u8>]) -> Vec<u8> {
        match self {
            Piece::Get { target, fields } => head("GET", *target, fields, ""),
            Piece::Post {
                target,
                fields,
                body,
                says,
            } => {
                let length = match says {
                    Length::True => body.len().to_string(),
                    Length::Of(length) => length.to_string(),
                    Length::Text(text) => (*text).to_owned(),
                };
                let length = format!("Content-Length: {length}\r\n");
                [&head("POST", *target, fields, &length), *body].concat()
            }
            Piece::Chunked {
                fields,
                chunks,
                style,
            } => {
                let mut bytes = head("POST", 1, fields, "Transfer-Encoding: chunked\r\n");
                for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                    let zeros = usize::from(*style % 4);
                    bytes.extend(format!("{:0zeros$x}\r\n", chunk.len()).bytes());
                    bytes.extend([*chunk, b"\r\n"].concat());
                }
                let end: [&[u8]; 4] = [b"\r\n", b"A: b\r\n\r\n", b";x\r\n\r\n", b"\n\r\n"];
                bytes.extend(b"0\r\n");
                bytes.extend(end[usize::from(style / 64)]);
                bytes
            }
            Piece::Again(which) => {
                let which = usize::from(*which) % before.len().max(1);
                before.get(which).cloned().unwrap_or_default()
            }
            Piece::Plain(body) => {
                let body = "x".repeat(usize::from(*body % 16));
                let length = format!("Content-Length: {}\r\n\r\n", body.len());
                format!("POST /api/metrics HTTP/1.1\r\nHost: a\r\n{length}{body}").into_bytes()
            }
            Piece::EmptyLine => b"\r\n".to_vec(),
            Piece::Raw(bytes) => bytes.to_vec(),
        }
    }
}

fuzz_target!(|acts: Vec<Act>| {
    let mut connections = [Connection::default(), Connection::default()];
    let (mut heads, mut said) = (Heads::default(), Vec::new());
    let mut streams = [Vec::new(), Vec::new()];
    for act in acts.iter().take(Connection::PIECES_MAX / 3) {
        let bytes = act.piece.bytes(&said);
        let which = usize::from(act.second);
        streams[which].extend_from_slice(&bytes);
        let mut cuts = act.cuts.map(|cut| usize::from(cut) % (bytes.len() + 1));
        cuts.sort_unstable();
        for piece in [
            &bytes[..cuts[0]],
            &bytes[cuts[0]..cuts[1]],
            &bytes[cuts[1]..],
        ] {
            connections[which].receive(piece, &mut heads);
        }
        said.push(bytes);
    }
    for (connection, stream) in connections.iter().zip(&streams) {
        let shown = stream.escape_ascii();
        assert_eq!(connection.seen, http::requests(stream), "{shown}");
    }
});
