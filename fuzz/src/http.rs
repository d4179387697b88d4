//! HTTP/1.1 by the letter of RFC 9112, over a stream in one piece, and as strict as ours is meant
//! to be: nothing is guessed, nothing repaired.

use tidewall::connection::head::{Framing, Method, Request, Upgrade};
use tidewall::limits::{
    BODY_BYTES_MAX, CHUNK_AVERAGE_MIN, CHUNKS_FREE, HEAD_BYTES_MAX, HEAD_FIELDS_MAX,
    TARGET_BYTES_MAX, TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX,
};

/// One line per request, and `refused` where the stream stops making sense.
pub fn requests(stream: &[u8]) -> Vec<String> {
    let (mut seen, mut rest) = (Vec::new(), stream);
    loop {
        match request(rest) {
            Found::Whole { text, end } => {
                seen.push(text);
                rest = &rest[end..];
            }
            Found::More => return seen,
            Found::Refused => {
                seen.push("refused".to_owned());
                return seen;
            }
        }
    }
}

enum Found {
    Whole { text: String, end: usize },
    More,
    Refused,
}

/// As the targets write down what the product found.
pub fn describe(request: &Request<'_>, body: &[u8]) -> String {
    format!("{request:?} {}", body.escape_ascii())
}

fn request(stream: &[u8]) -> Found {
    // RFC 9112 section 2.2: an empty line before the request line is ignored; one, here.
    let skipped = if stream.starts_with(b"\r\n") { 2 } else { 0 };
    let rest = &stream[skipped..];
    if skipped == 2 && rest.starts_with(b"\r") {
        return Found::Refused;
    }
    let within = &rest[..rest.len().min(HEAD_BYTES_MAX)];
    let Some(end) = find(within, b"\r\n\r\n") else {
        let hopeless = HEAD_BYTES_MAX <= rest.len() || has_bare_newline(rest);
        return if hopeless {
            Found::Refused
        } else {
            Found::More
        };
    };
    let (text, after) = rest.split_at(end + 4);
    let Some(request) = head(text) else {
        return Found::Refused;
    };
    let (body, taken) = match request.framing {
        Framing::Sized(length) if (BODY_BYTES_MAX as u64) < length => return Found::Refused,
        Framing::Sized(length) => match after.get(..length as usize) {
            Some(body) => (body.to_vec(), body.len()),
            None => return Found::More,
        },
        Framing::Chunked => match chunks(after) {
            Chunks::Done { body, end } => (body, end),
            Chunks::More => return Found::More,
            Chunks::Refused => return Found::Refused,
        },
    };
    Found::Whole {
        text: describe(&request, &body),
        end: skipped + text.len() + taken,
    }
}

/// A head that ends in its first empty line; None where any rule is broken.
pub fn head(input: &[u8]) -> Option<Request<'_>> {
    let lines = lines(input.strip_suffix(b"\r\n\r\n")?);
    if lines
        .iter()
        .any(|line| line.iter().any(|b| b"\r\n".contains(b)))
    {
        return None;
    }
    let (line, fields) = lines.split_first()?;
    let mut parts = line.splitn(3, |b| *b == b' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return None,
    };
    if !is_token(method) || HEAD_FIELDS_MAX < fields.len() {
        return None;
    }
    let fields: Vec<_> = fields
        .iter()
        .map(|line| field(line))
        .collect::<Option<_>>()?;
    let fields = Fields { all: fields, minor };
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"OPTIONS" => Method::Options,
        _ => Method::Other,
    };
    let host = fields.host()?;
    Some(Request {
        method,
        target: effective_target(target, host, method)?,
        framing: fields.framing()?,
        keep_alive: !fields.lists("connection", "close")
            && (minor == 1 || fields.lists("connection", "keep-alive")),
        expects_continue: fields.expects_continue()?,
        content_type: fields.only("content-type")?,
        content_encoding: fields.only("content-encoding")?,
        authorization: fields.only("authorization")?,
        api_key: fields.only("x-api-key")?,
        cookie: fields.cookie("tidewall"),
        host,
        origin: fields.last("origin"),
        if_none_match: fields.last("if-none-match"),
        accept_encoding: fields.last("accept-encoding"),
        preflight: fields.last("access-control-request-method").is_some(),
        upgrade: fields.upgrade()?,
        minor,
    })
}

struct Fields<'b> {
    all: Vec<(String, &'b [u8])>,
    minor: u8,
}

impl<'b> Fields<'b> {
    fn values(&self, name: &str) -> Vec<&'b [u8]> {
        let named = self.all.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| *value).collect()
    }

    fn last(&self, name: &str) -> Option<&'b [u8]> {
        self.values(name).pop()
    }

    /// Outer None: there are two.
    fn only(&self, name: &str) -> Option<Option<&'b [u8]>> {
        let values = self.values(name);
        (values.len() < 2).then(|| values.first().copied())
    }

    /// Whether a list of any field of this name has the member.
    fn lists(&self, name: &str, member: &str) -> bool {
        self.values(name)
            .iter()
            .any(|value| has_member(value, member))
    }

    /// The first one of this name, in any field (RFC 6265 section 5.4).
    fn cookie(&self, name: &str) -> Option<&'b [u8]> {
        let pairs = self
            .values("cookie")
            .into_iter()
            .flat_map(|list| list.split(|b| *b == b';'));
        let mut named = pairs.map(<[u8]>::trim_ascii).filter_map(|pair| {
            let equals = pair.iter().position(|b| *b == b'=')?;
            (&pair[..equals] == name.as_bytes()).then(|| &pair[equals + 1..])
        });
        named.next()
    }

    fn host(&self) -> Option<&'b [u8]> {
        let host = match (&self.values("host")[..], self.minor) {
            ([host], _) => *host,
            ([], 0) => b"",
            _ => return None,
        };
        // RFC 3986 sections 2.3, 3.2.2 and 3.2.3: a name or address, maybe a port.
        let may = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(b);
        host.iter().all(may).then_some(host)
    }

    fn framing(&self) -> Option<Framing> {
        let lengths = self.values("content-length");
        let codings = self.values("transfer-encoding");
        match (&lengths[..], &codings[..], self.minor) {
            ([], [], _) => Some(Framing::Sized(0)),
            ([length], [], _) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let text = str::from_utf8(length).ok()?;
                let length = text.parse().ok().filter(|_| digits && text.len() <= 18);
                length.map(Framing::Sized)
            }
            ([], [coding], 1) if coding.eq_ignore_ascii_case(b"chunked") => Some(Framing::Chunked),
            _ => None,
        }
    }

    fn expects_continue(&self) -> Option<bool> {
        let values = self.values("expect");
        let known = values
            .iter()
            .all(|value| value.eq_ignore_ascii_case(b"100-continue"));
        known.then_some(!values.is_empty() && self.minor == 1)
    }

    /// Outer None: more offers than are kept, of a handshake or not.
    fn upgrade(&self) -> Option<Option<Upgrade<'b>>> {
        let (mut protocols, mut kept) = ([&b""[..]; 4], 0_usize);
        for offer in self.values("sec-websocket-protocol") {
            *protocols.get_mut(kept)? = offer;
            kept += usize::from(!offer.is_empty());
        }
        let is_websocket = |value| has_member(value, "websocket");
        let wanted = self.last("upgrade").is_some_and(is_websocket)
            && self.lists("connection", "upgrade")
            && self.minor == 1;
        Some(wanted.then(|| Upgrade {
            key: self.last("sec-websocket-key"),
            version: self.last("sec-websocket-version"),
            protocols,
        }))
    }
}

/// RFC 9112 section 5: no space before the colon, no folding; blanks around the value are not its
/// own.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) || !is_field_text(value) {
        return None;
    }
    let blank = |b: &u8| b" \t".contains(b);
    let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|b| !blank(b))
        .map_or(start, |at| at + 1);
    let name = str::from_utf8(name).ok()?.to_ascii_lowercase();
    Some((name, &value[start..end]))
}

/// RFC 9112 section 3.2: where the request goes, as a path.
fn effective_target<'b>(target: &'b [u8], host: &[u8], method: Method) -> Option<&'b str> {
    // RFC 3986 without fragments; braces and bars because series have labels in braces.
    let may = |b: &u8| {
        b.is_ascii_alphanumeric() || b"-._~".contains(b) || b":/?[]@!$&'()*+,;=%{|}".contains(b)
    };
    if TARGET_BYTES_MAX < target.len() || !target.iter().all(may) {
        return None;
    }
    let target = str::from_utf8(target).ok()?;
    if target.starts_with('/') || (target == "*" && method == Method::Options) {
        return Some(target);
    }
    let lower = target.to_ascii_lowercase();
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme))?;
    let rest = &target[scheme.len()..];
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let honest = !authority.is_empty() && authority.as_bytes().eq_ignore_ascii_case(host);
    honest.then_some(if path.is_empty() { "/" } else { path })
}

/// What a chunked body amounts to.
#[derive(Debug, PartialEq)]
pub enum Chunks {
    Done { body: Vec<u8>, end: usize },
    More,
    Refused,
}

/// RFC 9112 section 7.1 without extensions, and with our bounds.
pub fn chunks(input: &[u8]) -> Chunks {
    let (mut at, mut body, mut count) = (0, Vec::new(), 0);
    loop {
        let Some(line) = line(&input[at..]) else {
            // Digits, and maybe the CR that follows them.
            let start = &input[at..];
            let digits = start.strip_suffix(b"\r").unwrap_or(start);
            let may_become = digits.iter().all(u8::is_ascii_hexdigit) && digits.len() <= 8;
            let empty = digits.is_empty() && !start.is_empty();
            return if may_become && !empty {
                Chunks::More
            } else {
                Chunks::Refused
            };
        };
        let plain = (1..=8).contains(&line.len()) && line.iter().all(u8::is_ascii_hexdigit);
        let size = str::from_utf8(line).ok().filter(|_| plain);
        let Some(size) = size.and_then(|text| usize::from_str_radix(text, 16).ok()) else {
            return Chunks::Refused;
        };
        at += line.len() + 2;
        if size == 0 {
            return trailers(input, at, body);
        }
        count += 1;
        let bytes = body.len() + size;
        if BODY_BYTES_MAX < bytes || (CHUNKS_FREE < count && bytes < count * CHUNK_AVERAGE_MIN) {
            return Chunks::Refused;
        }
        let Some(data) = input.get(at..at + size) else {
            return Chunks::More;
        };
        body.extend_from_slice(data);
        at += size;
        match &input[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Chunks::More,
            _ => return Chunks::Refused,
        }
    }
}

/// From the first byte after the last chunk.
fn trailers(input: &[u8], start: usize, body: Vec<u8>) -> Chunks {
    let (mut at, mut fields) = (start, 0);
    loop {
        let rest = &input[at..];
        if rest.starts_with(b"\r\n") {
            return Chunks::Done { body, end: at + 2 };
        }
        let Some(newline) = rest.iter().position(|b| *b == b'\n') else {
            // Not a whole line: too long already, or none can say yet.
            let long = rest != b"\r" && TRAILER_BYTES_MAX < input.len() - start;
            return if long { Chunks::Refused } else { Chunks::More };
        };
        let Some(line) = rest[..newline].strip_suffix(b"\r") else {
            return Chunks::Refused;
        };
        at += newline + 1;
        fields += 1;
        if field(line).is_none() || TRAILER_FIELDS_MAX < fields || TRAILER_BYTES_MAX < at - start {
            return Chunks::Refused;
        }
    }
}

/// The bytes before the first CRLF.
fn line(input: &[u8]) -> Option<&[u8]> {
    find(input, b"\r\n").map(|end| &input[..end])
}

/// The parts between CRLFs.
fn lines(mut input: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(line) = line(input) {
        lines.push(line);
        input = &input[line.len() + 2..];
    }
    lines.push(input);
    lines
}

fn has_bare_newline(input: &[u8]) -> bool {
    (0..input.len()).any(|at| input[at] == b'\n' && (at == 0 || input[at - 1] != b'\r'))
}

fn has_member(list: &[u8], member: &str) -> bool {
    let mut members = list.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    members.any(|known| known.eq_ignore_ascii_case(member.as_bytes()))
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    let may = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(may)
}

/// RFC 9110 section 5.5: visible, blanks, and bytes above ASCII.
fn is_field_text(text: &[u8]) -> bool {
    text.iter()
        .all(|b| *b == b'\t' || (b' ' <= *b && *b != 0x7f))
}

fn find(input: &[u8], wanted: &[u8]) -> Option<usize> {
    input
        .windows(wanted.len())
        .position(|window| window == wanted)
}
