//! `where` as PROTOCOL.md 2.1 has it: words first, then a tree that is evaluated as it was written.

use tidewall::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TERMS_MAX};

#[derive(Debug)]
pub enum Filter {
    Term {
        key: String,
        operator: &'static str,
        value: String,
    },
    Not(Box<Filter>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

/// None: this is no filter.
pub fn parse(text: &str) -> Option<Filter> {
    let mut words = words(text)?;
    words.reverse();
    let mut parser = Parser { words, terms: 0 };
    let filter = parser.any(0)?;
    let whole = parser.words.is_empty() && text.len() <= FILTER_BYTES_MAX;
    (whole && parser.terms <= FILTER_TERMS_MAX).then_some(filter)
}

impl Filter {
    pub fn terms(&self) -> usize {
        match self {
            Filter::Term { .. } => 1,
            Filter::Not(inner) => inner.terms(),
            Filter::All(parts) | Filter::Any(parts) => parts.iter().map(Filter::terms).sum(),
        }
    }

    pub fn matches(&self, host: &str, tags: &[(String, String)]) -> bool {
        match self {
            Filter::Not(inner) => !inner.matches(host, tags),
            Filter::All(parts) => parts.iter().all(|part| part.matches(host, tags)),
            Filter::Any(parts) => parts.iter().any(|part| part.matches(host, tags)),
            Filter::Term {
                key,
                operator,
                value,
            } => {
                let tag = tags.iter().find(|(known, _)| known == key);
                let tag = tag.map(|(_, value)| value.as_str());
                let found = if key == "host" { Some(host) } else { tag };
                match *operator {
                    "=" => found == Some(value),
                    "!=" => found != Some(value),
                    _ => found.is_some_and(|text| like(value, text)),
                }
            }
        }
    }
}

/// Row by row: which ends of the text a longer and longer pattern reaches.
fn like(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for wanted in pattern.chars() {
        let before = reached;
        reached = vec![false; text.len() + 1];
        for end in 0..=text.len() {
            reached[end] = match wanted {
                '*' => before[end] || (0 < end && reached[end - 1]),
                _ if end == 0 => false,
                '?' => before[end - 1],
                _ => before[end - 1] && text[end - 1] == wanted,
            };
        }
    }
    reached[text.len()]
}

#[derive(Debug, PartialEq)]
enum Word {
    Bare(String),
    Quoted(String),
    Sign(&'static str),
}

fn words(text: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let sign = ["!=", "=", "~", "(", ")"]
            .into_iter()
            .find(|sign| rest.starts_with(sign));
        let (word, taken) = if let Some(sign) = sign {
            (Word::Sign(sign), sign.len())
        } else if first == '"' {
            quoted(rest)?
        } else {
            let bare = |c: &char| c.is_ascii_alphanumeric() || "_.:/@*?-".contains(*c);
            let word: String = rest.chars().take_while(bare).collect();
            let taken = word.len();
            if taken == 0 {
                return None;
            }
            (Word::Bare(word), taken)
        };
        words.push(word);
        rest = rest[taken..].trim_start();
    }
    Some(words)
}

/// A string in quotes and the bytes it takes.
fn quoted(text: &str) -> Option<(Word, usize)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' | '\\' if escaped => value.push(c),
            _ if escaped => return None,
            '"' => return Some((Word::Quoted(value), at + 1)),
            '\\' => {}
            _ => value.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// The words still to come, the next one last.
struct Parser {
    words: Vec<Word>,
    terms: usize,
}

impl Parser {
    fn any(&mut self, depth: usize) -> Option<Filter> {
        let mut parts = vec![self.all(depth)?];
        while self.take("or") {
            parts.push(self.all(depth)?);
        }
        Some(Filter::Any(parts))
    }

    fn all(&mut self, depth: usize) -> Option<Filter> {
        let mut parts = vec![self.one(depth)?];
        while self.take("and") {
            parts.push(self.one(depth)?);
        }
        Some(Filter::All(parts))
    }

    fn one(&mut self, depth: usize) -> Option<Filter> {
        if FILTER_DEPTH_MAX < depth {
            return None;
        }
        if self.take("not") {
            return Some(Filter::Not(Box::new(self.one(depth + 1)?)));
        }
        let key = match self.words.pop()? {
            Word::Sign("(") => {
                let inner = self.any(depth + 1)?;
                return (self.words.pop()? == Word::Sign(")")).then_some(inner);
            }
            Word::Bare(word) if word == "and" || word == "or" => return None,
            Word::Bare(word) | Word::Quoted(word) => word,
            Word::Sign(_) => return None,
        };
        let operator = match self.words.pop()? {
            Word::Sign(sign @ ("=" | "!=" | "~")) => sign,
            _ => return None,
        };
        let value = match self.words.pop()? {
            Word::Bare(word) | Word::Quoted(word) => word,
            Word::Sign(_) => return None,
        };
        self.terms += 1;
        Some(Filter::Term {
            key,
            operator,
            value,
        })
    }

    fn take(&mut self, keyword: &str) -> bool {
        let found = matches!(self.words.last(), Some(Word::Bare(word)) if word == keyword);
        if found {
            self.words.pop();
        }
        found
    }
}
