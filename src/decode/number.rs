//! JSON numbers: the strict grammar, and the value.

use super::fault::{Found, Reason};
use super::scan::{Refused, Scanner};
use super::swar;

/// A number token that obeys RFC 8259, section 6.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    start: u32,
    end: u32,
    negative: bool,
    /// Neither fraction nor exponent.
    integer: bool,
    /// Digits before and after the point; above 19 `mantissa` has overflowed.
    digits: u32,
    /// All digits as one integer: the value is `mantissa * 10^exponent`.
    mantissa: u64,
    exponent: i32,
}

/// Any u64 of so many digits is exact.
const DIGITS_EXACT: u32 = 19;
/// Integers up to here are exact in an f64.
const F64_EXACT: u64 = 1 << 53;
/// Far past any exponent of the fast path even after the digits behind the point (at most 2^25, as
/// a body has at most 32 MiB) are taken off, and far from overflow.
const EXPONENT_CAP: i32 = 1 << 27;

/// Exact in an f64 (Clinger 1990): one rounding in the product or quotient, so the result is the
/// nearest f64, as `str::parse` has it.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
const SHIFTS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

impl Scanner<'_> {
    /// The value of the number at the cursor, if it is a short one: up to six digits with a point
    /// among them or not, as most values are. None, and the cursor stays, if it is another one or
    /// none at all.
    #[inline(always)]
    pub(super) fn short_value(&mut self) -> Option<f64> {
        let mut at = self.at();
        let mut word = self.word(at);
        let negative = word as u8 == b'-';
        if negative {
            at += 1;
            word >>= 8;
        }
        // So that the byte after the number, too, is in the word.
        let digits_max = 6 - u32::from(negative);
        // Zeros that come in from above are no digits, so there is a mark in all that follows.
        let marks = swar::non_digits(word);
        let whole = swar::before(marks);
        if whole.wrapping_sub(1) >= digits_max || (word as u8 == b'0' && whole > 1) {
            return None;
        }
        let mut after = word >> (8 * whole);
        at += whole;
        let (mut digits, mut power) = (whole, 0);
        if after as u8 == b'.' {
            after >>= 8;
            power = swar::before(swar::non_digits(after));
            digits += power;
            if power == 0 || digits > digits_max {
                return None;
            }
            word = (word & swar::below(marks)) | after << (8 * whole);
            after >>= 8 * power;
            at += 1 + power;
        }
        if after as u8 | 0x20 == b'e' {
            return None;
        }
        self.go_to(at);
        let magnitude = swar::number(word, digits) as i64 as f64 / POWERS[power as usize & 7];
        Some(if negative { -magnitude } else { magnitude })
    }

    /// The integer at the cursor if it has up to 15 digits, as times in milliseconds have. None,
    /// and the cursor stays, if it has more or is none.
    #[inline(always)]
    pub(super) fn short_integer(&mut self) -> Option<u64> {
        let start = self.at();
        let word = self.word(start);
        let (mut digits, mut tail, mut high) = (0, word, 0);
        let mut marks = swar::non_digits(word);
        if marks == 0 {
            digits = 8;
            high = swar::number(word, 8);
            tail = self.word(start + 8);
            marks = swar::non_digits(tail);
        }
        let n = swar::before(marks);
        digits += n;
        if n == 8 || digits == 0 || (word as u8 == b'0' && digits > 1) {
            return None;
        }
        let after = (tail >> (8 * n)) as u8;
        if after == b'.' || after | 0x20 == b'e' {
            return None;
        }
        self.go_to(start + digits);
        let low = if n == 0 { 0 } else { swar::number(tail, n) };
        Some(high * SHIFTS[n as usize & 7] + low)
    }

    /// The number at the cursor.
    pub(super) fn number(&mut self) -> Result<Number, Refused> {
        let start = self.at();
        let negative = self.byte(start) == b'-';
        let first = start + u32::from(negative);
        let mut mantissa = 0;
        let mut at = self.digits(first, &mut mantissa);
        let mut digits = at - first;
        if digits == 0 {
            return Err(self.unexpected(at, Reason::JsonNumber, "expected a digit"));
        }
        if digits > 1 && self.byte(first) == b'0' {
            let what = "a number has no leading zeros";
            return Err(self.refuse(Reason::JsonNumber, start, what, Found::Nothing));
        }
        let mut integer = true;
        let mut exponent = 0;
        if self.byte(at) == b'.' {
            let point = at;
            at = self.digits(point + 1, &mut mantissa);
            let fraction = at - (point + 1);
            if fraction == 0 {
                let what = "expected a digit after the point";
                return Err(self.unexpected(at, Reason::JsonNumber, what));
            }
            integer = false;
            digits += fraction;
            exponent = -(fraction as i32);
        }
        if self.byte(at) | 0x20 == b'e' {
            integer = false;
            exponent += self.exponent(at)?;
            at = self.at();
        }
        self.go_to(at);
        Ok(Number {
            start,
            end: at,
            negative,
            integer,
            digits,
            mantissa,
            exponent,
        })
    }

    /// Takes in the digits from `at` on; the place after them.
    #[inline(always)]
    fn digits(&self, mut at: u32, mantissa: &mut u64) -> u32 {
        loop {
            let word = self.word(at);
            let n = swar::before(swar::non_digits(word));
            if n > 0 {
                let value = swar::number(word, n);
                *mantissa = mantissa
                    .wrapping_mul(SHIFTS[n as usize])
                    .wrapping_add(value);
                at += n;
            }
            if n < 8 {
                return at;
            }
        }
    }

    /// The exponent whose `e` is at `at`; the cursor is moved past it.
    #[inline(never)]
    fn exponent(&mut self, at: u32) -> Result<i32, Refused> {
        let sign = self.byte(at + 1);
        let first = at + 1 + u32::from(matches!(sign, b'+' | b'-'));
        let mut at = first;
        let mut exponent = 0i32;
        while self.byte(at).is_ascii_digit() {
            let digit = i32::from(self.byte(at) - b'0');
            exponent = (exponent * 10 + digit).min(EXPONENT_CAP);
            at += 1;
        }
        if at == first {
            let what = "expected a digit in the exponent";
            return Err(self.unexpected(at, Reason::JsonNumber, what));
        }
        self.go_to(at);
        Ok(if sign == b'-' { -exponent } else { exponent })
    }
}

impl Number {
    pub(super) fn start(&self) -> u32 {
        self.start
    }

    /// The nearest f64, bit for bit what `str::parse` gives; infinite if out of range.
    #[inline(always)]
    pub(super) fn value(&self, body: &[u8]) -> f64 {
        let exact = self.digits <= DIGITS_EXACT;
        let power = self.exponent.unsigned_abs() as usize;
        // An integer of up to 64 bits needs no power and is rounded once, by the conversion.
        let magnitude = if exact && power == 0 {
            self.mantissa as f64
        } else if exact && self.mantissa <= F64_EXACT && power < POWERS.len() {
            let mantissa = self.mantissa as f64;
            if self.exponent < 0 {
                mantissa / POWERS[power]
            } else {
                mantissa * POWERS[power]
            }
        } else {
            return self.parse(body);
        };
        if self.negative { -magnitude } else { magnitude }
    }

    #[cold]
    #[inline(never)]
    fn parse(&self, body: &[u8]) -> f64 {
        // The token obeys a grammar that is part of Rust's: neither step can fail.
        let token = body
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default();
        let text = str::from_utf8(token).unwrap_or_default();
        text.parse().unwrap_or(f64::NAN)
    }

    /// The number as a whole one: exact if written as an integer of 64 bits, else if an f64 holds
    /// it exactly (`1.763918083e12` is one, too).
    pub(super) fn whole(&self, body: &[u8]) -> Option<u64> {
        if self.integer && !self.negative {
            if self.digits <= DIGITS_EXACT {
                return Some(self.mantissa);
            }
            return str::from_utf8(body.get(self.start as usize..self.end as usize)?)
                .ok()?
                .parse()
                .ok();
        }
        let value = self.value(body);
        let whole = value.trunc() == value && (0.0..=F64_EXACT as f64).contains(&value);
        whole.then_some(value as u64)
    }

    /// The token's place if it is an integer of 64 bits, signed or not; `-0` is none.
    pub(super) fn integer(&self, body: &[u8]) -> Option<(u32, u32)> {
        if !self.integer || (self.negative && self.mantissa == 0) {
            return None;
        }
        if self.digits >= DIGITS_EXACT {
            // May be more than 64 bits hold.
            let text = str::from_utf8(body.get(self.start as usize..self.end as usize)?).ok()?;
            let fits = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
            fits.then_some(())?;
        }
        Some((self.start, self.end))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &str) -> Option<(Number, u32)> {
        let mut scanner = Scanner::new(text.as_bytes());
        let number = scanner.number().ok()?;
        Some((number, scanner.at()))
    }

    fn check_value(text: &str) {
        let (number, end) = scan(text).unwrap();
        assert_eq!(end as usize, text.len(), "{text}");
        let expected: f64 = text.parse().unwrap();
        let value = number.value(text.as_bytes());
        assert_eq!(
            value.to_bits(),
            expected.to_bits(),
            "{text}: {value} {expected}"
        );
        let mut scanner = Scanner::new(text.as_bytes());
        if let Some(short) = scanner.short_integer() {
            assert_eq!(
                (scanner.at(), Some(short)),
                (end, text.parse().ok()),
                "{text}"
            );
        }
        let mut scanner = Scanner::new(text.as_bytes());
        if let Some(short) = scanner.short_value() {
            assert_eq!(scanner.at(), end, "{text}");
            assert_eq!(
                short.to_bits(),
                expected.to_bits(),
                "{text}: {short} {expected}"
            );
        }
    }

    #[test]
    fn values_are_those_of_std() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "1",
            "41",
            "53.2",
            "0.1",
            "99.99",
            "1e0",
            "1E+2",
            "1e-2",
            "0e999999999999999999999",
            "9007199254740991",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.0",
            "18446744073709551615",
            "18446744073709551616",
            "9999999999999999999",
            "99999999999999999999",
            "1763918083000",
            "1e22",
            "1e23",
            "123456789012345e22",
            "2.2250738585072011e-308",
            "4.9e-324",
            "1e-400",
            "1e999",
            "1.7976931348623157e308",
            "1.7976931348623159e308",
            "12.300000000000001",
            "0.000000000000000000000000000001",
            "100000000000000000000000000000",
            "1e-9999999999",
            "-0.00000",
            "-0.00000e0",
            "123456.5",
            "-12345.5",
            "1234567",
            "12345678",
            "123456789012345",
            "1234567890123456",
            "12345678e1",
            "12345678.5",
            "100000000000000",
            "123e-2147483650",
            "0.5e4294967297",
        ] {
            check_value(text);
        }
        check_value(&format!("0.{}1", "0".repeat(400)));
        check_value(&format!("1{}e-400", "0".repeat(400)));
        check_value(&"9".repeat(308));
        check_value(&"9".repeat(400));
    }

    #[test]
    fn the_grammar_is_strict() {
        for text in [
            "", "-", "-a", "01", "-01", "00", "1.", "1.e5", "1e", "1e+", "1e-", "1.5e", "-.5",
        ] {
            assert!(scan(text).is_none(), "{text}");
        }
        // A number ends where its grammar ends; what may follow is its container's business.
        for (text, end) in [
            ("0x10", 1),
            ("1_000", 1),
            ("1.5.2", 3),
            ("1e5e5", 3),
            ("7,", 1),
        ] {
            assert_eq!(scan(text).unwrap().1, end, "{text}");
        }
    }

    #[test]
    fn whole_numbers() {
        let check = |text: &str, expected: Option<u64>| {
            let number = scan(text).unwrap().0;
            assert_eq!(number.whole(text.as_bytes()), expected, "{text}");
        };
        check("0", Some(0));
        check("-0", Some(0));
        check("7.0", Some(7));
        check("1.763918083e12", Some(1_763_918_083_000));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("9007199254740992.0", Some(1 << 53));
        check("9007199254740994.0", None);
        check("-1", None);
        check("0.5", None);
        check("1e999", None);
    }

    #[test]
    fn integers() {
        let check = |text: &str, expected: bool| {
            let number = scan(text).unwrap().0;
            assert_eq!(
                number.integer(text.as_bytes()).is_some(),
                expected,
                "{text}"
            );
        };
        check("0", true);
        check("-5", true);
        check("-9223372036854775808", true);
        check("18446744073709551615", true);
        check("-0", false);
        check("1.0", false);
        check("1e3", false);
        check("-9223372036854775809", false);
        check("18446744073709551616", false);
        check(&"1".repeat(100), false);
    }

    proptest! {
        #[test]
        fn any_float_text_is_read_as_std_reads_it(
            text in r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?"
        ) {
            check_value(&text);
        }

        #[test]
        fn any_float_survives_its_shortest_text(value in any::<f64>().prop_filter(
            "finite", |value| value.is_finite()
        )) {
            check_value(&value.to_string());
            check_value(&format!("{value:e}"));
        }

        #[test]
        fn any_integer_survives(value in any::<u64>(), signed in any::<i64>()) {
            check_value(&value.to_string());
            check_value(&signed.to_string());
        }
    }
}
