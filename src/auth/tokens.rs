//! The file of tokens. It holds hashes alone: who reads it can let nobody in.
//!
//! A token is 32 random bytes, so one round of SHA-256 hides it as well as any slow hash would, and
//! a request pays 0.2 us.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use thiserror::Error;
use toml::value::{Datetime, Offset};

use crate::calendar::days_from_civil;
use crate::limits::{
    COLUMNS_MAX, HOST_BYTES_MAX, RATE_BURST, TOKEN_NAME_BYTES_MAX, TOKENS_FILE_BYTES_MAX,
    TOKENS_MAX,
};
use crate::reject::{Reason, Reject};

/// SHA-256 of a token's text.
pub type Hash = [u8; 32];

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[repr(u8)]
pub enum Scope {
    /// Send samples
    Ingest = 1,
    /// Watch the wall and ask for snapshots
    Read = 2,
    /// The node's own metrics, and who ran into its bounds
    Admin = 4,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Ingest, Scope::Read, Scope::Admin];

    pub const fn name(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

/// A set of scopes, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope as u8 != 0
    }
}

/// One entry of the file.
#[derive(Debug)]
pub struct Token {
    name: String,
    hash: Hash,
    scopes: Scopes,
    expires_ms: Option<i64>,
    rate: Option<Rate>,
    columns: Option<Columns>,
    host_prefix: String,
}

/// Samples a second, over all cores: the moment up to which the token has spent its share.
#[derive(Debug)]
struct Rate {
    per_second: u64,
    spent_until_us: AtomicI64,
}

/// Names of columns the token has used, by keyed hash; two spellings of one column count twice.
#[derive(Debug)]
struct Columns {
    max: usize,
    used: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// All tokens, as the file had them last.
#[derive(Debug, Default)]
pub struct Tokens {
    /// None: nobody is asked for one.
    known: Option<HashMap<Hash, Arc<Token>>>,
}

/// What is wrong with the file, and where.
#[derive(Debug, Error)]
pub enum TokensError {
    #[error("{0}")]
    Toml(String),
    #[error("more than {TOKENS_FILE_BYTES_MAX} bytes")]
    TooBig,
    #[error("{0} tokens: at most {TOKENS_MAX} are kept")]
    TooMany(usize),
    #[error("no [[token]]: nobody could come in")]
    Empty,
    #[error("token {at} ({name:?}): {why}")]
    Token {
        at: usize,
        name: String,
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    hash: String,
    scopes: Vec<String>,
    expires: Option<Datetime>,
    samples_per_second: Option<u64>,
    columns: Option<usize>,
    host_prefix: Option<String>,
}

/// A line for each thing that is said about a new token.
pub fn entry(name: &str, hash: &str, scopes: &[Scope], more: &[(&str, String)]) -> String {
    let scopes: Vec<_> = scopes.iter().map(|scope| quote(scope.name())).collect();
    let mut text = format!(
        "[[token]]\nname = {}\nhash = {}\nscopes = [{}]\n",
        quote(name),
        quote(hash),
        scopes.join(", ")
    );
    for (key, value) in more {
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

/// A TOML string: JSON's escapes are a part of TOML's.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads the text of a tokens file.
pub fn parse(text: &str) -> Result<Tokens, TokensError> {
    if TOKENS_FILE_BYTES_MAX < text.len() {
        return Err(TokensError::TooBig);
    }
    let file: File = toml::from_str(text).map_err(|error| wrong_toml(text, &error))?;
    if TOKENS_MAX < file.token.len() {
        return Err(TokensError::TooMany(file.token.len()));
    }
    if file.token.is_empty() {
        return Err(TokensError::Empty);
    }
    let (mut known, mut names) = (HashMap::new(), HashSet::new());
    for (at, entry) in file.token.into_iter().enumerate() {
        let at = at + 1;
        let name = entry.name.clone();
        let wrong = |why: String| TokensError::Token {
            at,
            name: name.clone(),
            why,
        };
        let token = entry.check().map_err(wrong)?;
        if !names.insert(token.name.clone()) {
            return Err(wrong("another token has this name".to_owned()));
        }
        if known.insert(token.hash, Arc::new(token)).is_some() {
            return Err(wrong("another token has this hash".to_owned()));
        }
    }
    Ok(Tokens { known: Some(known) })
}

/// Where and what, but not the line itself: somebody may have written a token into it.
fn wrong_toml(text: &str, error: &toml::de::Error) -> TokensError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
        + 1;
    TokensError::Toml(format!("line {line}: {}", error.message()))
}

impl Entry {
    fn check(self) -> Result<Token, String> {
        let visible = |text: &str| text.chars().all(|c| !c.is_control());
        if self.name.is_empty() || TOKEN_NAME_BYTES_MAX < self.name.len() || !visible(&self.name) {
            return Err(format!(
                "`name` must have 1 to {TOKEN_NAME_BYTES_MAX} bytes"
            ));
        }
        let hash = unhex(&self.hash).ok_or("`hash` must be 64 hexadecimal digits")?;
        let mut scopes = 0;
        for text in &self.scopes {
            let scope = Scope::ALL.iter().find(|scope| scope.name() == text);
            let scope = scope
                .ok_or_else(|| format!("scope {text:?} is none of `ingest`, `read`, `admin`"))?;
            scopes |= *scope as u8;
        }
        if scopes == 0 {
            return Err("`scopes` is empty: it would allow nothing".to_owned());
        }
        if self.samples_per_second == Some(0) {
            return Err("`samples_per_second` must be at least 1".to_owned());
        }
        if self
            .columns
            .is_some_and(|max| max == 0 || COLUMNS_MAX < max)
        {
            return Err(format!("`columns` must be 1 to {COLUMNS_MAX}"));
        }
        let host_prefix = self.host_prefix.unwrap_or_default();
        if HOST_BYTES_MAX < host_prefix.len() {
            return Err(format!("`host_prefix` may have {HOST_BYTES_MAX} bytes"));
        }
        let expires_ms = self.expires.map(unix_ms).transpose()?;
        Ok(Token {
            name: self.name,
            hash,
            scopes: Scopes(scopes),
            expires_ms,
            rate: self.samples_per_second.map(Rate::new),
            columns: self.columns.map(Columns::new),
            host_prefix,
        })
    }
}

impl Tokens {
    /// Nobody is asked for a token.
    pub fn open() -> Self {
        Self::default()
    }

    pub fn is_open(&self) -> bool {
        self.known.is_none()
    }

    pub fn len(&self) -> usize {
        self.known.as_ref().map_or(0, HashMap::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token with this text, if it is known and has not expired. Which bytes of a wrong token
    /// are right cannot be learnt from the time this takes: what is looked up is its hash, and the
    /// last word is a comparison in constant time.
    pub fn present(&self, text: &[u8], now_ms: i64) -> Result<Arc<Token>, Reject> {
        let hash = hash_of(text);
        let token = self.find(&hash).ok_or(Reason::TokenUnknown)?;
        if !bool::from(token.hash.ct_eq(&hash)) {
            return Err(Reason::TokenUnknown.into());
        }
        token.check_time(now_ms)?;
        Ok(token.clone())
    }

    pub(super) fn find(&self, hash: &Hash) -> Option<&Arc<Token>> {
        self.known.as_ref()?.get(hash)
    }
}

impl Token {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    pub(super) fn hash(&self) -> &Hash {
        &self.hash
    }

    pub(super) fn check_time(&self, now_ms: i64) -> Result<(), Reject> {
        match self.expires_ms {
            Some(expires_ms) if expires_ms <= now_ms => Err(Reason::TokenExpired.into()),
            _ => Ok(()),
        }
    }

    /// Whether samples of this host may come by this token.
    pub fn check_host(&self, host: &str) -> Result<(), Reject> {
        if host.starts_with(&self.host_prefix) {
            return Ok(());
        }
        Err(Reject::because(
            Reason::HostPrefix,
            format!("host {host:?} does not begin with {:?}", self.host_prefix),
        ))
    }

    /// Takes the names of a batch's columns into the token's own, or none of them.
    pub fn spend_columns<'n>(
        &self,
        names: impl Iterator<Item = &'n str> + Clone,
    ) -> Result<(), Reject> {
        let Some(columns) = &self.columns else {
            return Ok(());
        };
        let used = &mut *columns.used.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh: HashSet<u64> = names
            .map(|name| columns.hasher.hash_one(name))
            .filter(|hash| !used.contains(hash))
            .collect();
        if columns.max < used.len() + fresh.len() {
            let text = format!(
                "token {:?} may use {} columns, this batch would make it {}",
                self.name,
                columns.max,
                used.len() + fresh.len()
            );
            return Err(Reject::because(Reason::ColumnBudget, text));
        }
        used.extend(fresh);
        Ok(())
    }

    /// Takes a batch out of the token's rate.
    pub fn spend_samples(&self, samples: usize, now_us: i64) -> Result<(), Reject> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        if rate.spend(samples as u64, now_us) {
            return Ok(());
        }
        let text = format!(
            "token {:?} may send {} samples a second",
            self.name, rate.per_second
        );
        Err(Reject::because(Reason::Rate, text))
    }
}

impl Rate {
    fn new(per_second: u64) -> Self {
        Self {
            per_second,
            spent_until_us: AtomicI64::new(0),
        }
    }

    /// Who is not ahead of the rate by more than the burst may send, and then owes for all of it.
    fn spend(&self, samples: u64, now_us: i64) -> bool {
        let burst_us = i64::try_from(RATE_BURST.as_micros()).unwrap_or(i64::MAX);
        let cost_us = u128::from(samples) * 1_000_000 / u128::from(self.per_second);
        let cost_us = i64::try_from(cost_us).unwrap_or(i64::MAX / 4);
        self.spent_until_us
            .fetch_update(Relaxed, Relaxed, |until_us| {
                let ahead = until_us.saturating_sub(now_us) <= burst_us;
                ahead.then_some(until_us.max(now_us).saturating_add(cost_us))
            })
            .is_ok()
    }
}

impl Columns {
    fn new(max: usize) -> Self {
        Self {
            max,
            used: Mutex::default(),
            hasher: RandomState::new(),
        }
    }
}

fn hash_of(text: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

/// The hash of a token's text as the file has it.
pub fn hash_text(text: &str) -> String {
    hex(&hash_of(text.as_bytes()))
}

/// A new token's text: `tw_` and 32 random bytes. None: the system gives no randomness.
pub fn new_text() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("tw_{}", hex(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(hash)
}

/// A date with its offset from UTC; without one it would mean another moment on each machine.
fn unix_ms(at: Datetime) -> Result<i64, String> {
    let whole = "`expires` must be a date and time with an offset, like 2027-01-31T12:00:00Z";
    let (Some(date), Some(time), Some(offset)) = (at.date, at.time, at.offset) else {
        return Err(whole.to_owned());
    };
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_civil(date.year.into(), date.month.into(), date.day.into());
    let second = time.second.unwrap_or_default();
    let of_day = (i64::from(time.hour) * 60 + i64::from(time.minute) - minutes) * 60;
    Ok((days * 86_400 + of_day + i64::from(second)) * 1_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(rest: &str) -> String {
        let hash = hash_text("t");
        format!("[[token]]\nname = \"a\"\nhash = \"{hash}\"\nscopes = [\"ingest\"]\n{rest}\n")
    }

    fn token(rest: &str) -> Arc<Token> {
        parse(&entry(rest)).unwrap().present(b"t", 0).unwrap()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str, needle: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(needle), "{error:?} should say {needle:?}");
        };
        wrong("", "nobody could come in");
        wrong("x = 1", "unknown field `x`");
        wrong("\n[[token]]\nname = 1", "line 3: ");
        let secret = parse("[[token]]\nname = \"a\"\nhash = tw_secret").unwrap_err();
        assert!(!secret.to_string().contains("tw_secret"), "{secret}");
        wrong("[[token]]\nname = \"a\"", "missing field `hash`");
        wrong(&entry("color = 1"), "unknown field `color`");
        wrong(
            &entry("columns = 0"),
            "token 1 (\"a\"): `columns` must be 1 to 4096",
        );
        wrong(&entry("columns = 4097"), "`columns` must be 1 to 4096");
        wrong(&entry("samples_per_second = 0"), "at least 1");
        wrong(&entry("expires = 2027-01-31"), "with an offset");
        wrong(&entry("expires = 2027-01-31T10:00:00"), "with an offset");
        wrong(
            &entry("").repeat(2),
            "token 2 (\"a\"): another token has this name",
        );
        let second = entry("").replace("name = \"a\"", "name = \"b\"");
        wrong(&(entry("") + &second), "another token has this hash");
        wrong(&entry("").replace("ingest", "write"), "scope \"write\"");
        wrong(&entry("").replace("\"ingest\"", ""), "`scopes` is empty");
        wrong(
            &entry("").replace("name = \"a\"", "name = \"\""),
            "`name` must",
        );
        let cut = hash_text("t");
        wrong(&entry("").replace(&cut, &cut[1..]), "64 hexadecimal digits");
        wrong(
            &entry("").replace(&cut, &cut.replace(&cut[..1], "g")),
            "64 hexadecimal",
        );
    }

    #[test]
    fn bounds() {
        let many = |n: usize| {
            (0..n).fold(String::new(), |file, at| {
                let hash = hash_text(&at.to_string());
                file + &entry("")
                    .replace("name = \"a\"", &format!("name = \"{at}\""))
                    .replace(&hash_text("t"), &hash)
            })
        };
        assert_eq!(parse(&many(TOKENS_MAX)).unwrap().len(), TOKENS_MAX);
        let error = parse(&many(TOKENS_MAX + 1)).unwrap_err();
        assert!(matches!(error, TokensError::TooMany(_)));
        let padded = |bytes: usize| entry("") + &"#".repeat(bytes - entry("").len());
        assert!(parse(&padded(TOKENS_FILE_BYTES_MAX)).is_ok());
        let error = parse(&padded(TOKENS_FILE_BYTES_MAX + 1)).unwrap_err();
        assert!(matches!(error, TokensError::TooBig));
        let named = |bytes: usize| {
            let name = format!("name = \"{}\"", "n".repeat(bytes));
            parse(&entry("").replace("name = \"a\"", &name)).is_ok()
        };
        assert!(named(TOKEN_NAME_BYTES_MAX) && !named(TOKEN_NAME_BYTES_MAX + 1));
        let prefixed = |bytes: usize| {
            let prefix = format!("host_prefix = \"{}\"", "n".repeat(bytes));
            parse(&entry(&prefix)).is_ok()
        };
        assert!(prefixed(HOST_BYTES_MAX) && !prefixed(HOST_BYTES_MAX + 1));
    }

    #[test]
    fn dates() {
        let expires = |text: &str| token_expires(&format!("expires = {text}"));
        assert_eq!(expires("1970-01-01T00:00:00Z"), 0);
        assert_eq!(expires("2026-11-24T12:34:56Z"), 1_795_523_696_000);
        assert_eq!(expires("2024-02-29T23:59:59+01:00"), 1_709_247_599_000);
        assert_eq!(expires("1969-12-31T23:59:59Z"), -1_000);
    }

    fn token_expires(rest: &str) -> i64 {
        let tokens = parse(&entry(rest)).unwrap();
        let known = tokens.find(&hash_of(b"t")).unwrap();
        known.expires_ms.unwrap()
    }

    #[test]
    fn a_rate_lets_a_burst_through_once() {
        let token = token("samples_per_second = 100");
        let spend = |samples, at_s: f64| {
            let now_us = (at_s * 1e6) as i64;
            token.spend_samples(samples, 1_000_000_000 + now_us).is_ok()
        };
        assert!(spend(1_000, 0.0), "a batch of ten seconds' worth");
        assert!(!spend(1, 0.0) && !spend(1, 8.9), "is paid for");
        assert!(spend(100, 9.0), "but for the burst");
        assert!(!spend(1, 9.9) && spend(1, 10.0));
        // At its rate it is never refused.
        assert!((0..1_000).all(|at| spend(10, 20.0 + f64::from(at) / 10.0)));
    }

    #[test]
    fn columns_are_counted_once_and_whole_batches_refused() {
        let token = token("columns = 3");
        let spend = |names: &[&str]| token.spend_columns(names.iter().copied()).is_ok();
        assert!(spend(&["cpu", "mem", "cpu"]));
        assert!(!spend(&["disk", "net"]), "would be four");
        assert!(spend(&["cpu", "net"]), "three");
        assert!(!spend(&["disk"]) && spend(&["net", "mem", "cpu"]));
    }

    #[test]
    fn hosts_begin_with_the_prefix() {
        let token = token("host_prefix = \"web-\"");
        assert!(token.check_host("web-1").is_ok() && token.check_host("web-").is_ok());
        let reject = token.check_host("db-1").unwrap_err();
        assert_eq!(reject.reason, Reason::HostPrefix);
        assert!(reject.detail.contains("\"db-1\""));
    }

    #[test]
    fn new_tokens_differ_and_hash_as_the_world_does() {
        let (one, two) = (new_text().unwrap(), new_text().unwrap());
        assert!(one != two && one.len() == 67 && one.starts_with("tw_"));
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_text("abc"), known);
    }
}
