//! The query of `GET /api/snapshot`: what a person types instead of a `view` object.

use serde_json::{Map, Value};

use super::view::ViewError;
use crate::percent;

/// The query as the fields of a `view` object: `n` a number, `exprs` a list, else text.
pub fn fields(query: &str) -> Result<Map<String, Value>, ViewError> {
    let mut fields = Map::new();
    let mut at = 0;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').ok_or(ViewError::NoValue(at))?;
        let value_at = at + key.len() + 1;
        let key = decode(key, at)?;
        let text = decode(value, value_at)?;
        let value = match key.as_str() {
            "n" => text.parse().map_or(Value::Null, |n: u64| n.into()),
            "exprs" => split_exprs(&text).into_iter().map(Value::from).collect(),
            _ => Value::from(text),
        };
        if fields.contains_key(&key) {
            return Err(ViewError::Twice(shorten(&key)));
        }
        fields.insert(key, value);
        at += pair.len() + 1;
    }
    Ok(fields)
}

/// Splits at the commas outside parentheses: labels have commas of their own.
fn split_exprs(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth <= 0
    })
    .collect()
}

/// `at` is where `text` begins in the query.
fn decode(text: &str, at: usize) -> Result<String, ViewError> {
    percent::decode(text).map_err(|offset| ViewError::Encoding(at + offset))
}

/// A peer's key on its way into an error message.
pub fn shorten(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(32).collect()
}
