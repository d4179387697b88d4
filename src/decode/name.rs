//! What names may look like. Each check says what is wrong, or nothing.

use super::swar;
use crate::limits::{
    HOST_BYTES_MAX, METRIC_BYTES_MAX, METRIC_LABELS_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX,
    UNIT_BYTES_MAX,
};

const CONTROL: &str = "control characters are not allowed";

/// A text and whether [`super::string::Str`] found it plain: then it can hold neither controls nor
/// braces and only its length is left to check.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) plain: bool,
}

type Wrong = Option<&'static str>;

#[inline]
pub(super) fn host(name: Name<'_>) -> Wrong {
    match name.bytes.len() {
        0 => Some("a host name is not empty"),
        1..=HOST_BYTES_MAX => control(name),
        _ => Some("a host name has at most 253 bytes"),
    }
}

#[inline]
pub(super) fn metric(name: Name<'_>) -> Wrong {
    match name.bytes.len() {
        0 => Some("a metric name is not empty"),
        1..=METRIC_BYTES_MAX if name.plain => None,
        1..=METRIC_BYTES_MAX => control(name).or_else(|| labels(name.bytes)),
        _ => Some("a metric name has at most 256 bytes, labels included"),
    }
}

#[inline]
pub(super) fn unit(name: Name<'_>) -> Wrong {
    match name.bytes.len() {
        0..=UNIT_BYTES_MAX => control(name),
        _ => Some("a unit has at most 16 bytes"),
    }
}

pub(super) fn ack(name: Name<'_>) -> Wrong {
    (name.bytes != b"durable").then_some("the one acknowledgement to be asked for is \"durable\"")
}

#[inline]
pub(super) fn tag_key(name: Name<'_>) -> Wrong {
    match name.bytes.len() {
        0 => Some("a tag's key is not empty"),
        1..=TAG_KEY_BYTES_MAX => control(name),
        _ => Some("a tag's key has at most 64 bytes"),
    }
}

#[inline]
pub(super) fn tag_value(name: Name<'_>) -> Wrong {
    match name.bytes.len() {
        0..=TAG_VALUE_BYTES_MAX => control(name),
        _ => Some("a tag's value has at most 128 bytes"),
    }
}

#[inline]
fn control(name: Name<'_>) -> Wrong {
    if name.plain {
        return None;
    }
    has_control(name.bytes).then_some(CONTROL)
}

/// C0, DEL and C1 (U+0080 to U+009F, in UTF-8 C2 80 to C2 9F).
fn has_control(bytes: &[u8]) -> bool {
    // Eight at a time first, the last eight again if need be; what is suspect is looked at again.
    let suspect = |word: &[u8; 8]| swar::maybe_controls(u64::from_le_bytes(*word)) != 0;
    if let Some(last) = bytes.last_chunk()
        && !bytes.as_chunks().0.iter().any(suspect)
        && !suspect(last)
    {
        return false;
    }
    bytes.iter().any(u8::is_ascii_control)
        || bytes
            .windows(2)
            .any(|pair| pair[0] == 0xc2 && pair[1] < 0xa0)
}

/// `name` or `name{key=value,key2=value2}`. A value may hold `=`, nothing holds braces, only the
/// separators are commas, and a key comes once.
fn labels(metric: &[u8]) -> Wrong {
    let open = metric.iter().position(|byte| matches!(byte, b'{' | b'}'))?;
    let (name, rest) = metric.split_at(open);
    if rest.starts_with(b"}") {
        return Some("a `}` without its `{`");
    }
    if name.is_empty() {
        return Some("a metric name is not empty before its labels");
    }
    let Some(inner) = rest[1..].strip_suffix(b"}") else {
        return Some("labels end with `}`, at the end of the name");
    };
    let mut keys = [&[][..]; METRIC_LABELS_MAX];
    let mut labels = 0;
    let mut rest = Some(inner);
    while let Some(label) = rest {
        let (key, end) = match label_ends(label) {
            Ok((equals, end)) => (&label[..equals], end),
            Err(what) => return Some(what),
        };
        if labels == METRIC_LABELS_MAX {
            return Some("a metric name has at most 16 labels");
        }
        if keys[..labels].contains(&key) {
            return Some("a label's key comes once");
        }
        keys[labels] = key;
        labels += 1;
        rest = label.get(end + 1..);
    }
    None
}

/// Where the first `=` and the end of the first label are.
fn label_ends(labels: &[u8]) -> Result<(usize, usize), &'static str> {
    let mut equals = None;
    let mut end = labels.len();
    for (at, byte) in labels.iter().enumerate() {
        match byte {
            b'=' => equals = equals.or(Some(at)),
            b',' => {
                end = at;
                break;
            }
            b'{' | b'}' => return Err("a metric name has one pair of braces"),
            _ => (),
        }
    }
    match equals {
        Some(equals @ 1..) if end > equals + 1 => Ok((equals, end)),
        _ => Err("a label is `key=value`, neither empty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name<'_> {
        let bytes = text.as_bytes();
        let plain = bytes.iter().all(|byte| (0x20..0x7b).contains(byte));
        Name { bytes, plain }
    }

    /// None: fine. Else a part of what is wrong.
    fn check(check: fn(Name<'_>) -> Wrong, text: &str, expected: Option<&str>) {
        match (check(name(text)), expected) {
            (None, None) => (),
            (Some(wrong), Some(part)) => assert!(wrong.contains(part), "{text:?}: {wrong}"),
            (found, _) => panic!("{text:?}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn lengths_at_the_bound_and_one_past_it() {
        for (max, least, check_name) in [
            (HOST_BYTES_MAX, 1, host as fn(Name<'_>) -> Wrong),
            (METRIC_BYTES_MAX, 1, metric),
            (UNIT_BYTES_MAX, 0, unit),
            (TAG_KEY_BYTES_MAX, 1, tag_key),
            (TAG_VALUE_BYTES_MAX, 0, tag_value),
        ] {
            check(check_name, &"x".repeat(max), None);
            check(check_name, &"~".repeat(max), None);
            check(check_name, &"x".repeat(max + 1), Some(&max.to_string()));
            check(check_name, "", (least == 1).then_some("not empty"));
        }
    }

    #[test]
    fn controls_are_refused_everywhere() {
        for check_name in [
            host as fn(Name<'_>) -> Wrong,
            metric,
            unit,
            tag_key,
            tag_value,
        ] {
            for text in ["a\n", "\0", "\u{7f}", "a\u{80}", "\u{9f}b", "\u{1b}[0m"] {
                check(check_name, text, Some("control"));
            }
            for text in ["ä", "\u{a0}", "日本", "a b", "~|"] {
                check(check_name, text, None);
            }
        }
    }

    #[test]
    fn labels_are_well_formed() {
        for good in [
            "disk.used{device=sda}",
            "a{b=c,d=e}",
            "a{b=c=d}",
            "a{b=ü}",
            "a{b= }",
            "a=b,c",
            "a{b=\"c\"}",
        ] {
            check(metric, good, None);
        }
        for (bad, part) in [
            ("{a=b}", "not empty before"),
            ("a}", "without its"),
            ("}a{b=c}", "without its"),
            ("a{b=c", "end with"),
            ("a{b=c}d", "end with"),
            ("a{", "end with"),
            ("a{}", "key=value"),
            ("a{b}", "key=value"),
            ("a{b=}", "key=value"),
            ("a{=c}", "key=value"),
            ("a{==c}", "key=value"),
            ("a{b=c,==d}", "key=value"),
            ("a{b=c,}", "key=value"),
            ("a{,b=c}", "key=value"),
            ("a{b={c}}", "one pair"),
            ("a{b=c}{d=e}", "one pair"),
            ("a{b=c,b=d}", "once"),
        ] {
            check(metric, bad, Some(part));
        }
    }

    #[test]
    fn sixteen_labels_and_no_more() {
        let metric_of = |n: usize| {
            let labels: Vec<String> = (0..n).map(|i| format!("k{i}=v")).collect();
            format!("m{{{}}}", labels.join(","))
        };
        check(metric, &metric_of(METRIC_LABELS_MAX), None);
        check(metric, &metric_of(METRIC_LABELS_MAX + 1), Some("16 labels"));
    }
}
