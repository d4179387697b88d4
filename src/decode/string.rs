//! JSON strings (RFC 8259, section 7): where they end, what they say.

use super::Text;
use super::fault::{Found, Reason};
use super::scan::{Refused, Scanner};
use super::swar;

/// A string, unescaped and valid UTF-8.
///
/// Its first bytes come along, as they were in a register anyway: a short text is known by its
/// length, `head` and `tail` alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Str {
    pub(super) text: Text,
    /// First byte after the opening quote.
    pub(super) at: u32,
    /// There may be more to the text than ASCII without controls and braces between head and tail.
    odd: bool,
    /// The first eight bytes, zeros where there are fewer.
    pub(super) head: u64,
    /// The bytes after the last whole eight.
    pub(super) tail: u64,
    /// All whole eights between head and tail, mixed.
    middle: u64,
}

impl Str {
    /// All bytes are in `0x20..0x7b`: no control, no brace, ASCII.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        !self.odd && swar::specials(self.head) | swar::specials(self.tail) == 0
    }

    /// Equal texts have equal hashes. Not keyed: good for telling apart, not for tables.
    #[inline(always)]
    pub(super) fn hash(&self) -> u32 {
        (mix(self.middle ^ self.head, self.tail) >> 32) as u32
    }

    fn new(text: Text, at: u32, bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let middle = words.get(1..).unwrap_or_default();
        Self {
            text,
            at,
            odd: true,
            head: head(bytes),
            tail: tail(bytes),
            middle: middle
                .iter()
                .fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word))),
        }
    }
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The first eight bytes, zeros where there are fewer.
pub(super) const fn head(text: &[u8]) -> u64 {
    let mut word = 0;
    let mut at = if text.len() < 8 { text.len() } else { 8 };
    while at > 0 {
        at -= 1;
        word = word << 8 | text[at] as u64;
    }
    word
}

/// The bytes after the last whole eight.
pub(super) const fn tail(text: &[u8]) -> u64 {
    head(text.split_at(text.len() & !7).1)
}

impl<'a> Scanner<'a> {
    /// The string at the cursor, which stands on its opening quote.
    #[inline(always)]
    pub(super) fn string(&mut self, arena: &mut String) -> Result<Str, Refused> {
        let (string, quote, _) = self.string_from(self.at() + 1, arena)?;
        self.go_to(quote + 1);
        Ok(string)
    }

    /// The string whose first byte is at `start`, the place of its closing quote, and the word
    /// there. Up to 15 bytes of ASCII without escapes are taken here, as most keys and values are;
    /// the rest goes the long way.
    #[inline(always)]
    pub(super) fn string_from(
        &mut self,
        start: u32,
        arena: &mut String,
    ) -> Result<(Str, u32, u64), Refused> {
        let mut head = self.word(start);
        let mut tail = head;
        let mut stops = swar::string_stops(head);
        let mut len = 0;
        if stops == 0 {
            len = 8;
            tail = self.word(start + 8);
            stops = swar::string_stops(tail);
        }
        if stops != 0 {
            len += swar::before(stops);
            tail &= swar::below(stops);
            if len < 8 {
                head = tail;
            }
            let quote = start + len;
            let after = self.word(quote);
            if after as u8 == b'"' && swar::non_ascii(head | tail) == 0 {
                let string = Str {
                    text: Text::in_body(start, len),
                    at: start,
                    odd: false,
                    head,
                    tail,
                    middle: 0,
                };
                return Ok((string, quote, after));
            }
        }
        let quote = self.long_string(start, arena)?;
        let Str {
            text,
            at,
            odd,
            head,
            tail,
            middle,
        } = self.long;
        let string = Str {
            text,
            at,
            odd,
            head,
            tail,
            middle,
        };
        Ok((string, quote, self.word(quote)))
    }

    /// Any string; it goes to `self.long`, the place of its closing quote is returned.
    #[inline(never)]
    fn long_string(&mut self, start: u32, arena: &mut String) -> Result<u32, Refused> {
        let (mut at, mut middle, mut special) = (start, 0, 0);
        let head = self.word(at);
        let mut word = head;
        let mut stops = swar::string_stops(word);
        while stops == 0 {
            if at > start {
                middle = mix(middle, word);
            }
            special |= swar::specials(word);
            at += 8;
            word = self.word(at);
            stops = swar::string_stops(word);
        }
        at += swar::before(stops);
        let tail = word & swar::below(stops);
        special |= swar::specials(tail);
        if self.byte(at) != b'"' || at - start < 8 {
            return self.odd_string(start, at, arena);
        }
        if special != 0 {
            self.utf8(start, at)?;
        }
        self.long = Str {
            text: Text::in_body(start, at - start),
            at: start,
            odd: special != 0,
            head,
            tail,
            middle,
        };
        Ok(at)
    }

    /// A string with escapes or other than ASCII, its first stop at `at`.
    #[inline(never)]
    fn odd_string(&mut self, start: u32, mut at: u32, arena: &mut String) -> Result<u32, Refused> {
        let arena_start = arena.len();
        let mut piece = start;
        loop {
            match self.byte(at) {
                b'"' => break,
                b'\\' => {
                    arena.push_str(self.utf8(piece, at)?);
                    self.go_to(at);
                    arena.push(self.escape()?);
                    piece = self.at();
                }
                _ => {
                    let what = "expected the string to go on or end (controls are escaped)";
                    return Err(self.unexpected(at, Reason::JsonString, what));
                }
            }
            at = self.string_stop(piece);
        }
        let rest = self.utf8(piece, at)?;
        let text = if piece == start {
            Text::in_body(start, at - start)
        } else {
            arena.push_str(rest);
            Text::in_arena(arena_start, arena.len() - arena_start)
        };
        self.long = Str::new(text, start, text.bytes(self.body(), arena));
        Ok(at)
    }

    /// Where the first quote, backslash or control at or after `at` is; the body's end if none.
    fn string_stop(&self, mut at: u32) -> u32 {
        loop {
            let stops = swar::string_stops(self.word(at));
            if stops != 0 {
                return at + swar::before(stops);
            }
            at += 8;
        }
    }

    fn utf8(&mut self, start: u32, end: u32) -> Result<&'a str, Refused> {
        let bytes = self
            .body()
            .get(start as usize..end as usize)
            .unwrap_or_default();
        str::from_utf8(bytes).map_err(|error| {
            let at = start + error.valid_up_to() as u32;
            let found = Found::Byte(self.byte(at));
            self.refuse(Reason::JsonUtf8, at, "expected valid UTF-8", found)
        })
    }

    /// The character of the escape at the cursor, which stands on its backslash.
    fn escape(&mut self) -> Result<char, Refused> {
        let start = self.at();
        let byte = self.byte(start + 1);
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(start),
            _ => {
                let what = "expected an escape";
                return Err(self.unexpected(start + 1, Reason::JsonString, what));
            }
        };
        self.go_to(start + 2);
        Ok(plain)
    }

    /// `\u` and four digits, or two of them for a character past U+FFFF. Half a pair is no
    /// character and refused.
    fn unicode(&mut self, start: u32) -> Result<char, Refused> {
        let mut code = self.hex(start + 2)?;
        let mut end = start + 6;
        let low_follows = self.byte(end) == b'\\' && self.byte(end + 1) == b'u';
        if (0xd800..0xdc00).contains(&code) && low_follows {
            let low = self.hex(end + 2)?;
            end += 6;
            if (0xdc00..0xe000).contains(&low) {
                code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        self.go_to(end);
        char::from_u32(code).ok_or_else(|| {
            let what = "a surrogate escape needs its other half";
            self.refuse(Reason::JsonString, start, what, Found::Nothing)
        })
    }

    fn hex(&mut self, start: u32) -> Result<u32, Refused> {
        let mut code = 0;
        for at in start..start + 4 {
            let Some(digit) = char::from(self.byte(at)).to_digit(16) else {
                let what = "expected four hexadecimal digits";
                return Err(self.unexpected(at, Reason::JsonString, what));
            };
            code = code << 4 | digit;
        }
        Ok(code)
    }
}
