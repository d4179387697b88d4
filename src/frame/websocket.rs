//! Server-to-client WebSocket frames (RFC 6455 section 5.2): header and payload in one buffer, so
//! that a message is one shared `Bytes` for every viewer, or part of one peer's own buffer.

use bytes::Bytes;

/// FIN and the opcode; the server never masks (RFC 6455 section 5.1).
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

pub fn text_frame(payload: &[u8]) -> Bytes {
    frame(TEXT, payload)
}

pub fn binary_frame(payload: &[u8]) -> Bytes {
    frame(BINARY, payload)
}

/// Appends a text frame whose payload `fill` appends. Costs no allocation once `out` is warm.
pub fn append_text(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    fill(out);
    let (header, used) = header(TEXT, out.len() - start);
    // The header holds the payload's length, so it comes after it and moves to its place.
    out.extend_from_slice(&header[..used]);
    out[start..].rotate_right(used);
}

/// The payload of a frame made here: the way back, for readers that sit in the same process.
pub fn payload_of(frame: &[u8]) -> Option<&[u8]> {
    let header = match frame.get(1)? {
        0..=125 => 2,
        126 => 4,
        _ => 10,
    };
    frame.get(header..)
}

fn frame(first: u8, payload: &[u8]) -> Bytes {
    let (header, used) = header(first, payload.len());
    let mut bytes = Vec::with_capacity(used + payload.len());
    bytes.extend_from_slice(&header[..used]);
    bytes.extend_from_slice(payload);
    Bytes::from(bytes)
}

/// The header of a frame, and how many of its bytes are used.
fn header(first: u8, length: usize) -> ([u8; 10], usize) {
    let mut header = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let used = if length <= 125 {
        header[1] = length as u8;
        2
    } else if let Ok(short) = u16::try_from(length) {
        header[1] = 126;
        header[2..4].copy_from_slice(&short.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
        10
    };
    (header, used)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_length_takes_the_shortest_form() {
        for (length, header) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![7; length];
            let frame = binary_frame(&payload);
            assert_eq!(&frame[..header.len()], header, "{length}");
            assert_eq!(payload_of(&frame).unwrap(), payload, "{length}");
            let mut out = b"before".to_vec();
            append_text(&mut out, |out| out.extend_from_slice(&payload));
            let expected = [&b"before"[..], &text_frame(&payload)].concat();
            assert_eq!(out, expected, "{length}");
        }
        assert_eq!(text_frame(b"{}")[..], *b"\x81\x02{}");
        assert_eq!(payload_of(b""), None);
    }
}
