//! Where Redis is, as `--redis` says it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tls::{Tls, TrustError};
use crate::limits::{CLUSTER_HOSTS_MAX, CLUSTER_PREFIX_BYTES_MAX};
use crate::percent;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A Redis, or several that are one, and the way to it. Neither `Display` nor `Debug` shows the
/// password.
#[derive(Clone)]
pub struct Target {
    pub(super) kind: Kind,
    pub(super) hosts: Vec<Host>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first of the hosts that is a primary.
    Plain,
    /// Hosts are sentinels, which know the primary of this name.
    Sentinel(String),
    /// Hosts are some of a cluster's.
    Cluster,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Host {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// A URL that cannot be. The text repeats nothing of it: a slip makes a host of a password.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    #[error(
        "--redis: must be redis://[USER:PASSWORD@]HOST[:PORT][/DB], redis+cluster://HOST,HOST, \
         redis+sentinel://HOST,HOST/NAME or unix:///PATH; rediss for TLS"
    )]
    Scheme,
    #[error("--redis: names no host")]
    NoHost,
    #[error("--redis: a host is none: HOST or HOST:PORT, an IPv6 address in brackets")]
    Host,
    #[error("--redis: names more than {CLUSTER_HOSTS_MAX} hosts")]
    Hosts,
    #[error(
        "--redis: nothing may follow the host: channels know no databases, so walls of one Redis \
         are told apart by --redis-prefix"
    )]
    Database,
    #[error("--redis: a cluster has no databases, nothing may follow its hosts")]
    ClusterDatabase,
    #[error("--redis: the primary's name must follow: redis+sentinel://HOST,HOST/NAME")]
    NoName,
    #[error("--redis: there are no parameters after `?` or `#`")]
    Parameters,
    #[error("--redis: the user or password has an escape that is none: write % as %25")]
    Escape,
    #[error("--redis: a user needs a password, USER:PASSWORD@HOST")]
    NoPassword,
    #[error(
        "--redis-prefix {0:?}: must be 1 to {CLUSTER_PREFIX_BYTES_MAX} bytes of A-Z a-z 0-9 . _ : -"
    )]
    Prefix(String),
    #[error("--redis-ca goes with a URL that begins with rediss")]
    CaWithoutTls,
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Target {
    /// `ca` is a PEM file that is trusted besides what the system trusts.
    pub fn parse(url: &str, prefix: &str, ca: Option<&Path>) -> Result<Target, TargetError> {
        if !is_name(prefix, CLUSTER_PREFIX_BYTES_MAX) {
            return Err(TargetError::Prefix(prefix.to_owned()));
        }
        let (scheme, rest) = url.split_once("://").ok_or(TargetError::Scheme)?;
        let (is_tls, form) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis", form) => (false, form),
            ("rediss", form) => (true, form),
            ("unix", "") => (false, "unix"),
            _ => return Err(TargetError::Scheme),
        };
        // A password may have anything in it but what must be escaped in every URL.
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = login_of(login)?;
        if rest.contains(['?', '#']) {
            return Err(TargetError::Parameters);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (kind, port) = match form {
            "" | "unix" => (Kind::Plain, PORT),
            "sentinel" if path.is_empty() => return Err(TargetError::NoName),
            "sentinel" => (Kind::Sentinel(path.to_owned()), SENTINEL_PORT),
            "cluster" if !path.is_empty() => return Err(TargetError::ClusterDatabase),
            "cluster" => (Kind::Cluster, PORT),
            _ => return Err(TargetError::Scheme),
        };
        let is_unix = form == "unix";
        let is_plain = kind == Kind::Plain && !is_unix;
        let hosts = if is_unix {
            vec![socket(authority, path)?]
        } else {
            hosts_of(authority, port)?
        };
        // Nought is the one that everybody has.
        if is_plain && !matches!(path, "" | "0") {
            return Err(TargetError::Database);
        }
        if ca.is_some() && !is_tls {
            return Err(TargetError::CaWithoutTls);
        }
        let tls = is_tls.then(|| Tls::new(ca)).transpose()?;
        Ok(Target {
            kind,
            hosts,
            user,
            password,
            tls,
            prefix: prefix.to_owned(),
        })
    }

    /// Whether nothing leaves this machine.
    pub fn is_loopback(&self) -> bool {
        self.hosts.iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name, _) => match name.parse::<IpAddr>() {
                Ok(ip) => ip.is_loopback(),
                Err(_) => name.eq_ignore_ascii_case("localhost"),
            },
        })
    }
}

/// Whether this may name a node, or begin the names of keys. Braces would move keys elsewhere.
pub fn is_name(text: &str, most: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=most).contains(&text.len()) && text.bytes().all(fits)
}

fn login_of(login: &str) -> Result<(Option<String>, Option<String>), TargetError> {
    if login.is_empty() {
        return Ok((None, None));
    }
    // `+` stands for itself in a URL's authority, for a space in the forms that `percent` reads.
    let decode = |text: &str| percent::decode(&text.replace('+', "%2B"));
    let (user, password) = login.split_once(':').ok_or(TargetError::NoPassword)?;
    let user = decode(user).map_err(|_| TargetError::Escape)?;
    let password = decode(password).map_err(|_| TargetError::Escape)?;
    Ok(((!user.is_empty()).then_some(user), Some(password)))
}

fn socket(authority: &str, path: &str) -> Result<Host, TargetError> {
    if !authority.is_empty() || path.is_empty() {
        return Err(TargetError::NoHost);
    }
    Ok(Host::Unix(PathBuf::from(format!("/{path}"))))
}

fn hosts_of(authority: &str, port: u16) -> Result<Vec<Host>, TargetError> {
    if authority.is_empty() {
        return Err(TargetError::NoHost);
    }
    let hosts: Vec<Host> = authority
        .split(',')
        .map(|host| host_of(host, port).ok_or(TargetError::Host))
        .collect::<Result<_, _>>()?;
    if CLUSTER_HOSTS_MAX < hosts.len() {
        return Err(TargetError::Hosts);
    }
    Ok(hosts)
}

fn host_of(text: &str, port: u16) -> Option<Host> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            (name, rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|&port| port != 0)?,
        None if rest.is_empty() => port,
        None => return None,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    let is_name = !name.is_empty() && name.chars().all(fits);
    is_name.then(|| Host::Tcp(name.to_owned(), port))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp(name, port) => write!(f, "{name}:{port}"),
            Host::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls.is_some() { "s" } else { "" };
        let form = match self.kind {
            Kind::Sentinel(_) => "+sentinel",
            Kind::Cluster => "+cluster",
            Kind::Plain if matches!(self.hosts[..], [Host::Unix(_)]) => {
                return write!(f, "unix://{}", self.hosts[0]);
            }
            Kind::Plain => "",
        };
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        write!(f, "redis{s}{form}://{}", hosts.join(","))?;
        match &self.kind {
            Kind::Sentinel(name) => write!(f, "/{name}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self}, {})", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(url: &str) -> Result<Target, TargetError> {
        Target::parse(url, "tidewall", None)
    }

    #[test]
    fn urls_say_where_and_show_no_password() {
        let check = |url: &str, shown: &str, kind: Kind| {
            let target = parse(url).unwrap();
            assert_eq!((target.to_string().as_str(), &target.kind), (shown, &kind));
            let debug = format!("{target:?}");
            assert!(!debug.contains("s3") && debug.contains(shown), "{debug}");
        };
        let named = || Kind::Sentinel("wall".to_owned());
        check("redis://a", "redis://a:6379", Kind::Plain);
        check("redis://u:s3c@a:1/0", "redis://a:1", Kind::Plain);
        check("redis://:s3@[::1]", "redis://[::1]:6379", Kind::Plain);
        check("rediss://[::1]:7", "rediss://[::1]:7", Kind::Plain);
        check("redis://a,b:6380", "redis://a:6379,b:6380", Kind::Plain);
        check("unix:///run/r.sock", "unix:///run/r.sock", Kind::Plain);
        let sentinel = "redis+sentinel://a:26379,b:1/wall";
        check("redis+sentinel://u:s3@a,b:1/wall", sentinel, named());
        let cluster = "rediss+cluster://a:6379,b:6379";
        check("rediss+cluster://a,b", cluster, Kind::Cluster);
    }

    #[test]
    fn logins_may_have_anything_in_them() {
        let login = |url: &str| {
            let target = parse(url).unwrap();
            (target.user, target.password)
        };
        let both = |user: &str, password: &str| (Some(user.to_owned()), Some(password.to_owned()));
        assert_eq!(login("redis://a"), (None, None));
        assert_eq!(login("redis://:p@a"), (None, Some("p".to_owned())));
        assert_eq!(login("redis://u:p@q/r:s+t@a"), both("u", "p@q/r:s+t"));
        assert_eq!(login("redis://u%40:%25%3f@a"), both("u@", "%?"));
    }

    #[test]
    fn urls_that_cannot_be_are_refused() {
        let check = |url: &str, expected: TargetError| {
            let error = parse(url).unwrap_err();
            assert!(!error.to_string().contains("s3"), "{error}");
            assert_eq!(error, expected, "{url}");
        };
        for url in ["a", "http://a", "redis+x://a", "unix+cluster:///a", "://a"] {
            check(url, TargetError::Scheme);
        }
        check("redis://", TargetError::NoHost);
        check("redis://u:s3@/1", TargetError::NoHost);
        check("unix://a/b", TargetError::NoHost);
        check("redis://a,", TargetError::Host);
        check("redis://a:0", TargetError::Host);
        check("redis://a:x", TargetError::Host);
        check("redis://[::1", TargetError::Host);
        check("redis://[a]", TargetError::Host);
        check("redis://a b", TargetError::Host);
        check("redis://u:s3cret", TargetError::Host);
        check("redis://u:1/s3cret", TargetError::Database);
        check("redis://a/x", TargetError::Database);
        check("redis://a/1", TargetError::Database);
        check("redis+cluster://a/1", TargetError::ClusterDatabase);
        check("redis+sentinel://a", TargetError::NoName);
        check("redis://a?protocol=2", TargetError::Parameters);
        check("rediss://a#insecure", TargetError::Parameters);
        check("redis://u@a", TargetError::NoPassword);
        check("redis://u:s3%zz@a", TargetError::Escape);
    }

    #[test]
    fn hosts_and_prefixes_are_bounded() {
        let list = |hosts: usize| format!("redis://{}", vec!["a"; hosts].join(","));
        assert!(parse(&list(CLUSTER_HOSTS_MAX)).is_ok());
        let error = parse(&list(CLUSTER_HOSTS_MAX + 1)).unwrap_err();
        assert_eq!(error, TargetError::Hosts);
        let prefix = |prefix: &str| Target::parse("redis://a", prefix, None).is_ok();
        assert!(prefix(&"p".repeat(CLUSTER_PREFIX_BYTES_MAX)));
        assert!(!prefix(&"p".repeat(CLUSTER_PREFIX_BYTES_MAX + 1)));
        assert!(!prefix("") && !prefix("a{b}") && !prefix("a b"));
    }

    #[test]
    fn what_stays_on_this_machine_is_known() {
        let is_loopback = |url: &str| parse(url).unwrap().is_loopback();
        assert!(is_loopback("redis://localhost,127.3.2.1,[::1]"));
        assert!(is_loopback("unix:///r"));
        assert!(!is_loopback("redis://localhost,a"));
        assert!(!is_loopback("redis://10.0.0.1"));
    }

    #[test]
    fn a_ca_needs_tls() {
        let ca = Some(Path::new("ca.pem"));
        let error = Target::parse("redis://a", "p", ca).unwrap_err();
        assert_eq!(error, TargetError::CaWithoutTls);
        let error = Target::parse("rediss://a", "p", Some(Path::new("/nowhere"))).unwrap_err();
        assert!(error.to_string().starts_with("--redis-ca /nowhere: "));
    }
}
