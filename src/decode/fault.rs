//! Why a body was refused: a reason for machines, a sentence for people.

use std::fmt;

/// One refused body. Holds no heap memory and borrows nothing: what it quotes is copied and cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    reason: Reason,
    counted: Counted,
    /// Document in the body, or line of NDJSON, from 1.
    number: u32,
    /// Byte of the body, from 0.
    at: u32,
    what: &'static str,
    found: Found,
    field: Option<Field>,
}

/// What kind of answer a fault gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Not JSON: 400.
    Syntax,
    /// JSON of another shape than ours: 422.
    Shape,
    /// A sample from the future: 422.
    Future,
    /// More samples than one batch may have: 413.
    TooMany,
}

/// Every refusal, one name each. Faults of syntax come first: they win over any other fault of the
/// same body, so that 422 always means "this was JSON".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    EmptyBody,
    JsonSyntax,
    JsonTruncated,
    JsonString,
    JsonUtf8,
    JsonNumber,
    JsonDepth,
    JsonTrailing,
    NoDocuments,
    NotADocument,
    DuplicateKey,
    MissingHost,
    TwoHosts,
    BadHost,
    MissingMetricType,
    MissingValue,
    NoMetrics,
    BadMetrics,
    BadMetric,
    BadValue,
    BadUnit,
    BadTags,
    BadTime,
    BadSeq,
    BadAck,
    UnknownField,
    MixedShapes,
    Future,
    TooManySamples,
    BodyTooBig,
}

impl Reason {
    pub fn kind(self) -> FaultKind {
        match self {
            Self::EmptyBody
            | Self::JsonSyntax
            | Self::JsonTruncated
            | Self::JsonString
            | Self::JsonUtf8
            | Self::JsonNumber
            | Self::JsonDepth
            | Self::JsonTrailing => FaultKind::Syntax,
            Self::Future => FaultKind::Future,
            Self::TooManySamples | Self::BodyTooBig => FaultKind::TooMany,
            _ => FaultKind::Shape,
        }
    }

    /// The name on the wire and in counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmptyBody => "empty_body",
            Self::JsonSyntax => "json_syntax",
            Self::JsonTruncated => "json_truncated",
            Self::JsonString => "json_string",
            Self::JsonUtf8 => "json_utf8",
            Self::JsonNumber => "json_number",
            Self::JsonDepth => "json_depth",
            Self::JsonTrailing => "json_trailing",
            Self::NoDocuments => "no_documents",
            Self::NotADocument => "not_a_document",
            Self::DuplicateKey => "duplicate_key",
            Self::MissingHost => "missing_host",
            Self::TwoHosts => "two_hosts",
            Self::BadHost => "bad_host",
            Self::MissingMetricType => "missing_metric_type",
            Self::MissingValue => "missing_value",
            Self::NoMetrics => "no_metrics",
            Self::BadMetrics => "bad_metrics",
            Self::BadMetric => "bad_metric",
            Self::BadValue => "bad_value",
            Self::BadUnit => "bad_unit",
            Self::BadTags => "bad_tags",
            Self::BadTime => "bad_time",
            Self::BadSeq => "bad_seq",
            Self::BadAck => "bad_ack",
            Self::UnknownField => "unknown_field",
            Self::MixedShapes => "mixed_shapes",
            Self::Future => "future",
            Self::TooManySamples => "too_many_samples",
            Self::BodyTooBig => "body_too_big",
        }
    }
}

impl Fault {
    pub fn kind(&self) -> FaultKind {
        self.reason.kind()
    }

    pub fn reason(&self) -> &'static str {
        self.reason.name()
    }

    /// Byte of the body at which decoding stopped.
    pub fn at(&self) -> usize {
        self.at as usize
    }

    /// Document in the body, or line of NDJSON, from 1.
    pub fn document(&self) -> u32 {
        self.number
    }

    pub(super) fn is(&self, reason: Reason) -> bool {
        self.reason == reason
    }

    #[cold]
    pub(super) fn new(reason: Reason, place: Place, what: &'static str) -> Self {
        Self {
            reason,
            counted: place.counted,
            number: place.number,
            at: place.at,
            what,
            found: Found::Nothing,
            field: None,
        }
    }

    pub(super) fn found(self, found: Found) -> Self {
        Self { found, ..self }
    }

    pub(super) fn field(self, parent: Parent, name: &[u8]) -> Self {
        let field = Some(Field::new(parent, name));
        Self { field, ..self }
    }
}

/// How the parts of a body are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Documents,
    Lines,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) counted: Counted,
    pub(super) number: u32,
    pub(super) at: u32,
}

/// What stood where something else was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    End,
    Byte(u8),
    Value(&'static str),
}

impl Found {
    /// The value that begins with this byte, or the byte itself.
    pub(super) fn value(first: u8) -> Self {
        match first {
            b'"' => Self::Value("a string"),
            b'{' => Self::Value("an object"),
            b'[' => Self::Value("an array"),
            b't' | b'f' => Self::Value("a boolean"),
            b'n' => Self::Value("null"),
            b'-' | b'0'..=b'9' => Self::Value("a number"),
            other => Self::Byte(other),
        }
    }
}

/// The object a field stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    Document,
    Metrics,
    Tags,
}

const FIELD_BYTES_MAX: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    parent: Parent,
    len: u8,
    cut: bool,
    name: [u8; FIELD_BYTES_MAX],
}

impl Field {
    fn new(parent: Parent, name: &[u8]) -> Self {
        let mut copy = [0; FIELD_BYTES_MAX];
        let len = name.len().min(FIELD_BYTES_MAX);
        copy[..len].copy_from_slice(&name[..len]);
        Self {
            parent,
            len: len as u8,
            cut: len < name.len(),
            name: copy,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The cut may fall inside a character: that character is left out. Controls and quotes are
        // escaped, so that a name cannot forge a line of a log.
        let bytes = &self.name[..usize::from(self.len)];
        let whole = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let dots = if self.cut { "…" } else { "" };
        write!(f, "field \"{}{dots}\"", whole.escape_debug())?;
        match self.parent {
            Parent::Document => Ok(()),
            Parent::Metrics => f.write_str(" of \"metrics\""),
            Parent::Tags => f.write_str(" of \"tags\""),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nothing => Ok(()),
            Self::End => f.write_str(", found the end"),
            Self::Byte(byte @ 0x21..=0x7e) => write!(f, ", found `{}`", char::from(byte)),
            Self::Byte(byte) => write!(f, ", found byte 0x{byte:02x}"),
            Self::Value(value) => write!(f, ", found {value}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = match self.counted {
            Counted::Documents => "document",
            Counted::Lines => "line",
        };
        write!(f, "{counted} {}", self.number)?;
        if let Some(field) = &self.field {
            write!(f, ", {field}")?;
        }
        write!(f, ", byte {}: {}{}", self.at, self.what, self.found)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(counted: Counted) -> Place {
        Place {
            counted,
            number: 3,
            at: 87,
        }
    }

    fn check(fault: Fault, expected: &str) {
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn a_fault_says_where_and_what() {
        let documents = place(Counted::Documents);
        let fault = Fault::new(Reason::BadValue, documents, "expected a number");
        check(fault, "document 3, byte 87: expected a number");
        check(
            fault
                .found(Found::value(b'"'))
                .field(Parent::Metrics, b"cpu"),
            "document 3, field \"cpu\" of \"metrics\", byte 87: expected a number, found a string",
        );
        check(
            Fault::new(Reason::JsonSyntax, place(Counted::Lines), "expected `:`").found(Found::End),
            "line 3, byte 87: expected `:`, found the end",
        );
        check(
            fault.found(Found::Byte(0)),
            "document 3, byte 87: expected a number, found byte 0x00",
        );
    }

    #[test]
    fn quoted_names_are_escaped_and_cut_between_characters() {
        let fault = Fault::new(Reason::BadTags, place(Counted::Documents), "no");
        check(
            fault.field(Parent::Tags, b"a\"\n\x1b"),
            "document 3, field \"a\\\"\\n\\u{1b}\" of \"tags\", byte 87: no",
        );
        let name = format!("{}é-and-more", "x".repeat(FIELD_BYTES_MAX - 1));
        let shown = "x".repeat(FIELD_BYTES_MAX - 1);
        check(
            fault.field(Parent::Document, name.as_bytes()),
            &format!("document 3, field \"{shown}…\", byte 87: no"),
        );
    }

    #[test]
    fn a_fault_stays_small() {
        assert!(size_of::<Fault>() <= 120);
    }
}
