//! The grammar of JSON (RFC 8259) over bytes in memory.
//!
//! A cursor that only goes forward. It knows tokens, not documents: [`super::document`] says what
//! may stand where. No lookup beyond the body's end is ever made; past it all bytes read as zero,
//! which no token contains.

use super::Text;
use super::fault::{Counted, Fault, Found, Place, Reason};
use super::swar;
use crate::limits::JSON_DEPTH_MAX;

/// Decoding stopped; [`Scanner::fault`] says why. An empty type, so that results of the hot path
/// stay in registers.
#[derive(Debug)]
pub(super) struct Refused;

pub(super) struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    /// The last eight bytes of the body, zeros below if it is shorter.
    last: u64,
    counted: Counted,
    number: u32,
    fault: Option<Fault>,
}

/// A string, unescaped and valid UTF-8.
#[derive(Clone, Copy, Debug)]
pub(super) struct Str {
    pub(super) text: Text,
    /// First byte after the opening quote.
    pub(super) at: usize,
    /// Equal texts have equal hashes. Not keyed: good for telling apart, not for tables.
    pub(super) hash: u32,
    /// All bytes are in `0x20..0x7b`: no control, no brace, ASCII.
    pub(super) plain: bool,
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
        }
    }

    /// One line of a body, `end` exclusive; offsets count from the body's begin.
    pub(super) fn line(body: &'a [u8], start: usize, end: usize, number: u32) -> Self {
        Self {
            at: start,
            counted: Counted::Lines,
            number,
            ..Self::new(body.get(..end).unwrap_or(body))
        }
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The byte at the cursor; 0 at the end.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        self.body.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, n: usize) {
        self.at += n;
    }

    /// The eight bytes at the cursor, zeros past the end.
    #[inline(always)]
    pub(super) fn word(&self) -> u64 {
        self.word_at(self.at)
    }

    #[inline(always)]
    fn word_at(&self, at: usize) -> u64 {
        if let Some(chunk) = self.body.get(at..).and_then(|rest| rest.first_chunk()) {
            return u64::from_le_bytes(*chunk);
        }
        let missing = at.saturating_add(8) - self.body.len();
        self.last.checked_shr(8 * missing as u32).unwrap_or(0)
    }

    /// Skips whitespace; the byte after it.
    #[inline(always)]
    pub(super) fn after_space(&mut self) -> u8 {
        let mut byte = self.peek();
        while matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
            byte = self.peek();
        }
        byte
    }

    /// The next document of an array begins.
    pub(super) fn next_document(&mut self, number: u32) {
        self.number = number;
    }

    /// The next key of an object whose `{` was taken; the cursor then stands on its value. None
    /// after the `}`. `first` is true before the first key.
    #[inline]
    pub(super) fn next_key(
        &mut self,
        first: &mut bool,
        arena: &mut String,
    ) -> Result<Option<Str>, Refused> {
        let mut byte = self.after_space();
        if byte == b',' && !*first {
            self.at += 1;
            byte = self.after_space();
        } else if byte == b'}' {
            self.at += 1;
            return Ok(None);
        } else if !*first {
            return Err(self.unexpected(Reason::JsonSyntax, "expected `,` or `}`"));
        }
        *first = false;
        if byte != b'"' {
            return Err(self.unexpected(Reason::JsonSyntax, "expected a key in double quotes"));
        }
        let key = self.string(arena)?;
        if self.after_space() != b':' {
            return Err(self.unexpected(Reason::JsonSyntax, "expected `:` after the key"));
        }
        self.at += 1;
        self.after_space();
        Ok(Some(key))
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
                return Err(self.unexpected(Reason::JsonSyntax, "expected `,` or `]`"));
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
        if self.at < self.body.len() {
            let what = "expected nothing more after the document";
            return Err(self.unexpected(Reason::JsonTrailing, what));
        }
        Ok(())
    }

    /// The string at the cursor, which stands on its opening quote.
    #[inline]
    pub(super) fn string(&mut self, arena: &mut String) -> Result<Str, Refused> {
        self.at += 1;
        let start = self.at;
        let (mut hash, mut special, mut foreign) = (0, 0, 0);
        loop {
            let word = self.word();
            let stops = swar::string_stops(word);
            if stops == 0 {
                hash = mix(hash, word);
                special |= swar::specials(word);
                foreign |= swar::non_ascii(word);
                self.at += 8;
                continue;
            }
            let n = swar::before(stops);
            let tail = swar::lowest(word, n);
            hash = mix(hash, tail);
            special |= swar::specials(tail);
            foreign |= swar::non_ascii(tail);
            self.at += n;
            break;
        }
        if foreign != 0 || self.peek() != b'"' {
            return self.string_slow(start, arena);
        }
        let text = Text::in_body(start, self.at - start);
        self.at += 1;
        Ok(Str {
            text,
            at: start,
            hash: finish(hash),
            plain: special == 0,
        })
    }

    /// A string with escapes or other than ASCII; the cursor is at its first stop.
    #[inline(never)]
    fn string_slow(&mut self, start: usize, arena: &mut String) -> Result<Str, Refused> {
        let arena_start = arena.len();
        let mut piece = start;
        loop {
            match self.peek() {
                b'"' => break,
                b'\\' => {
                    arena.push_str(self.utf8(piece, self.at)?);
                    arena.push(self.escape()?);
                    piece = self.at;
                }
                _ => {
                    let reason = match self.at < self.body.len() {
                        true => Reason::JsonString,
                        false => Reason::JsonTruncated,
                    };
                    let what = "expected the string to go on or end (controls are escaped)";
                    return Err(self.unexpected(reason, what));
                }
            }
            self.at = self.string_stop(self.at);
        }
        let rest = self.utf8(piece, self.at)?;
        let text = if piece == start {
            Text::in_body(start, rest.len())
        } else {
            arena.push_str(rest);
            Text::in_arena(arena_start, arena.len() - arena_start)
        };
        self.at += 1;
        Ok(Str {
            text,
            at: start,
            hash: hash(text.bytes(self.body, arena)),
            plain: false,
        })
    }

    /// Where the first quote, backslash or control at or after `at` is; the body's end if none.
    fn string_stop(&self, mut at: usize) -> usize {
        loop {
            let stops = swar::string_stops(self.word_at(at));
            if stops != 0 {
                return at + swar::before(stops);
            }
            at += 8;
        }
    }

    fn utf8(&mut self, start: usize, end: usize) -> Result<&'a str, Refused> {
        let body: &'a [u8] = self.body;
        str::from_utf8(body.get(start..end).unwrap_or_default()).map_err(|error| {
            let at = start + error.valid_up_to();
            let found = Found::Byte(body.get(at).copied().unwrap_or(0));
            self.refuse(Reason::JsonUtf8, at, "expected valid UTF-8", found)
        })
    }

    /// The character of the escape at the cursor, which stands on its backslash.
    fn escape(&mut self) -> Result<char, Refused> {
        let start = self.at;
        self.at += 1;
        let byte = self.peek();
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(start),
            _ => return Err(self.unexpected(Reason::JsonString, "expected an escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// `\uXXXX`, or two of them for a character past U+FFFF (RFC 8259, section 7). Half a pair is
    /// no character and refused.
    fn unicode(&mut self, start: usize) -> Result<char, Refused> {
        let mut code = self.hex()?;
        if (0xd800..0xdc00).contains(&code) && self.peek() == b'\\' {
            self.at += 1;
            if self.peek() == b'u' {
                let low = self.hex()?;
                if (0xdc00..0xe000).contains(&low) {
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
            }
        }
        char::from_u32(code).ok_or_else(|| {
            let what = "a surrogate escape needs its other half";
            self.refuse(Reason::JsonString, start, what, Found::Nothing)
        })
    }

    /// Four hexadecimal digits after the `u` at the cursor.
    fn hex(&mut self) -> Result<u32, Refused> {
        self.at += 1;
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()).to_digit(16) else {
                let what = "expected four hexadecimal digits";
                return Err(self.unexpected(Reason::JsonString, what));
            };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
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
                while self.next_key(&mut first, scratch)?.is_some() {
                    self.skip(depth + 1, scratch)?;
                }
            }
            b'[' => {
                self.at += 1;
                while self.next_element(&mut first)? {
                    self.skip(depth + 1, scratch)?;
                }
            }
            b'"' => drop(self.string(scratch)?),
            b'-' | b'0'..=b'9' => drop(self.number()?),
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return Err(self.unexpected(Reason::JsonSyntax, "expected a value")),
        }
        scratch.clear();
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Refused> {
        for &byte in word {
            if self.peek() != byte {
                let what = "expected `true`, `false`, `null` or another value";
                return Err(self.unexpected(Reason::JsonSyntax, what));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Refuses the byte at the cursor; at the end of the body it is truncated instead.
    #[cold]
    #[inline(never)]
    pub(super) fn unexpected(&mut self, reason: Reason, what: &'static str) -> Refused {
        if self.at < self.body.len() {
            let found = Found::Byte(self.peek());
            return self.refuse(reason, self.at, what, found);
        }
        self.refuse(Reason::JsonTruncated, self.body.len(), what, Found::End)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn refuse(
        &mut self,
        reason: Reason,
        at: usize,
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

    pub(super) fn place(&self, at: usize) -> Place {
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

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

#[inline(always)]
fn finish(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

/// What [`Scanner::string`] computes on its way.
fn hash(text: &[u8]) -> u32 {
    let (words, tail) = text.as_chunks::<8>();
    let hash = words
        .iter()
        .fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    finish(mix(hash, u64::from_le_bytes(last)))
}
