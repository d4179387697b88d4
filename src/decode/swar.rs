//! Eight bytes at a time in one register. Byte 0 is the lowest (little-endian load).

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = repeat(0x80);
const ZEROS: u64 = repeat(b'0');

pub(super) const fn repeat(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Marks, in their top bits, the bytes that end or interrupt a JSON string: `"`, `\` and controls.
/// Marks above the lowest one may be wrong (a borrow runs through them); the lowest is exact.
#[inline(always)]
pub(super) fn string_stops(word: u64) -> u64 {
    // XOR 2 brings the quote (0x22) to 0x20, next to the controls, and moves nothing else below it.
    let low = word ^ repeat(2);
    let escape = word ^ repeat(b'\\');
    let stops = (low.wrapping_sub(repeat(0x21)) & !low) | (escape.wrapping_sub(ONES) & !escape);
    stops & HIGHS
}

/// Nonzero if a byte is `{`, `|`, `}`, `~`, DEL or not ASCII: text that needs a closer look.
#[inline(always)]
pub(super) fn specials(word: u64) -> u64 {
    (((word & !HIGHS) + repeat(0x80 - b'{')) | word) & HIGHS
}

/// Nonzero if a byte is below 0x20 or DEL or not ASCII.
#[inline(always)]
pub(super) fn maybe_controls(word: u64) -> u64 {
    let values = word & !HIGHS;
    (!(values + repeat(0x80 - 0x20)) | (values + ONES) | word) & HIGHS
}

#[inline(always)]
pub(super) fn non_ascii(word: u64) -> u64 {
    word & HIGHS
}

/// How many of the lowest bytes come before the lowest mark; 8 without a mark.
#[inline(always)]
pub(super) fn before(marks: u64) -> u32 {
    marks.trailing_zeros() / 8
}

/// All bits of the bytes before the lowest mark; there must be one.
#[inline(always)]
pub(super) fn below(marks: u64) -> u64 {
    // Marks are top bits: these are all bits up to the lowest mark, its byte and those before.
    (marks ^ marks.wrapping_sub(1)) >> 8
}

/// Marks, in their top bits, all bytes that are no decimal digits.
#[inline(always)]
pub(super) fn non_digits(word: u64) -> u64 {
    let values = word ^ ZEROS;
    (((values & !HIGHS) + repeat(0x80 - 10)) | values) & HIGHS
}

/// The number that the lowest `n` bytes spell, all digits, `1 <= n <= 8`.
#[inline(always)]
pub(super) fn number(word: u64, n: u32) -> u64 {
    // Shifted to the top, so that the bytes below act as leading zeros; then pairs, fours, eights.
    let values = (word ^ ZEROS) << (64 - 8 * n);
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let mask = 0x0000_00ff_0000_00ff;
    let high = (pairs & mask).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & mask).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &[u8; 8]) -> u64 {
        u64::from_le_bytes(*text)
    }

    #[test]
    fn every_byte_is_classed_alone_and_after_any_other() {
        for byte in 0..=255u8 {
            let stop = byte == b'"' || byte == b'\\' || byte < 0x20;
            let special = byte >= b'{';
            for place in 0..8 {
                for filler in [b'a', b'!', b'#', b' ', b'z', 0x80, 0xff] {
                    let mut bytes = [filler; 8];
                    bytes[place] = byte;
                    let expected = if stop { place as u32 } else { 8 };
                    assert_eq!(before(string_stops(word(&bytes))), expected, "{bytes:x?}");
                    let found = specials(word(&bytes)) != 0;
                    assert_eq!(found, special || filler >= b'{', "{bytes:x?}");
                    let control = |byte: u8| !(0x20..0x7f).contains(&byte);
                    let found = maybe_controls(word(&bytes)) != 0;
                    assert_eq!(found, control(byte) || control(filler), "{bytes:x?}");
                    assert_eq!(non_ascii(word(&bytes)) != 0, byte >= 0x80 || filler >= 0x80);
                }
                let mut bytes = [b'7'; 8];
                bytes[place] = byte;
                let expected = if byte.is_ascii_digit() {
                    8
                } else {
                    place as u32
                };
                assert_eq!(before(non_digits(word(&bytes))), expected, "{bytes:x?}");
            }
        }
    }

    #[test]
    fn digits_become_their_number() {
        for (text, n, expected) in [
            (b"0.......", 1, 0),
            (b"9,123456", 1, 9),
            (b"42}99999", 2, 42),
            (b"17639180", 8, 17_639_180),
            (b"99999999", 8, 99_999_999),
            (b"00000001", 8, 1),
            (b"1234567.", 7, 1_234_567),
        ] {
            assert_eq!(number(word(text), n), expected);
        }
    }

    #[test]
    fn below_a_mark_are_the_bytes_before_it() {
        for (marks, expected) in [
            (0x80, 0),
            (0x8000, 0xff),
            (0x80_0080_0000, 0xffff),
            (0x80 << 56, u64::MAX >> 8),
        ] {
            assert_eq!(below(marks), expected, "{marks:x}");
        }
    }
}
