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
