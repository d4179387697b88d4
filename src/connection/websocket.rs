//! WebSocket (RFC 6455): handshake and messages over our own buffers.
//!
//! tungstenite is the codec, with every limit set; it is shown the bytes that came and writes its
//! replies into a buffer. Before it, [`Watch`] counts what tungstenite does not: fragments, empty
//! ones too, and pings.

use std::io::{self, Read, Write};

use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

use crate::connection::head::{Request, tokens};
use crate::limits::{FRAGMENTS_MAX, PINGS_PER_TEN_SECONDS_MAX, WEBSOCKET_READ_BYTES};
use crate::reject::{Reason, Reject};

/// Checks a handshake; gives the `Sec-WebSocket-Accept` value (RFC 6455 section 4.2).
pub fn accept_key(request: &Request<'_>) -> Result<String, Reject> {
    let Some(upgrade) = &request.upgrade else {
        let detail = "this is a WebSocket endpoint: send an Upgrade";
        return Err(Reject::because(Reason::UpgradeRequired, detail));
    };
    if upgrade.version != Some(b"13") {
        return Err(Reject::new(Reason::UpgradeRequired));
    }
    let key = upgrade.key.unwrap_or_default();
    // 16 bytes in base64: 22 digits and two signs of padding.
    let digits = |b: &u8| b.is_ascii_alphanumeric() || *b == b'+' || *b == b'/';
    if key.len() != 24 || !key.ends_with(b"==") || !key[..22].iter().all(digits) {
        let detail = "Sec-WebSocket-Key is not 16 bytes in base64";
        return Err(Reject::because(Reason::BadUpgrade, detail));
    }
    Ok(tungstenite::handshake::derive_accept_key(key))
}

/// The subprotocols a client offers, in its order.
pub fn offered<'b>(request: &Request<'b>) -> impl Iterator<Item = &'b [u8]> {
    let lines = request.upgrade.unwrap_or_default().protocols;
    lines.into_iter().flat_map(tokens)
}

/// What came over the socket.
#[derive(Debug)]
pub enum Message<'m> {
    Text(&'m str),
    Binary(&'m [u8]),
    Pong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Open,
    /// Both sides said close: write what is left, then end the connection.
    Closed,
}

/// What one peer may ask of the codec; past a bound the socket is closed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// One message, all its fragments together.
    pub message_bytes_max: usize,
    /// Fragments of one message, empty ones counted.
    pub fragments_max: usize,
    pub pings_per_ten_seconds_max: u32,
}

impl Bounds {
    /// The server's own bounds for messages of this size.
    pub const fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            fragments_max: FRAGMENTS_MAX,
            pings_per_ten_seconds_max: PINGS_PER_TEN_SECONDS_MAX,
        }
    }
}

/// One socket's codec.
pub struct Socket {
    context: WebSocketContext,
    watch: Watch,
    closing: bool,
    /// A frame too big is refused by its header alone; the codec is then inside that frame and
    /// cannot be asked again, not even for the peer's close.
    deaf: bool,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

impl Socket {
    pub fn new(bounds: Bounds) -> Self {
        let message_bytes_max = bounds.message_bytes_max;
        let config = WebSocketConfig::default()
            .read_buffer_size(WEBSOCKET_READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(message_bytes_max)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            .accept_unmasked_frames(false);
        let context = WebSocketContext::new(Role::Server, Some(config));
        Self {
            context,
            watch: Watch::new(bounds),
            closing: false,
            deaf: false,
        }
    }

    /// Takes the bytes of one read. Replies (pongs, the close) and what `each` writes go to `out`
    /// in order. An error asks for [`Socket::close`] with its reason; what comes after it may be
    /// shown to the socket all the same.
    pub fn receive(
        &mut self,
        input: &[u8],
        now_ms: u64,
        out: &mut Vec<u8>,
        mut each: impl FnMut(Message<'_>, &mut Vec<u8>) -> Result<(), Reject>,
    ) -> Result<Status, Reject> {
        if self.deaf {
            return Err(Reason::MessageTooBig.into());
        }
        self.watch.receive(input, now_ms)?;
        let mut pipe = Pipe { input, out };
        loop {
            let message = match self.context.read(&mut pipe) {
                Ok(message) => message,
                Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Status::Open);
                }
                Err(error) => {
                    self.deaf = matches!(error, Error::Capacity(_));
                    return refusal(&error).map(|()| Status::Closed);
                }
            };
            match message {
                _ if self.closing => {}
                tungstenite::Message::Text(text) => each(Message::Text(&text), pipe.out)?,
                tungstenite::Message::Binary(bytes) => each(Message::Binary(&bytes), pipe.out)?,
                tungstenite::Message::Pong(_) => each(Message::Pong, pipe.out)?,
                _ => {}
            }
        }
    }

    /// Says close once; the peer's answer ends the connection.
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.closing, true) {
            let frame = CloseFrame {
                code: CloseCode::from(code),
                reason: reason.into(),
            };
            // It can only fail when the peer has closed already: then nothing is owed.
            let _ = self
                .context
                .close(&mut Pipe { input: &[], out }, Some(frame));
        }
    }

    /// What the peer owes the rest of.
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.watch.unfinished
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }
}

/// An orderly end is `Ok`.
fn refusal(error: &Error) -> Result<(), Reject> {
    let reason = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => return Ok(()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Ok(()),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Reason::MessageTooBig,
        Error::Utf8(_) => Reason::BadText,
        _ => Reason::WebSocketProtocol,
    };
    Err(Reject::because(reason, error.to_string()))
}

/// tungstenite's view of a connection: what came, and where replies go.
struct Pipe<'p> {
    input: &'p [u8],
    out: &'p mut Vec<u8>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(into)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows frame headers alone, skipping payloads by their length.
#[derive(Debug)]
struct Watch {
    bounds: Bounds,
    header: [u8; 14],
    have: usize,
    payload_left: u64,
    /// The frame at hand belongs to a message, and is its last.
    in_message: bool,
    is_last: bool,
    unfinished: Option<Unfinished>,
    fragments: usize,
    pings: u32,
    pings_since_ms: u64,
}

/// A message that began and has not ended: the codec holds what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub since_ms: u64,
    pub bytes: usize,
}

impl Watch {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            header: [0; 14],
            have: 0,
            payload_left: 0,
            in_message: false,
            is_last: false,
            unfinished: None,
            fragments: 0,
            pings: 0,
            pings_since_ms: 0,
        }
    }

    fn receive(&mut self, mut input: &[u8], now_ms: u64) -> Result<(), Reject> {
        loop {
            let skipped = usize::try_from(self.payload_left)
                .unwrap_or(usize::MAX)
                .min(input.len());
            input = &input[skipped..];
            self.payload_left -= skipped as u64;
            if self.in_message {
                self.hold(skipped);
            }
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(());
            };
            input = rest;
            self.header[self.have] = byte;
            self.have += 1;
            if self.have < 2 || self.have < header_len(self.header[1]) {
                continue;
            }
            self.payload_left = payload_len(&self.header);
            self.have = 0;
            self.count(self.header[0], now_ms)?;
            self.in_message = self.header[0] & 0x08 == 0;
            self.is_last = self.header[0] & 0x80 != 0;
            if self.in_message {
                let since_ms = now_ms;
                self.unfinished
                    .get_or_insert(Unfinished { since_ms, bytes: 0 });
                self.hold(0);
            }
        }
    }

    fn hold(&mut self, bytes: usize) {
        if self.is_last && self.payload_left == 0 {
            self.unfinished = None;
        } else if let Some(unfinished) = &mut self.unfinished {
            unfinished.bytes += bytes;
        }
    }

    fn count(&mut self, first: u8, now_ms: u64) -> Result<(), Reject> {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        match opcode {
            0x9 => {
                if 10_000 < now_ms.saturating_sub(self.pings_since_ms) {
                    (self.pings, self.pings_since_ms) = (0, now_ms);
                }
                self.pings += 1;
                if self.bounds.pings_per_ten_seconds_max < self.pings {
                    return Err(Reason::PingFlood.into());
                }
            }
            0x0..=0x2 => {
                self.fragments = if fin { 0 } else { self.fragments + 1 };
                if self.bounds.fragments_max <= self.fragments {
                    return Err(Reason::TooManyFragments.into());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// RFC 6455 section 5.2: 2 bytes, an extended length, a masking key.
fn header_len(second: u8) -> usize {
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + extended + if second & 0x80 != 0 { 4 } else { 0 }
}

fn payload_len(header: &[u8; 14]) -> u64 {
    let be = |bytes: &[u8]| bytes.iter().fold(0, |sum, &b| sum << 8 | u64::from(b));
    match header[1] & 0x7f {
        126 => be(&header[2..4]),
        127 => be(&header[2..10]),
        short => u64::from(short),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::connection::head;

    /// A masked client frame with a zero mask, so that the payload stands in clear.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
            len => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn run(bytes: &[u8], step: usize) -> Result<Vec<String>, Reason> {
        let (mut socket, mut out, mut seen) =
            (Socket::new(Bounds::new(1024)), Vec::new(), Vec::new());
        for piece in bytes.chunks(step) {
            socket
                .receive(piece, 0, &mut out, |message, _| {
                    seen.push(format!("{message:?}"));
                    Ok(())
                })
                .map_err(|reject| reject.reason)?;
        }
        Ok(seen)
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let mut bytes = frame(0x81, b"one");
        bytes.extend(frame(0x01, b"tw"));
        bytes.extend(frame(0x89, b"ping between fragments"));
        bytes.extend(frame(0x80, b"o"));
        for step in 1..bytes.len() {
            let expected = ["Text(\"one\")", "Text(\"two\")"];
            assert_eq!(run(&bytes, step).unwrap(), expected, "pieces of {step}");
        }
    }

    #[test]
    fn floods_are_cut_at_the_bound() {
        let fragments = |n: usize| [frame(0x01, b""), frame(0x00, b"").repeat(n)].concat();
        assert!(run(&fragments(FRAGMENTS_MAX - 2), 999).is_ok());
        assert_eq!(
            run(&fragments(FRAGMENTS_MAX - 1), 999),
            Err(Reason::TooManyFragments)
        );
        let pings = |n: u32| frame(0x89, b"").repeat(n as usize);
        assert!(run(&pings(PINGS_PER_TEN_SECONDS_MAX), 999).is_ok());
        assert_eq!(
            run(&pings(PINGS_PER_TEN_SECONDS_MAX + 1), 999),
            Err(Reason::PingFlood)
        );
        assert!(run(&frame(0x81, &[b'a'; 1024]), 999).is_ok());
        assert_eq!(
            run(&frame(0x81, &[b'a'; 1025]), 999),
            Err(Reason::MessageTooBig)
        );
    }

    /// Found by fuzzing: the codec, inside a frame it had refused, ran out of its buffer.
    #[test]
    fn the_rest_of_a_refused_message_is_harmless() {
        let bytes = frame(0x81, &[b'a'; 4096]);
        let (mut socket, mut out) = (Socket::new(Bounds::new(130)), Vec::new());
        let mut closes = 0;
        for piece in bytes.chunks(16) {
            let heard = socket.receive(piece, 0, &mut out, |message, _| panic!("{message:?}"));
            if let Err(reject) = heard {
                assert_eq!(reject.reason, Reason::MessageTooBig);
                socket.close(1009, "", &mut out);
                closes += 1;
            }
        }
        assert_eq!(
            closes,
            bytes.len().div_ceil(16),
            "the header is in the first piece"
        );
        assert_eq!(out, b"\x88\x02\x03\xf1", "said once");
    }

    #[test]
    fn bounds_are_the_callers_to_set_and_payloads_come_whole() {
        let mut bounds = Bounds::new(4);
        bounds.fragments_max = FRAGMENTS_MAX + 2;
        let (mut socket, mut out, mut seen) = (Socket::new(bounds), Vec::new(), Vec::new());
        let mut bytes = frame(0x02, b"ab");
        bytes.extend(frame(0x00, b"").repeat(FRAGMENTS_MAX));
        bytes.extend(frame(0x80, b"\xff\0"));
        let status = socket.receive(&bytes, 0, &mut out, |message, _| {
            match message {
                Message::Binary(payload) => seen.push(payload.to_vec()),
                other => panic!("{other:?}"),
            }
            Ok(())
        });
        assert_eq!(
            (status, seen),
            (Ok(Status::Open), vec![b"ab\xff\0".to_vec()])
        );
    }

    #[test]
    fn what_is_unfinished_is_known() {
        let (mut socket, mut out) = (Socket::new(Bounds::new(1024)), Vec::new());
        let mut feed = |bytes: &[u8], now_ms| {
            let status = socket.receive(bytes, now_ms, &mut out, |_, _| Ok(()));
            assert_eq!(status, Ok(Status::Open));
            socket.unfinished().map(|it| (it.since_ms, it.bytes))
        };
        let whole = frame(0x81, b"hello");
        assert_eq!(feed(&whole, 1), None);
        assert_eq!(feed(&whole[..8], 2), Some((2, 2)));
        assert_eq!(feed(&whole[8..], 3), None);
        assert_eq!(feed(&frame(0x01, b"hel"), 4), Some((4, 3)));
        assert_eq!(feed(&frame(0x89, b"ping"), 5), Some((4, 3)));
        assert_eq!(feed(&frame(0x00, b"l"), 6), Some((4, 4)));
        assert_eq!(feed(&frame(0x80, b""), 7), None);
        assert_eq!(feed(&frame(0x81, b""), 8), None);
        assert_eq!(feed(&frame(0x89, b"ping")[..7], 9), None);
    }

    #[test]
    fn protocol_errors_have_their_reason() {
        assert_eq!(
            run(&[0x81, 0x01, b'a'], 9),
            Err(Reason::WebSocketProtocol),
            "unmasked"
        );
        assert_eq!(
            run(&frame(0xc1, b"a"), 9),
            Err(Reason::WebSocketProtocol),
            "RSV1"
        );
        assert_eq!(
            run(&frame(0x83, b"a"), 9),
            Err(Reason::WebSocketProtocol),
            "opcode 3"
        );
        assert_eq!(run(&frame(0x81, b"\xff"), 9), Err(Reason::BadText));
    }

    #[test]
    fn close_is_said_once_and_ends_with_the_answer() {
        let (mut socket, mut out) = (Socket::new(Bounds::new(1024)), Vec::new());
        socket.close(1012, "restart", &mut out);
        socket.close(1001, "again", &mut out);
        assert_eq!(out, [b"\x88\x09\x03\xf4".as_slice(), b"restart"].concat());
        let status = socket.receive(&frame(0x88, &[0x03, 0xf4]), 0, &mut out, |_, _| Ok(()));
        assert_eq!(status, Ok(Status::Closed));
    }

    #[test]
    fn handshakes() {
        let key = |fields: &str| {
            let head = format!(
                "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 {fields}\r\n\r\n"
            );
            let request = head::parse(head.as_bytes()).unwrap();
            accept_key(&request).map_err(|reject| reject.reason.answer().status)
        };
        let good = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        // The worked example of RFC 6455 section 1.3.
        let accept = key(&format!("{good}\r\nSec-WebSocket-Version: 13"));
        assert_eq!(accept.as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(
            key(&format!("{good}\r\nSec-WebSocket-Version: 8")),
            Err(426)
        );
        assert_eq!(
            key("Sec-WebSocket-Key: short==\r\nSec-WebSocket-Version: 13"),
            Err(400)
        );
        assert_eq!(key("Sec-WebSocket-Version: 13"), Err(400));
    }
}
