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

#[inline(always)]
pub(super) fn non_ascii(word: u64) -> u64 {
    word & HIGHS
}

/// How many of the lowest bytes come before the lowest mark; 8 without a mark.
#[inline(always)]
pub(super) fn before(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// The lowest `n` bytes, `n < 8`; the others become zero.
#[inline(always)]
pub(super) fn lowest(word: u64, n: usize) -> u64 {
    word & ((1 << (8 * n)) - 1)
}

/// How many of the lowest bytes are decimal digits before the first that is none.
#[inline(always)]
pub(super) fn digits(word: u64) -> usize {
    let values = word ^ ZEROS;
    before((((values & !HIGHS) + repeat(0x80 - 10)) | values) & HIGHS)
}

/// The number that the lowest `n` bytes spell, all digits, `1 <= n <= 8`.
#[inline(always)]
pub(super) fn number(word: u64, n: usize) -> u64 {
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
                    let expected = if stop { place } else { 8 };
                    assert_eq!(before(string_stops(word(&bytes))), expected, "{bytes:x?}");
                    let found = specials(word(&bytes)) != 0;
                    assert_eq!(found, special || filler >= b'{', "{bytes:x?}");
                    assert_eq!(non_ascii(word(&bytes)) != 0, byte >= 0x80 || filler >= 0x80);
                }
                let mut bytes = [b'7'; 8];
                bytes[place] = byte;
                let expected = if byte.is_ascii_digit() { 8 } else { place };
                assert_eq!(digits(word(&bytes)), expected, "{bytes:x?}");
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
        assert_eq!(lowest(word(b"abcdefgh"), 2), word(b"ab\0\0\0\0\0\0"));
        assert_eq!(lowest(word(b"abcdefgh"), 0), 0);
    }
}
