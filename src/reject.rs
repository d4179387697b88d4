//! Each refusal and its answer, decided in one place.
//!
//! A [`Reason`] says what was wrong, grouped by blame: the peer erred, or the node is full. One
//! table turns it into an HTTP status, what HTTP/2 does besides or instead, a WebSocket close code
//! and a counter's label. There is no entry for our own faults: those stop the process, and nothing
//! a peer sends is answered with 500.

use std::borrow::Cow;

use Reason as R;

/// Why a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    // The peer does not speak HTTP as RFC 9112 has it.
    BadRequestLine,
    BadHeader,
    BadFraming,
    BadChunk,
    BadHost,
    HeadTooLarge,
    TargetTooLong,
    BadExpectation,
    Version,
    TooSlow,
    // The peer breaks or abuses HTTP/2 or TLS.
    Http2Protocol,
    Http2Flood,
    StalledStream,
    ConnectProtocol,
    TlsRequired,
    TlsHandshake,
    // The peer may not.
    TokenMissing,
    TokenUnknown,
    TokenExpired,
    Scope,
    Rate,
    HostPrefix,
    ColumnBudget,
    // The peer asked for something that is not here.
    NotFound,
    Method,
    UnknownHost,
    UnknownMetric,
    NoHistory,
    BadQuery,
    ForeignOrigin,
    BadUpgrade,
    UpgradeRequired,
    // The peer sent data we cannot take.
    BodyTooLarge,
    MediaType,
    ContentEncoding,
    BadCompression,
    Syntax,
    Shape,
    Future,
    TooManySamples,
    // The peer broke the WebSocket or live protocol.
    WebSocketProtocol,
    BadText,
    MessageTooBig,
    TooManyFragments,
    PingFlood,
    MessageFlood,
    BinaryIngest,
    // The peer does not keep up.
    SlowViewer,
    StalledViewer,
    // The node is full or going away.
    RingFull,
    Busy,
    NotDurable,
    TooManyConnections,
    Stopping,
}

/// How one reason is answered on each protocol.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Zero: HTTP/1.1 and streams never meet it.
    pub status: u16,
    pub http2: Http2,
    /// Zero: no WebSocket meets it.
    pub close_code: u16,
    /// Label of the counter, and `reason` in an error body.
    pub label: &'static str,
    pub text: &'static str,
}

/// What HTTP/2 does about a refusal (RFC 9113 sections 6.4, 6.8 and 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// It cannot happen there.
    Never,
    /// The stream is answered with the status; the connection lives on.
    Status,
    /// The stream is reset with this error code.
    Reset(Code),
    /// The connection ends with this error code.
    GoAway(Code),
}

/// Error codes of RFC 9113 section 7 that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    NoError,
    ProtocolError,
    Cancel,
    EnhanceYourCalm,
}

const WRONG: Http2 = Http2::GoAway(Code::ProtocolError);
const CALM: Http2 = Http2::GoAway(Code::EnhanceYourCalm);
const CANCEL: Http2 = Http2::Reset(Code::Cancel);

impl Code {
    pub const fn name(self) -> &'static str {
        match self {
            Code::NoError => "NO_ERROR",
            Code::ProtocolError => "PROTOCOL_ERROR",
            Code::Cancel => "CANCEL",
            Code::EnhanceYourCalm => "ENHANCE_YOUR_CALM",
        }
    }
}

pub const REASONS: usize = Reason::Stopping as usize + 1;

const fn row(status: u16, close_code: u16, label: &'static str, text: &'static str) -> Answer {
    let http2 = Http2::Status;
    Answer {
        status,
        http2,
        close_code,
        label,
        text,
    }
}

/// A reason that only HTTP/2 or TLS knows.
const fn frame(http2: Http2, label: &'static str, text: &'static str) -> Answer {
    Answer {
        http2,
        ..row(0, 0, label, text)
    }
}

/// A reason of HTTP/1.1's own framing.
const fn http1(status: u16, label: &'static str, text: &'static str) -> Answer {
    Answer {
        http2: Http2::Never,
        ..row(status, 0, label, text)
    }
}

impl Reason {
    /// The table: one reason, one answer.
    pub const fn answer(self) -> Answer {
        match self {
            R::BadRequestLine => row(400, 1002, "bad_request_line", "not an HTTP request line"),
            R::BadHeader => row(400, 1002, "bad_header", "malformed header field"),
            R::BadFraming => row(400, 1002, "bad_framing", "the body's length is ambiguous"),
            R::BadChunk => http1(400, "bad_chunk", "malformed chunked body"),
            R::BadHost => row(400, 1002, "bad_host", "exactly one valid Host is required"),
            R::HeadTooLarge => row(431, 1009, "head_too_large", "request head too large"),
            R::TargetTooLong => row(414, 1009, "target_too_long", "request target too long"),
            R::BadExpectation => row(417, 1002, "bad_expectation", "only 100-continue is met"),
            R::Version => http1(505, "version", "only HTTP/1.0 and HTTP/1.1 are spoken"),
            R::TooSlow => row(408, 1008, "too_slow", "the request took too long"),
            R::Http2Protocol => frame(WRONG, "http2_protocol", "HTTP/2 protocol violated"),
            R::Http2Flood => frame(CALM, "http2_flood", "resets or idle frames without end"),
            R::StalledStream => frame(CANCEL, "stalled_stream", "the window stays shut"),
            R::ConnectProtocol => row(501, 1002, "connect_protocol", "only websocket is spoken"),
            R::TlsRequired => row(
                400,
                1002,
                "tls_required",
                "this port speaks TLS: use https://",
            ),
            R::TlsHandshake => frame(Http2::Never, "tls_handshake", "no TLS handshake in time"),
            R::TokenMissing => row(401, 4001, "token_missing", "a token is needed"),
            R::TokenUnknown => row(401, 4001, "token_unknown", "this token is not known"),
            R::TokenExpired => row(401, 4001, "token_expired", "this token has expired"),
            R::Scope => row(403, 4003, "scope", "this token does not allow it"),
            R::Rate => row(429, 4029, "rate", "over the token's rate"),
            R::HostPrefix => row(403, 4003, "host_prefix", "host outside the token's prefix"),
            R::ColumnBudget => row(422, 4029, "column_budget", "over the token's columns"),
            R::NotFound => row(404, 1008, "not_found", "no such resource"),
            R::Method => row(405, 1008, "method", "method not allowed here"),
            R::UnknownHost => row(404, 1008, "unknown_host", "this host was never seen"),
            R::UnknownMetric => row(404, 1008, "unknown_metric", "this metric was never seen"),
            R::NoHistory => row(404, 1008, "no_history", "this node keeps no history"),
            R::BadQuery => row(400, 1008, "bad_query", "malformed query"),
            R::ForeignOrigin => row(403, 1008, "foreign_origin", "this Origin may not connect"),
            R::BadUpgrade => row(400, 1002, "bad_upgrade", "malformed WebSocket handshake"),
            // HTTP/2 knows no Upgrade: there it is `bad_upgrade`.
            R::UpgradeRequired => http1(426, "upgrade_required", "WebSocket version 13 only"),
            R::BodyTooLarge => row(413, 1009, "body_too_large", "body too large"),
            R::MediaType => row(415, 1003, "media_type", "send JSON or NDJSON"),
            R::ContentEncoding => row(415, 1003, "content_encoding", "send gzip, zstd or neither"),
            R::BadCompression => row(400, 1007, "bad_compression", "corrupt compressed body"),
            R::Syntax => row(400, 1007, "json_syntax", "not JSON"),
            R::Shape => row(422, 1007, "shape", "JSON of the wrong shape"),
            R::Future => row(422, 1007, "future", "time too far ahead"),
            R::TooManySamples => row(413, 1009, "too_many_samples", "too many samples in a batch"),
            R::WebSocketProtocol => row(400, 1002, "websocket", "WebSocket protocol violated"),
            R::BadText => row(400, 1007, "bad_text", "text is not UTF-8"),
            R::MessageTooBig => row(413, 1009, "message_too_big", "message too big"),
            R::TooManyFragments => row(400, 1008, "fragments", "too many fragments"),
            R::PingFlood => row(429, 1008, "ping_flood", "too many pings"),
            R::MessageFlood => row(429, 1008, "message_flood", "too many messages"),
            R::BinaryIngest => row(415, 1003, "binary_message", "send text messages"),
            R::SlowViewer => row(408, 4008, "slow_viewer", "frames were not acknowledged"),
            R::StalledViewer => row(408, 1013, "stalled_viewer", "the socket takes nothing"),
            R::RingFull => row(503, 1013, "ring_full", "the node is full, try again"),
            R::Busy => row(503, 1013, "busy", "the node is busy, try again"),
            R::NotDurable => row(503, 1013, "not_durable", "the disk did not take it"),
            R::TooManyConnections => row(503, 1013, "connections", "too many connections"),
            R::Stopping => Answer {
                http2: Http2::GoAway(Code::NoError),
                ..row(503, 1012, "stopping", "the node is stopping")
            },
        }
    }

    /// The same request may do later.
    pub const fn is_temporary(self) -> bool {
        matches!(self.answer().status, 429 | 503) && !matches!(self, R::PingFlood | R::MessageFlood)
    }
}

/// A refusal on its way to the peer: the reason, and what exactly was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub reason: Reason,
    pub detail: Cow<'static, str>,
}

impl Reject {
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            detail: Cow::Borrowed(reason.answer().text),
        }
    }

    pub fn because(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    /// `{"error":…,"reason":…}`, the body of every refusal.
    pub fn to_json(&self) -> String {
        let detail = serde_json::Value::from(self.detail.as_ref());
        format!(
            "{{\"error\":{detail},\"reason\":\"{}\"}}",
            self.reason.answer().label
        )
    }
}

impl From<Reason> for Reject {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

/// The table of docs/PROTOCOL.md; a test keeps both equal.
pub fn table() -> String {
    use std::fmt::Write;
    let head = "| reason | HTTP | HTTP/2 | WebSocket | |\n|---|---|---|---|---|\n";
    let mut table = String::from(head);
    for answer in all().map(Reason::answer) {
        let Answer { label, text, .. } = answer;
        let close_code = match answer.close_code {
            0 => "-".to_owned(),
            code => code.to_string(),
        };
        let status = match answer.status {
            0 => "-".to_owned(),
            status => status.to_string(),
        };
        let http2 = match answer.http2 {
            Http2::Never => "-".to_owned(),
            Http2::Status => status.clone(),
            Http2::Reset(code) => format!("RST_STREAM {}", code.name()),
            Http2::GoAway(code) if answer.status == 0 => format!("GOAWAY {}", code.name()),
            Http2::GoAway(code) => format!("{status}, GOAWAY {}", code.name()),
        };
        // Writing into a String cannot fail.
        let _ = writeln!(
            table,
            "| `{label}` | {status} | {http2} | {close_code} | {text} |"
        );
    }
    table
}

/// All reasons, for tables and counters.
pub fn all() -> impl Iterator<Item = Reason> {
    ALL.into_iter()
}

const ALL: [Reason; REASONS] = [
    R::BadRequestLine,
    R::BadHeader,
    R::BadFraming,
    R::BadChunk,
    R::BadHost,
    R::HeadTooLarge,
    R::TargetTooLong,
    R::BadExpectation,
    R::Version,
    R::TooSlow,
    R::Http2Protocol,
    R::Http2Flood,
    R::StalledStream,
    R::ConnectProtocol,
    R::TlsRequired,
    R::TlsHandshake,
    R::TokenMissing,
    R::TokenUnknown,
    R::TokenExpired,
    R::Scope,
    R::Rate,
    R::HostPrefix,
    R::ColumnBudget,
    R::NotFound,
    R::Method,
    R::UnknownHost,
    R::UnknownMetric,
    R::NoHistory,
    R::BadQuery,
    R::ForeignOrigin,
    R::BadUpgrade,
    R::UpgradeRequired,
    R::BodyTooLarge,
    R::MediaType,
    R::ContentEncoding,
    R::BadCompression,
    R::Syntax,
    R::Shape,
    R::Future,
    R::TooManySamples,
    R::WebSocketProtocol,
    R::BadText,
    R::MessageTooBig,
    R::TooManyFragments,
    R::PingFlood,
    R::MessageFlood,
    R::BinaryIngest,
    R::SlowViewer,
    R::StalledViewer,
    R::RingFull,
    R::Busy,
    R::NotDurable,
    R::TooManyConnections,
    R::Stopping,
];

/// The reason phrase of a status we send.
pub fn phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_row() {
        let mut labels = std::collections::HashSet::new();
        for (at, reason) in all().enumerate() {
            let answer = reason.answer();
            assert_eq!(at, reason as usize, "ALL is in the order of the enum");
            assert!(labels.insert(answer.label), "{} twice", answer.label);
            let named = answer.status == 0 || phrase(answer.status) != "Unknown";
            assert!(named, "{}", answer.label);
            assert!(answer.status != 0 || answer.http2 != Http2::Status);
            assert!(answer.status != 500, "never 500 for what a peer sent");
            assert!(matches!(answer.close_code, 0 | 1000..5000));
        }
        assert_eq!(labels.len(), REASONS);
    }

    #[test]
    fn a_detail_is_escaped() {
        let reject = Reject::because(R::Shape, "field \"x\"\n");
        assert_eq!(
            reject.to_json(),
            r#"{"error":"field \"x\"\n","reason":"shape"}"#
        );
    }
}
