//! An answer in HTTP/1.1's manner.

use crate::connection::head::{Method, Request};
use crate::connection::respond::{self, Manner};
use crate::connection::websocket;
use crate::endpoint::{Reply, Response};
use crate::limits::{COPIED_BODY_BYTES_MAX, REQUESTS_PER_CONNECTION_MAX};
use crate::observe::Protocol;
use crate::reject::Reject;
use crate::route;
use crate::server::answer::{Outcome, call, extra_fields, refusal};
use crate::server::core::Core;
use crate::server::driver::{Asked, HttpDriver, Next, Waits};

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
        let mut extra = extra_fields(core, request);
        if keep_alive && request.minor == 0 {
            // HTTP/1.0 must be told that the connection stays.
            extra.push(("Connection", "keep-alive".to_owned()));
        }
        let outcome = call(core, request, body, Protocol::Http1);
        let mut response = match outcome.and_then(|outcome| self.switch(request, outcome, out)) {
            Ok(None) => return,
            Ok(Some(Outcome::Accepted(samples))) if extra.is_empty() => {
                return respond::accepted(out, samples, &core.date.borrow(), keep_alive);
            }
            Ok(Some(Outcome::Reply(Reply::Later(question)))) => {
                let asked = Asked {
                    question,
                    manner,
                    extra,
                };
                self.asked = Some(Box::new(asked));
                return;
            }
            Ok(Some(outcome)) => outcome.into_response(),
            Err(reject) => refusal(core, &reject, route::allowed(request.path())),
        };
        response.fields.append(&mut extra);
        self.write_response(core, &response, manner, out);
    }

    /// None: the connection now speaks WebSocket, and `out` says so.
    fn switch(
        &mut self,
        request: &Request<'_>,
        outcome: Outcome,
        out: &mut Vec<u8>,
    ) -> Result<Option<Outcome>, Reject> {
        let (next, protocol) = match outcome {
            Outcome::IngestSocket { grant, protocol } => (Next::IngestSocket(grant), protocol),
            Outcome::LiveSocket {
                grant,
                dialect,
                protocol,
            } => (Next::LiveSocket(grant, dialect), protocol),
            other => return Ok(Some(other)),
        };
        let accept = websocket::accept_key(request)?;
        respond::switching(out, &accept, protocol);
        self.next = Some(next);
        Ok(None)
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
        if manner.head_only || response.status == 304 {
        } else if response.body.len() <= COPIED_BODY_BYTES_MAX {
            out.extend_from_slice(&response.body);
        } else {
            // Nothing is written behind it before it is gone: see `is_clogged`.
            self.tail = response.body.clone();
        }
    }
}
