//! One document: the three shapes of docs/PROTOCOL.md, section 1.
//!
//! The shape shows only at the end, as keys come in any order: `metrics` makes it full,
//! `metric_type` or `value` single, anything else flat. Until then every other key with a number is
//! kept as a sample of the flat shape.

use super::fault::{Found, Parent, Reason};
use super::name;
use super::scan::{Refused, Scanner};
use super::string::{self, Str};
use super::{Batch, Doc, Point, Text};
use crate::limits::{BATCH_SAMPLES_MAX, METRIC_BYTES_MAX};

/// Reads documents from a body into a batch.
pub(super) struct Reader<'a, 'b> {
    pub(super) scan: Scanner<'a>,
    /// Containers open around a document.
    pub(super) depth: usize,
    pub(super) batch: &'b mut Batch,
    pub(super) now_ms: i64,
}

macro_rules! keys {
    ($($key:ident = $text:literal,)*) => {
        /// The keys a document may have besides its metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Key { $($key,)* }

        impl Key {
            #[inline(always)]
            #[allow(non_upper_case_globals, reason = "each constant is named like its key")]
            fn of(name: Str) -> Option<Self> {
                $(
                    const $key: (usize, u64, u64) =
                        ($text.len(), string::head($text), string::tail($text));
                )*
                match (name.text.len(), name.head, name.tail) {
                    $($key => Some(Self::$key),)*
                    _ => None,
                }
            }
        }
    };
}

keys! {
    Host = b"host",
    Server = b"server",
    ServerName = b"server_name",
    ServerId = b"server_id",
    Time = b"time",
    Timestamp = b"timestamp",
    SentAt = b"sent_at",
    Seq = b"seq",
    Ack = b"ack",
    Tags = b"tags",
    Unit = b"unit",
    Metrics = b"metrics",
    MetricType = b"metric_type",
    Value = b"value",
}

impl Key {
    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

const HOSTS: u16 =
    Key::Host.bit() | Key::Server.bit() | Key::ServerName.bit() | Key::ServerId.bit();
const TIMES: u16 = Key::Time.bit() | Key::Timestamp.bit();
const METRICS: u16 = Key::Metrics.bit();
const UNIT: u16 = Key::Unit.bit();
const METRIC_TYPE: u16 = Key::MetricType.bit();
const VALUE: u16 = Key::Value.bit();
const SINGLE: u16 = METRIC_TYPE | VALUE;
const SINGLE_UNIT: u16 = SINGLE | UNIT;
const NONE: u16 = 0;

/// What a document has said so far, besides what is in its [`Doc`] already: that is filled in
/// place, as copying it would cost a tenth of the whole.
pub(super) struct Fields {
    /// Bits of the keys that were there.
    seen: u16,
    start: u32,
    first_point: usize,
    pub(super) first_tag: usize,
    metric: Text,
    value: f64,
    unit: Text,
    unit_at: u32,
    /// The first key that is neither known nor has a number, and its value's first byte.
    odd: Option<(Str, u8)>,
}

impl Fields {
    fn new(start: u32, batch: &Batch) -> Self {
        Self {
            seen: 0,
            start,
            first_point: batch.points.len(),
            first_tag: batch.tags.len(),
            metric: Text::default(),
            value: 0.0,
            unit: Text::default(),
            unit_at: 0,
            odd: None,
        }
    }

    fn has(&self, keys: u16) -> bool {
        self.seen & keys != 0
    }
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(scan: Scanner<'a>, now_ms: i64, batch: &'b mut Batch) -> Self {
        Self {
            scan,
            depth: 0,
            batch,
            now_ms,
        }
    }

    /// The document at the cursor.
    pub(super) fn document(&mut self) -> Result<(), Refused> {
        let start = self.scan.at();
        if self.scan.peek() != b'{' {
            return Err(self.not_an_object(start));
        }
        self.scan.advance(1);
        self.batch.keys.clear();
        let mut fields = Fields::new(start, self.batch);
        self.batch.docs.push(Doc::default());
        let mut first = true;
        while let Some(key) = self.scan.next_key(&mut first, &mut self.batch.arena)? {
            match Key::of(key) {
                Some(known) => self.field(known, key, &mut fields)?,
                None => self.metric_or_odd(key, &mut fields)?,
            }
        }
        self.finish(&fields)
    }

    fn field(&mut self, known: Key, key: Str, fields: &mut Fields) -> Result<(), Refused> {
        if fields.has(known.bit()) {
            return Err(self.twice(key.text, key.at, Parent::Document));
        }
        match known {
            Key::Host | Key::Server | Key::ServerName | Key::ServerId => {
                if fields.has(HOSTS) {
                    let what = "a second host; exactly one of `host`, `server`, `server_name` and \
                                `server_id` names it";
                    return Err(self.wrong(key, Parent::Document, Reason::TwoHosts, what));
                }
                let host = self.host(known, key)?;
                self.edit(|doc| doc.host = host);
            }
            Key::Time | Key::Timestamp => {
                if fields.has(TIMES) {
                    let what = "a second time; `time` and `timestamp` are the same";
                    return Err(self.wrong(key, Parent::Document, Reason::DuplicateKey, what));
                }
                let time = self.time(key)?;
                self.edit(|doc| doc.time_ms = Some(time));
            }
            Key::SentAt => {
                let time = self.milliseconds(key)?;
                self.edit(|doc| doc.sent_at = Some(time));
            }
            Key::Seq => {
                let what = "expected an unsigned integer of 64 bits";
                let seq = self.whole(key, Reason::BadSeq, what)?;
                self.edit(|doc| doc.seq = Some(seq));
                self.batch.last_seq = Some(seq);
            }
            Key::Ack => {
                self.text(key, Reason::BadAck, name::ack)?;
                self.edit(|doc| doc.durable = true);
            }
            Key::Tags => self.tags(key, fields)?,
            Key::Unit => {
                fields.unit_at = key.at;
                fields.unit = self.text(key, Reason::BadUnit, name::unit)?;
            }
            Key::Metrics => self.metrics(key, fields)?,
            Key::MetricType => {
                fields.metric = self.text(key, Reason::BadMetric, name::metric)?;
            }
            Key::Value => fields.value = self.value(key, Parent::Document)?,
        }
        fields.seen |= known.bit();
        Ok(())
    }

    /// A key with a number is a metric, for all that is known yet; anything else waits for the
    /// shape to be known.
    #[inline(always)]
    fn metric_or_odd(&mut self, key: Str, fields: &mut Fields) -> Result<(), Refused> {
        if fields.has(METRICS) {
            return Err(self.unknown(key.text, key.at));
        }
        if !matches!(self.scan.peek(), b'-' | b'0'..=b'9') {
            return self.odd(key, fields);
        }
        self.metric(key, Parent::Document)
    }

    #[cold]
    fn odd(&mut self, key: Str, fields: &mut Fields) -> Result<(), Refused> {
        let byte = self.scan.peek();
        self.scan.skip(self.depth + 1, &mut String::new())?;
        fields.odd.get_or_insert((key, byte));
        Ok(())
    }

    #[inline(always)]
    fn metric(&mut self, key: Str, parent: Parent) -> Result<(), Refused> {
        if !(key.is_plain() && (1..=METRIC_BYTES_MAX).contains(&key.text.len())) {
            self.check_metric(key, parent)?;
        }
        if !self
            .batch
            .keys
            .insert(key, self.scan.body(), &self.batch.arena)
        {
            return Err(self.twice(key.text, key.at, parent));
        }
        let value = self.value(key, parent)?;
        self.push(Point {
            metric: key.text,
            unit: Text::default(),
            value,
        })
    }

    fn metrics(&mut self, key: Str, fields: &Fields) -> Result<(), Refused> {
        if let Some(extra) = self.batch.keys.first() {
            return Err(self.unknown(extra.text, extra.at));
        }
        let what = "expected an object of numbers";
        let start = self.open(key, Reason::BadMetrics, what)?;
        let mut first = true;
        while let Some(key) = self.scan.next_key(&mut first, &mut self.batch.arena)? {
            self.metric(key, Parent::Metrics)?;
        }
        if self.batch.points.len() == fields.first_point {
            let what = "expected at least one metric";
            return Err(self.wrong_at(start, key, Parent::Document, Reason::NoMetrics, what));
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, point: Point) -> Result<(), Refused> {
        if self.batch.points.len() == BATCH_SAMPLES_MAX {
            return Err(self.too_many());
        }
        self.batch.points.push(point);
        Ok(())
    }

    /// The shape is known now: what is missing, what is too much?
    #[inline]
    fn finish(&mut self, fields: &Fields) -> Result<(), Refused> {
        if !fields.has(HOSTS) {
            let what = "no host; one of `host`, `server`, `server_name` and `server_id` names it";
            return Err(self
                .scan
                .refuse(Reason::MissingHost, fields.start, what, Found::Nothing));
        }
        let lone = self.batch.keys.first().is_none();
        let whole = match fields.seen & (SINGLE | UNIT | METRICS) {
            METRICS => true,
            SINGLE | SINGLE_UNIT => lone,
            NONE => !lone,
            _ => false,
        };
        if !whole || fields.odd.is_some() {
            return Err(self.misshapen(fields));
        }
        if fields.has(SINGLE) {
            self.push(Point {
                metric: fields.metric,
                unit: fields.unit,
                value: fields.value,
            })?;
        } else if let Some(again) = self
            .batch
            .keys
            .repeated(self.scan.body(), &self.batch.arena)
        {
            let full = fields.has(METRICS);
            let parent = if full {
                Parent::Metrics
            } else {
                Parent::Document
            };
            return Err(self.twice(again.text, again.at, parent));
        }
        let points = (fields.first_point as u32, self.batch.points.len() as u32);
        self.edit(|doc| doc.points = points);
        Ok(())
    }

    /// Changes the document that is being read.
    #[inline(always)]
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Doc)) {
        if let Some(doc) = self.batch.docs.last_mut() {
            change(doc);
        }
    }

    /// Why the keys of a document make no shape.
    #[cold]
    #[inline(never)]
    fn misshapen(&mut self, fields: &Fields) -> Refused {
        let at = fields.start;
        let mut whole = |reason, what| self.scan.refuse(reason, at, what, Found::Nothing);
        if fields.has(METRICS) && fields.has(SINGLE) {
            let what = "`metrics` does not go with `metric_type` and `value`";
            return whole(Reason::MixedShapes, what);
        }
        match fields.seen & SINGLE {
            VALUE => {
                let what = "no `metric_type`; a document with `value` needs it";
                return whole(Reason::MissingMetricType, what);
            }
            METRIC_TYPE => {
                let what = "no `value`; a document with `metric_type` needs it";
                return whole(Reason::MissingValue, what);
            }
            _ => (),
        }
        if let Some((key, first)) = fields.odd {
            if fields.has(METRICS | SINGLE) {
                return self.unknown(key.text, key.at);
            }
            let what = "expected a number, as every other key of a flat document is a metric";
            let fault = self.fault(key, Parent::Document, Reason::BadValue, key.at, what);
            return self.scan.refuse_with(fault.found(Found::value(first)));
        }
        if fields.has(SINGLE)
            && let Some(extra) = self.batch.keys.first()
        {
            return self.unknown(extra.text, extra.at);
        }
        if fields.has(UNIT) {
            let what = "`unit` goes with `metric_type` and `value` only";
            return self
                .scan
                .refuse(Reason::UnknownField, fields.unit_at, what, Found::Nothing);
        }
        let what = "no metric; expected `metrics`, `metric_type` and `value`, or keys with numbers";
        self.scan
            .refuse(Reason::NoMetrics, at, what, Found::Nothing)
    }

    #[cold]
    fn not_an_object(&mut self, at: u32) -> Refused {
        if self.scan.is_at_end() {
            return self
                .scan
                .unexpected(at, Reason::JsonTruncated, "expected a document");
        }
        let found = Found::value(self.scan.peek());
        self.scan.refuse(
            Reason::NotADocument,
            at,
            "expected a document, an object",
            found,
        )
    }

    #[cold]
    fn too_many(&mut self) -> Refused {
        let what = "a batch has at most 65536 samples";
        self.scan
            .refuse(Reason::TooManySamples, self.scan.at(), what, Found::Nothing)
    }
}
