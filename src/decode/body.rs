//! `Content-Encoding`: a compressed body becomes a plain one, within bounds.
//!
//! What comes out is bounded as it comes: by [`INFLATED_BYTES_MAX`], and past
//! [`INFLATE_RATIO_FREE_BYTES`] by [`INFLATE_RATIO_MAX`] times what went in. Several gzip members
//! (RFC 1952, section 2.2) or zstd frames (RFC 8878, section 3) make one body; after the last one
//! nothing may follow.

use std::fmt;
use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode as ZstdError;
use zstd::zstd_safe::{DCtx, find_frame_compressed_size, get_frame_content_size};

use crate::limits::{
    INFLATE_PARTS_MAX, INFLATE_RATIO_FREE_BYTES, INFLATE_RATIO_MAX, INFLATED_BYTES_MAX, KIB, MIB,
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
    let ratio = input.len().saturating_mul(INFLATE_RATIO_MAX);
    let mut sink = Sink {
        out,
        len: 0,
        most: ratio.clamp(INFLATE_RATIO_FREE_BYTES, INFLATED_BYTES_MAX),
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

/// All at once, straight into the output: a decoder that streams would hold a window of its own
/// besides, 8 MiB at worst, which libzstd takes from the C heap and that heap keeps.
fn zstd(input: &[u8], sink: &mut Sink<'_>) -> Result<(), BodyFault> {
    let stated = zstd_stated(input)?;
    if stated.is_some_and(|stated| sink.most < stated) {
        return Err(sink.excess());
    }
    sink.out.clear();
    // What is not written to is address space alone.
    sink.out.reserve_exact(stated.unwrap_or(sink.most));
    match DCtx::create().decompress(sink.out, input) {
        Ok(made) => sink.wrote(made),
        Err(code) if stated.is_none() && is(code, ZstdError::ZSTD_error_dstSize_tooSmall) => {
            Err(sink.excess())
        }
        Err(code) => Err(zstd_fault(code)),
    }
}

/// What all frames together say they hold, if each of them says it. Walks over them unread.
fn zstd_stated(mut input: &[u8]) -> Result<Option<usize>, BodyFault> {
    let mut stated = Some(0_usize);
    for _ in 0..INFLATE_PARTS_MAX {
        let end = find_frame_compressed_size(input).map_err(zstd_fault)?;
        let one = get_frame_content_size(input).map_err(|_| BodyFault::Corrupt)?;
        let one = one.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        stated = stated.zip(one).map(|(all, one)| all.saturating_add(one));
        input = input.get(end..).unwrap_or_default();
        if input.is_empty() {
            return Ok(stated);
        }
    }
    Err(BodyFault::TooBig)
}

fn zstd_fault(code: usize) -> BodyFault {
    if is(code, ZstdError::ZSTD_error_srcSize_wrong) {
        BodyFault::Truncated
    } else {
        BodyFault::Corrupt
    }
}

/// libzstd gives its errors as negative sizes.
fn is(code: usize, error: ZstdError) -> bool {
    code.wrapping_neg() == error as usize
}

/// The bounded output: `len` bytes of `out` are written, the rest is room, and `most` may be.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    len: usize,
    most: usize,
}

const ROOM_BYTES: usize = 64 * KIB;

impl Sink<'_> {
    /// Where to write next, never empty: at the cap there is room for the one byte too many.
    fn room(&mut self) -> &mut [u8] {
        let end = (self.len + ROOM_BYTES).min(self.most + 1);
        if self.out.len() < end {
            if MIB < end {
                // One large buffer rather than each of its halves on the way: what is not written
                // to is address space alone.
                self.out.reserve_exact(self.most + 1 - self.out.len());
            }
            self.out.resize(end, 0);
        }
        &mut self.out[self.len..end]
    }

    fn wrote(&mut self, n: usize) -> Result<(), BodyFault> {
        self.len += n;
        if self.most < self.len {
            return Err(self.excess());
        }
        Ok(())
    }

    /// Which bound `most` is.
    fn excess(&self) -> BodyFault {
        if self.most == INFLATED_BYTES_MAX {
            BodyFault::TooBig
        } else {
            BodyFault::Ratio
        }
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
    fn a_zstd_window_costs_nothing_however_large() {
        // Magic, descriptor without content size, window descriptor (exponent << 3), one last raw
        // block of two bytes. The exponent counts from 2^10.
        for log in [10, 23, 24, 31_u8] {
            let head = [0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 2 << 3 | 1, 0, 0];
            let mut out = Vec::new();
            inflate(Encoding::Zstd, &[&head[..], b"{}"].concat(), &mut out).unwrap();
            assert_eq!(out, b"{}");
            assert!(out.capacity() <= INFLATE_RATIO_FREE_BYTES);
        }
    }

    #[test]
    fn a_zstd_frame_is_held_to_what_it_says() {
        // A single segment names no window; the descriptor's top bits say how long its content
        // size is: one byte, or eight.
        let frame = |descriptor: u8, stated: &[u8]| {
            let magic = [0x28, 0xb5, 0x2f, 0xfd, descriptor];
            [&magic, stated, &[2 << 3 | 1, 0, 0], b"{}"].concat()
        };
        check(Encoding::Zstd, &frame(0x20, &[2]), Ok(b"{}"));
        for lie in [1, 3] {
            check(
                Encoding::Zstd,
                &frame(0x20, &[lie]),
                Err(BodyFault::Corrupt),
            );
        }
        // No buffer is made for what could not pass.
        check(
            Encoding::Zstd,
            &frame(0xe0, &[0x7f; 8]),
            Err(BodyFault::Ratio),
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
