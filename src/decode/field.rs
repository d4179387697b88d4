//! The fields of a document: what each must hold, and what is said when it does not.

use super::document::{Fields, Key, Reader};
use super::fault::{Fault, Found, Parent, Reason};
use super::name::{self, Name};
use super::number::Number;
use super::scan::Refused;
use super::string::Str;
use super::{Tag, Text};
use crate::limits::{FUTURE_MS_MAX, TAGS_BYTES_MAX, TAGS_MAX};

impl Reader<'_, '_> {
    #[inline]
    pub(super) fn host(&mut self, known: Key, key: Str) -> Result<Text, Refused> {
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
    pub(super) fn text(
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

    pub(super) fn time(&mut self, key: Str) -> Result<i64, Refused> {
        let at = self.scan.at();
        let time = self.milliseconds(key)?;
        if time > self.now_ms.saturating_add(FUTURE_MS_MAX) {
            let what = "the time is more than ten minutes ahead of this server's clock (is it in \
                        milliseconds?)";
            return Err(self.wrong_at(at, key, Parent::Document, Reason::Future, what));
        }
        Ok(time)
    }

    pub(super) fn milliseconds(&mut self, key: Str) -> Result<i64, Refused> {
        let what = "expected milliseconds since the epoch, a whole number";
        let at = self.scan.at();
        let value = self.whole(key, Reason::BadTime, what)?;
        i64::try_from(value)
            .map_err(|_| self.wrong_at(at, key, Parent::Document, Reason::BadTime, what))
    }

    #[inline(never)]
    pub(super) fn whole(
        &mut self,
        key: Str,
        reason: Reason,
        what: &'static str,
    ) -> Result<u64, Refused> {
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
    pub(super) fn value(&mut self, key: Str, parent: Parent) -> Result<f64, Refused> {
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

    #[inline(never)]
    pub(super) fn check_metric(&mut self, key: Str, parent: Parent) -> Result<(), Refused> {
        match name::metric(self.name(key)) {
            None => Ok(()),
            Some(what) => Err(self.wrong(key, parent, Reason::BadMetric, what)),
        }
    }

    pub(super) fn tags(&mut self, key: Str, fields: &Fields) -> Result<(), Refused> {
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
        let (body, arena) = (self.scan.body(), &self.batch.arena);
        let tags = &self.batch.tags[fields.first_tag..];
        let bytes = |text: Text| text.bytes(body, arena).len();
        let bytes: usize = tags
            .iter()
            .map(|tag| bytes(tag.key) + bytes(tag.value))
            .sum();
        if bytes > TAGS_BYTES_MAX {
            let what = "the tags of a host have at most 1024 bytes together";
            return Err(self.wrong_at(start, key, Parent::Document, Reason::BadTags, what));
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
    pub(super) fn open(
        &mut self,
        key: Str,
        reason: Reason,
        what: &'static str,
    ) -> Result<u32, Refused> {
        let start = self.scan.at();
        if self.scan.peek() != b'{' {
            return Err(self.expected(key, Parent::Document, reason, what));
        }
        self.scan.advance(1);
        Ok(start)
    }

    pub(super) fn name(&self, text: Str) -> Name<'_> {
        Name {
            bytes: text.text.bytes(self.scan.body(), &self.batch.arena),
            plain: text.is_plain(),
        }
    }

    pub(super) fn fault(
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
    pub(super) fn wrong_at(
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
    pub(super) fn wrong(
        &mut self,
        key: Str,
        parent: Parent,
        reason: Reason,
        what: &'static str,
    ) -> Refused {
        self.wrong_at(key.at, key, parent, reason, what)
    }

    /// Another kind of value than a field needs; no value at all is a fault of syntax.
    #[cold]
    #[inline(never)]
    pub(super) fn expected(
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
    pub(super) fn twice(&mut self, key: Text, at: u32, parent: Parent) -> Refused {
        let what = "the key comes twice in its object";
        let name = key.bytes(self.scan.body(), &self.batch.arena);
        let fault = Fault::new(Reason::DuplicateKey, self.scan.place(at), what);
        self.scan.refuse_with(fault.field(parent, name))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn unknown(&mut self, key: Text, at: u32) -> Refused {
        let what = "unknown field in a document with `metrics` or `metric_type`";
        let name = key.bytes(self.scan.body(), &self.batch.arena);
        let fault = Fault::new(Reason::UnknownField, self.scan.place(at), what);
        self.scan.refuse_with(fault.field(Parent::Document, name))
    }
}
