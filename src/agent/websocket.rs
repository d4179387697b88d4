//! A client's half of WebSocket (RFC 6455): bytes in, messages out, in place.
//!
//! The server's codec copies every message into one of its own; a simulated dashboard that reads
//! fifty megabytes a second looks at a header and moves on. No extension is ever offered.

use super::response;
use crate::limits::{ANSWER_BODY_BYTES_MAX, FLEET_MESSAGE_BYTES_MAX};

/// Largest message an agent expects: an acknowledgement or an error.
pub(crate) const AGENT_MESSAGE_BYTES_MAX: usize = ANSWER_BODY_BYTES_MAX;
/// Largest message a simulated viewer expects.
pub(crate) const VIEWER_MESSAGE_BYTES_MAX: usize = FLEET_MESSAGE_BYTES_MAX;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    #[error("the server did not switch to WebSocket: HTTP status {status}")]
    NotSwitched {
        status: u16,
        retry_after: Option<std::time::Duration>,
    },
    #[error("wrong Sec-WebSocket-Accept")]
    Accept,
    #[error("the server did not choose the subprotocol {0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Response(#[from] response::ResponseError),
    #[error("a frame the server may not send: {0}")]
    Frame(&'static str),
    #[error("message of {0} bytes is too large")]
    TooLarge(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// What an opening handshake asks for.
pub(crate) struct Upgrade<'a> {
    pub(crate) path: &'a str,
    pub(crate) host_field: &'a str,
    pub(crate) token: Option<&'a str>,
    pub(crate) protocol: Option<&'static str>,
    pub(crate) key: &'a str,
}

impl Upgrade<'_> {
    pub(crate) fn request(&self) -> String {
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
            self.path, self.host_field, self.key
        );
        if let Some(protocol) = self.protocol {
            request += &format!("Sec-WebSocket-Protocol: {protocol}\r\n");
        }
        if let Some(token) = self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        request += "\r\n";
        request
    }

    /// Checks the answer (RFC 6455, section 4.1); the bytes it took, `None` when some are missing.
    pub(crate) fn answer(&self, buf: &[u8], ended: bool) -> Result<Option<usize>, WebSocketError> {
        let Some(response) = response::read(buf, ended)? else {
            return Ok(None);
        };
        if response.status != 101 {
            return Err(WebSocketError::NotSwitched {
                status: response.status,
                retry_after: response.retry_after,
            });
        }
        let expected = tungstenite::handshake::derive_accept_key(self.key.as_bytes());
        if response.accept != Some(expected.as_bytes()) {
            return Err(WebSocketError::Accept);
        }
        match self.protocol {
            Some(offered) if response.protocol != Some(offered.as_bytes()) => {
                Err(WebSocketError::Protocol(offered))
            }
            _ => Ok(Some(response.consumed)),
        }
    }
}

/// Appends one whole masked frame (RFC 6455, section 5.3).
pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, payload: &[u8], mask: [u8; 4]) {
    out.push(0x80 | kind.opcode());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    let wide = u64::from(u32::from_le_bytes(mask));
    let wide = (wide | (wide << 32)).to_le_bytes();
    let (blocks, tail) = out[start..].as_chunks_mut::<8>();
    for block in blocks {
        *block = (u64::from_le_bytes(*block) ^ u64::from_le_bytes(wide)).to_le_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide) {
        *byte ^= key;
    }
}

/// A message, if one is whole, and the bytes of the buffer that are done with.
pub(crate) type Progress<'a> = (Option<(Kind, &'a [u8])>, usize);

/// Joins fragments; whole messages, which are all that Tidewall sends, are passed through in place.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    fragments: Vec<u8>,
    /// Kind of the message whose fragments are being joined.
    open: Option<Kind>,
}

impl Messages {
    /// The next message and the bytes of `buf` it ends at, the fragments before it included.
    /// `None` in place of a message: more bytes are needed, yet the bytes given are done with.
    pub(crate) fn next<'a>(
        &'a mut self,
        buf: &'a [u8],
        bytes_max: usize,
    ) -> Result<Progress<'a>, WebSocketError> {
        let mut at = 0;
        loop {
            let Some(frame) = read_frame(&buf[at..], bytes_max)? else {
                return Ok((None, at));
            };
            at += frame.consumed;
            let control = frame.opcode >= 8;
            let kind = match frame.opcode {
                0 => self
                    .open
                    .take()
                    .ok_or(WebSocketError::Frame("no message to continue"))?,
                1 => Kind::Text,
                2 => Kind::Binary,
                8 => Kind::Close,
                9 => Kind::Ping,
                10 => Kind::Pong,
                _ => return Err(WebSocketError::Frame("unknown opcode")),
            };
            if control {
                return Ok((Some((kind, frame.payload)), at));
            }
            if frame.opcode != 0 && self.open.is_some() {
                return Err(WebSocketError::Frame("message inside a message"));
            }
            if frame.opcode != 0 && frame.fin {
                return Ok((Some((kind, frame.payload)), at));
            }
            if frame.opcode != 0 {
                self.fragments.clear();
            }
            if self.fragments.len() + frame.payload.len() > bytes_max {
                return Err(WebSocketError::TooLarge(self.fragments.len() as u64));
            }
            self.fragments.extend_from_slice(frame.payload);
            if frame.fin {
                return Ok((Some((kind, &self.fragments)), at));
            }
            self.open = Some(kind);
        }
    }
}

struct RawFrame<'a> {
    fin: bool,
    opcode: u8,
    payload: &'a [u8],
    consumed: usize,
}

fn read_frame(buf: &[u8], bytes_max: usize) -> Result<Option<RawFrame<'_>>, WebSocketError> {
    let &[first, second, ref rest @ ..] = buf else {
        return Ok(None);
    };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 {
        return Err(WebSocketError::Frame("reserved bits set"));
    }
    if second & 0x80 != 0 {
        return Err(WebSocketError::Frame("masked"));
    }
    let (length, head) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10),
            None => return Ok(None),
        },
        length => (u64::from(length), 2),
    };
    if opcode >= 8 && (!fin || length > 125) {
        return Err(WebSocketError::Frame("control frame in pieces or too long"));
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= bytes_max)
        .ok_or(WebSocketError::TooLarge(length))?;
    Ok(buf.get(head..head + length).map(|payload| RawFrame {
        fin,
        opcode,
        payload,
        consumed: head + length,
    }))
}

/// Code and reason of a close frame's payload; 1005 stands for none (RFC 6455, section 7.1.5).
pub(crate) fn close_code(payload: &[u8]) -> u16 {
    payload
        .first_chunk()
        .map_or(1005, |bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tungstenite::protocol::{Role, WebSocket};

    /// Our frames are read back by another implementation.
    #[test]
    fn tungstenite_reads_what_we_write() {
        for length in [0, 1, 7, 8, 9, 125, 126, 1_000, 65_535, 65_536, 100_001] {
            let text: String = (0..length)
                .map(|i| char::from(b'a' + (i % 26) as u8))
                .collect();
            let mut wire = Vec::new();
            write(&mut wire, Kind::Text, text.as_bytes(), [1, 2, 3, 250]);
            let mut peer =
                WebSocket::from_raw_socket(std::io::Cursor::new(wire), Role::Server, None);
            assert_eq!(peer.read().unwrap().to_text().unwrap(), text);
        }
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, payload.len() as u8][..], payload].concat()
    }

    #[test]
    fn whole_messages_are_read_in_place_at_every_cut() {
        let payload = vec![7u8; 300];
        let mut wire = frame(0x89, b"p");
        wire.extend([0x82, 126, 1, 44]);
        wire.extend(&payload);
        let mut messages = Messages::default();
        assert_eq!(
            messages.next(&wire, 300),
            Ok((Some((Kind::Ping, &b"p"[..])), 3))
        );
        for cut in 3..wire.len() {
            assert_eq!(messages.next(&wire[3..cut], 300), Ok((None, 0)));
        }
        let (message, taken) = messages.next(&wire[3..], 300).unwrap();
        assert_eq!((message, taken), (Some((Kind::Binary, &payload[..])), 304));
        assert_eq!(
            messages.next(&wire[3..], 299),
            Err(WebSocketError::TooLarge(300))
        );
    }

    #[test]
    fn fragments_join_around_control_frames() {
        let wire = [
            frame(0x01, b"ab"),
            frame(0x8a, b""),
            frame(0x00, b"cd"),
            frame(0x80, b"e"),
        ];
        let wire = wire.concat();
        let mut messages = Messages::default();
        let (message, taken) = messages.next(&wire, 10).unwrap();
        assert_eq!((message, taken), (Some((Kind::Pong, &b""[..])), 6));
        let (message, more) = messages.next(&wire[taken..], 10).unwrap();
        assert_eq!(
            (message, more),
            (Some((Kind::Text, &b"abcde"[..])), wire.len() - taken)
        );
        assert!(matches!(
            Messages::default().next(&wire, 3),
            Ok((Some((Kind::Pong, _)), 6))
        ));
        let mut small = Messages::default();
        small.next(&wire, 3).unwrap();
        assert_eq!(small.next(&wire[6..], 3), Err(WebSocketError::TooLarge(2)));
    }

    #[test]
    fn wrong_frames_are_refused() {
        let fail = |wire: &[u8]| Messages::default().next(wire, 1_000).unwrap_err();
        let wrong: [&[u8]; 6] = [
            &[0x82, 0x80, 0, 0, 0, 0],
            &[0xc2, 0],
            &[0x83, 0],
            &[0x80, 0],
            &[0x09, 0],
            &[0x89, 126, 0, 200],
        ];
        for wire in wrong {
            assert!(matches!(fail(wire), WebSocketError::Frame(_)), "{wire:?}");
        }
        assert!(matches!(
            fail(&[0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0]),
            WebSocketError::TooLarge(_)
        ));
        assert!(matches!(
            fail(&[frame(0x01, b"a"), frame(0x81, b"b")].concat()),
            WebSocketError::Frame("message inside a message")
        ));
    }

    #[test]
    fn the_handshake_is_checked() {
        let upgrade = Upgrade {
            path: "/api/live",
            host_field: "a:1",
            token: Some("t"),
            protocol: Some("tidewall.v1"),
            key: "dGhlIHNhbXBsZSBub25jZQ==",
        };
        let request = upgrade.request();
        assert!(request.starts_with("GET /api/live HTTP/1.1\r\nHost: a:1\r\n"));
        assert!(request.ends_with("Authorization: Bearer t\r\n\r\n"));
        let answer = |accept: &str, protocol: &str| {
            format!(
                "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: {accept}\r\n\
                 Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
            )
        };
        // The accept value of RFC 6455, section 1.3.
        let good = answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "tidewall.v1");
        assert_eq!(upgrade.answer(good.as_bytes(), false), Ok(Some(good.len())));
        let check = |text: &str| upgrade.answer(text.as_bytes(), false).unwrap_err();
        assert_eq!(check(&answer("x", "tidewall.v1")), WebSocketError::Accept);
        let other = answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "tidewall.v1+json");
        assert_eq!(check(&other), WebSocketError::Protocol("tidewall.v1"));
        let busy = "HTTP/1.1 503 x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(
            check(busy),
            WebSocketError::NotSwitched { status: 503, .. }
        ));
    }

    #[test]
    fn close_codes() {
        assert_eq!(close_code(&[0x0f, 0xa8, b'x']), 4008);
        assert_eq!(close_code(&[]), 1005);
    }
}
