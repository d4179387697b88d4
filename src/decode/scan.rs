//! The grammar of JSON (RFC 8259) over bytes in memory.
//!
//! A cursor that only goes forward. It knows tokens, not documents: [`super::document`] says what
//! may stand where. No lookup beyond the body's end is ever made; past it all bytes read as zero,
//! which no token contains.

use super::fault::{Counted, Fault, Found, Place, Reason};
use super::string::Str;
use crate::limits::JSON_DEPTH_MAX;

/// Decoding stopped; [`Scanner::fault`] says why. An empty type, so that results of the hot path
/// stay in registers.
#[derive(Debug)]
pub(super) struct Refused;

pub(super) struct Scanner<'a> {
    body: &'a [u8],
    at: u32,
    /// The last eight bytes of the body, zeros below if it is shorter.
    last: u64,
    counted: Counted,
    number: u32,
    fault: Option<Fault>,
    /// The last string that took the long way: read field by field from here.
    pub(super) long: Str,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let last = match body.last_chunk() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => body
                .iter()
                .fold(0, |word, &byte| word >> 8 | u64::from(byte) << 56),
        };
        Self {
            body,
            at: 0,
            last,
            counted: Counted::Documents,
            number: 1,
            fault: None,
            long: Str::default(),
        }
    }

    /// One line of a body, `end` exclusive; offsets count from the body's begin.
    pub(super) fn line(body: &'a [u8], start: usize, end: usize, number: u32) -> Self {
        Self {
            at: start as u32,
            counted: Counted::Lines,
            number,
            ..Self::new(body.get(..end).unwrap_or(body))
        }
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn at(&self) -> u32 {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at as usize >= self.body.len()
    }

    /// The byte at the cursor; 0 at the end.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        self.byte(self.at)
    }

    #[inline(always)]
    pub(super) fn byte(&self, at: u32) -> u8 {
        self.body.get(at as usize).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, n: u32) {
        self.at += n;
    }

    #[inline(always)]
    pub(super) fn go_to(&mut self, at: u32) {
        self.at = at;
    }

    /// Eight bytes, zeros past the end.
    #[inline(always)]
    pub(super) fn word(&self, at: u32) -> u64 {
        // One comparison: a place has 32 bits, so adding 8 is known not to wrap.
        let at = at as usize;
        match self.body.get(at..at + 8).and_then(<[u8]>::first_chunk) {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => self.last_word(at),
        }
    }

    #[inline(never)]
    fn last_word(&self, at: usize) -> u64 {
        let missing = (at + 8).saturating_sub(self.body.len());
        self.last.checked_shr(8 * missing as u32).unwrap_or(0)
    }

    /// Skips whitespace; the byte after it.
    #[inline(always)]
    pub(super) fn after_space(&mut self) -> u8 {
        self.at = self.space(self.at);
        self.peek()
    }

    /// The first place from `at` on that holds no whitespace.
    #[inline(always)]
    fn space(&self, at: u32) -> u32 {
        if self.byte(at) > b' ' {
            return at;
        }
        self.space_slow(at)
    }

    #[inline(never)]
    fn space_slow(&self, mut at: u32) -> u32 {
        while matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    /// The next document of an array begins.
    pub(super) fn next_document(&mut self, number: u32) {
        self.number = number;
    }

    /// The next key of an object whose `{` was taken; the cursor then stands on its value. None
    /// after the `}`. `first` is true before the first key.
    ///
    /// Always inlined, like what it calls, and the place is kept in a local: a key that is handed
    /// over in memory, or a place that is stored after each byte, costs more than all the rest.
    #[inline(always)]
    pub(super) fn next_key(
        &mut self,
        first: &mut bool,
        arena: &mut String,
    ) -> Result<Option<Str>, Refused> {
        let word = self.word(self.at);
        let start = if word as u16 == COMMA_QUOTE && !*first {
            self.at + 2
        } else if word as u8 == b'"' && *first {
            self.at + 1
        } else if word as u8 == b'}' {
            self.at += 1;
            return Ok(None);
        } else {
            match self.key_start(*first)? {
                END => return Ok(None),
                start => start,
            }
        };
        *first = false;
        let (key, quote, after) = self.string_from(start, arena)?;
        self.at = if after as u16 == QUOTE_COLON && (after >> 16) as u8 > b' ' {
            quote + 2
        } else {
            self.colon(quote + 1)?
        };
        Ok(Some(key))
    }

    /// Where the next key starts behind its quote; [`END`] and the cursor behind the `}` if there
    /// is none.
    #[inline(never)]
    fn key_start(&mut self, first: bool) -> Result<u32, Refused> {
        let mut at = self.space(self.at);
        if self.byte(at) == b',' && !first {
            at = self.space(at + 1);
        } else if self.byte(at) == b'}' {
            self.at = at + 1;
            return Ok(END);
        } else if !first {
            return Err(self.unexpected(at, Reason::JsonSyntax, "expected `,` or `}`"));
        }
        if self.byte(at) != b'"' {
            return Err(self.unexpected(at, Reason::JsonSyntax, "expected a key in double quotes"));
        }
        Ok(at + 1)
    }

    /// The place of the value after the colon, which follows at `at`.
    #[inline(never)]
    fn colon(&mut self, at: u32) -> Result<u32, Refused> {
        let at = self.space(at);
        if self.byte(at) != b':' {
            return Err(self.unexpected(at, Reason::JsonSyntax, "expected `:` after the key"));
        }
        Ok(self.space(at + 1))
    }

    /// Whether an array whose `[` was taken has another element, at the cursor then.
    #[inline]
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool, Refused> {
        let byte = self.after_space();
        if byte == b']' {
            self.at += 1;
            return Ok(false);
        }
        if !*first {
            if byte != b',' {
                return Err(self.unexpected(self.at, Reason::JsonSyntax, "expected `,` or `]`"));
            }
            self.at += 1;
            self.after_space();
        }
        *first = false;
        Ok(true)
    }

    /// Nothing but whitespace may follow.
    pub(super) fn end(&mut self) -> Result<(), Refused> {
        self.after_space();
        if !self.is_at_end() {
            let what = "expected nothing more after the document";
            return Err(self.unexpected(self.at, Reason::JsonTrailing, what));
        }
        Ok(())
    }

    /// Passes over any one value, which must be JSON; `depth` containers are open around it.
    /// `scratch` holds unescaped strings meanwhile.
    #[cold]
    pub(super) fn skip(&mut self, depth: usize, scratch: &mut String) -> Result<(), Refused> {
        let byte = self.after_space();
        if matches!(byte, b'{' | b'[') && depth == JSON_DEPTH_MAX {
            let what = "nested deeper than 16 levels";
            return Err(self.refuse(Reason::JsonDepth, self.at, what, Found::Nothing));
        }
        let mut first = true;
        match byte {
            b'{' => {
                self.at += 1;
                while self.has_key(&mut first, scratch)? {
                    self.skip(depth + 1, scratch)?;
                }
            }
            b'[' => {
                self.at += 1;
                while self.next_element(&mut first)? {
                    self.skip(depth + 1, scratch)?;
                }
            }
            b'"' => {
                self.string(scratch)?;
            }
            b'-' | b'0'..=b'9' => {
                self.number()?;
            }
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return Err(self.unexpected(self.at, Reason::JsonSyntax, "expected a value")),
        }
        scratch.clear();
        Ok(())
    }

    fn has_key(&mut self, first: &mut bool, scratch: &mut String) -> Result<bool, Refused> {
        Ok(self.next_key(first, scratch)?.is_some())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Refused> {
        for &byte in word {
            if self.peek() != byte {
                let what = "expected `true`, `false`, `null` or another value";
                return Err(self.unexpected(self.at, Reason::JsonSyntax, what));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Refuses the byte at `at`; past the end of the body it is truncated instead.
    #[cold]
    #[inline(never)]
    pub(super) fn unexpected(&mut self, at: u32, reason: Reason, what: &'static str) -> Refused {
        if (at as usize) < self.body.len() {
            let found = Found::Byte(self.byte(at));
            return self.refuse(reason, at, what, found);
        }
        self.refuse(
            Reason::JsonTruncated,
            self.body.len() as u32,
            what,
            Found::End,
        )
    }

    #[cold]
    #[inline(never)]
    pub(super) fn refuse(
        &mut self,
        reason: Reason,
        at: u32,
        what: &'static str,
        found: Found,
    ) -> Refused {
        let fault = Fault::new(reason, self.place(at), what).found(found);
        self.refuse_with(fault)
    }

    pub(super) fn refuse_with(&mut self, fault: Fault) -> Refused {
        self.fault = Some(fault);
        Refused
    }

    pub(super) fn place(&self, at: u32) -> Place {
        Place {
            counted: self.counted,
            number: self.number,
            at,
        }
    }

    /// Why decoding stopped.
    pub(super) fn fault(&self) -> Fault {
        let unknown = || Fault::new(Reason::JsonSyntax, self.place(self.at), "not readable");
        self.fault.unwrap_or_else(unknown)
    }
}

/// No key starts here: before the first there are a brace and a quote.
const END: u32 = 0;
const COMMA_QUOTE: u16 = u16::from_le_bytes(*b",\"");
const QUOTE_COLON: u16 = u16::from_le_bytes(*b"\":");
