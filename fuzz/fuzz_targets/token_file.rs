//! A tokens file is taken or refused as a plain reading of its TOML has it, and a refusal says
//! where.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use tidewall::auth::tokens::{TokensError, hash_text, parse};
use tidewall::limits::{
    COLUMNS_MAX, HOST_BYTES_MAX, TOKEN_NAME_BYTES_MAX, TOKENS_FILE_BYTES_MAX, TOKENS_MAX,
};
use tidewall::reject::Reason;
use toml::{Table, Value};

/// The word `HASH` in an input stands for this token's.
const TOKEN: &str = "t";

const KEYS: [&str; 7] = [
    "name",
    "hash",
    "scopes",
    "expires",
    "samples_per_second",
    "columns",
    "host_prefix",
];

/// What one entry says that others may not say too, and when it ends.
struct Entry {
    name: String,
    hash: String,
    expires_ms: Option<i64>,
}

/// None: to be refused.
fn expect(text: &str) -> Option<Vec<Entry>> {
    let file: Table = text.parse().ok()?;
    let only_tokens = file.keys().all(|key| key == "token");
    let list = file.get("token")?.as_array()?;
    let entries: Vec<Entry> = list.iter().map(entry).collect::<Option<_>>()?;
    let distinct = |part: fn(&Entry) -> &String| {
        entries.iter().map(part).collect::<HashSet<_>>().len() == entries.len()
    };
    let fits = (1..=TOKENS_MAX).contains(&entries.len()) && text.len() <= TOKENS_FILE_BYTES_MAX;
    let good = fits && only_tokens && distinct(|e| &e.name) && distinct(|e| &e.hash);
    good.then_some(entries)
}

fn entry(value: &Value) -> Option<Entry> {
    let entry = value.as_table()?;
    let within = |key: &str, max: usize| match entry.get(key) {
        None => true,
        Some(Value::Integer(n)) => usize::try_from(*n).is_ok_and(|n| (1..=max).contains(&n)),
        Some(_) => false,
    };
    let name = entry.get("name")?.as_str()?;
    let hash = entry.get("hash")?.as_str()?.to_ascii_lowercase();
    let scopes = entry.get("scopes")?.as_array()?;
    let known = [Some("ingest"), Some("read"), Some("admin")];
    let prefix = entry.get("host_prefix").map_or(Some(""), Value::as_str)?;
    let good = entry.keys().all(|key| KEYS.contains(&key.as_str()))
        && (1..=TOKEN_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(char::is_control)
        && hash.len() == 64
        && hash.bytes().all(|b| b.is_ascii_hexdigit())
        && !scopes.is_empty()
        && scopes.iter().all(|scope| known.contains(&scope.as_str()))
        && within("samples_per_second", usize::MAX)
        && within("columns", COLUMNS_MAX)
        && prefix.len() <= HOST_BYTES_MAX;
    let expires_ms = match entry.get("expires") {
        None => None,
        Some(at) => Some(unix_ms(at.as_datetime()?)?),
    };
    good.then(|| Entry {
        name: name.to_owned(),
        hash,
        expires_ms,
    })
}

/// Day by day from 1970.
fn unix_ms(at: &toml::value::Datetime) -> Option<i64> {
    let (date, time) = (at.date?, at.time?);
    let minutes = match at.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of = |year| if leap(year) { 366 } else { 365 };
    let year = i64::from(date.year);
    let mut days: i64 =
        (1970..year).map(days_of).sum::<i64>() - (year..1970).map(days_of).sum::<i64>();
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += months[..usize::from(date.month) - 1].iter().sum::<i64>() + i64::from(date.day) - 1;
    let seconds = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 - minutes * 60;
    Some((days * 86_400 + seconds + i64::from(time.second.unwrap_or(0))) * 1000)
}

fn check_place(error: &TokensError, text: &str) {
    let said = error.to_string();
    match error {
        TokensError::Toml(_) => {
            let line = said
                .strip_prefix("line ")
                .and_then(|rest| rest.split_once(": "));
            let line: Option<usize> = line.and_then(|(number, _)| number.parse().ok());
            let lines = 1 + text.matches('\n').count();
            assert!(
                line.is_some_and(|n| (1..=lines).contains(&n)),
                "{text:?}: {said}"
            );
        }
        TokensError::Token { at, .. } => assert!(said.contains(&format!("token {at} "))),
        TokensError::TooBig => assert!(TOKENS_FILE_BYTES_MAX < text.len()),
        TokensError::TooMany(n) => assert!(TOKENS_MAX < *n),
        TokensError::Empty => {
            assert!(!text.contains("[[token]]") || text.contains(['#', '"', '\'']))
        }
    }
}

fuzz_target!(|text: &str| {
    let text = &text.replace("HASH", &hash_text(TOKEN));
    let (parsed, expected) = (parse(text), expect(text));
    let (tokens, entries) = match (parsed, expected) {
        (Ok(tokens), Some(entries)) => (tokens, entries),
        (Err(error), None) => return check_place(&error, text),
        (parsed, expected) => panic!("{text:?}: {parsed:?}, expected {}", expected.is_some()),
    };
    assert!(!tokens.is_open() && tokens.len() == entries.len());
    let present = |text: &[u8], now_ms| match tokens.present(text, now_ms) {
        Ok(token) => Ok(token.name().to_owned()),
        Err(reject) => Err(reject.reason),
    };
    assert_eq!(present(b"another", 0), Err(Reason::TokenUnknown));
    match entries.iter().find(|entry| entry.hash == hash_text(TOKEN)) {
        None => assert_eq!(present(TOKEN.as_bytes(), 0), Err(Reason::TokenUnknown)),
        Some(entry) => {
            let end_ms = entry.expires_ms.unwrap_or(i64::MAX);
            assert_eq!(
                present(TOKEN.as_bytes(), end_ms - 1),
                Ok(entry.name.clone())
            );
            if entry.expires_ms.is_some() {
                assert_eq!(present(TOKEN.as_bytes(), end_ms), Err(Reason::TokenExpired));
            }
        }
    }
});
