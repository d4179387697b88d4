//! `Content-Encoding`: a compressed body becomes a plain one, within bounds.
//!
//! What comes out is bounded as it comes: by [`INFLATED_BYTES_MAX`], and past
//! [`INFLATE_RATIO_FREE_BYTES`] by [`INFLATE_RATIO_MAX`] times what went in. Several gzip members
//! (RFC 1952, section 2.2) or zstd frames (RFC 8878, section 3) make one body; after the last one
//! nothing may follow.

use std::fmt;
use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::limits::{
    INFLATE_PARTS_MAX, INFLATE_RATIO_FREE_BYTES, INFLATE_RATIO_MAX, INFLATED_BYTES_MAX, KIB, MIB,
    ZSTD_WINDOW_LOG_MAX,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The coding a `Content-Encoding` value names (RFC 9110, section 8.4.1); None: not one of
    /// ours, or several.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim_matches([' ', '\t']);
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        if is("") || is("identity") {
            Some(Self::Identity)
        } else if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// Why a body could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// More bytes, members or window than allowed: 413.
    TooBig,
    /// A bomb, or as good as one: 413.
    Ratio,
    /// Not what the encoding says: 400.
    Corrupt,
    /// The end is missing: 400.
    Truncated,
}

impl BodyFault {
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooBig => "inflated_too_big",
            Self::Ratio => "inflate_ratio",
            Self::Corrupt => "body_corrupt",
            Self::Truncated => "body_truncated",
        }
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "the body is too big once decompressed",
            Self::Ratio => "the body decompresses to more than 100 times its size",
            Self::Corrupt => "the compressed body is damaged",
            Self::Truncated => "the compressed body ends too early",
        })
    }
}

impl std::error::Error for BodyFault {}

/// Decompresses `input` into `out`, whose old content is lost and whose memory is used again.
/// On a fault, `out` is empty.
pub fn inflate(encoding: Encoding, input: &[u8], out: &mut Vec<u8>) -> Result<(), BodyFault> {
    let mut sink = Sink {
        out,
        len: 0,
        input: input.len(),
    };
    let result = match encoding {
        Encoding::Identity => sink.copy(input),
        Encoding::Gzip => gzip(input, &mut sink),
        Encoding::Zstd => zstd(input, &mut sink),
    };
    let len = if result.is_ok() { sink.len } else { 0 };
    out.truncate(len);
    result
}

fn gzip(mut input: &[u8], sink: &mut Sink<'_>) -> Result<(), BodyFault> {
    for _ in 0..INFLATE_PARTS_MAX {
        let mut member = GzDecoder::new(&mut input);
        loop {
            let n = member
                .read(sink.room())
                .map_err(|error| gzip_fault(&error))?;
            if n == 0 {
                break;
            }
            sink.wrote(n)?;
        }
        if input.is_empty() {
            return Ok(());
        }
    }
    Err(BodyFault::TooBig)
}

fn gzip_fault(error: &io::Error) -> BodyFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BodyFault::Truncated,
        _ => BodyFault::Corrupt,
    }
}

fn zstd(mut input: &[u8], sink: &mut Sink<'_>) -> Result<(), BodyFault> {
    let mut decoder = Decoder::new().map_err(|error| zstd_fault(&error))?;
    let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
    decoder
        .set_parameter(window)
        .map_err(|error| zstd_fault(&error))?;
    let mut frames = 0;
    loop {
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(sink.room());
        let left = decoder
            .run(&mut source, &mut target)
            .map_err(|error| zstd_fault(&error))?;
        let (taken, made) = (source.pos(), target.pos());
        input = input.get(taken..).unwrap_or_default();
        sink.wrote(made)?;
        if left == 0 {
            frames += 1;
            match input.is_empty() {
                true => return Ok(()),
                false if frames == INFLATE_PARTS_MAX => return Err(BodyFault::TooBig),
                false => decoder.reinit().map_err(|error| zstd_fault(&error))?,
            }
        } else if taken == 0 && made == 0 {
            // It wants more and there is no more; with input left it would have moved on.
            return Err(BodyFault::Truncated);
        }
    }
}

fn zstd_fault(error: &io::Error) -> BodyFault {
    // The code is gone by here, libzstd's name for it is stable: `frameParameter_windowTooLarge`.
    match error.to_string().contains("too much memory") {
        true => BodyFault::TooBig,
        false => BodyFault::Corrupt,
    }
}

/// The bounded output: `len` bytes of `out` are written, the rest is room.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    len: usize,
    input: usize,
}

const ROOM_BYTES: usize = 64 * KIB;

impl Sink<'_> {
    /// Where to write next, never empty: at the cap there is room for the one byte too many.
    fn room(&mut self) -> &mut [u8] {
        let end = (self.len + ROOM_BYTES).min(INFLATED_BYTES_MAX + 1);
        if self.out.len() < end {
            if MIB < end {
                // One large buffer rather than each of its halves on the way: what is not written
                // to is address space alone.
                let most = self.input.saturating_mul(INFLATE_RATIO_MAX).max(end);
                let most = most.min(INFLATED_BYTES_MAX) + 1;
                self.out.reserve_exact(most.saturating_sub(self.out.len()));
            }
            self.out.resize(end, 0);
        }
        &mut self.out[self.len..end]
    }

    fn wrote(&mut self, n: usize) -> Result<(), BodyFault> {
        self.len += n;
        if self.len > INFLATED_BYTES_MAX {
            return Err(BodyFault::TooBig);
        }
        let free = self.len <= INFLATE_RATIO_FREE_BYTES;
        if !free && self.len > self.input.saturating_mul(INFLATE_RATIO_MAX) {
            return Err(BodyFault::Ratio);
        }
        Ok(())
    }

    fn copy(&mut self, input: &[u8]) -> Result<(), BodyFault> {
        self.wrote(input.len())?;
        self.out.clear();
        self.out.extend_from_slice(input);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn gzipped(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstded(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 1).unwrap()
    }

    type Compress = fn(&[u8]) -> Vec<u8>;
    const BOTH: [(Encoding, Compress); 2] = [(Encoding::Gzip, gzipped), (Encoding::Zstd, zstded)];

    fn check(encoding: Encoding, input: &[u8], expected: Result<&[u8], BodyFault>) {
        let mut out = b"what was here before".to_vec();
        match (inflate(encoding, input, &mut out), expected) {
            (Ok(()), Ok(plain)) => assert!(out == plain, "{encoding:?}: {} bytes", out.len()),
            (Err(fault), Err(expected)) => {
                assert_eq!(fault, expected, "{encoding:?}");
                assert!(out.is_empty());
            }
            (result, expected) => panic!("{encoding:?}: {result:?}, expected {expected:?}"),
        }
    }

    /// Bytes that compress, but not well.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (*state >> 28) as u8
        };
        (0..len).map(|_| next(&mut state)).collect()
    }

    #[test]
    fn whole_bodies_come_out_whole() {
        for plain in [&b""[..], b"{}", &noise(100_000), &noise(ROOM_BYTES)] {
            check(Encoding::Identity, plain, Ok(plain));
            for (encoding, compress) in BOTH {
                check(encoding, &compress(plain), Ok(plain));
                let double = [compress(plain), compress(b"more")].concat();
                check(encoding, &double, Ok(&[plain, b"more"].concat()));
            }
        }
    }

    #[test]
    fn every_truncation_is_one() {
        for (encoding, compress) in BOTH {
            let input = compress(&noise(300));
            for end in 0..input.len() {
                check(encoding, &input[..end], Err(BodyFault::Truncated));
            }
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        for (encoding, compress) in BOTH {
            let good = compress(&noise(300));
            check(
                encoding,
                &[&good[..], b"garbage, no part"].concat(),
                Err(BodyFault::Corrupt),
            );
            check(
                encoding,
                b"{\"host\":\"a\",\"cpu\":1}",
                Err(BodyFault::Corrupt),
            );
        }
        let mut bad_sum = gzipped(b"hello");
        let at = bad_sum.len() - 5;
        bad_sum[at] ^= 1;
        check(Encoding::Gzip, &bad_sum, Err(BodyFault::Corrupt));
    }

    #[test]
    fn bombs_are_not_inflated() {
        for (encoding, compress) in BOTH {
            let free = vec![b' '; INFLATE_RATIO_FREE_BYTES];
            check(encoding, &compress(&free), Ok(&free));
            let bomb = compress(&vec![b' '; 4 * INFLATE_RATIO_FREE_BYTES]);
            check(encoding, &bomb, Err(BodyFault::Ratio));
            let bomb = compress(&vec![b' '; 16 << 20]);
            let mut out = Vec::new();
            inflate(encoding, &bomb, &mut out).unwrap_err();
            let most = INFLATE_RATIO_MAX * bomb.len() + 2 * ROOM_BYTES;
            assert!(
                out.capacity() <= 2 * most,
                "{encoding:?}: {}",
                out.capacity()
            );
        }
    }

    #[test]
    fn the_cap_holds_at_the_byte() {
        let plain = noise(INFLATED_BYTES_MAX + 1);
        for (encoding, compress) in BOTH {
            let most = &plain[..INFLATED_BYTES_MAX];
            check(encoding, &compress(most), Ok(most));
            check(encoding, &compress(&plain), Err(BodyFault::TooBig));
        }
        check(Encoding::Identity, &plain, Err(BodyFault::TooBig));
    }

    #[test]
    fn parts_are_counted() {
        for (encoding, compress) in BOTH {
            let part = compress(b"");
            check(encoding, &part.repeat(INFLATE_PARTS_MAX), Ok(b""));
            check(
                encoding,
                &part.repeat(INFLATE_PARTS_MAX + 1),
                Err(BodyFault::TooBig),
            );
        }
        let skippable = b"\x50\x2a\x4d\x18\0\0\0\0".repeat(INFLATE_PARTS_MAX + 1);
        check(Encoding::Zstd, &skippable, Err(BodyFault::TooBig));
    }

    #[test]
    fn a_zstd_window_past_the_bound_is_refused() {
        // Magic, descriptor without content size, window descriptor (exponent << 3), an empty last
        // block. The exponent counts from 2^10.
        let frame = |log: u32| [0x28, 0xb5, 0x2f, 0xfd, 0, ((log - 10) << 3) as u8, 1, 0, 0];
        check(Encoding::Zstd, &frame(ZSTD_WINDOW_LOG_MAX), Ok(b""));
        check(
            Encoding::Zstd,
            &frame(ZSTD_WINDOW_LOG_MAX + 1),
            Err(BodyFault::TooBig),
        );
    }

    #[test]
    fn names_of_encodings() {
        for (value, expected) in [
            ("", Some(Encoding::Identity)),
            ("identity", Some(Encoding::Identity)),
            ("gzip", Some(Encoding::Gzip)),
            (" GZip ", Some(Encoding::Gzip)),
            ("x-gzip", Some(Encoding::Gzip)),
            ("zstd", Some(Encoding::Zstd)),
            ("br", None),
            ("deflate", None),
            ("gzip, gzip", None),
        ] {
            assert_eq!(Encoding::parse(value), expected, "{value}");
        }
    }
}
