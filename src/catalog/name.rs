//! A column key's one spelling: `name{key=value,key2=value2}` with the labels sorted by key.

use std::borrow::Cow;

/// Borrows when the key is already in order, which it is from the second sight on. A key of another
/// shape stays as it is: decoding has refused what is not allowed.
pub fn canonical(key: &str) -> Cow<'_, str> {
    let Some((name, labels)) = split(key) else {
        return Cow::Borrowed(key);
    };
    if labels.split(',').is_sorted_by_key(label_order) {
        return Cow::Borrowed(key);
    }
    let mut sorted: Vec<&str> = labels.split(',').collect();
    sorted.sort_by_key(|label| label_order(label));
    Cow::Owned(format!("{name}{{{}}}", sorted.join(",")))
}

fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_suffix('}')?.split_once('{')
}

/// By key, then by value, so that even a doubled key has one spelling. Comparing whole labels would
/// not do: `a=` sorts after `a-b=`.
fn label_order(label: &str) -> (&str, &str) {
    label.split_once('=').unwrap_or((label, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_by_key() {
        let check = |key: &str, expected: &str| assert_eq!(canonical(key), expected, "{key}");
        check("cpu", "cpu");
        check("", "");
        check("cpu{}", "cpu{}");
        check("d{a=1}", "d{a=1}");
        check("d{a=1,b=2}", "d{a=1,b=2}");
        check("d{b=2,a=1}", "d{a=1,b=2}");
        check("d{a-b=1,a=2}", "d{a=2,a-b=1}");
        check("d{a=2,a=1}", "d{a=1,a=2}");
        check("d{b=x=y,a}", "d{a,b=x=y}");
        check("d{b=1,a=2", "d{b=1,a=2");
        check("d}b=1,a=2{", "d}b=1,a=2{");
        assert!(matches!(canonical("d{a=1,b=2}"), Cow::Borrowed(_)));
    }
}
