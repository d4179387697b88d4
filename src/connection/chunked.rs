//! Chunked bodies (RFC 9112 section 7.1), stricter than the RFC where leniency lets two servers
//! disagree on where a body ends: no extension, no whitespace, CRLF only, 1 to 8 digits.

use crate::limits::{
    BODY_BYTES_MAX, CHUNK_AVERAGE_MIN, CHUNK_DIGITS_MAX, CHUNKS_FREE, TRAILER_BYTES_MAX,
    TRAILER_FIELDS_MAX,
};
use crate::reject::{Reason, Reject};

/// Decodes one body. Invariant: `at` is the first byte of the input not yet understood, and `body`
/// holds exactly the data of the chunks before it.
#[derive(Debug, Default)]
pub struct Chunked {
    at: usize,
    /// Data bytes of the present chunk still to come.
    left: usize,
    state: State,
    chunks: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data,
    DataEnd,
    Trailer,
    Done,
}

/// Whether the body is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The body ends before this offset of the input.
    Done {
        end: usize,
    },
}

impl Chunked {
    /// `input` is the connection's bytes from the same start each time, longer at each call;
    /// decoding starts at `from` the first time and goes on where it stopped.
    pub fn receive(&mut self, input: &[u8], from: usize) -> Result<Progress, Reject> {
        self.at = self.at.max(from);
        while self.state != State::Done {
            let rest = input.get(self.at..).unwrap_or_default();
            let stepped = match self.state {
                State::Size => self.size(rest)?,
                State::Data => self.data(rest),
                State::DataEnd => self.data_end(rest)?,
                State::Trailer => self.trailer(rest)?,
                State::Done => true,
            };
            if !stepped {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done { end: self.at })
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub fn held_bytes(&self) -> usize {
        self.body.capacity()
    }

    fn size(&mut self, rest: &[u8]) -> Result<bool, Reject> {
        let digits = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if CHUNK_DIGITS_MAX < digits {
            return Err(bad("a chunk size has more than 8 digits"));
        }
        match (rest.get(digits), rest.get(digits + 1)) {
            (None, _) | (Some(b'\r'), None) if 0 < digits || rest.is_empty() => return Ok(false),
            (Some(b'\r'), Some(b'\n')) if 0 < digits => {}
            (Some(b';' | b' ' | b'\t'), _) => return Err(bad("chunk extensions are refused")),
            _ => return Err(bad("a chunk size is not hexadecimal digits and CRLF")),
        }
        let size = rest[..digits]
            .iter()
            .fold(0, |size, &digit| size * 16 + hex(digit));
        self.at += digits + 2;
        self.left = size;
        if size == 0 {
            self.state = State::Trailer;
            return Ok(true);
        }
        if BODY_BYTES_MAX < self.body.len() + size {
            return Err(Reject::new(Reason::BodyTooLarge));
        }
        self.chunks += 1;
        if CHUNKS_FREE < self.chunks && self.body.len() + size < self.chunks * CHUNK_AVERAGE_MIN {
            return Err(bad("the chunks are too small"));
        }
        self.state = State::Data;
        Ok(true)
    }

    fn data(&mut self, rest: &[u8]) -> bool {
        let taken = rest.len().min(self.left);
        self.body.extend_from_slice(&rest[..taken]);
        self.at += taken;
        self.left -= taken;
        if self.left == 0 {
            self.state = State::DataEnd;
        }
        self.left == 0
    }

    fn data_end(&mut self, rest: &[u8]) -> Result<bool, Reject> {
        match rest {
            [] | [b'\r'] => Ok(false),
            [b'\r', b'\n', ..] => {
                self.at += 2;
                self.state = State::Size;
                Ok(true)
            }
            _ => Err(bad("a chunk is longer than its size says")),
        }
    }

    /// Trailer fields are checked and ignored (RFC 9110 section 6.5.1 lets a recipient discard
    /// them).
    fn trailer(&mut self, rest: &[u8]) -> Result<bool, Reject> {
        let Some(newline) = memchr::memchr(b'\n', rest) else {
            // A CR alone may begin the empty line at the end, which does not count.
            let counted = if rest == b"\r" { 0 } else { rest.len() };
            if TRAILER_BYTES_MAX < self.trailer_bytes + counted {
                return Err(Reject::because(
                    Reason::HeadTooLarge,
                    "trailer section too large",
                ));
            }
            return Ok(false);
        };
        let Some(line) = rest[..newline].strip_suffix(b"\r") else {
            return Err(bad("a trailer line ends in a bare LF"));
        };
        self.at += newline + 1;
        if line.is_empty() {
            self.state = State::Done;
            return Ok(true);
        }
        self.trailer_bytes += newline + 1;
        self.trailer_fields += 1;
        if TRAILER_BYTES_MAX < self.trailer_bytes || TRAILER_FIELDS_MAX < self.trailer_fields {
            return Err(Reject::because(
                Reason::HeadTooLarge,
                "trailer section too large",
            ));
        }
        let colon = line.iter().position(|&b| b == b':').unwrap_or(0);
        let name_ok = 0 < colon && line[..colon].iter().all(|&b| is_token(b));
        let value_ok = line[colon..]
            .iter()
            .all(|&b| b == b'\t' || (b' ' <= b && b != 0x7f));
        if name_ok && value_ok {
            Ok(true)
        } else {
            Err(bad("malformed trailer field"))
        }
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn hex(digit: u8) -> usize {
    let value = match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    };
    usize::from(value)
}

fn bad(detail: &'static str) -> Reject {
    Reject::because(Reason::BadChunk, detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Decodes whole, then byte by byte: both must agree.
    fn check(input: &str, expected: Result<(&str, usize), Reason>) {
        let whole = decode(input.as_bytes(), input.len());
        assert_eq!(
            whole,
            decode(input.as_bytes(), 1),
            "split changes the meaning: {input:?}"
        );
        let expected = expected.map(|(body, end)| Some((body.to_owned(), end)));
        assert_eq!(whole, expected, "{input:?}");
    }

    fn decode(input: &[u8], step: usize) -> Result<Option<(String, usize)>, Reason> {
        let mut chunked = Chunked::default();
        let mut len = 0;
        while len < input.len() {
            len = (len + step).min(input.len());
            if let Progress::Done { end } = chunked
                .receive(&input[..len], 0)
                .map_err(|reject| reject.reason)?
            {
                return Ok(Some((
                    String::from_utf8(chunked.body().to_vec()).unwrap(),
                    end,
                )));
            }
        }
        Ok(None)
    }

    #[test]
    fn takes_what_the_rfc_means() {
        check("0\r\n\r\n", Ok(("", 5)));
        check("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", 15)));
        check(
            "00000005\r\nhello\r\n1\r\n!\r\n0\r\n\r\nnext",
            Ok(("hello!", 28)),
        );
        check(
            "a\r\n0123456789\r\n0\r\nExpires: x\r\n\r\n",
            Ok(("0123456789", 32)),
        );
    }

    #[test]
    fn refuses_every_ambiguity() {
        for input in [
            "\r\n",
            "\n",
            "5\nhello\r\n0\r\n\r\n",
            "5;a=b\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello",
            "0x5\r\nhello",
            "+5\r\nhello",
            "-1\r\n",
            "g\r\n",
            "5\r\nhello!\r\n",
            "5\r\nhello\n0",
            "000000005\r\nhello",
            "FFFFFFFFFFFFFFFF\r\n",
            "5\r\rhello",
            "0\r\nbad name: x\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\nA: x\n\r\n",
            "5\t\r\nhello",
            ";\r\n",
            "0;\n\r\n\r\n",
        ] {
            check(input, Err(Reason::BadChunk));
        }
    }

    #[test]
    fn bounds_hold_at_the_limit_and_break_past_it() {
        let chunk = |size: usize, count: usize| {
            format!("{size:x}\r\n{}\r\n", "x".repeat(size)).repeat(count) + "0\r\n\r\n"
        };
        assert!(decode(chunk(1, CHUNKS_FREE).as_bytes(), 4096).is_ok());
        assert_eq!(
            decode(chunk(1, CHUNKS_FREE + 1).as_bytes(), 4096),
            Err(Reason::BadChunk)
        );
        assert!(decode(chunk(CHUNK_AVERAGE_MIN, CHUNKS_FREE + 9).as_bytes(), 4096).is_ok());
        let whole = format!("{BODY_BYTES_MAX:x}\r\n");
        assert_eq!(decode(whole.as_bytes(), 4096), Ok(None));
        let past = format!("{:x}\r\n", BODY_BYTES_MAX + 1);
        assert_eq!(decode(past.as_bytes(), 4096), Err(Reason::BodyTooLarge));
        let fields = |n: usize| "0\r\n".to_owned() + &"A: b\r\n".repeat(n) + "\r\n";
        assert!(decode(fields(TRAILER_FIELDS_MAX).as_bytes(), 4096).is_ok());
        let past = fields(TRAILER_FIELDS_MAX + 1);
        assert_eq!(decode(past.as_bytes(), 4096), Err(Reason::HeadTooLarge));
        // The last one fills the section to its bound, and the end is cut between its CR and LF.
        let full = format!("0\r\nA: {}\r\n\r\n", "b".repeat(TRAILER_BYTES_MAX - 5));
        check(&full, Ok(("", full.len())));
        let past = full.replace("A:", "AB:");
        check(&past, Err(Reason::HeadTooLarge));
        let long = "0\r\nA: ".to_owned() + &"b".repeat(TRAILER_BYTES_MAX);
        assert_eq!(decode(long.as_bytes(), 4096), Err(Reason::HeadTooLarge));
    }
}
