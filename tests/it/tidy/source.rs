//! Just enough of Rust's grammar to look at a file: what is code, where a block ends.

use std::ops::Range;

/// The file with comments, strings and characters blanked out; every line keeps its place.
pub(crate) fn code_only(source: &str) -> String {
    let mut rest = source.as_bytes();
    let mut code = String::with_capacity(source.len());
    while let [first, ..] = rest {
        let opaque = opaque_len(rest).min(rest.len());
        let (text, after) = rest.split_at(opaque.max(1));
        if opaque == 0 && first.is_ascii() {
            code.push(char::from(*first));
        } else {
            code.extend(text.iter().map(|b| if *b == b'\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// Length of the comment or literal that begins here; 0 when none does.
fn opaque_len(rest: &[u8]) -> usize {
    match rest {
        [b'/', b'/', ..] => find(rest, b"\n"),
        [b'/', b'*', ..] => block_comment_len(rest),
        [b'"', ..] => quoted_len(rest, b'"'),
        [b'r', b'"' | b'#', ..] => raw_string_len(rest),
        [b'\'', b'\\', ..] => quoted_len(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        // A character of several bytes; anything else after a quote is a lifetime.
        [b'\'', first, ..] if !first.is_ascii() => quoted_len(rest, b'\''),
        _ => 0,
    }
}

/// Bytes before `end`; all of them when it never comes.
fn find(text: &[u8], end: &[u8]) -> usize {
    let at = text.windows(end.len()).position(|window| window == end);
    at.unwrap_or(text.len())
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// 0 for a raw identifier, `r#type`.
fn raw_string_len(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = 2 + hashes;
    body + find(&rest[body..], &end) + end.len()
}

/// Code without the items that stand under `#[cfg(test)]`.
pub(crate) fn without_tests(code: &str) -> String {
    let mut left = code.to_owned();
    while let Some(start) = left.find("#[cfg(test)]") {
        let item = start + "#[cfg(test)]".len();
        let end = block(&left, item).map_or_else(
            || {
                left[item..]
                    .find(';')
                    .map_or(left.len(), |at| item + at + 1)
            },
            |body| body.end,
        );
        let blank = left[start..end].replace(|c| c != '\n', " ");
        left.replace_range(start..end, &blank);
    }
    left
}

/// The first `{…}` after `from`, unless a `;` outside brackets ends the item before.
pub(crate) fn block(code: &str, from: usize) -> Option<Range<usize>> {
    let (mut brackets, mut braces, mut start) = (0, 0, from);
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' if braces == 0 => brackets += 1,
            b')' | b']' if braces == 0 => brackets -= 1,
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' if braces == 0 => (start, braces) = (at, 1),
            b'{' => braces += 1,
            b'}' if braces == 1 => return Some(start..at + 1),
            b'}' => braces -= 1,
            _ => {}
        }
    }
    None
}

/// Where `word` stands as a whole word.
pub(crate) fn words<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            let is_cut = word.ends_with(part) && after.is_some_and(part);
            !is_cut && !before.is_some_and(part)
        })
}

/// Line number of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The identifier at the start of the text.
pub(crate) fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Names, with their lines, of the functions longer than `lines_max`.
pub(crate) fn long_functions(code: &str, lines_max: usize) -> Vec<(String, usize, usize)> {
    let functions = words(code, "fn").filter_map(|at| {
        let name = identifier(code[at + 2..].trim_start());
        let body = block(code, at).filter(|_| !name.is_empty())?;
        let (first, last) = (line_of(code, at), line_of(code, body.end));
        Some((name.to_owned(), first, last - first + 1))
    });
    functions
        .filter(|(_, _, lines)| lines_max < *lines)
        .collect()
}

/// Top modules of the crate that the code names, `crate::x` and `crate::{x, y::Z}`.
pub(crate) fn crate_imports(code: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for at in words(code, "crate::") {
        let line = line_of(code, at);
        let path = &code[at + "crate::".len()..];
        match block(path, 0).filter(|group| group.start == 0) {
            Some(group) => {
                let names = top_names(&path[1..group.end - 1]);
                found.extend(names.into_iter().map(|name| (name, line)));
            }
            None => found.push((identifier(path), line)),
        }
    }
    found
}

fn top_names(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = group.split(move |c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let names = parts.map(|part| identifier(part.trim_start()));
    names.filter(|name| !name.is_empty()).collect()
}

/// `mod name;` lines: the name, and whether only tests see it.
pub(crate) fn child_modules(code: &str) -> Vec<(String, bool)> {
    let tested = without_tests(code);
    let children = words(code, "mod").filter_map(|at| {
        let name = identifier(code[at + 3..].trim_start());
        let ends = code[at + 3..].trim_start()[name.len()..].starts_with(';');
        let test_only = tested[at..].starts_with(' ');
        ends.then(|| (name.to_owned(), test_only))
    });
    children.collect()
}

mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_no_code() {
        let check = |source: &str, expected: &str| assert_eq!(code_only(source), expected);
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"a "{ \" }" b"#, "a          b");
        check(r##"a r#"{"#; r#type"##, "a       ; r#type");
        check("'{' '\\'' &'a b 'ä'", "         &'a b     ");
        check("b\"{\"", "b   ");
    }

    #[test]
    fn functions_are_measured_from_name_to_brace() {
        let check = |code: &str, expected: &[(&str, usize, usize)]| {
            let found = long_functions(&without_tests(code), 2);
            let expected = expected.iter().map(|(n, f, l)| ((*n).to_owned(), *f, *l));
            assert_eq!(found, expected.collect::<Vec<_>>());
        };
        check("fn short() {\n}\n", &[]);
        check("\nfn long(a: [u8; 2]) {\n{}\n}\n", &[("long", 2, 3)]);
        check(
            "trait T {\nfn a();\nfn b() -> X\nwhere X: Y {\n} }",
            &[("b", 3, 3)],
        );
        check("#[cfg(test)]\nmod tests {\nfn a() {\n\n}\n}\n", &[]);
        check("type F = fn(u8);\nfn_a();\nf();\n", &[]);
    }

    #[test]
    fn imports_are_found_in_lists_too() {
        let check = |code: &str, expected: &[(&str, usize)]| {
            assert_eq!(crate_imports(code), expected);
        };
        check("use crate::frame::Tick;\n", &[("frame", 1)]);
        check(
            "\nuse crate::{ring, frame::{a, b}};",
            &[("ring", 2), ("frame", 2)],
        );
        check("pub(crate) fn a() { crate::limits::B }", &[("limits", 1)]);
    }

    #[test]
    fn modules_know_their_children() {
        let code = "pub mod a;\n#[cfg(test)]\nmod b;\nmod c {\n}\n";
        let expected = [("a".to_owned(), false), ("b".to_owned(), true)];
        assert_eq!(child_modules(code), expected);
    }
}
