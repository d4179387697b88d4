//! Payload to samples, borrowed: one file per format.
//!
//! A body is decoded in one pass into a [`Batch`], which holds numbers and, for names, places in
//! the body: nothing is copied but strings that were escaped. Names are checked here and looked up
//! later, once the whole batch is known to be good, so a refused batch leaves no trace. Touches
//! neither sockets nor clocks nor the catalog.

pub mod body;
pub mod fault;
pub mod json;
pub mod ndjson;

mod document;
mod field;
mod keys;
mod name;
mod number;
mod scan;
mod string;
mod swar;

#[cfg(any(test, fuzzing))]
pub mod reference;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod vectors;

use std::ops::Range;

use fault::{Counted, Fault, FaultKind, Place, Reason};
use keys::Keys;

use crate::limits::INFLATED_BYTES_MAX;

/// One document, an array of them, or one per line: what a WebSocket message may hold. A message
/// is taken for lines only when it is not one document; that costs lines a second look at the
/// first of them.
pub fn message(body: &[u8], now_ms: i64, batch: &mut Batch) -> Result<(), Fault> {
    match json::decode(body, now_ms, batch) {
        Err(fault) if fault.is(Reason::JsonTrailing) && first_byte(body) == b'{' => {
            ndjson::decode(body, now_ms, batch)
        }
        result => result,
    }
}

fn first_byte(body: &[u8]) -> u8 {
    let space = |byte: &&u8| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    body.iter().find(space).copied().unwrap_or(0)
}

/// What one body said, reused for the next: once warm, decoding allocates nothing.
///
/// Invariant: either empty, or the whole content of the last body decoded. Memory is bounded by
/// the body: 24 B a sample, 80 B a document, 16 B a tag, of which a body holds at most
/// [`crate::limits::BATCH_SAMPLES_MAX`], as many, and 16 times as many.
#[derive(Debug, Default)]
pub struct Batch {
    docs: Vec<Doc>,
    points: Vec<Point>,
    tags: Vec<Tag>,
    /// Unescaped strings, one after the other.
    arena: String,
    keys: Keys,
    /// Samples of the last body that was refused, up to the faulty one, which counts.
    refused: usize,
    /// The last `seq` that was read, of a document that may have been refused afterwards.
    last_seq: Option<u64>,
}

/// One document of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doc {
    pub host: Text,
    /// The samples' own time, milliseconds since the epoch.
    pub time_ms: Option<i64>,
    /// The sender's clock when it sent, milliseconds since the epoch.
    pub sent_at: Option<i64>,
    /// The sender's number for an acknowledgement.
    pub seq: Option<u64>,
    /// Wants its acknowledgement once it is on the disk.
    pub durable: bool,
    points: (u32, u32),
    tags: (u32, u32),
}

/// One measured value; `unit` is empty when none was given.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub metric: Text,
    pub unit: Text,
    pub value: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Tag {
    pub key: Text,
    pub value: Text,
}

/// A text's place: in the body, or among the unescaped strings of the batch. Start and length in
/// one word, which moves through memory whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text(u64);

/// The length is in the low half, the start above it, this bit marks the arena. Bodies and arenas
/// are far below 2 GiB.
const IN_ARENA: u64 = 1 << 63;
const _: () = assert!(INFLATED_BYTES_MAX < 1 << 31);

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.docs.clear();
        self.points.clear();
        self.tags.clear();
        self.arena.clear();
        self.keys.clear();
        self.refused = 0;
        self.last_seq = None;
    }

    /// Forgets the content of a body that was refused, but for what its refusal must tell.
    fn refuse(&mut self) {
        let (refused, last_seq) = (self.points.len() + 1, self.last_seq);
        self.clear();
        (self.refused, self.last_seq) = (refused, last_seq);
    }

    /// See the field.
    pub fn refused(&self) -> usize {
        self.refused
    }

    pub fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    pub fn samples(&self) -> usize {
        self.points.len()
    }

    pub fn docs(&self) -> &[Doc] {
        &self.docs
    }

    pub fn points(&self, doc: &Doc) -> &[Point] {
        self.points.get(range(doc.points)).unwrap_or_default()
    }

    pub fn tags(&self, doc: &Doc) -> &[Tag] {
        self.tags.get(range(doc.tags)).unwrap_or_default()
    }

    /// The texts of the body that was decoded, checked to be UTF-8 as a whole: one look at the
    /// body instead of one per text. Of another body, texts are arbitrary or empty.
    pub fn texts<'a>(&'a self, body: &'a [u8]) -> Texts<'a> {
        Texts {
            batch: self,
            body: str::from_utf8(body).unwrap_or_default(),
        }
    }

    /// One text; for many, [`Batch::texts`] is faster.
    pub fn text<'a>(&'a self, body: &'a [u8], text: Text) -> &'a str {
        str::from_utf8(text.bytes(body, &self.arena)).unwrap_or_default()
    }
}

fn range((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}

/// A batch together with its body.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    batch: &'a Batch,
    body: &'a str,
}

impl<'a> Texts<'a> {
    #[inline]
    pub fn get(&self, text: Text) -> &'a str {
        let arena = text.is_in_arena();
        let source = if arena { &self.batch.arena } else { self.body };
        source.get(text.range()).unwrap_or_default()
    }

    /// A document's tags, key and value.
    pub fn tags(&self, doc: &Doc) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let texts = *self;
        let tags = self.batch.tags(doc).iter();
        tags.map(move |tag| (texts.get(tag.key), texts.get(tag.value)))
    }
}

impl Text {
    #[inline(always)]
    fn in_body(start: u32, len: u32) -> Self {
        Self(u64::from(start) << 32 | u64::from(len))
    }

    fn in_arena(start: usize, len: usize) -> Self {
        Self(Self::in_body(start as u32, len as u32).0 | IN_ARENA)
    }

    #[inline(always)]
    fn is_in_arena(self) -> bool {
        self.0 & IN_ARENA != 0
    }

    #[inline(always)]
    fn len(self) -> usize {
        self.0 as u32 as usize
    }

    #[inline(always)]
    fn range(self) -> Range<usize> {
        let start = ((self.0 & !IN_ARENA) >> 32) as usize;
        start..start + self.len()
    }

    #[inline]
    fn bytes<'a>(self, body: &'a [u8], arena: &'a str) -> &'a [u8] {
        let source = if self.is_in_arena() {
            arena.as_bytes()
        } else {
            body
        };
        source.get(self.range()).unwrap_or_default()
    }
}

/// Texts are 32-bit places, so what no transport lets through is not begun here either.
fn check_size(body: &[u8], counted: Counted) -> Result<(), Fault> {
    if body.len() <= INFLATED_BYTES_MAX {
        return Ok(());
    }
    let place = Place {
        counted,
        number: 1,
        at: INFLATED_BYTES_MAX as u32,
    };
    Err(Fault::new(
        Reason::BodyTooBig,
        place,
        "a body has at most 32 MiB",
    ))
}

/// A fault of shape stands only if the whole body is JSON: `check` looks, and finds the fault of
/// syntax otherwise.
#[cold]
fn weigh(fault: Fault, check: impl FnOnce() -> Result<(), Fault>) -> Fault {
    match fault.kind() {
        FaultKind::Shape | FaultKind::Future => check().err().unwrap_or(fault),
        FaultKind::Syntax | FaultKind::TooMany => fault,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::{BATCH_SAMPLES_MAX, FUTURE_MS_MAX, JSON_DEPTH_MAX};

    const NOW_MS: i64 = 1_763_918_083_000;

    /// Decodes as JSON; the number of samples, or the reason.
    fn check(body: &str, expected: Result<usize, &str>) {
        let mut batch = Batch::new();
        let result = json::decode(body.as_bytes(), NOW_MS, &mut batch);
        let found = result
            .map(|()| batch.samples())
            .map_err(|fault| fault.reason());
        let shown = body.get(..200).unwrap_or(body);
        assert_eq!(found, expected, "{shown}");
    }

    #[test]
    fn a_batch_has_so_many_samples_and_no_more() {
        let document = |n: usize, parts: &str| format!("{{\"host\":\"a\",{parts}\"m{n}\":1}}");
        let one_each = |n: usize| {
            let documents: Vec<String> = (0..n).map(|i| document(i, "")).collect();
            format!("[{}]", documents.join(","))
        };
        check(&one_each(BATCH_SAMPLES_MAX), Ok(BATCH_SAMPLES_MAX));
        check(&one_each(BATCH_SAMPLES_MAX + 1), Err("too_many_samples"));
        let all_in_one = |n: usize| {
            let metrics: String = (1..n).map(|i| format!("\"m{i}\":1,")).collect();
            document(0, &metrics)
        };
        check(&all_in_one(BATCH_SAMPLES_MAX), Ok(BATCH_SAMPLES_MAX));
        check(&all_in_one(BATCH_SAMPLES_MAX + 1), Err("too_many_samples"));
        let single = "{\"host\":\"a\",\"metric_type\":\"c\",\"value\":1},";
        let singles = single.repeat(BATCH_SAMPLES_MAX);
        check(
            &format!("[{}]", singles.trim_end_matches(',')),
            Ok(BATCH_SAMPLES_MAX),
        );
        check(
            &format!("[{singles}{}]", document(0, "")),
            Err("too_many_samples"),
        );
    }

    #[test]
    fn a_time_may_be_so_far_ahead_and_no_further() {
        let body = |time: i64| format!("{{\"host\":\"a\",\"time\":{time},\"cpu\":1}}");
        check(&body(NOW_MS + FUTURE_MS_MAX), Ok(1));
        check(&body(NOW_MS + FUTURE_MS_MAX + 1), Err("future"));
        check(&body(0), Ok(1));
        check(&body(-1), Err("bad_time"));
        let sent_at = "{\"host\":\"a\",\"sent_at\":9999999999999,\"cpu\":1}";
        check(sent_at, Ok(1));
    }

    #[test]
    fn nesting_is_bounded_also_in_what_is_passed_over() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        check(&deep(JSON_DEPTH_MAX), Err("not_a_document"));
        check(&deep(JSON_DEPTH_MAX + 1), Err("json_depth"));
        let odd = |n: usize| format!("[{{\"host\":\"a\",\"x\":{}}}]", deep(n));
        check(&odd(JSON_DEPTH_MAX - 2), Err("bad_value"));
        check(&odd(JSON_DEPTH_MAX - 1), Err("json_depth"));
    }

    #[test]
    fn a_name_that_comes_twice_is_found_wherever_it_is() {
        for count in [2, 3, 31, 32, 33, 34, 35, 64, 200] {
            let names: Vec<String> = (0..count).map(|i| format!("metric{i}")).collect();
            for again in [0, count / 2 - 1, count - 2] {
                for at in [again + 1, count - 1] {
                    let mut names = names.clone();
                    names[at] = names[again].replace('m', "\\u006d");
                    let members: Vec<String> =
                        names.iter().map(|name| format!("\"{name}\":1")).collect();
                    let members = members.join(",");
                    check(
                        &format!("{{\"host\":\"a\",{members}}}"),
                        Err("duplicate_key"),
                    );
                    let full = format!("{{\"metrics\":{{{members}}},\"host\":\"a\"}}");
                    check(&full, Err("duplicate_key"));
                }
            }
        }
    }

    #[test]
    fn a_body_past_every_bound_is_not_begun() {
        let body = vec![b' '; INFLATED_BYTES_MAX + 1];
        let mut batch = Batch::new();
        let fault = json::decode(&body, NOW_MS, &mut batch).unwrap_err();
        assert_eq!(
            (fault.kind(), fault.reason()),
            (FaultKind::TooMany, "body_too_big")
        );
        let fault = ndjson::decode(&body, NOW_MS, &mut batch).unwrap_err();
        assert_eq!(fault.kind(), FaultKind::TooMany);
        let fault = json::decode(&body[1..], NOW_MS, &mut batch).unwrap_err();
        assert_eq!(fault.reason(), "empty_body");
    }

    #[test]
    fn a_message_is_a_document_an_array_or_lines() {
        let check = |body: &str, expected: Result<usize, &str>| {
            let mut batch = Batch::new();
            let result = message(body.as_bytes(), NOW_MS, &mut batch);
            let found = result
                .map(|()| batch.samples())
                .map_err(|fault| fault.to_string());
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{body}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{body}: {found}"),
                _ => panic!("{body}: {found:?}, expected {expected:?}"),
            }
        };
        check("{\"host\":\"a\",\n\"cpu\":1}\n", Ok(1));
        check(
            "[{\"host\":\"a\",\"cpu\":1},\n{\"host\":\"b\",\"cpu\":1}]",
            Ok(2),
        );
        check(
            "\n {\"host\":\"a\",\"cpu\":1}\n{\"host\":\"b\",\"cpu\":1}\n",
            Ok(2),
        );
        check(
            "{\"host\":\"a\",\"cpu\":1}\n{\"cpu\":1}",
            Err("line 2, byte 21: no host"),
        );
        check(
            "{\"cpu\":1}\n{\"host\":\"a\",\"cpu\":1}",
            Err("line 1, byte 0: no host"),
        );
        check("[] {\"host\":\"a\",\"cpu\":1}", Err("document 1"));
        check("", Err("empty"));
    }

    #[test]
    fn texts_are_read_one_by_one_or_together() {
        let body = concat!(
            "{\"host\":\"münchen\",\"tags\":{\"d\\u0063\":\"x\"},",
            "\"metrics\":{\"\\ud83d\\ude00\":1}}"
        );
        let mut batch = Batch::new();
        json::decode(body.as_bytes(), NOW_MS, &mut batch).unwrap();
        let texts = batch.texts(body.as_bytes());
        let doc = &batch.docs()[0];
        let [point] = batch.points(doc) else { panic!() };
        let [tag] = batch.tags(doc) else { panic!() };
        for (text, expected) in [
            (doc.host, "münchen"),
            (point.metric, "😀"),
            (point.unit, ""),
            (tag.key, "dc"),
            (tag.value, "x"),
        ] {
            assert_eq!(texts.get(text), expected);
            assert_eq!(batch.text(body.as_bytes(), text), expected);
        }
        assert_eq!(texts.tags(doc).collect::<Vec<_>>(), [("dc", "x")]);
        // Another body does no harm.
        assert_eq!(batch.texts(b"short").get(doc.host), "");
    }

    #[test]
    fn a_warm_batch_takes_no_more_memory() {
        let document = |i: usize| {
            let metrics = format!("{{\"cpu\":{i}.5,\"mem\":1}}");
            let host = format!("a\\u0062{i}");
            format!("{{\"host\":\"{host}\",\"tags\":{{\"k\":\"v\"}},\"metrics\":{metrics}}}")
        };
        let documents: Vec<String> = (100..300).map(document).collect();
        let body = format!("[{}]", documents.join(","));
        let mut batch = Batch::new();
        let memory = |batch: &Batch| {
            let (docs, points) = (batch.docs.as_ptr(), batch.points.as_ptr());
            (
                docs,
                points,
                batch.tags.as_ptr(),
                batch.arena.as_ptr(),
                batch.arena.capacity(),
            )
        };
        json::decode(body.as_bytes(), NOW_MS, &mut batch).unwrap();
        let warm = memory(&batch);
        for _ in 0..3 {
            json::decode(body.as_bytes(), NOW_MS, &mut batch).unwrap();
            assert_eq!(batch.samples(), 400);
            json::decode(b"{\"host\":1}", NOW_MS, &mut batch).unwrap_err();
            assert!(batch.docs().is_empty() && batch.samples() == 0);
        }
        assert_eq!(memory(&batch), warm);
        assert!(size_of::<Doc>() <= 80 && size_of::<Point>() == 24 && size_of::<Tag>() == 16);
    }
}
