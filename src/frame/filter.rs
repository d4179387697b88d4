//! `where`: which hosts a view shows, by host name and tags (PROTOCOL.md 2.1).
//!
//! Kept in one normal form, so that equal filters written differently make one view: `not` pushed
//! down to the terms, nested `and`s and `or`s flattened, their parts sorted and without doubles.

use std::fmt;

use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TERMS_MAX};

/// Its `Display` is the canonical text, which parses to an equal filter unless `not`, pushed down,
/// made it longer than a filter's text may be.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Filter {
    root: Node,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct FilterError {
    /// Byte of the filter's text.
    pub at: usize,
    pub what: &'static str,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Node {
    Term(Term),
    /// Two or more parts, none of them `All`.
    All(Vec<Node>),
    /// Two or more parts, none of them `Any`.
    Any(Vec<Node>),
}

/// A host without the tag fails a test, and so passes the negated one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Term {
    key: String,
    test: Test,
    negated: bool,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Test {
    Is(String),
    /// At least one `*` or `?`; of a run of both the `?` come first, then one `*`.
    Like(String),
}

impl Filter {
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            let (at, what) = (FILTER_BYTES_MAX, "the filter is too long");
            return Err(FilterError { at, what });
        }
        let mut parser = Parser {
            text,
            at: 0,
            terms: 0,
        };
        let root = parser.any(0)?;
        parser.skip_spaces();
        if parser.at < text.len() {
            return Err(parser.error("expected `and`, `or` or the end"));
        }
        Ok(Filter { root })
    }

    pub fn matches(&self, host: &str, tags: &[(String, String)]) -> bool {
        self.root.matches(host, tags)
    }
}

impl Node {
    fn matches(&self, host: &str, tags: &[(String, String)]) -> bool {
        match self {
            Node::Term(term) => term.matches(host, tags),
            Node::All(parts) => parts.iter().all(|part| part.matches(host, tags)),
            Node::Any(parts) => parts.iter().any(|part| part.matches(host, tags)),
        }
    }

    fn negate(self) -> Node {
        match self {
            Node::Term(term) => Node::Term(Term {
                negated: !term.negated,
                ..term
            }),
            Node::All(parts) => Node::any(parts.into_iter().map(Node::negate).collect()),
            Node::Any(parts) => Node::all(parts.into_iter().map(Node::negate).collect()),
        }
    }

    fn all(parts: Vec<Node>) -> Node {
        let flat = parts.into_iter().flat_map(|part| match part {
            Node::All(inner) => inner,
            other => vec![other],
        });
        Node::join(flat.collect(), Node::All)
    }

    fn any(parts: Vec<Node>) -> Node {
        let flat = parts.into_iter().flat_map(|part| match part {
            Node::Any(inner) => inner,
            other => vec![other],
        });
        Node::join(flat.collect(), Node::Any)
    }

    fn join(mut parts: Vec<Node>, wrap: fn(Vec<Node>) -> Node) -> Node {
        parts.sort_unstable();
        parts.dedup();
        if parts.len() == 1 {
            parts.remove(0)
        } else {
            wrap(parts)
        }
    }
}

impl Term {
    fn matches(&self, host: &str, tags: &[(String, String)]) -> bool {
        let value = if self.key == "host" {
            Some(host)
        } else {
            let tag = tags.iter().find(|(key, _)| *key == self.key);
            tag.map(|(_, value)| value.as_str())
        };
        let passed = value.is_some_and(|value| match &self.test {
            Test::Is(wanted) => value == wanted,
            Test::Like(pattern) => like(pattern, value),
        });
        passed != self.negated
    }
}

/// Pieces between `*` are found leftmost first and never tried again, so the time is linear: a
/// piece with `?` costs at most its length a byte, one without less.
fn like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return strip(text, pattern) == Some("");
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let after = middle
        .split('*')
        .try_fold(strip(text, first), |text, piece| {
            text.map(|text| find(text, piece))
        });
    let Some(Some(tail)) = after else {
        return false;
    };
    let mut tail = tail.chars().rev();
    last.chars()
        .rev()
        .all(|wanted| tail.next().is_some_and(|c| wanted == '?' || wanted == c))
}

/// What follows `piece` at the start of `text`.
fn strip<'a>(text: &'a str, piece: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    let fits = piece
        .chars()
        .all(|wanted| rest.next().is_some_and(|c| wanted == '?' || wanted == c));
    fits.then_some(rest.as_str())
}

/// What follows the first place of `piece` in `text`.
fn find<'a>(text: &'a str, piece: &str) -> Option<&'a str> {
    if piece.contains('?') {
        let mut starts = text.char_indices();
        return starts.find_map(|(at, _)| strip(&text[at..], piece));
    }
    text.find(piece).map(|at| &text[at + piece.len()..])
}

fn test(operator: &str, value: String) -> Test {
    if operator != "~" || !value.contains(['*', '?']) {
        return Test::Is(value);
    }
    let mut pattern = String::with_capacity(value.len());
    let mut star = false;
    for c in value.chars() {
        if c != '*' && c != '?' && std::mem::take(&mut star) {
            pattern.push('*');
        }
        if c == '*' {
            star = true;
        } else {
            pattern.push(c);
        }
    }
    if star {
        pattern.push('*');
    }
    Test::Like(pattern)
}

/// Recursive descent, `or` < `and` < `not`; depth and terms are bounded.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    terms: usize,
}

impl Parser<'_> {
    fn any(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut parts = vec![self.all(depth)?];
        while self.take_word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(Node::any(parts))
    }

    fn all(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut parts = vec![self.one(depth)?];
        while self.take_word("and") {
            parts.push(self.one(depth)?);
        }
        Ok(Node::all(parts))
    }

    fn one(&mut self, depth: usize) -> Result<Node, FilterError> {
        self.skip_spaces();
        if depth > FILTER_DEPTH_MAX {
            return Err(self.error("the filter is nested too deep"));
        }
        if self.take_word("not") {
            return Ok(self.one(depth + 1)?.negate());
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            self.skip_spaces();
            if !self.take(")") {
                return Err(self.error("expected `)`, `and` or `or`"));
            }
            return Ok(inner);
        }
        self.term()
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        if self.terms == FILTER_TERMS_MAX {
            return Err(self.error("the filter has too many terms"));
        }
        self.terms += 1;
        if self.peeks_word("and") || self.peeks_word("or") {
            return Err(self.error("expected a tag"));
        }
        let key = self.string("expected a tag, `not` or `(`")?;
        self.skip_spaces();
        let operators = ["=", "!=", "~"];
        let Some(operator) = operators.into_iter().find(|operator| self.take(operator)) else {
            return Err(self.error("expected `=`, `!=` or `~`"));
        };
        self.skip_spaces();
        let value = self.string("expected a value")?;
        Ok(Node::Term(Term {
            key,
            test: test(operator, value),
            negated: operator == "!=",
        }))
    }

    fn string(&mut self, expected: &'static str) -> Result<String, FilterError> {
        if self.take("\"") {
            return self.quoted();
        }
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.error(expected));
        }
        let word = word.to_owned();
        self.at += word.len();
        Ok(word)
    }

    /// After the opening quote.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let mut out = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += offset + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => out.push(escaped),
                    _ => {
                        self.at += offset;
                        return Err(self.error("expected `\\\"` or `\\\\`"));
                    }
                },
                c => out.push(c),
            }
        }
        self.at = self.text.len();
        Err(self.error("expected the closing `\"`"))
    }

    fn peek_word(&self) -> &str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
        &rest[..end]
    }

    fn peeks_word(&self, word: &str) -> bool {
        self.peek_word() == word
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.skip_spaces();
        self.peeks_word(word) && self.take(word)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn error(&self, what: &'static str) -> FilterError {
        FilterError { at: self.at, what }
    }
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.:/@*?-".contains(c)
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Node::Term(term) => return term.fmt(f),
            Node::All(parts) => (parts, " and "),
            Node::Any(parts) => (parts, " or "),
        };
        for (index, part) in parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { word })?;
            match (self, part) {
                (Node::All(_), Node::Any(_)) => write!(f, "({part})")?,
                _ => part.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Quoted(&self.key);
        match (&self.test, self.negated) {
            (Test::Is(value), false) => write!(f, "{key}={}", Quoted(value)),
            (Test::Is(value), true) => write!(f, "{key}!={}", Quoted(value)),
            (Test::Like(value), false) => write!(f, "{key}~{}", Quoted(value)),
            (Test::Like(value), true) => write!(f, "not {key}~{}", Quoted(value)),
        }
    }
}

/// Bare where the grammar allows it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyword = matches!(self.0, "and" | "or" | "not");
        if !self.0.is_empty() && !keyword && self.0.chars().all(is_bare) {
            return f.write_str(self.0);
        }
        let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn tags(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        list.iter().map(owned).collect()
    }

    #[test]
    fn filters_match() {
        let tags = tags(&[
            ("dc", "fra"),
            ("role", "web server"),
            ("and", "1"),
            ("empty", ""),
        ]);
        for (text, expected) in [
            ("dc=fra", true),
            ("dc = fra", true),
            ("\"dc\"=\"fra\"", true),
            ("dc=FRA", false),
            ("dc!=fra", false),
            ("dc!=iad", true),
            ("rack=1", false),
            ("rack!=1", true),
            ("rack~*", false),
            ("not rack~*", true),
            ("empty~*", true),
            ("empty=\"\"", true),
            ("rack=\"\"", false),
            ("role=\"web server\"", true),
            ("role~web*", true),
            ("role=web*", false),
            ("host=web-1", true),
            ("host~web-?", true),
            ("host~\"web-?\"", true),
            ("\"and\"=1", true),
            ("dc=and or dc=fra", true),
            ("dc=fra and host=web-2", false),
            ("dc=fra or host=web-2 and dc=iad", true),
            ("(dc=fra or host=web-2) and dc=iad", false),
            ("not dc=iad and dc=fra", true),
            ("not (dc=iad or dc=fra)", false),
            ("not not dc=fra", true),
            ("not(dc=iad)and(dc=fra)", true),
        ] {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(filter.matches("web-1", &tags), expected, "{text}");
        }
    }

    #[test]
    fn globs_match() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("?", "", false),
            ("?", "é", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("*c", "cb", false),
            ("a*c", "ac", true),
            ("a*c", "a", false),
            ("aa*aa", "aaa", false),
            ("aa*aa", "aaaa", true),
            ("*a?c*", "xxabcxx", true),
            ("*a?c*", "xxacxx", false),
            ("*ab*ab*", "xabab", true),
            ("*ab*ab*", "xabb", false),
            ("?*?", "a", false),
            ("?*?", "ab", true),
            ("web-??", "web-1", false),
            ("**b**", "abc", true),
        ] {
            let filter = Filter::parse(&format!("k~\"{pattern}\"")).unwrap();
            let actual = filter.matches("", &tags(&[("k", text)]));
            assert_eq!(actual, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn errors_have_their_place() {
        for (text, at, what) in [
            ("", 0, "expected a tag, `not` or `(`"),
            ("dc", 2, "expected `=`, `!=` or `~`"),
            ("dc==fra", 3, "expected a value"),
            ("dc=", 3, "expected a value"),
            ("dc=fra dc=iad", 7, "expected `and`, `or` or the end"),
            ("dc=fra and", 10, "expected a tag, `not` or `(`"),
            ("dc=fra and or", 11, "expected a tag"),
            ("and=1", 0, "expected a tag"),
            ("(dc=fra", 7, "expected `)`, `and` or `or`"),
            ("dc=fra)", 6, "expected `and`, `or` or the end"),
            ("dc=é", 3, "expected a value"),
            ("dc=\"fra", 7, "expected the closing `\"`"),
            ("dc=\"f\\n\"", 5, "expected `\\\"` or `\\\\`"),
            ("not", 3, "expected a tag, `not` or `(`"),
        ] {
            let expected = FilterError { at, what };
            assert_eq!(Filter::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn length_terms_and_depth_are_bounded() {
        let terms = |count| vec!["a=1"; count].join(" and ");
        let deep = |depth| format!("{}a=1{}", "(".repeat(depth), ")".repeat(depth));
        let nots = |depth| format!("{}a=1", "not ".repeat(depth));
        let long = |bytes: usize| format!("a={}", "x".repeat(bytes - 2));
        for (within, past, what) in [
            (
                terms(FILTER_TERMS_MAX),
                terms(FILTER_TERMS_MAX + 1),
                "the filter has too many terms",
            ),
            (
                deep(FILTER_DEPTH_MAX),
                deep(FILTER_DEPTH_MAX + 1),
                "the filter is nested too deep",
            ),
            (
                nots(FILTER_DEPTH_MAX),
                nots(FILTER_DEPTH_MAX + 1),
                "the filter is nested too deep",
            ),
            (
                long(FILTER_BYTES_MAX),
                long(FILTER_BYTES_MAX + 1),
                "the filter is too long",
            ),
        ] {
            assert!(Filter::parse(&within).is_ok(), "{within}");
            assert_eq!(Filter::parse(&past).unwrap_err().what, what);
        }
    }

    #[test]
    fn equal_filters_have_one_form() {
        for (text, expected) in [
            ("b=2 and a=1", "a=1 and b=2"),
            ("(a=1 and (b=2 and (c=3)))", "a=1 and b=2 and c=3"),
            ("a=1 or a=1", "a=1"),
            ("a=1 and (b=2 or b=2)", "a=1 and b=2"),
            ("not (a=1 or b!=2)", "a!=1 and b=2"),
            ("not (a=1 and not b~x*)", "a!=1 or b~x*"),
            ("not a~x*", "not a~x*"),
            ("a~x", "a=x"),
            ("a~*?**?x**", "a~??*x*"),
            ("c=1 and (b=1 or a=1)", "c=1 and (a=1 or b=1)"),
            ("c=1 and b=1 or a=1", "a=1 or b=1 and c=1"),
            (
                "\"not\"=\"a b\" and k=\"\\\"\\\\\"",
                "k=\"\\\"\\\\\" and \"not\"=\"a b\"",
            ),
        ] {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(filter.to_string(), expected, "{text}");
            assert_eq!(Filter::parse(expected).unwrap(), filter, "{text}");
        }
    }

    /// The textbook definition, exponential.
    fn like_naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|at| like_naive(rest, &text[at..])),
            (['?', rest @ ..], [_, text @ ..]) => like_naive(rest, text),
            ([p, rest @ ..], [t, text @ ..]) if p == t => like_naive(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_defined(pattern in "[abé?*]{0,8}", text in "[abé]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = like_naive(&chars(&pattern), &chars(&text));
            prop_assert_eq!(like(&pattern, &text), expected);
            let canonical = test("~", pattern);
            let actual = match canonical {
                Test::Is(value) => value == text,
                Test::Like(pattern) => like(&pattern, &text),
            };
            prop_assert_eq!(actual, expected);
        }

        #[test]
        fn the_canonical_text_means_the_same(
            first in "(not |\\(){0,3}[ab](=|!=|~)[12*]",
            rest in "( (and|or) (not )?[ab](=|!=|~)[12*]\\)?){0,5}\\)?",
            a in "[12]{0,2}",
        ) {
            if let Ok(filter) = Filter::parse(&(first + &rest)) {
                let again = Filter::parse(&filter.to_string()).unwrap();
                prop_assert_eq!(&again, &filter);
                let tags = tags(&[("a", &a)]);
                prop_assert_eq!(again.matches("h", &tags), filter.matches("h", &tags));
            }
        }

        #[test]
        fn no_text_is_too_much(
            text in ".{0,80}",
            words in "([ab=!~()\"\\\\*? ]|and|or|not){0,40}",
        ) {
            let _ = Filter::parse(&text);
            let _ = Filter::parse(&words);
        }
    }
}
