//! One document: the three shapes of docs/PROTOCOL.md, section 1.
//!
//! The shape shows only at the end, as keys come in any order: `metrics` makes it full,
//! `metric_type` or `value` single, anything else flat. Until then every other key with a number is
//! kept as a sample of the flat shape.

use super::fault::{Fault, Found, Parent, Reason};
use super::name::{self, Name};
use super::number::Number;
use super::scan::{Refused, Scanner};
use super::string::{self, Str};
use super::{Batch, Doc, Point, Tag, Text};
use crate::limits::{BATCH_SAMPLES_MAX, FUTURE_MS_MAX, METRIC_BYTES_MAX, TAGS_MAX};

/// Reads documents from a body into a batch.
pub(super) struct Reader<'a, 'b> {
    pub(super) scan: Scanner<'a>,
    /// Containers open around a document.
    pub(super) depth: usize,
    batch: &'b mut Batch,
    now_ms: i64,
}

macro_rules! keys {
    ($($key:ident = $text:literal,)*) => {
        /// The keys a document may have besides its metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        enum Key { $($key,)* }

        impl Key {
            #[inline(always)]
            #[allow(non_upper_case_globals, reason = "named like their keys")]
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
struct Fields {
    /// Bits of the keys that were there.
    seen: u16,
    start: u32,
    first_point: usize,
    first_tag: usize,
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

    #[inline]
    fn host(&mut self, known: Key, key: Str) -> Result<Text, Refused> {
        if known != Key::ServerId || self.scan.peek() == b'"' {
            return self.text(key, Reason::BadHost, name::host);
        }
        let start = self.scan.at();
        if self.scan.short_integer().is_some() {
            return Ok(Text::in_body(start, self.scan.at() - start));
        }
        self.long_id(key)
    }

    #[inline(never)]
    fn long_id(&mut self, key: Str) -> Result<Text, Refused> {
        let what = "expected a string or an integer of 64 bits";
        let number = self.number(key, Parent::Document, Reason::BadHost, what)?;
        match number.integer(self.scan.body()) {
            Some((start, end)) => Ok(Text::in_body(start, end - start)),
            None => {
                Err(self.wrong_at(number.start(), key, Parent::Document, Reason::BadHost, what))
            }
        }
    }

    #[inline(always)]
    fn text(
        &mut self,
        key: Str,
        reason: Reason,
        check: impl Fn(Name<'_>) -> Option<&'static str>,
    ) -> Result<Text, Refused> {
        if self.scan.peek() != b'"' {
            return Err(self.expected(key, Parent::Document, reason, "expected a string"));
        }
        let text = self.scan.string(&mut self.batch.arena)?;
        match check(self.name(text)) {
            None => Ok(text.text),
            Some(what) => Err(self.wrong_at(text.at, key, Parent::Document, reason, what)),
        }
    }

    fn time(&mut self, key: Str) -> Result<i64, Refused> {
        let at = self.scan.at();
        let time = self.milliseconds(key)?;
        if time > self.now_ms.saturating_add(FUTURE_MS_MAX) {
            let what = "the time is more than ten minutes ahead of this server's clock (is it in \
                        milliseconds?)";
            return Err(self.wrong_at(at, key, Parent::Document, Reason::Future, what));
        }
        Ok(time)
    }

    fn milliseconds(&mut self, key: Str) -> Result<i64, Refused> {
        let what = "expected milliseconds since the epoch, a whole number";
        let at = self.scan.at();
        let value = self.whole(key, Reason::BadTime, what)?;
        i64::try_from(value)
            .map_err(|_| self.wrong_at(at, key, Parent::Document, Reason::BadTime, what))
    }

    #[inline(never)]
    fn whole(&mut self, key: Str, reason: Reason, what: &'static str) -> Result<u64, Refused> {
        if let Some(short) = self.scan.short_integer() {
            return Ok(short);
        }
        let number = self.number(key, Parent::Document, reason, what)?;
        number
            .whole(self.scan.body())
            .ok_or_else(|| self.wrong_at(number.start(), key, Parent::Document, reason, what))
    }

    #[inline(always)]
    fn number(
        &mut self,
        key: Str,
        parent: Parent,
        reason: Reason,
        what: &'static str,
    ) -> Result<Number, Refused> {
        if !matches!(self.scan.peek(), b'-' | b'0'..=b'9') {
            return Err(self.expected(key, parent, reason, what));
        }
        self.scan.number()
    }

    #[inline(always)]
    fn value(&mut self, key: Str, parent: Parent) -> Result<f64, Refused> {
        match self.scan.short_value() {
            Some(value) => Ok(value),
            None => self.long_value(key, parent),
        }
    }

    #[inline(never)]
    fn long_value(&mut self, key: Str, parent: Parent) -> Result<f64, Refused> {
        let number = self.number(key, parent, Reason::BadValue, "expected a number")?;
        let value = number.value(self.scan.body());
        if !value.is_finite() {
            let what = "the number is too large, a value is a finite f64";
            return Err(self.wrong_at(number.start(), key, parent, Reason::BadValue, what));
        }
        Ok(value)
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

    #[inline(never)]
    fn check_metric(&mut self, key: Str, parent: Parent) -> Result<(), Refused> {
        match name::metric(self.name(key)) {
            None => Ok(()),
            Some(what) => Err(self.wrong(key, parent, Reason::BadMetric, what)),
        }
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

    fn tags(&mut self, key: Str, fields: &Fields) -> Result<(), Refused> {
        let start = self.open(key, Reason::BadTags, "expected an object of strings")?;
        let mut first = true;
        while let Some(tag) = self.scan.next_key(&mut first, &mut self.batch.arena)? {
            self.tag(tag, fields)?;
            let count = self.batch.tags.len() - fields.first_tag;
            if count > TAGS_MAX {
                let what = "a host has at most 16 tags";
                return Err(self.wrong_at(start, key, Parent::Document, Reason::BadTags, what));
            }
        }
        let tags = (fields.first_tag as u32, self.batch.tags.len() as u32);
        self.edit(|doc| doc.tags = tags);
        Ok(())
    }

    fn tag(&mut self, key: Str, fields: &Fields) -> Result<(), Refused> {
        if let Some(what) = name::tag_key(self.name(key)) {
            return Err(self.wrong(key, Parent::Tags, Reason::BadTags, what));
        }
        let (body, arena) = (self.scan.body(), &self.batch.arena);
        let others = self.batch.tags.get(fields.first_tag..).unwrap_or_default();
        let name = key.text.bytes(body, arena);
        if others
            .iter()
            .any(|other| other.key.bytes(body, arena) == name)
        {
            return Err(self.twice(key.text, key.at, Parent::Tags));
        }
        if self.scan.peek() != b'"' {
            return Err(self.expected(key, Parent::Tags, Reason::BadTags, "expected a string"));
        }
        let value = self.scan.string(&mut self.batch.arena)?;
        if let Some(what) = name::tag_value(self.name(value)) {
            return Err(self.wrong_at(value.at, key, Parent::Tags, Reason::BadTags, what));
        }
        self.batch.tags.push(Tag {
            key: key.text,
            value: value.text,
        });
        Ok(())
    }

    /// Takes the `{` of a field's object; where it stood.
    fn open(&mut self, key: Str, reason: Reason, what: &'static str) -> Result<u32, Refused> {
        let start = self.scan.at();
        if self.scan.peek() != b'{' {
            return Err(self.expected(key, Parent::Document, reason, what));
        }
        self.scan.advance(1);
        Ok(start)
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
    fn edit(&mut self, change: impl FnOnce(&mut Doc)) {
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

    fn name(&self, text: Str) -> Name<'_> {
        Name {
            bytes: text.text.bytes(self.scan.body(), &self.batch.arena),
            plain: text.is_plain(),
        }
    }

    fn fault(
        &self,
        key: Str,
        parent: Parent,
        reason: Reason,
        at: u32,
        what: &'static str,
    ) -> Fault {
        let name = key.text.bytes(self.scan.body(), &self.batch.arena);
        Fault::new(reason, self.scan.place(at), what).field(parent, name)
    }

    /// A field, the fault of which is at `at`.
    #[cold]
    #[inline(never)]
    fn wrong_at(
        &mut self,
        at: u32,
        key: Str,
        parent: Parent,
        reason: Reason,
        what: &'static str,
    ) -> Refused {
        let fault = self.fault(key, parent, reason, at, what);
        self.scan.refuse_with(fault)
    }

    /// A field that is wrong by its key.
    #[cold]
    fn wrong(&mut self, key: Str, parent: Parent, reason: Reason, what: &'static str) -> Refused {
        self.wrong_at(key.at, key, parent, reason, what)
    }

    /// Another kind of value than a field needs; no value at all is a fault of syntax.
    #[cold]
    #[inline(never)]
    fn expected(
        &mut self,
        key: Str,
        parent: Parent,
        reason: Reason,
        what: &'static str,
    ) -> Refused {
        let at = self.scan.at();
        if self.scan.is_at_end() {
            return self.scan.unexpected(at, reason, what);
        }
        let found = Found::value(self.scan.peek());
        let fault = self.fault(key, parent, reason, at, what);
        self.scan.refuse_with(fault.found(found))
    }

    #[cold]
    #[inline(never)]
    fn twice(&mut self, key: Text, at: u32, parent: Parent) -> Refused {
        let what = "the key comes twice in its object";
        let name = key.bytes(self.scan.body(), &self.batch.arena);
        let fault = Fault::new(Reason::DuplicateKey, self.scan.place(at), what);
        self.scan.refuse_with(fault.field(parent, name))
    }

    #[cold]
    #[inline(never)]
    fn unknown(&mut self, key: Text, at: u32) -> Refused {
        let what = "unknown field in a document with `metrics` or `metric_type`";
        let name = key.bytes(self.scan.body(), &self.batch.arena);
        let fault = Fault::new(Reason::UnknownField, self.scan.place(at), what);
        self.scan.refuse_with(fault.field(Parent::Document, name))
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
