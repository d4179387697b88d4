//! HTTP/2 by hand (RFC 9113): frames in any order and with any content, as no library would send
//! them, and just enough understanding of what comes back.

use std::time::Instant;

use crate::peer::{Peer, Said};
use crate::support::{Node, PATIENCE};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types, RFC 9113 section 6.
pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// Settings, RFC 9113 section 6.5.2.
pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;

const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn settings(of: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in of {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    // CANCEL.
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// An integer with a prefix of `bits` bits (RFC 7541 section 5.1).
fn integer(first: u8, bits: u32, mut value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![first | u8::try_from(most).unwrap()];
    value -= most;
    while 128 <= value {
        bytes.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn text(of: &[u8]) -> Vec<u8> {
    [&integer(0, 7, of.len())[..], of].concat()
}

/// A field in full, kept in no table (RFC 7541 section 6.2.2).
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0], &text(name.as_bytes())[..], &text(value.as_bytes())].concat()
}

/// A field in full that enters the dynamic table (RFC 7541 section 6.2.1).
pub(crate) fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
    [&[0x40], &text(name.as_bytes())[..], &text(value.as_bytes())].concat()
}

/// The newest entry of the dynamic table, in one byte.
pub(crate) const NEWEST: u8 = 0x80 | 62;

/// The fields of a request, those of `more` last.
pub(crate) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", path),
    ];
    let fields = pseudo.iter().chain(more);
    fields
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// One frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection on which anything may be said.
pub(crate) struct H2 {
    pub(crate) peer: Peer,
    /// Bytes of `peer.heard` that were understood.
    at: usize,
    pub(crate) frames: Vec<Frame>,
}

impl H2 {
    /// Preface and SETTINGS that forbid the node a dynamic table: so its `:status` can be read.
    pub(crate) fn open(node: &Node, more: &[(u16, u32)]) -> H2 {
        let mut h2 = H2::over(Peer::connect(node).unwrap());
        let all = [&[(HEADER_TABLE_SIZE, 0)], more].concat();
        h2.say(&[PREFACE, &settings(&all)].concat());
        h2
    }

    /// Nothing is said yet.
    pub(crate) fn over(peer: Peer) -> H2 {
        H2 {
            peer,
            at: 0,
            frames: Vec::new(),
        }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) -> Said {
        self.peer.say(bytes)
    }

    /// HEADERS that end the head; `last` ends the stream too.
    pub(crate) fn ask(&mut self, stream: u32, fields: &[u8], last: bool) -> Said {
        let flags = END_HEADERS | if last { END_STREAM } else { 0 };
        self.say(&frame(HEADERS, flags, stream, fields))
    }

    /// Takes in what has come, without waiting.
    pub(crate) fn glance(&mut self) {
        self.peer.glance();
        self.understand();
    }

    fn understand(&mut self) {
        while let Some(header) = self.peer.heard.get(self.at..self.at + 9) {
            let be = |bytes: &[u8]| bytes.iter().fold(0, |sum, &b| sum << 8 | u32::from(b));
            let length = be(&header[..3]) as usize;
            let (kind, flags, stream) = (header[3], header[4], be(&header[5..]));
            let start = self.at + 9;
            let Some(payload) = self.peer.heard.get(start..start + length) else {
                return;
            };
            let payload = payload.to_vec();
            self.at = start + length;
            self.frames.push(Frame {
                kind,
                flags,
                stream,
                payload,
            });
        }
    }

    /// Waits until `enough` is true of what came, or the end; false when neither happens.
    pub(crate) fn wait(&mut self, enough: impl Fn(&H2) -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            self.understand();
            if enough(self) || self.peer.ended {
                return true;
            }
            if until < Instant::now() {
                return false;
            }
            self.peer.hear(until);
        }
    }

    /// Forgets what was heard: for connections that say much.
    pub(crate) fn forget(&mut self) {
        self.peer.heard.drain(..self.at);
        self.at = 0;
        self.frames.clear();
    }

    pub(crate) fn goaway(&self) -> Option<&'static str> {
        let goaway = self.frames.iter().find(|frame| frame.kind == GOAWAY);
        goaway.map(|frame| code(&frame.payload[4..8]))
    }

    pub(crate) fn reset_of(&self, stream: u32) -> Option<&'static str> {
        let reset = |frame: &&Frame| frame.kind == RST_STREAM && frame.stream == stream;
        self.frames
            .iter()
            .find(reset)
            .map(|frame| code(&frame.payload))
    }

    pub(crate) fn status_of(&self, stream: u32) -> Option<u16> {
        let head = |frame: &&Frame| frame.kind == HEADERS && frame.stream == stream;
        self.frames
            .iter()
            .find(head)
            .map(|frame| status(&frame.payload))
    }

    /// Does what the polite do: acknowledges SETTINGS and PINGs, gives back window.
    pub(crate) fn acknowledge(&mut self) {
        let mut answers = Vec::new();
        let mut taken = 0;
        for asked in &self.frames {
            match asked.kind {
                PING if asked.flags & ACK == 0 => {
                    answers.extend(frame(PING, ACK, 0, &asked.payload));
                }
                SETTINGS if asked.flags & ACK == 0 => answers.extend(frame(SETTINGS, ACK, 0, &[])),
                DATA => taken += u32::try_from(asked.payload.len()).unwrap(),
                _ => {}
            }
        }
        if 0 < taken {
            answers.extend(window_update(0, taken));
        }
        self.say(&answers);
    }

    /// How the connection ended: `GOAWAY …`, `cut off`, or `open`.
    pub(crate) fn verdict(&mut self) -> String {
        self.wait(|h2| h2.goaway().is_some());
        match self.goaway() {
            Some(code) => format!("GOAWAY {code}"),
            None if self.peer.ended => "cut off".to_owned(),
            None => "open".to_owned(),
        }
    }

    /// What became of a stream: a status, `RST_STREAM …`, or how the connection ended.
    pub(crate) fn fate_of(&mut self, stream: u32) -> String {
        self.wait(|h2| {
            let said = h2.status_of(stream).is_some() || h2.reset_of(stream).is_some();
            said || h2.goaway().is_some()
        });
        match (self.reset_of(stream), self.status_of(stream)) {
            // NO_ERROR: the answer is whole and the rest of the request not wanted.
            (Some(code), _) if code != "NO_ERROR" => format!("RST_STREAM {code}"),
            (_, Some(status)) => status.to_string(),
            _ => self.verdict(),
        }
    }
}

fn code(bytes: &[u8]) -> &'static str {
    CODES
        .get(usize::from(bytes[3]))
        .copied()
        .unwrap_or("unknown code")
}

/// `:status` of a head that uses no dynamic table (RFC 7541 section 6); digits of Huffman's code
/// from its appendix B.
fn status(block: &[u8]) -> u16 {
    // A dynamic table size update may stand first.
    let at = block.iter().position(|byte| byte >> 5 != 0b001).unwrap();
    let rest = &block[at..];
    match rest[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x08 | 0x18 | 0x48 => {
            let length = usize::from(rest[1] & 0x7f);
            let value = &rest[2..2 + length];
            let is_huffman = rest[1] & 0x80 != 0;
            let plain = |of: &[u8]| String::from_utf8_lossy(of).into_owned();
            let digits = if is_huffman {
                digits(value)
            } else {
                plain(value)
            };
            digits.parse().unwrap()
        }
        other => panic!("a head begins with {other:#04x}: {block:?}"),
    }
}

/// Three digits: 0 to 2 have five bits, the others six.
fn digits(code: &[u8]) -> String {
    let bits: Vec<u8> = code
        .iter()
        .flat_map(|b| (0..8).rev().map(move |i| b >> i & 1))
        .collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u8, |sum, bit| sum << 1 | bit);
    let (mut rest, mut digits) = (&bits[..], String::new());
    while digits.len() < 3 {
        let short = number(&rest[..5]);
        let (digit, taken) = match short {
            0..=2 => (short, 5),
            _ => (number(&rest[..6]) - 0b011001 + 3, 6),
        };
        digits.push(char::from(b'0' + digit));
        rest = &rest[taken..];
    }
    digits
}

/// The examples of RFC 7541 appendix C.6.
#[test]
fn digits_of_huffmans_code() {
    assert_eq!(digits(&[0x64, 0x02]), "302");
    assert_eq!(digits(&[0x64, 0x0e, 0xff]), "307");
    assert_eq!(status(&[0x20, 0x48, 0x82, 0x64, 0x02]), 302);
    assert_eq!(status(&[0x88]), 200);
}
