//! One request head: httparse under our own strict checks (RFC 9112 sections 2 to 6).

use crate::connection::chunked::is_token;
use crate::limits::{HEAD_FIELDS_MAX, TARGET_BYTES_MAX};
use crate::reject::{Reason, Reject};

/// A request without its body; everything is borrowed from the bytes it came in.
#[derive(Debug, Default)]
pub struct Request<'b> {
    pub method: Method,
    /// Origin form: a path, and maybe `?query`. `*` for `OPTIONS`.
    pub target: &'b str,
    pub framing: Framing,
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub content_type: Option<&'b [u8]>,
    pub content_encoding: Option<&'b [u8]>,
    pub host: &'b [u8],
    pub origin: Option<&'b [u8]>,
    pub if_none_match: Option<&'b [u8]>,
    pub accept_encoding: Option<&'b [u8]>,
    pub preflight: bool,
    pub authorization: Option<&'b [u8]>,
    pub api_key: Option<&'b [u8]>,
    /// The value of our own cookie, wherever it stands among others.
    pub cookie: Option<&'b [u8]>,
    pub upgrade: Option<Upgrade<'b>>,
    /// HTTP/1.minor.
    pub minor: u8,
}

/// The cookie of a dashboard that has logged in; its value is the token.
pub const COOKIE: &str = "tidewall";

/// The fields of a WebSocket handshake (RFC 6455 section 4.2.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Upgrade<'b> {
    pub key: Option<&'b [u8]>,
    pub version: Option<&'b [u8]>,
    /// The lines of `Sec-WebSocket-Protocol`; together they are one list.
    pub protocols: [&'b [u8]; 4],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    #[default]
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Sized(u64),
    Chunked,
}

impl Default for Framing {
    fn default() -> Self {
        Framing::Sized(0)
    }
}

impl<'b> Request<'b> {
    pub fn path(&self) -> &'b str {
        self.target
            .split_once('?')
            .map_or(self.target, |(path, _)| path)
    }

    pub fn query(&self) -> &'b str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// What the fields said, before they are judged together.
#[derive(Default)]
struct Fields<'b> {
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_token: bool,
    websocket: bool,
    handshake: Upgrade<'b>,
}

/// Parses a head that ends in CRLF CRLF.
pub fn parse(input: &[u8]) -> Result<Request<'_>, Reject> {
    check_line_ends(input, 0)?;
    let mut slots = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut slots);
    let status = parsed.parse(input).map_err(refuse)?;
    if status != httparse::Status::Complete(input.len()) {
        return Err(bad("the head ends early"));
    }
    let mut request = Request {
        method: method(parsed.method.unwrap_or_default()),
        minor: parsed.version.unwrap_or_default(),
        ..Request::default()
    };
    let mut fields = Fields::default();
    for header in parsed.headers.iter() {
        field(&mut request, &mut fields, header.name, header.value)?;
    }
    judge(&mut request, &fields)?;
    request.target = target(parsed.path.unwrap_or_default(), &request)?;
    Ok(request)
}

/// The fields of a request whose framing is not HTTP/1.1's; method and target are the caller's to
/// fill in. The fields of a handshake stand in `upgrade`.
pub(super) fn from_fields<'b>(
    list: impl Iterator<Item = (&'b str, &'b [u8])>,
) -> Result<Request<'b>, Reject> {
    let (mut request, mut fields) = (Request::default(), Fields::default());
    for (name, value) in list {
        field(&mut request, &mut fields, name, value)?;
    }
    if 1 < fields.hosts {
        return Err(Reject::new(Reason::BadHost));
    }
    request.framing = Framing::Sized(fields.length.unwrap_or(0));
    request.upgrade = Some(fields.handshake);
    Ok(request)
}

/// Every LF must follow a CR and every CR precede an LF; httparse takes bare LF, proxies differ.
/// Looks from byte `from` on.
pub(super) fn check_line_ends(input: &[u8], from: usize) -> Result<(), Reject> {
    for newline in memchr::memchr_iter(b'\n', &input[from..]).map(|at| from + at) {
        if newline == 0 || input[newline - 1] != b'\r' {
            return Err(bad("a line ends in a bare LF"));
        }
    }
    Ok(())
}

/// A head without an end: whose fault is it, the target's or the fields'?
pub(super) fn too_large(input: &[u8]) -> Reject {
    let line = memchr::memchr(b'\r', input).unwrap_or(input.len());
    let reason = if TARGET_BYTES_MAX < line {
        Reason::TargetTooLong
    } else {
        Reason::HeadTooLarge
    };
    Reject::new(reason)
}

fn refuse(error: httparse::Error) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => {
            Reject::because(Reason::HeadTooLarge, "more than 64 header fields")
        }
        httparse::Error::HeaderName => bad("malformed header name"),
        httparse::Error::HeaderValue => bad("malformed header value"),
        httparse::Error::NewLine => bad("malformed line end"),
        httparse::Error::Version => Reject::new(Reason::Version),
        httparse::Error::Token | httparse::Error::Status => Reject::new(Reason::BadRequestLine),
    }
}

pub(super) fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "HEAD" => Method::Head,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    }
}

fn field<'b>(
    request: &mut Request<'b>,
    fields: &mut Fields<'b>,
    name: &str,
    value: &'b [u8],
) -> Result<(), Reject> {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    // Branching on the length first: most fields of most requests are looked at once.
    match name.len() {
        4 if is("Host") => {
            fields.hosts += 1;
            request.host = value;
        }
        6 if is("Origin") => request.origin = Some(value),
        6 if is("Cookie") => request.cookie = request.cookie.or_else(|| cookie(value)),
        6 if is("Expect") => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Reject::new(Reason::BadExpectation));
            }
            request.expects_continue = true;
        }
        7 if is("Upgrade") => {
            fields.websocket = tokens(value).any(|t| t.eq_ignore_ascii_case(b"websocket"));
        }
        9 if is("X-API-Key") => once(&mut request.api_key, value, "X-API-Key twice")?,
        10 if is("Connection") => {
            for token in tokens(value) {
                fields.close |= token.eq_ignore_ascii_case(b"close");
                fields.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                fields.upgrade_token |= token.eq_ignore_ascii_case(b"upgrade");
            }
        }
        12 if is("Content-Type") => once(&mut request.content_type, value, "Content-Type twice")?,
        13 if is("Authorization") => {
            once(&mut request.authorization, value, "Authorization twice")?;
        }
        13 if is("If-None-Match") => request.if_none_match = Some(value),
        14 if is("Content-Length") => match fields.length.replace(length(value)?) {
            None => {}
            Some(_) => return Err(framing("Content-Length twice")),
        },
        15 if is("Accept-Encoding") => request.accept_encoding = Some(value),
        16 if is("Content-Encoding") => {
            once(
                &mut request.content_encoding,
                value,
                "Content-Encoding twice",
            )?;
        }
        17 if is("Transfer-Encoding") => {
            if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(framing("Transfer-Encoding must be exactly `chunked`, once"));
            }
            fields.chunked = true;
        }
        17 if is("Sec-WebSocket-Key") => fields.handshake.key = Some(value),
        21 if is("Sec-WebSocket-Version") => fields.handshake.version = Some(value),
        22 if is("Sec-WebSocket-Protocol") => {
            let mut lines = fields.handshake.protocols.iter_mut();
            let free = lines.find(|line| line.is_empty());
            *free.ok_or_else(|| bad("more than 4 Sec-WebSocket-Protocol fields"))? = value;
        }
        29 if is("Access-Control-Request-Method") => request.preflight = true,
        _ => {}
    }
    Ok(())
}

/// Our pair of `a=b; c=d` (RFC 6265 section 5.4). HTTP/2 clients send each pair by itself.
fn cookie(value: &[u8]) -> Option<&[u8]> {
    let pairs = value.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let prefix = COOKIE.as_bytes();
    let mut ours = pairs.filter_map(|pair| pair.strip_prefix(prefix)?.strip_prefix(b"="));
    ours.next()
}

/// Two of a kind that has one: a proxy may have looked at the other one.
fn once<'b>(
    known: &mut Option<&'b [u8]>,
    value: &'b [u8],
    detail: &'static str,
) -> Result<(), Reject> {
    match known.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(detail)),
    }
}

fn judge<'b>(request: &mut Request<'b>, fields: &Fields<'b>) -> Result<(), Reject> {
    // RFC 9112 section 3.2: an HTTP/1.1 request has exactly one Host; a second one is always an
    // error.
    if 1 < fields.hosts || (fields.hosts == 0 && request.minor == 1) {
        return Err(Reject::new(Reason::BadHost));
    }
    check_host(request.host)?;
    request.framing = match (fields.chunked, fields.length) {
        // RFC 9112 section 6.1: both together "ought to be handled as an error".
        (true, Some(_)) => return Err(framing("Content-Length beside Transfer-Encoding")),
        (true, None) if request.minor == 0 => {
            return Err(framing("Transfer-Encoding in HTTP/1.0"));
        }
        (true, None) => Framing::Chunked,
        (false, length) => Framing::Sized(length.unwrap_or(0)),
    };
    // RFC 9110 section 10.1.1: an HTTP/1.0 client knows no 100 and must not get one.
    request.expects_continue &= request.minor == 1;
    request.keep_alive = !fields.close && (request.minor == 1 || fields.keep_alive);
    if fields.websocket && fields.upgrade_token && request.minor == 1 {
        request.upgrade = Some(fields.handshake);
    }
    Ok(())
}

pub(super) fn check_host(host: &[u8]) -> Result<(), Reject> {
    let host_byte = |b: &u8| b.is_ascii_alphanumeric() || b".-_:[]%~!$&'()*+;=".contains(b);
    if !host.iter().all(host_byte) {
        return Err(Reject::new(Reason::BadHost));
    }
    Ok(())
}

/// The characters of a target, and its form where there is only one: `/…`, or `*` for OPTIONS.
pub(super) fn check_target(target: &str, method: Method) -> Result<(), Reject> {
    check_characters(target)?;
    if target.starts_with('/') || (target == "*" && method == Method::Options) {
        return Ok(());
    }
    let detail = "the request target must begin with /";
    Err(Reject::because(Reason::BadRequestLine, detail))
}

fn check_characters(target: &str) -> Result<(), Reject> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%{}|".contains(&b);
    if !target.bytes().all(allowed) {
        let detail = "the request target has characters that are not allowed";
        return Err(Reject::because(Reason::BadRequestLine, detail));
    }
    Ok(())
}

/// RFC 9112 section 3.2: origin form; absolute form must name the same Host; `*` for OPTIONS.
fn target<'b>(target: &'b str, request: &Request<'_>) -> Result<&'b str, Reject> {
    if TARGET_BYTES_MAX < target.len() {
        return Err(Reject::new(Reason::TargetTooLong));
    }
    check_characters(target)?;
    if target.starts_with('/') {
        return Ok(target);
    }
    let absolute = target.split_once("://").filter(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    });
    if let Some((_, rest)) = absolute {
        let path_at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.as_bytes().eq_ignore_ascii_case(request.host) && !authority.is_empty() {
            return Ok(if path.is_empty() { "/" } else { path });
        }
        return Err(Reject::because(
            Reason::BadHost,
            "the target names another host than Host",
        ));
    }
    check_target(target, request.method).map(|()| target)
}

/// `1*18DIGIT`, no sign, no list (RFC 9112 section 6.2).
fn length(value: &[u8]) -> Result<u64, Reject> {
    let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    if !digits {
        return Err(framing("Content-Length is not a plain number"));
    }
    Ok(value
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&b| b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| {
            let token: &[u8] = token;
            !token.is_empty() && token.iter().all(|&b| is_token(b) || b == b'/' || b == b'"')
        })
}

fn bad(detail: &'static str) -> Reject {
    Reject::because(Reason::BadHeader, detail)
}

fn framing(detail: &'static str) -> Reject {
    Reject::because(Reason::BadFraming, detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(head: &str, expected: Reason) {
        let reason = parse(head.as_bytes()).map_err(|reject| reject.reason);
        assert_eq!(reason.map(|_| ()), Err(expected), "{head:?}");
    }

    fn with(field: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n")
    }

    #[test]
    fn smuggling_is_refused() {
        for field in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: identity",
            "Transfer-Encoding:",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: 5 5",
            "Content-Length:",
            "Content-Length: 1234567890123456789",
        ] {
            check(&with(field), Reason::BadFraming);
        }
        check(
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Reason::BadFraming,
        );
        for field in [
            "Transfer-Encoding : chunked",
            " folded",
            "A: b\r\n c",
            "A: b\nContent-Length: 5",
            "A: b\rC: d",
            "A\0: b",
            "A: b\0",
            ": b",
            "A B: c",
            "Ä: b",
            "Authorization: Bearer a\r\nAuthorization: Bearer b",
            "X-API-Key: a\r\nX-API-Key: a",
            "Content-Type: a/b\r\nContent-Type: a/b",
            "Content-Encoding: zstd\r\nContent-Encoding: gzip",
        ] {
            check(&with(field), Reason::BadHeader);
        }
    }

    #[test]
    fn one_host_and_an_honest_target() {
        check("GET / HTTP/1.1\r\n\r\n", Reason::BadHost);
        check(
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            Reason::BadHost,
        );
        check("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Reason::BadHost);
        check("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Reason::BadHost);
        check("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BadHost);
        check(
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Reason::BadHost,
        );
        check(
            "GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
            Reason::BadRequestLine,
        );
        check("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BadRequestLine);
        check(
            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
            Reason::BadRequestLine,
        );
        check(
            "GET /\"x HTTP/1.1\r\nHost: a\r\n\r\n",
            Reason::BadRequestLine,
        );
        check("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BadRequestLine);
        check("get\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::BadRequestLine);
        check("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Reason::Version);
        check("PRI * HTTP/2.0\r\n\r\n", Reason::Version);
        let absolute = parse(b"GET http://a/x?y HTTP/1.1\r\nHost: A\r\n\r\n").unwrap();
        assert_eq!((absolute.path(), absolute.query()), ("/x", "y"));
        parse(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        parse(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }

    #[test]
    fn field_count_and_target_length_at_their_bounds() {
        let fields = |n: usize| with(&"A: b\r\n".repeat(n)[..6 * n - 2]);
        assert!(parse(fields(HEAD_FIELDS_MAX - 1).as_bytes()).is_ok());
        check(&fields(HEAD_FIELDS_MAX), Reason::HeadTooLarge);
        let aim = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n));
        assert!(parse(aim(TARGET_BYTES_MAX - 1).as_bytes()).is_ok());
        check(&aim(TARGET_BYTES_MAX), Reason::TargetTooLong);
    }

    #[test]
    fn connection_tokens() {
        let keeps = |head: &str| parse(head.as_bytes()).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"
        ));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
            Upgrade: WebSocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";
        assert!(parse(upgrade).unwrap().upgrade.is_some());
        check(&with("Expect: 200-ok"), Reason::BadExpectation);
    }
}
