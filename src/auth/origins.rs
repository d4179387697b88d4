//! Whose pages may talk to the node.

use crate::connection::head::Request;
use crate::reject::{Reason, Reject};

/// Origins besides the server's own that may watch, as `scheme://host[:port]`.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    allowed: Vec<String>,
}

impl Origins {
    pub fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }

    /// No Origin: not a browser. The server's own: the Origin's authority is what Host says.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Reject> {
        let Some(origin) = request.origin else {
            return Ok(());
        };
        if self.is_same(origin, request.host) || self.allows(origin) {
            return Ok(());
        }
        Err(Reject::new(Reason::ForeignOrigin))
    }

    /// Whether cross-origin requests from here are answered with CORS fields.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.allowed
            .iter()
            .any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
    }

    fn is_same(&self, origin: &[u8], host: &[u8]) -> bool {
        let strip = |scheme: &[u8]| origin.strip_prefix(scheme);
        let authority = strip(b"http://").or_else(|| strip(b"https://"));
        authority.is_some_and(|a| !host.is_empty() && a.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let origins = Origins::new(vec!["https://wall.example:8443".to_owned()]);
        let check = |origin: Option<&'static str>, good: bool| {
            let origin = origin.map(str::as_bytes);
            let request = Request {
                origin,
                host: b"tide.example:8080",
                ..Request::default()
            };
            assert_eq!(origins.check(&request).is_ok(), good, "{origin:?}");
        };
        check(None, true);
        check(Some("http://tide.example:8080"), true);
        check(Some("HTTP://tide.example:8080"), false);
        check(Some("https://TIDE.example:8080"), true);
        check(Some("https://wall.example:8443"), true);
        check(Some("https://wall.example"), false);
        check(Some("http://tide.example"), false);
        check(Some("http://evil.tide.example:8080"), false);
        check(Some("http://tide.example:8080.evil"), false);
        check(Some("null"), false);
        check(Some(""), false);
    }
}
