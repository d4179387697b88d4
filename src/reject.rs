//! Each refusal and its answer, decided in one place.
//!
//! A [`Reason`] says what was wrong, grouped by blame: the peer erred, or the node is full. One
//! table turns it into an HTTP status, a WebSocket close code and a counter's label. There is no
//! entry for our own faults: those stop the process, and nothing a peer sends is answered with 500.

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
    // The peer asked for something that is not here.
    NotFound,
    Method,
    UnknownHost,
    UnknownMetric,
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
    BinaryIngest,
    // The peer does not keep up.
    SlowViewer,
    StalledViewer,
    // The node is full or going away.
    RingFull,
    Busy,
    TooManyConnections,
    Stopping,
}

/// How one reason is answered on each protocol.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    pub close_code: u16,
    /// Label of the counter, and `reason` in an error body.
    pub label: &'static str,
    pub text: &'static str,
}

pub const REASONS: usize = Reason::Stopping as usize + 1;

const fn row(status: u16, close_code: u16, label: &'static str, text: &'static str) -> Answer {
    Answer {
        status,
        close_code,
        label,
        text,
    }
}

impl Reason {
    /// The table: one reason, one answer.
    pub const fn answer(self) -> Answer {
        match self {
            R::BadRequestLine => row(400, 1002, "bad_request_line", "not an HTTP request line"),
            R::BadHeader => row(400, 1002, "bad_header", "malformed header field"),
            R::BadFraming => row(400, 1002, "bad_framing", "the body's length is ambiguous"),
            R::BadChunk => row(400, 1002, "bad_chunk", "malformed chunked body"),
            R::BadHost => row(400, 1002, "bad_host", "exactly one valid Host is required"),
            R::HeadTooLarge => row(431, 1009, "head_too_large", "request head too large"),
            R::TargetTooLong => row(414, 1009, "target_too_long", "request target too long"),
            R::BadExpectation => row(417, 1002, "bad_expectation", "only 100-continue is met"),
            R::Version => row(
                505,
                1002,
                "version",
                "only HTTP/1.0 and HTTP/1.1 are spoken",
            ),
            R::TooSlow => row(408, 1008, "too_slow", "the request took too long"),
            R::NotFound => row(404, 1008, "not_found", "no such resource"),
            R::Method => row(405, 1008, "method", "method not allowed here"),
            R::UnknownHost => row(404, 1008, "unknown_host", "this host was never seen"),
            R::UnknownMetric => row(404, 1008, "unknown_metric", "this metric was never seen"),
            R::BadQuery => row(400, 1008, "bad_query", "malformed query"),
            R::ForeignOrigin => row(403, 1008, "foreign_origin", "this Origin may not connect"),
            R::BadUpgrade => row(400, 1002, "bad_upgrade", "malformed WebSocket handshake"),
            R::UpgradeRequired => row(426, 1002, "upgrade_required", "WebSocket version 13 only"),
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
            R::BinaryIngest => row(415, 1003, "binary_message", "send text messages"),
            R::SlowViewer => row(408, 4008, "slow_viewer", "frames were not acknowledged"),
            R::StalledViewer => row(408, 1013, "stalled_viewer", "the socket takes nothing"),
            R::RingFull => row(503, 1013, "ring_full", "the node is full, try again"),
            R::Busy => row(503, 1013, "busy", "the node is busy, try again"),
            R::TooManyConnections => row(503, 1013, "connections", "too many connections"),
            R::Stopping => row(503, 1012, "stopping", "the node is stopping"),
        }
    }

    pub const fn is_overload(self) -> bool {
        self.answer().status == 503
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

/// All reasons, for tables and counters.
pub fn all() -> impl Iterator<Item = Reason> {
    ALL.into_iter()
}

/// All refusals as the table in `docs/PROTOCOL.md` shows them; a test keeps both equal.
pub fn table() -> String {
    use std::fmt::Write;
    let mut table = String::from("| reason | HTTP | WebSocket | meaning |\n|---|---|---|---|\n");
    for reason in all() {
        let Answer {
            status,
            close_code,
            label,
            text,
        } = reason.answer();
        let _ = writeln!(table, "| `{label}` | {status} | {close_code} | {text} |");
    }
    table
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
    R::NotFound,
    R::Method,
    R::UnknownHost,
    R::UnknownMetric,
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
    R::BinaryIngest,
    R::SlowViewer,
    R::StalledViewer,
    R::RingFull,
    R::Busy,
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
        304 => "Not Modified",
        400 => "Bad Request",
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
            assert_ne!(phrase(answer.status), "Unknown", "{}", answer.label);
            assert!(answer.status != 500, "never 500 for what a peer sent");
            assert!((1000..5000).contains(&answer.close_code));
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
