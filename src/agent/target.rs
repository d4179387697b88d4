//! Where to send: `https://host:port/base`, taken apart once.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("{0:?} needs a scheme: http://host:port or https://host:port, ws:// or wss:// alike")]
    Scheme(String),
    #[error("{0:?} names no host")]
    Host(String),
    #[error("{0:?} is not a port")]
    Port(String),
    #[error("a URL to send to has no {0}")]
    Extra(&'static str),
}

/// A server's address. Its name is resolved at every connect, since addresses move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    is_tls: bool,
    host: String,
    port: u16,
    /// Path in front of the endpoints, without a slash at its end: for servers behind a proxy.
    base: String,
}

impl Target {
    /// A clap value parser.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| TargetError::Scheme(url.to_owned()))?;
        let is_tls = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(TargetError::Scheme(url.to_owned())),
        };
        if rest.contains(['?', '#']) {
            return Err(TargetError::Extra("query or fragment"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(TargetError::Extra("user: give --token instead"));
        }
        // It becomes part of a request line and a Host field.
        if !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TargetError::Extra("blanks or letters outside ASCII"));
        }
        let (host, port) = split_port(authority)?;
        let port = port.unwrap_or(default_port(is_tls));
        if host.is_empty() {
            return Err(TargetError::Host(url.to_owned()));
        }
        let target = Self {
            is_tls,
            host: host.to_owned(),
            port,
            base: path.trim_end_matches('/').to_owned(),
        };
        // HTTP/2 sends the URL in parts, and so takes it apart once more.
        match http::Uri::try_from(target.to_string()) {
            Ok(_) => Ok(target),
            Err(_) => Err(TargetError::Host(url.to_owned())),
        }
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Name or address to resolve, without brackets, and port.
    pub fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// An endpoint's path behind the base.
    pub fn path(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.base)
    }

    /// Value of the Host field (RFC 9110, section 7.2), without the port that the scheme implies.
    pub fn host_field(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port(self.is_tls) {
            return host;
        }
        format!("{host}:{}", self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.host_field(), self.base)
    }
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

/// Host without brackets, and the port if one is given.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), TargetError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or_else(|| TargetError::Host(authority.to_owned()))?;
        (host, after)
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        None => Err(TargetError::Host(authority.to_owned())),
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 && !digits.starts_with('+') => Ok((host, Some(port))),
            _ => Err(TargetError::Port(digits.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(url: &str, address: (&str, u16), path: &str, host_field: &str) {
        let target = Target::parse(url).unwrap();
        assert_eq!(target.address(), address, "{url}");
        assert_eq!(target.path("/api/metrics"), path, "{url}");
        assert_eq!(target.host_field(), host_field, "{url}");
    }

    #[test]
    fn urls_come_apart() {
        let plain = "/api/metrics";
        check(
            "http://127.0.0.1:8080",
            ("127.0.0.1", 8080),
            plain,
            "127.0.0.1:8080",
        );
        check(
            "ws://wall.example/",
            ("wall.example", 80),
            plain,
            "wall.example",
        );
        check("http://[::1]:9000", ("::1", 9000), plain, "[::1]:9000");
        check("http://[::1]", ("::1", 80), plain, "[::1]");
        check("http://p:81/wall/", ("p", 81), "/wall/api/metrics", "p:81");
        check("https://a", ("a", 443), plain, "a");
        check("wss://a:80", ("a", 80), plain, "a:80");
        check("http://a:443", ("a", 443), plain, "a:443");
        check(
            "https://[::1]:443/x",
            ("::1", 443),
            "/x/api/metrics",
            "[::1]",
        );
    }

    #[test]
    fn a_url_is_shown_as_it_is_used() {
        let check = |url: &str, shown: &str| {
            assert_eq!(Target::parse(url).unwrap().to_string(), shown);
        };
        check("ws://a:80/", "http://a");
        check("wss://a:443/b", "https://a/b");
        check("https://a:8443", "https://a:8443");
    }

    #[test]
    fn wrong_urls_say_why() {
        assert!(matches!(
            Target::parse("localhost:80"),
            Err(TargetError::Scheme(_))
        ));
        assert!(matches!(
            Target::parse("ftp://a"),
            Err(TargetError::Scheme(_))
        ));
        assert!(matches!(
            Target::parse("http://"),
            Err(TargetError::Host(_))
        ));
        assert!(matches!(
            Target::parse("http://:80"),
            Err(TargetError::Host(_))
        ));
        assert!(matches!(
            Target::parse("http://a\"b"),
            Err(TargetError::Host(_))
        ));
        assert!(matches!(
            Target::parse("http://[::1"),
            Err(TargetError::Host(_))
        ));
        assert!(matches!(
            Target::parse("http://[::1]x"),
            Err(TargetError::Host(_))
        ));
        assert!(matches!(
            Target::parse("http://a:0"),
            Err(TargetError::Port(_))
        ));
        assert!(matches!(
            Target::parse("http://a:+5"),
            Err(TargetError::Port(_))
        ));
        assert!(matches!(
            Target::parse("http://a:65536"),
            Err(TargetError::Port(_))
        ));
        assert!(matches!(
            Target::parse("http://a:"),
            Err(TargetError::Port(_))
        ));
        assert!(matches!(
            Target::parse("http://u:p@a"),
            Err(TargetError::Extra(_))
        ));
        assert!(matches!(
            Target::parse("http://a/?x=1"),
            Err(TargetError::Extra(_))
        ));
        assert!(matches!(
            Target::parse("http://a/b c"),
            Err(TargetError::Extra(_))
        ));
    }
}
