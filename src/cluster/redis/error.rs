//! What can go wrong with Redis, or with the way to it. Each text names who, and what would help.

use std::io;
use std::time::Duration;

use redis::{ErrorKind, RedisError};
use thiserror::Error;

/// Why there is no link, or no more. What Redis said is in it, what we told it is not.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    #[error("{host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    #[error("{host}: no answer to {what} within {} ms", limit.as_millis())]
    Timeout {
        host: String,
        what: &'static str,
        limit: Duration,
    },
    #[error("{0} closed the connection")]
    Closed(String),
    #[error(
        "{0} closed the connection before it said anything: if it speaks TLS, the URL begins with \
         rediss"
    )]
    Mute(String),
    #[error("the connection to {host} broke: {why}")]
    Broken { host: String, why: String },
    #[error("{host} does not take the user and password of the URL: {why}")]
    Password { host: String, why: String },
    #[error("{host} does not let this user do {what}: {why}")]
    Permission {
        host: String,
        what: &'static str,
        why: String,
    },
    #[error("{0} is a replica, which takes no writes: name its primary, or all in a list")]
    Replica(String),
    #[error("none of them: {0}")]
    Nobody(String),
    #[error("{host} is a {is}: the URL begins with {scheme}")]
    Kind {
        host: String,
        is: &'static str,
        scheme: &'static str,
    },
    #[error("{0} does not speak RESP3: Redis 6.0 or newer is needed, for a cluster 7.0")]
    Old(String),
    #[error("no sentinel knows a primary of the name {name}: {why}")]
    UnknownName { name: String, why: String },
    #[error("the cluster that {host} knows serves channel {channel} nowhere")]
    Unserved { host: String, channel: usize },
    #[error("{0} has given slots away: who serves what must be asked again")]
    Moved(String),
    #[error("{host} sent {bytes} bytes as one thing, more than anything of ours")]
    TooLarge { host: String, bytes: usize },
    #[error("{what} of {bytes} bytes is longer than {most}")]
    Oversize {
        what: &'static str,
        bytes: usize,
        most: usize,
    },
    #[error("{host} answers {what} with {why}")]
    Refused {
        host: String,
        what: &'static str,
        why: String,
    },
    #[error("{host} does not answer {what} as Redis does")]
    Strange { host: String, what: &'static str },
    #[error(
        "the certificate of {0} is not trusted: give the one it leads back to (its own, if it \
         signed itself) with --redis-ca FILE"
    )]
    Untrusted(String),
    #[error(
        "the certificate of {host} is not for that name ({why}): name it in --redis as it does"
    )]
    Name { host: String, why: String },
    #[error("the certificate of {host} is not good: {why}")]
    Certificate { host: String, why: String },
    #[error("{0} does not speak TLS there: the URL begins with redis, not rediss")]
    Clear(String),
    #[error("TLS with {host} failed: {why}")]
    Tls { host: String, why: String },
}

impl LinkError {
    pub(super) fn unreachable(host: &str, error: &io::Error) -> LinkError {
        LinkError::Unreachable {
            host: host.to_owned(),
            why: error.to_string(),
        }
    }

    /// What came of all hosts that were tried.
    pub(super) fn of_all(mut errors: Vec<LinkError>) -> LinkError {
        if errors.len() == 1 {
            return errors.remove(0);
        }
        let texts: Vec<String> = errors.iter().map(LinkError::to_string).collect();
        LinkError::Nobody(texts.join("; "))
    }

    /// A refusal, told apart by the word that Redis begins it with.
    pub(super) fn refused(host: &str, what: &'static str, error: &RedisError) -> LinkError {
        let host = host.to_owned();
        let why = plain(&match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        });
        match error.code() {
            Some("WRONGPASS" | "NOAUTH") => LinkError::Password { host, why },
            Some("NOPERM") => LinkError::Permission { host, what, why },
            Some("READONLY") => LinkError::Replica(host),
            Some("MOVED" | "ASK") => LinkError::Moved(host),
            _ => match error.kind() {
                ErrorKind::RESP3NotSupported => LinkError::Old(host),
                ErrorKind::Io => LinkError::Broken { host, why },
                ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
                    LinkError::Strange { host, what }
                }
                _ if why.contains("unknown command") => LinkError::Old(host),
                _ => LinkError::Refused { host, what, why },
            },
        }
    }
}

/// The beginning of what another machine said, fit for a log.
fn plain(text: &str) -> String {
    let seen = text.chars().take(200);
    seen.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
