//! A dashboard's way in: a form that asks for a token, a cookie that keeps it.
//!
//! The cookie holds the token itself: nothing to remember here, good on every node that knows the
//! token, and void on all of them when it is withdrawn.

use crate::auth::Scope;
use crate::connection::head::COOKIE;
use crate::endpoint::{Context, Response};
use crate::percent;
use crate::reject::{Reason, Reject};

/// How long a browser keeps its token, in seconds: 30 days.
const COOKIE_SECONDS: u32 = 30 * 24 * 3600;

/// Another token would be let in.
pub fn could_help(reject: &Reject) -> bool {
    matches!(reject.reason.answer().status, 401) || reject.reason == Reason::Scope
}

/// To the form, which says so when a token was brought that does not do.
pub fn lead(reject: &Reject) -> Response {
    match reject.reason {
        Reason::TokenMissing => to("/login"),
        _ => to("/login?failed"),
    }
}

/// `POST /login`, a form with the field `token`.
pub fn submit(context: &Context, body: &[u8]) -> Response {
    let form = str::from_utf8(body).unwrap_or_default();
    let token = percent::value(form, "token").unwrap_or_default();
    let token = token.trim();
    let now_ms = context.coarse.get().wall_ms;
    let tokens = context.tokens.borrow();
    if tokens.is_open() {
        return to("/");
    }
    let refused = match tokens.present(token.as_bytes(), now_ms) {
        // Its text becomes part of a header field.
        Ok(_) if !token.bytes().all(is_cookie_byte) => Reason::TokenUnknown,
        Ok(known) if known.scopes().has(Scope::Read) => {
            return to("/").with("Set-Cookie", cookie(context, token, COOKIE_SECONDS));
        }
        Ok(_) => Reason::Scope,
        Err(reject) => reject.reason,
    };
    context.counters.refuse(refused);
    to("/login?failed")
}

/// `POST /logout`.
pub fn leave(context: &Context) -> Response {
    to("/login").with("Set-Cookie", cookie(context, "", 0))
}

fn to(place: &str) -> Response {
    Response::empty(303)
        .with("Location", place)
        .with("Cache-Control", "no-store")
}

/// Out of reach of scripts, and of requests that other sites make.
fn cookie(context: &Context, token: &str, seconds: u32) -> String {
    let secure = if context.shared.secure {
        "; Secure"
    } else {
        ""
    };
    format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// RFC 6265 section 4.1.1.
fn is_cookie_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}
