//! Who may do what: tokens with scopes, where tokens are configured, and the browser's Origin
//! always, so that no foreign page can read the wall.

mod origins;
pub mod tokens;

use std::sync::Arc;

use crate::connection::head::Request;
use crate::connection::websocket::offered;
use crate::limits::TOKEN_BYTES_MAX;
use crate::percent;
use crate::reject::{Reason, Reject};
pub use origins::Origins;
pub use tokens::{Scope, Token, Tokens};

/// A subprotocol `tidewall.token.T` brings the token T: for WebSocket clients that can set neither
/// a field nor a query.
const SUBPROTOCOL: &[u8] = b"tidewall.token.";

/// What a peer was let in by. On a node without tokens: nothing, and it may do all.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    token: Option<Arc<Token>>,
    by_cookie: bool,
}

impl Grant {
    pub fn token(&self) -> Option<&Token> {
        self.token.as_deref()
    }

    /// Whether the peer may give the token back by logging out.
    pub fn by_cookie(&self) -> bool {
        self.by_cookie
    }

    /// What a connection that stands may go on with: tokens expire, are withdrawn, and get other
    /// bounds.
    pub fn renew(&self, tokens: &Tokens, now_ms: i64) -> Result<Grant, Reject> {
        let Some(token) = self.token() else {
            return Ok(self.clone());
        };
        match tokens.find(token.hash()) {
            Some(known) if known.scopes() == token.scopes() => {
                known.check_time(now_ms)?;
                Ok(Grant {
                    token: Some(known.clone()),
                    ..self.clone()
                })
            }
            _ => Err(Reason::TokenUnknown.into()),
        }
    }
}

/// Lets a request in, or says why not.
pub fn admit(
    tokens: &Tokens,
    request: &Request<'_>,
    need: Scope,
    now_ms: i64,
) -> Result<Grant, Reject> {
    if tokens.is_open() {
        return Ok(Grant::default());
    }
    let presented = presented(request)?.ok_or(Reason::TokenMissing)?;
    let token = tokens.present(presented.text.as_bytes(), now_ms)?;
    if !token.scopes().has(need) {
        return Err(Reject::because(
            Reason::Scope,
            format!("this token lacks the scope `{}`", need.name()),
        ));
    }
    // A browser sends the cookie along with whatever page asks; its Origin tells which page did.
    if presented.by_cookie && request.upgrade.is_some() && request.origin.is_none() {
        return Err(Reason::ForeignOrigin.into());
    }
    Ok(Grant {
        token: Some(token),
        by_cookie: presented.by_cookie,
    })
}

struct Presented {
    text: String,
    by_cookie: bool,
}

/// The token that a request brings, wherever it stands. A header beats a cookie: a script that sets
/// one means it.
fn presented(request: &Request<'_>) -> Result<Option<Presented>, Reject> {
    let mut by_cookie = false;
    let text = if let Some(value) = request.authorization {
        Some(bearer(value)?.to_vec())
    } else if let Some(key) = request.api_key {
        Some(key.to_vec())
    } else if let Some(token) = of_handshake(request) {
        Some(token)
    } else {
        by_cookie = true;
        request.cookie.map(<[u8]>::to_vec)
    };
    let Some(text) = text else { return Ok(None) };
    let text = String::from_utf8(text).ok();
    let text = text.filter(|text| text.len() <= TOKEN_BYTES_MAX);
    let text = text.ok_or(Reason::TokenUnknown)?;
    Ok(Some(Presented { text, by_cookie }))
}

/// RFC 6750 section 2.1.
fn bearer(value: &[u8]) -> Result<&[u8], Reject> {
    let scheme = value.get(..7).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        let detail = "Authorization must be `Bearer` and a token";
        return Err(Reject::because(Reason::TokenUnknown, detail));
    }
    Ok(value[7..].trim_ascii())
}

/// `?key=` and the subprotocol, for WebSocket alone: a URL of a page or a script stands in logs and
/// histories.
fn of_handshake(request: &Request<'_>) -> Option<Vec<u8>> {
    request.upgrade?;
    if let Some(key) = percent::value(request.query(), "key") {
        return Some(key.into_bytes());
    }
    offered(request)
        .find_map(|member| member.strip_prefix(SUBPROTOCOL))
        .map(<[u8]>::to_vec)
}

/// Whether an offered subprotocol is but a way to bring a token.
pub fn is_token_protocol(member: &[u8]) -> bool {
    member.starts_with(SUBPROTOCOL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::connection::head::Upgrade;

    fn tokens() -> Tokens {
        let entry = |name: &str, text: &str, rest: &str| {
            let hash = tokens::hash_text(text);
            format!("[[token]]\nname = \"{name}\"\nhash = \"{hash}\"\n{rest}\n")
        };
        let file = [
            entry("a", "ingest-token", "scopes = [\"ingest\"]"),
            entry("b", "read-token", "scopes = [\"read\", \"admin\"]"),
            entry(
                "c",
                "old-token",
                "scopes = [\"read\"]\nexpires = 2020-01-01T00:00:00Z",
            ),
        ];
        tokens::parse(&file.concat()).unwrap()
    }

    fn ask(request: &Request<'_>, need: Scope) -> Result<String, Reason> {
        let now_ms = 1_700_000_000_000;
        admit(&tokens(), request, need, now_ms)
            .map(|grant| grant.token().unwrap().name().to_owned())
            .map_err(|reject| reject.reason)
    }

    #[test]
    fn every_way_to_bring_a_token() {
        let socket = |target: &'static str, protocols: [&'static [u8]; 4]| Request {
            target,
            upgrade: Some(Upgrade {
                protocols,
                ..Upgrade::default()
            }),
            ..Request::default()
        };
        let authorization = |value: &'static [u8]| Request {
            authorization: Some(value),
            ..Request::default()
        };
        let mut with_cookie = Request {
            cookie: Some(b"read-token"),
            ..Request::default()
        };
        let key = Request {
            api_key: Some(b"read-token"),
            ..Request::default()
        };
        for request in [
            &authorization(b"Bearer read-token"),
            &authorization(b"bearer  read-token "),
            &key,
            &socket("/api/live?key=read-token", [b""; 4]),
            &socket("/api/live?x=1&key=read%2Dtoken", [b""; 4]),
            &socket(
                "/api/live",
                [b"tidewall.v1, tidewall.token.read-token", b"", b"", b""],
            ),
            &socket(
                "/api/live",
                [b"tidewall.v1", b"tidewall.token.read-token", b"", b""],
            ),
            &with_cookie,
        ] {
            assert_eq!(ask(request, Scope::Read), Ok("b".to_owned()), "{request:?}");
        }
        let in_url = Request {
            target: "/api/snapshot?key=read-token",
            ..Request::default()
        };
        assert_eq!(ask(&in_url, Scope::Read), Err(Reason::TokenMissing));
        // A page cannot be told from a script by a cookie alone.
        with_cookie.upgrade = Some(Upgrade::default());
        assert_eq!(ask(&with_cookie, Scope::Read), Err(Reason::ForeignOrigin));
        with_cookie.origin = Some(b"http://a");
        assert_eq!(ask(&with_cookie, Scope::Read), Ok("b".to_owned()));
    }

    #[test]
    fn refusals() {
        let with = |text: &'static [u8]| Request {
            api_key: Some(text),
            ..Request::default()
        };
        assert_eq!(
            ask(&Request::default(), Scope::Read),
            Err(Reason::TokenMissing)
        );
        assert_eq!(
            ask(&with(b"read-tokem"), Scope::Read),
            Err(Reason::TokenUnknown)
        );
        assert_eq!(ask(&with(b""), Scope::Read), Err(Reason::TokenUnknown));
        assert_eq!(ask(&with(b"\xff"), Scope::Read), Err(Reason::TokenUnknown));
        assert_eq!(
            ask(&with(b"old-token"), Scope::Read),
            Err(Reason::TokenExpired)
        );
        assert_eq!(ask(&with(b"ingest-token"), Scope::Read), Err(Reason::Scope));
        assert_eq!(ask(&with(b"read-token"), Scope::Ingest), Err(Reason::Scope));
        let basic = Request {
            authorization: Some(b"Basic cmVhZC10b2tlbg=="),
            ..Request::default()
        };
        assert_eq!(ask(&basic, Scope::Read), Err(Reason::TokenUnknown));
    }

    #[test]
    fn without_tokens_all_may_do_all() {
        let open = Tokens::open();
        let grant = admit(&open, &Request::default(), Scope::Admin, 0).unwrap();
        assert!(grant.token().is_none());
        assert!(grant.renew(&tokens(), 0).is_ok());
    }

    #[test]
    fn a_withdrawn_token_ends_what_it_opened() {
        let request = Request {
            api_key: Some(b"read-token"),
            ..Request::default()
        };
        let grant = admit(&tokens(), &request, Scope::Read, 0).unwrap();
        assert!(grant.renew(&tokens(), 0).is_ok());
        let hash = tokens::hash_text("other");
        let other = format!("[[token]]\nname = \"b\"\nhash = \"{hash}\"\nscopes = [\"read\"]");
        let reason = grant.renew(&tokens::parse(&other).unwrap(), 0);
        assert_eq!(reason.unwrap_err().reason, Reason::TokenUnknown);
    }
}
