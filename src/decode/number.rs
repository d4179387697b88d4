//! JSON numbers: the strict grammar, and the value.

use super::fault::{Found, Reason};
use super::scan::{Refused, Scanner};
use super::swar;

/// A number token that obeys RFC 8259, section 6.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    start: usize,
    end: usize,
    negative: bool,
    /// Neither fraction nor exponent.
    integer: bool,
    /// Digits before and after the point; above 19 `mantissa` has overflowed.
    digits: usize,
    /// All digits as one integer: the value is `mantissa * 10^exponent`.
    mantissa: u64,
    exponent: i32,
}

/// Any u64 of so many digits is exact.
const DIGITS_EXACT: usize = 19;
/// Integers up to here are exact in an f64.
const F64_EXACT: u64 = 1 << 53;
/// An exponent this large decides alone, whatever the digits of a body of at most 32 MiB are.
const EXPONENT_CAP: i32 = 1 << 28;

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
    /// The number at the cursor, which stands on `-` or a digit.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number, Refused> {
        let start = self.at();
        let negative = self.peek() == b'-';
        if negative {
            self.advance(1);
        }
        let first = self.peek();
        let mut number = Number {
            start,
            end: 0,
            negative,
            integer: true,
            digits: 0,
            mantissa: 0,
            exponent: 0,
        };
        number.digits = self.digits(&mut number.mantissa);
        if number.digits == 0 {
            return Err(self.unexpected(Reason::JsonNumber, "expected a digit"));
        }
        if first == b'0' && number.digits > 1 {
            let what = "a number has no leading zeros";
            return Err(self.refuse(Reason::JsonNumber, start, what, Found::Nothing));
        }
        if self.peek() == b'.' {
            self.advance(1);
            let fraction = self.digits(&mut number.mantissa);
            if fraction == 0 {
                return Err(self.unexpected(Reason::JsonNumber, "expected a digit after the point"));
            }
            number.integer = false;
            number.digits += fraction;
            number.exponent = -(fraction as i32);
        }
        if self.peek() | 0x20 == b'e' {
            self.exponent(&mut number)?;
        }
        number.end = self.at();
        Ok(number)
    }

    #[inline(always)]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let mut digits = 0;
        loop {
            let word = self.word();
            let n = swar::digits(word);
            if n > 0 {
                let value = swar::number(word, n);
                *mantissa = mantissa.wrapping_mul(SHIFTS[n]).wrapping_add(value);
                self.advance(n);
                digits += n;
            }
            if n < 8 {
                return digits;
            }
        }
    }

    #[inline(never)]
    fn exponent(&mut self, number: &mut Number) -> Result<(), Refused> {
        self.advance(1);
        let sign = self.peek();
        if matches!(sign, b'+' | b'-') {
            self.advance(1);
        }
        let first = self.at();
        let mut exponent = 0i32;
        while self.peek().is_ascii_digit() {
            exponent = (exponent * 10 + i32::from(self.peek() - b'0')).min(EXPONENT_CAP / 16);
            self.advance(1);
        }
        if self.at() == first {
            return Err(self.unexpected(Reason::JsonNumber, "expected a digit in the exponent"));
        }
        number.integer = false;
        number.exponent += if sign == b'-' { -exponent } else { exponent };
        Ok(())
    }
}

impl Number {
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// The nearest f64, bit for bit what `str::parse` gives; infinite if out of range.
    #[inline]
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
        let token = body.get(self.start..self.end).unwrap_or_default();
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
            return str::from_utf8(body.get(self.start..self.end)?)
                .ok()?
                .parse()
                .ok();
        }
        let value = self.value(body);
        let whole = value.trunc() == value && (0.0..=F64_EXACT as f64).contains(&value);
        whole.then_some(value as u64)
    }

    /// The token's place if it is an integer of 64 bits, signed or not; `-0` is none.
    pub(super) fn integer(&self, body: &[u8]) -> Option<(usize, usize)> {
        if !self.integer || (self.negative && self.mantissa == 0) {
            return None;
        }
        if self.digits >= DIGITS_EXACT {
            let text = str::from_utf8(body.get(self.start..self.end)?).ok()?;
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

    fn scan(text: &str) -> Option<(Number, usize)> {
        let mut scanner = Scanner::new(text.as_bytes());
        let number = scanner.number().ok()?;
        Some((number, scanner.at()))
    }

    fn check_value(text: &str) {
        let (number, end) = scan(text).unwrap();
        assert_eq!(end, text.len(), "{text}");
        let expected: f64 = text.parse().unwrap();
        let value = number.value(text.as_bytes());
        assert_eq!(
            value.to_bits(),
            expected.to_bits(),
            "{text}: {value} {expected}"
        );
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
