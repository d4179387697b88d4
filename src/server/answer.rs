//! What a request is answered, whichever HTTP it came by.

use std::time::Duration;

use crate::auth::{self, Grant};
use crate::broadcast::viewer::Dialect;
use crate::connection::head::{Framing, Method, Request};
use crate::endpoint::ingest::Post;
use crate::endpoint::query::Asked;
use crate::endpoint::{Reply, Response, dashboard, history, ingest, live, login, ops, query};
use crate::limits::LOGIN_BYTES_MAX;
use crate::observe::Protocol;
use crate::reject::{Reason, Reject};
use crate::route::{self, Endpoint};
use crate::server::core::Core;

/// A request whose head was found good: where it goes, and what let it in.
pub(super) struct Judged {
    pub(super) endpoint: Endpoint,
    pub(super) grant: Grant,
}

/// What comes of a good request.
pub(super) enum Outcome {
    /// A batch was taken: the hot path.
    Accepted(usize),
    Reply(Reply),
    /// The peer is now a stream of documents.
    IngestSocket {
        grant: Grant,
        protocol: Option<&'static str>,
    },
    /// The peer is now a viewer.
    LiveSocket {
        grant: Grant,
        dialect: Dialect,
        protocol: Option<&'static str>,
    },
}

impl Outcome {
    /// The answer of an outcome that is a whole one by itself.
    pub(super) fn into_response(self) -> Response {
        match self {
            Outcome::Reply(Reply::Now(response)) => response,
            Outcome::Accepted(samples) => {
                Response::json(201, format!("{{\"accepted\":{samples}}}"))
            }
            // Not reached: both drivers take these apart before they ask.
            Outcome::Reply(Reply::Later(_))
            | Outcome::IngestSocket { .. }
            | Outcome::LiveSocket { .. } => Response::empty(204),
        }
    }
}

/// Fields that an answer has because of who asked.
pub(super) type Fields = Vec<(&'static str, String)>;

/// Refuses by the head alone what would be refused with its body.
pub(super) fn judge(core: &Core, request: &Request<'_>) -> Result<Judged, Reject> {
    let endpoint = route::route(request)?;
    if core.is_stopping() {
        return Err(Reason::Stopping.into());
    }
    let shared = &core.context.shared;
    if endpoint.is_for_own_pages() {
        shared.origins.check(request)?;
    }
    let now_ms = core.context.coarse.get().wall_ms;
    let tokens = core.context.tokens.borrow();
    let grant = match endpoint.needs() {
        Some(scope) => auth::admit(&tokens, request, scope, now_ms)?,
        None => Grant::default(),
    };
    if endpoint == Endpoint::Ingest {
        ingest::format(request.content_type)?;
        ingest::encoding(request.content_encoding)?;
    } else if request.framing == Framing::Chunked {
        let detail = "only samples may come in chunks";
        return Err(Reject::because(Reason::BodyTooLarge, detail));
    } else if matches!(request.framing, Framing::Sized(n) if (LOGIN_BYTES_MAX as u64) < n) {
        // No other body is looked at but a form's; nobody need show a token to send one.
        return Err(Reason::BodyTooLarge.into());
    }
    Ok(Judged { endpoint, grant })
}

/// Does what was asked for.
pub(super) fn call(
    core: &Core,
    request: &Request<'_>,
    body: &[u8],
    protocol: Protocol,
) -> Result<Outcome, Reject> {
    let Judged { endpoint, grant } = match judge(core, request) {
        Ok(judged) => judged,
        // A browser is led to the form; a script is told what is missing.
        Err(reject) if asks_for_page(request) && login::could_help(&reject) => {
            return Ok(Outcome::Reply(Reply::Now(login::lead(&reject))));
        }
        Err(reject) => return Err(reject),
    };
    let context = &core.context;
    let now = |response| Ok(Outcome::Reply(Reply::Now(response)));
    match endpoint {
        Endpoint::Ingest => {
            let post = Post {
                protocol,
                content_type: request.content_type,
                content_encoding: request.content_encoding,
                body,
            };
            let asked = history::wants_durable(context, request.query())?;
            let mut intake = context.intake.borrow_mut();
            let samples = intake.post(context, &grant, &post)?;
            if !asked && !intake.wants_durable() {
                return Ok(Outcome::Accepted(samples));
            }
            let wait = history::wait(context, intake.position())?;
            Ok(Outcome::Reply(Reply::Later(Asked::Durable {
                wait,
                samples,
            })))
        }
        Endpoint::IngestSocket => {
            let protocol = ingest::negotiate(request);
            Ok(Outcome::IngestSocket { grant, protocol })
        }
        Endpoint::LiveSocket => {
            let (dialect, protocol) = live::negotiate(request)?;
            Ok(Outcome::LiveSocket {
                grant,
                dialect,
                protocol,
            })
        }
        Endpoint::Snapshot => query::snapshot(context, request.query()).map(Outcome::Reply),
        Endpoint::Hosts => query::hosts(context, request.if_none_match).map(Outcome::Reply),
        Endpoint::History => history::history(context, request.query()).map(Outcome::Reply),
        Endpoint::Nodes => now(ops::nodes(context)),
        Endpoint::Offenders => now(ops::offenders(context)),
        Endpoint::Health => now(ops::health()),
        Endpoint::Ready => now(ops::ready(context)),
        Endpoint::Metrics => now(ops::metrics(context)),
        Endpoint::Wall => dashboard::file(request, "index.html").and_then(now),
        Endpoint::Dashboard => dashboard::asset(request).and_then(now),
        Endpoint::Login if request.method == Method::Post => now(login::submit(context, body)),
        Endpoint::Login => dashboard::file(request, "login.html").and_then(now),
        Endpoint::Logout => now(login::leave(context)),
        Endpoint::Options(allow) => now(Response::empty(204).with("Allow", allow)),
    }
}

fn asks_for_page(request: &Request<'_>) -> bool {
    matches!(route::route(request), Ok(Endpoint::Wall))
}

/// Counts a refusal and says it. `allow`: what the path takes.
pub(super) fn refusal(core: &Core, reject: &Reject, allow: &'static str) -> Response {
    core.context.counters.refuse(reject.reason);
    let response = Response::from(reject);
    match reject.reason {
        // RFC 9110 sections 15.5.6 and 15.5.22: both answers must say what would do.
        Reason::Method => response.with("Allow", allow),
        Reason::UpgradeRequired => response
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13"),
        // RFC 6750 section 3.
        Reason::TokenMissing => response.with("WWW-Authenticate", "Bearer realm=\"tidewall\""),
        Reason::TokenUnknown | Reason::TokenExpired => response.with(
            "WWW-Authenticate",
            "Bearer realm=\"tidewall\", error=\"invalid_token\"",
        ),
        Reason::Scope => response.with(
            "WWW-Authenticate",
            "Bearer realm=\"tidewall\", error=\"insufficient_scope\"",
        ),
        _ => response,
    }
}

/// What most requests need none of: CORS is off but for the origins that were allowed by name.
pub(super) fn extra_fields(core: &Core, request: &Request<'_>) -> Fields {
    let mut extra = Vec::new();
    let origins = &core.context.shared.origins;
    let Some(origin) = request.origin.filter(|origin| origins.allows(origin)) else {
        return extra;
    };
    let origin = String::from_utf8_lossy(origin).into_owned();
    extra.push(("Access-Control-Allow-Origin", origin));
    extra.push(("Vary", "Origin".to_owned()));
    if request.preflight {
        let methods = route::allowed(request.path()).to_owned();
        extra.push(("Access-Control-Allow-Methods", methods));
        let fields = "Authorization, Content-Type, Content-Encoding, X-API-Key".to_owned();
        extra.push(("Access-Control-Allow-Headers", fields));
    }
    extra
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
