//! What h2 leaves to us of HTTP/2 (RFC 9113): its preface, a request as our own type, and a meter
//! for floods of frames that cost a peer nothing.

use http::request::Parts;

use crate::connection::head::{self, Method, Request};
use crate::limits::{
    HEAD_FIELDS_MAX, HTTP2_CONTROL_FREE, HTTP2_CONTROL_WINDOW, HTTP2_WRITTEN_PER_CONTROL,
    TARGET_BYTES_MAX,
};
use crate::reject::{Reason, Reject};

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The fields that [`request`] looks at.
pub const FIELDS: [&str; 13] = [
    "host",
    "origin",
    "cookie",
    "x-api-key",
    "content-type",
    "authorization",
    "if-none-match",
    "content-length",
    "accept-encoding",
    "content-encoding",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "access-control-request-method",
];

/// Nothing that HTTP/1.1 knows begins like this.
pub fn begins(input: &[u8]) -> bool {
    let known = input.len().min(PREFACE.len());
    b"PRI ".len() <= known && input[..known] == PREFACE[..known]
}

pub fn is_whole(input: &[u8]) -> bool {
    input.starts_with(PREFACE)
}

/// A request's head as HTTP/1.1 would have it; borrowed from what h2 made of it. h2 has checked the
/// pseudo-fields and refused connection-specific fields (RFC 9113 sections 8.2.2 and 8.3).
pub fn request(parts: &Parts) -> Result<Request<'_>, Reject> {
    if HEAD_FIELDS_MAX < parts.headers.len() {
        return Err(Reject::because(
            Reason::HeadTooLarge,
            "more than 64 header fields",
        ));
    }
    // RFC 9113 section 8.2.1; h2 lets them through.
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |value: &[u8]| blank(value.first()) || blank(value.last());
    if parts
        .headers
        .values()
        .any(|value| is_padded(value.as_bytes()))
    {
        return Err(Reject::because(
            Reason::BadHeader,
            "a field value begins or ends with a blank",
        ));
    }
    let target = parts
        .uri
        .path_and_query()
        .map_or("*", |target| target.as_str());
    if TARGET_BYTES_MAX < target.len() {
        return Err(Reject::new(Reason::TargetTooLong));
    }
    let mut request = head::from_fields(
        parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes())),
    )?;
    if let Some(authority) = parts.uri.authority() {
        let authority = authority.as_str().as_bytes();
        // RFC 9113 section 8.3.1: a Host that differs is no honest request.
        if !request.host.is_empty() && !request.host.eq_ignore_ascii_case(authority) {
            return Err(Reject::because(
                Reason::BadHost,
                "Host differs from :authority",
            ));
        }
        request.host = authority;
    }
    if request.host.is_empty() {
        return Err(Reject::because(
            Reason::BadHost,
            ":authority or Host is required",
        ));
    }
    head::check_host(request.host)?;
    head::check_target(target, head::method(parts.method.as_str()))?;
    request.method = head::method(parts.method.as_str());
    request.target = target;
    match parts.extensions.get::<h2::ext::Protocol>() {
        None => request.upgrade = None,
        // RFC 8441: an extended CONNECT is what GET with Upgrade is in HTTP/1.1. Clients write
        // `websocket` in cases of their own.
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case("websocket") => {
            request.method = Method::Get;
            request.upgrade = Some(request.upgrade.unwrap_or_default());
        }
        Some(_) => return Err(Reason::ConnectProtocol.into()),
    }
    Ok(request)
}

/// Counts the frames a peer sends that carry nothing, against what its traffic justifies: an
/// acknowledgement or a window for what we wrote, something for what it asked. h2 answers such
/// frames one by one and keeps none, so they cost time alone.
#[derive(Debug)]
pub struct Meter {
    header: [u8; 9],
    have: usize,
    /// Of the frame at hand; of the preface at first, which is no frame.
    payload_left: usize,
    window_since_ms: u64,
    control: u64,
    carrying: u64,
    written: u64,
}

/// RFC 9113 section 6.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;

impl Default for Meter {
    fn default() -> Self {
        Self {
            header: [0; 9],
            have: 0,
            payload_left: PREFACE.len(),
            window_since_ms: 0,
            control: 0,
            carrying: 0,
            written: 0,
        }
    }
}

impl Meter {
    /// Follows the frame headers in what was read; false: this is a flood.
    pub fn read(&mut self, mut input: &[u8], now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.window_since_ms);
        if HTTP2_CONTROL_WINDOW.as_millis() < u128::from(elapsed_ms) {
            (self.control, self.carrying, self.written) = (0, 0, 0);
            self.window_since_ms = now_ms;
        }
        while !input.is_empty() {
            if 0 < self.payload_left {
                let skipped = self.payload_left.min(input.len());
                self.payload_left -= skipped;
                input = &input[skipped..];
                continue;
            }
            let taken = (self.header.len() - self.have).min(input.len());
            self.header[self.have..self.have + taken].copy_from_slice(&input[..taken]);
            self.have += taken;
            input = &input[taken..];
            if self.have == self.header.len() {
                self.have = 0;
                let [high, middle, low, kind, ..] = self.header;
                self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8;
                self.payload_left |= usize::from(low);
                match kind {
                    DATA | HEADERS if 0 < self.payload_left => self.carrying += 1,
                    CONTINUATION => {}
                    _ => self.control += 1,
                }
            }
        }
        let earned = self.carrying + self.written / HTTP2_WRITTEN_PER_CONTROL;
        self.control <= HTTP2_CONTROL_FREE + 2 * earned
    }

    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        bytes.resize(9 + payload, 0);
        bytes
    }

    fn begun() -> Meter {
        let mut meter = Meter::default();
        assert!(meter.read(PREFACE, 0));
        meter
    }

    #[test]
    fn floods_are_seen_at_the_bound_however_they_are_cut() {
        let ping = frame(0x6, 8);
        let free = usize::try_from(HTTP2_CONTROL_FREE).unwrap();
        for step in [1, 7, 9, 1000] {
            let mut meter = begun();
            let mut feed = |bytes: &[u8]| bytes.chunks(step).all(|piece| meter.read(piece, 5));
            assert!(feed(&ping.repeat(free)));
            assert!(!feed(&ping), "pieces of {step}");
        }
    }

    #[test]
    fn what_traffic_justifies_is_no_flood() {
        let mut meter = begun();
        for _ in 0..10 * HTTP2_CONTROL_FREE {
            // A client that opens both windows after each answer.
            meter.wrote(30);
            let request = [frame(HEADERS, 20), frame(0x8, 4), frame(0x8, 4)].concat();
            assert!(meter.read(&request, 0));
        }
        let mut meter = begun();
        let window = u64::try_from(HTTP2_CONTROL_WINDOW.as_millis()).unwrap();
        for round in 0..20 {
            let free = usize::try_from(HTTP2_CONTROL_FREE).unwrap();
            assert!(meter.read(&frame(0x6, 8).repeat(free), round * (window + 1)));
        }
        // Frames that carry nothing earn nothing.
        let mut meter = begun();
        let empty = frame(DATA, 0).repeat(usize::try_from(HTTP2_CONTROL_FREE).unwrap() + 1);
        assert!(!meter.read(&empty, 0));
    }

    #[test]
    fn the_preface() {
        for at in 4..PREFACE.len() {
            assert!(begins(&PREFACE[..at]) && !is_whole(&PREFACE[..at]));
        }
        assert!(begins(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"));
        assert!(is_whole(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"));
        assert!(!begins(b"PRI * HTTP/2.0\r\n\r\nPOST"));
        assert!(!begins(b"POST / HTTP/1.1\r\n") && !begins(b"PRI"));
    }

    #[test]
    fn requests() {
        let ask = |builder: http::request::Builder| {
            let (parts, ()) = builder.body(()).unwrap().into_parts();
            request(&parts)
                .map(|r| (r.method, r.target.to_owned(), r.host.to_owned()))
                .map_err(|reject| reject.reason)
        };
        let get = |uri: &str| http::Request::get(uri);
        let good = Ok((Method::Get, "/x?y=1".to_owned(), b"a:1".to_vec()));
        assert_eq!(ask(get("http://a:1/x?y=1")), good);
        assert_eq!(ask(get("http://a:1/x?y=1").header("host", "A:1")), good);
        let other = get("http://a:1/").header("host", "b");
        assert_eq!(ask(other), Err(Reason::BadHost));
        let padded = |value: &'static str| get("http://a/").header("x", value);
        for value in [" v", "v ", "\tv", "v\t"] {
            assert_eq!(ask(padded(value)), Err(Reason::BadHeader), "{value:?}");
        }
        assert!(ask(padded("v v")).is_ok() && ask(padded("")).is_ok());
        assert_eq!(ask(get("/x")), Err(Reason::BadHost));
        let mut many = get("http://a/");
        for at in 0..=HEAD_FIELDS_MAX {
            many = many.header(format!("x-{at}"), "y");
        }
        assert_eq!(ask(many), Err(Reason::HeadTooLarge));
        let long = format!("http://a/{}", "x".repeat(TARGET_BYTES_MAX));
        assert_eq!(ask(get(&long)), Err(Reason::TargetTooLong));
        let connect = |protocol: &'static str| {
            http::Request::connect("http://a/api/live")
                .extension(h2::ext::Protocol::from_static(protocol))
        };
        let upgraded = |protocol| {
            let (parts, ()) = connect(protocol).body(()).unwrap().into_parts();
            request(&parts).map(|request| request.upgrade.is_some())
        };
        assert_eq!(upgraded("websocket"), Ok(true));
        assert_eq!(upgraded("WebSocket"), Ok(true));
        assert_eq!(ask(connect("connect-udp")), Err(Reason::ConnectProtocol));
    }
}
