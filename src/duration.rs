//! Durations as people write them: `100ms`, `1s`, `5m`, `2h`, `1d`.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("a duration is a whole number and a unit, such as 100ms, 1s or 5m; got {0:?}")]
    Shape(String),
    #[error("unknown unit {0:?}: use ms, s, m, h or d")]
    Unit(String),
    #[error("too long: {0:?}")]
    TooLong(String),
    #[error("must be more than zero")]
    Zero,
}

/// A clap value parser: a positive duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let duration = parse_any(text)?;
    if duration.is_zero() {
        return Err(DurationError::Zero);
    }
    Ok(duration)
}

/// The same where none at all is one: `0s`.
pub fn parse_any(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() || unit.is_empty() {
        return Err(DurationError::Shape(text.to_owned()));
    }
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DurationError::Unit(unit.to_owned())),
    };
    let ms = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit_ms))
        .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
    Ok(Duration::from_millis(ms))
}

/// The shortest exact text in the largest fitting unit, which [`parse`] reads back.
pub fn human(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit_ms, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ] {
        if ms >= unit_ms && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, ms: u64) {
        assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
    }

    #[test]
    fn only_where_it_is_asked_for_nothing_is_a_duration() {
        assert_eq!(parse("0s"), Err(DurationError::Zero));
        assert_eq!(parse_any("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_any("5s"), parse("5s"));
    }

    #[test]
    fn durations_read_as_written() {
        check("100ms", 100);
        check("1s", 1_000);
        check(" 5m ", 300_000);
        check("2h", 7_200_000);
        check("1d", 86_400_000);
    }

    #[test]
    fn wrong_ones_say_why() {
        assert!(matches!(parse("5"), Err(DurationError::Shape(_))));
        assert!(matches!(parse("s"), Err(DurationError::Shape(_))));
        assert!(matches!(parse(""), Err(DurationError::Shape(_))));
        assert!(matches!(parse("-1s"), Err(DurationError::Shape(_))));
        assert!(matches!(parse("1.5s"), Err(DurationError::Unit(_))));
        assert!(matches!(parse("5 parsecs"), Err(DurationError::Unit(_))));
        assert_eq!(parse("0s"), Err(DurationError::Zero));
        assert!(matches!(
            parse("99999999999999999999d"),
            Err(DurationError::TooLong(_))
        ));
        assert!(matches!(
            parse("18446744073709551615s"),
            Err(DurationError::TooLong(_))
        ));
    }

    #[test]
    fn human_text_reads_back() {
        for text in ["100ms", "1s", "90s", "5m", "2h", "1d", "1500ms"] {
            assert_eq!(human(parse(text).unwrap()), text);
        }
    }
}
