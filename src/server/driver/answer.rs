//! What one request is answered: the endpoints' words, HTTP/1.1's manner.

use crate::connection::head::{Method, Request};
use crate::connection::respond::{self, Manner};
use crate::connection::websocket;
use crate::endpoint::ingest::Post;
use crate::endpoint::{Reply, Response, dashboard, ingest, live, ops, query};
use crate::limits::REQUESTS_PER_CONNECTION_MAX;
use crate::observe::Protocol;
use crate::reject::{Reason, Reject};
use crate::route::{self, Endpoint};
use crate::server::core::Core;
use crate::server::driver::{Asked, Fields, HttpDriver, Next, Waits};

impl HttpDriver {
    pub(super) fn answer(
        &mut self,
        core: &Core,
        request: &Request<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.requests += 1;
        // What comes behind this request has a deadline of its own.
        self.waits = Waits::Idle;
        core.context.counters.requests.add(1);
        let keep_alive = request.keep_alive
            && self.requests < REQUESTS_PER_CONNECTION_MAX
            && !core.is_stopping();
        let manner = Manner {
            head_only: request.method == Method::Head,
            keep_alive,
        };
        if !keep_alive {
            self.next = Some(Next::Linger);
        }
        let mut extra = extra_fields(core, request, keep_alive);
        let replied = match route::route(request) {
            // A page of another origin may not push through its reader's browser.
            Ok(Endpoint::Ingest) if core.context.shared.origins.check(request).is_err() => {
                Err(Reason::ForeignOrigin.into())
            }
            Ok(Endpoint::Ingest) => {
                let post = Post {
                    protocol: Protocol::Http1,
                    content_type: request.content_type,
                    content_encoding: request.content_encoding,
                    body,
                };
                match core.context.intake.borrow_mut().post(&core.context, &post) {
                    Ok(samples) if extra.is_empty() => {
                        return respond::accepted(out, samples, &core.date.borrow(), keep_alive);
                    }
                    Ok(samples) => {
                        let body = format!("{{\"accepted\":{samples}}}");
                        Ok(Some(Reply::Now(Response::json(201, body))))
                    }
                    Err(reject) => Err(reject),
                }
            }
            Ok(endpoint) => self.reply(core, request, endpoint, out),
            Err(reject) => Err(reject),
        };
        let mut response = match replied {
            Ok(Some(Reply::Now(response))) => response,
            Ok(Some(Reply::Later(question))) => {
                let asked = Asked {
                    question,
                    manner,
                    extra,
                };
                self.asked = Some(Box::new(asked));
                return;
            }
            Ok(None) => return,
            Err(reject) => refusal(core, &reject, route::allowed(request.path())),
        };
        response.fields.append(&mut extra);
        self.write_response(core, &response, manner, out);
    }

    /// None: the connection now speaks WebSocket, and `out` says so.
    fn reply(
        &mut self,
        core: &Core,
        request: &Request<'_>,
        endpoint: Endpoint,
        out: &mut Vec<u8>,
    ) -> Result<Option<Reply>, Reject> {
        let context = &core.context;
        let response = match endpoint {
            Endpoint::Snapshot => return query::snapshot(context, request.query()).map(Some),
            Endpoint::Hosts => return query::hosts(context, request.if_none_match).map(Some),
            Endpoint::Offenders => ops::offenders(context),
            Endpoint::Health => ops::health(),
            Endpoint::Ready => ops::ready(context),
            Endpoint::Metrics => ops::metrics(context),
            Endpoint::Dashboard => dashboard::file(request)?,
            Endpoint::Options(allow) => Response::empty(204).with("Allow", allow),
            Endpoint::IngestSocket => {
                context.shared.origins.check(request)?;
                let accept = websocket::accept_key(request)?;
                respond::switching(out, &accept, None);
                self.next = Some(Next::IngestSocket);
                return Ok(None);
            }
            Endpoint::LiveSocket => {
                context.shared.origins.check(request)?;
                let accept = websocket::accept_key(request)?;
                let (dialect, protocol) = live::negotiate(request)?;
                respond::switching(out, &accept, protocol);
                self.next = Some(Next::LiveSocket(dialect));
                return Ok(None);
            }
            Endpoint::Ingest => Response::empty(204),
        };
        Ok(Some(Reply::Now(response)))
    }

    pub(super) fn write_response(
        &mut self,
        core: &Core,
        response: &Response,
        manner: Manner,
        out: &mut Vec<u8>,
    ) {
        let date = core.date.borrow();
        let head = respond::Head {
            status: response.status,
            content_type: response.content_type,
            length: response.body.len(),
            fields: &response.fields,
            date: &date,
        };
        respond::head(out, &head, manner);
        if !manner.head_only && response.status != 304 {
            out.extend_from_slice(&response.body);
        }
    }
}

/// Refuses by the head alone what would be refused with its body.
pub(super) fn judge(core: &Core, request: &Request<'_>) -> Result<(), Reject> {
    let endpoint = route::route(request)?;
    if core.is_stopping() {
        return Err(Reason::Stopping.into());
    }
    if endpoint == Endpoint::Ingest {
        core.context.shared.origins.check(request)?;
        ingest::format(request.content_type)?;
        ingest::encoding(request.content_encoding)?;
    }
    Ok(())
}

/// Counts a refusal and says it. `allow`: what the path takes.
pub(super) fn refusal(core: &Core, reject: &Reject, allow: &'static str) -> Response {
    core.context.counters.refusals.add(1);
    let response = Response::from(reject);
    match reject.reason {
        // RFC 9110 sections 15.5.6 and 15.5.22: both answers must say what would do.
        Reason::Method => response.with("Allow", allow),
        Reason::UpgradeRequired => response
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13"),
        _ => response,
    }
}

/// What most requests need none of: HTTP/1.0 must be told that the connection stays, and CORS is
/// off but for the origins that were allowed by name.
fn extra_fields(core: &Core, request: &Request<'_>, keep_alive: bool) -> Fields {
    let mut extra = Vec::new();
    if keep_alive && request.minor == 0 {
        extra.push(("Connection", "keep-alive".to_owned()));
    }
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
        let fields = "Content-Type, Content-Encoding".to_owned();
        extra.push(("Access-Control-Allow-Headers", fields));
    }
    extra
}
