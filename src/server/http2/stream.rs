//! One stream of HTTP/2: a request, its body, its answer; or a WebSocket (RFC 8441).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream, SendStream};
use http::HeaderMap;
use http::request::Parts;

use crate::connection::head::{Framing, Method, Request};
use crate::connection::http2::{self as head, FIELDS};
use crate::endpoint::{Reply, Response, query};
use crate::limits::{
    BODY_BYTES_MAX, BODY_BYTES_PER_SECOND_MIN, BODY_GRACE, BODY_TIMEOUT, COPIED_BODY_BYTES_MAX,
    HTTP2_SEND_BUFFER_BYTES, HTTP2_SMALL_ANSWER_BYTES, LINGER_BYTES_MAX, LINGER_TIMEOUT,
    LOGIN_BYTES_MAX, WRITE_BYTES_PER_STALL_MIN, WRITE_STALL_TIMEOUT,
};
use crate::observe::Protocol;
use crate::reject::{Reason, Reject};
use crate::route::{self, Endpoint};
use crate::server::answer::{Fields, Outcome, call, extra_fields, judge, millis, refusal};
use crate::server::core::{Core, Held, Watchdog};
use crate::server::http2::Streams;
use crate::server::http2::wire::StreamWire;
use crate::server::sockets;

/// A stream that the peer reset, or whose window it kept shut.
enum Gone {
    Peer,
    Stalled,
}

/// A stream's whole life.
pub(super) async fn live(
    core: Rc<Core>,
    streams: Rc<Streams>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    core.context.counters.requests.add(1);
    streams.began(core.now_ms());
    let (parts, body) = request.into_parts();
    let mut stream = Stream {
        core: core.clone(),
        body,
        respond,
        dog: None,
        sent: 0,
        sent_before: None,
    };
    match stream.run(parts).await {
        Ok(None) => streams.answered(),
        Ok(Some(socket)) => {
            streams.answered();
            stream.switch(socket).await;
        }
        Err(Gone::Peer) => streams.given_up(),
        Err(Gone::Stalled) => {
            core.context.counters.refuse(Reason::StalledStream);
            streams.stalled();
            stream.respond.send_reset(Code::CANCEL);
        }
    }
    streams.ended(core.now_ms());
}

/// A request that became a WebSocket.
struct Opened {
    outcome: Outcome,
    send: SendStream<Bytes>,
}

struct Stream {
    core: Rc<Core>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// Had from the first wait on: most streams never wait.
    dog: Option<Watchdog>,
    /// Bytes of the answer that were handed on, and how many when the deadline was set.
    sent: u64,
    sent_before: Option<u64>,
}

/// What an answer needs to know of its request.
struct Asker {
    head_only: bool,
    extra: Fields,
}

impl Stream {
    async fn run(&mut self, mut parts: Parts) -> Result<Option<Opened>, Gone> {
        let core = self.core.clone();
        let mut asker = Asker {
            head_only: parts.method == http::Method::HEAD,
            extra: Vec::new(),
        };
        let mut allow = "";
        let body = match self.look(&parts, &mut asker, &mut allow) {
            Ok(0) => Ok(Bytes::new()),
            Ok(most) => {
                // What waits for its body keeps no fields but those that are looked at.
                compact(&mut parts);
                self.collect(&parts, most).await?
            }
            Err(reject) => Err(reject),
        };
        let outcome = body.and_then(|body| {
            let request = head::request(&parts)?;
            let outcome = call(&core, &request, &body, Protocol::Http2)?;
            check_handshake(&request, outcome)
        });
        drop(parts);
        let response = match outcome {
            Ok(Outcome::Reply(Reply::Later(question))) => self.wait(question).await?,
            Ok(outcome @ (Outcome::IngestSocket { .. } | Outcome::LiveSocket { .. })) => {
                return self.open(outcome).map(Some);
            }
            Ok(outcome) => outcome.into_response(),
            Err(reject) => refusal(&core, &in_http2(reject), allow),
        };
        self.answer(response, asker).await?;
        self.drain().await;
        Ok(None)
    }

    /// How large a body to wait for, if at all; refuses by the head alone what can be.
    fn look(
        &self,
        parts: &Parts,
        asker: &mut Asker,
        allow: &mut &'static str,
    ) -> Result<usize, Reject> {
        let request = head::request(parts)?;
        *allow = route::allowed(request.path());
        asker.extra = extra_fields(&self.core, &request);
        if request.upgrade.is_some() || request.method != Method::Post || self.body.is_end_stream()
        {
            return Ok(0);
        }
        let judged = judge(&self.core, &request)?;
        let most = match judged.endpoint {
            Endpoint::Ingest => BODY_BYTES_MAX,
            _ => LOGIN_BYTES_MAX,
        };
        match request.framing {
            Framing::Sized(length) if (most as u64) < length => Err(Reason::BodyTooLarge.into()),
            _ => Ok(most),
        }
    }

    /// After an answer that came before the whole request: a peer that is still sending would take
    /// a reset for the end of it all and not look at the answer.
    async fn drain(&mut self) {
        if self.body.is_end_stream() {
            return;
        }
        let Self {
            core, body, dog, ..
        } = self;
        let dog = dog.get_or_insert_with(|| Watchdog::enrol(core));
        dog.arm(core.now_ms() + millis(LINGER_TIMEOUT));
        let mut left = LINGER_BYTES_MAX;
        poll_fn(|cx| {
            while 0 < left {
                if dog.barked(cx) && (dog.is_due(core.now_ms()) || core.is_stopping()) {
                    return Poll::Ready(());
                }
                match ready!(body.poll_data(cx)) {
                    Some(Ok(data)) => {
                        let _ = body.flow_control().release_capacity(data.len());
                        left = left.saturating_sub(data.len().max(1));
                    }
                    _ => return Poll::Ready(()),
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The body, taken as fast as it comes: what is left with h2 counts against the connection.
    async fn collect(&mut self, parts: &Parts, most: usize) -> Result<Result<Bytes, Reject>, Gone> {
        let core = self.core.clone();
        let mut held = Held::new(&core.context.counters);
        let began_ms = core.now_ms();
        let mut whole = Vec::new();
        loop {
            let data = match self.next(began_ms, whole.len()).await {
                Ok(Some(data)) => data.map_err(|_| Gone::Peer)?,
                Ok(None) => return Ok(Ok(whole.into())),
                Err(reject) => return Ok(Err(reject)),
            };
            let _ = self.body.flow_control().release_capacity(data.len());
            if most < whole.len() + data.len() {
                return Ok(Err(Reason::BodyTooLarge.into()));
            }
            if whole.is_empty() && self.body.is_end_stream() {
                return Ok(Ok(data));
            }
            if whole.len() <= COPIED_BODY_BYTES_MAX
                && COPIED_BODY_BYTES_MAX < whole.len() + data.len()
            {
                // So much came that the declared length is meant.
                let declared = parts.headers.get(http::header::CONTENT_LENGTH);
                let length = declared.and_then(|value| value.to_str().ok()?.parse().ok());
                let length: usize = length.unwrap_or(0);
                whole.reserve_exact(length.min(most).saturating_sub(whole.len()));
            }
            whole.extend_from_slice(&data);
            if !held.hold(whole.capacity()) {
                return Ok(Err(Reason::Busy.into()));
            }
        }
    }

    /// The next piece of the body, unless it comes too slowly.
    async fn next(
        &mut self,
        began_ms: u64,
        have: usize,
    ) -> Result<Option<Result<Bytes, h2::Error>>, Reject> {
        let Self {
            core, body, dog, ..
        } = self;
        poll_fn(|cx| {
            if let Poll::Ready(data) = body.poll_data(cx) {
                return Poll::Ready(Ok(data));
            }
            let now_ms = core.now_ms();
            let elapsed_ms = now_ms - began_ms;
            let dog = dog.get_or_insert_with(|| {
                let dog = Watchdog::enrol(core);
                dog.arm(began_ms + millis(BODY_GRACE));
                dog
            });
            if dog.barked(cx) && dog.is_due(now_ms) {
                let due = elapsed_ms * BODY_BYTES_PER_SECOND_MIN / 1_000;
                if millis(BODY_TIMEOUT) <= elapsed_ms || (have as u64) < due {
                    return Poll::Ready(Err(Reason::TooSlow.into()));
                }
                dog.arm(now_ms + 1_000);
            }
            Poll::Pending
        })
        .await
    }

    /// The aggregator's answer; not for a peer that no longer wants it.
    async fn wait(&mut self, mut question: query::Asked) -> Result<Response, Gone> {
        poll_fn(|cx| {
            if let Poll::Ready(response) = question.poll(cx) {
                return Poll::Ready(Ok(response));
            }
            self.respond.poll_reset(cx).map(|_| Err(Gone::Peer))
        })
        .await
    }

    fn open(&mut self, outcome: Outcome) -> Result<Opened, Gone> {
        let protocol = match &outcome {
            Outcome::IngestSocket { protocol, .. } | Outcome::LiveSocket { protocol, .. } => {
                *protocol
            }
            _ => None,
        };
        // RFC 8441 section 5: 200, and no key is asked for or proved.
        let mut builder = http::Response::builder().status(200);
        if let Some(protocol) = protocol {
            builder = builder.header("sec-websocket-protocol", protocol);
        }
        let response = builder.body(()).map_err(|_| Gone::Peer)?;
        let sent = self.respond.send_response(response, false);
        let send = sent.map_err(|_| Gone::Peer)?;
        Ok(Opened { outcome, send })
    }

    async fn switch(self, opened: Opened) {
        let core = self.core;
        let dog = self.dog.unwrap_or_else(|| Watchdog::enrol(&core));
        let wire = StreamWire::new(self.body, opened.send);
        match opened.outcome {
            Outcome::IngestSocket { grant, .. } => {
                sockets::ingest(&core, &dog, wire, &grant, &[]).await;
            }
            Outcome::LiveSocket { grant, dialect, .. } => {
                sockets::live(&core, &dog, wire, &grant, dialect, &[]).await;
            }
            _ => {}
        }
    }

    async fn answer(&mut self, mut response: Response, asker: Asker) -> Result<(), Gone> {
        let mut held = Held::new(&self.core.context.counters);
        // A large answer is held until the peer has taken it, and a peer may ask for many.
        if HTTP2_SMALL_ANSWER_BYTES < response.body.len() && !held.hold(response.body.len()) {
            response = refusal(&self.core, &Reason::Busy.into(), "");
        }
        response.fields.extend(asker.extra);
        let head = self.head(&response).ok_or(Gone::Peer)?;
        let bodiless = asker.head_only || matches!(response.status, 204 | 304);
        let last = bodiless || response.body.is_empty();
        let sent = self.respond.send_response(head, last);
        let mut send = sent.map_err(|_| Gone::Peer)?;
        if last {
            return Ok(());
        }
        let mut body = response.body;
        while !body.is_empty() {
            send.reserve_capacity(body.len().min(HTTP2_SEND_BUFFER_BYTES));
            let room = self.room(&mut send).await?.min(body.len());
            let piece = body.split_to(room);
            self.sent += room as u64;
            let sent = send.send_data(piece, body.is_empty());
            sent.map_err(|_| Gone::Peer)?;
        }
        Ok(())
    }

    /// What the peer's window lets go now; at least one byte. A peer that opens it too little and
    /// too late is given up.
    async fn room(&mut self, send: &mut SendStream<Bytes>) -> Result<usize, Gone> {
        if 0 < send.capacity() {
            return Ok(send.capacity());
        }
        let core = &self.core;
        let dog = self.dog.get_or_insert_with(|| Watchdog::enrol(core));
        let (sent, before) = (self.sent, &mut self.sent_before);
        if before.is_none() {
            *before = Some(sent);
            dog.arm(core.now_ms() + millis(WRITE_STALL_TIMEOUT));
        }
        poll_fn(|cx| {
            match send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
                Poll::Ready(_) => return Poll::Ready(Err(Gone::Peer)),
                Poll::Pending => {}
            }
            if dog.barked(cx) && dog.is_due(core.now_ms()) {
                if sent - before.unwrap_or(sent) < WRITE_BYTES_PER_STALL_MIN {
                    return Poll::Ready(Err(Gone::Stalled));
                }
                *before = Some(sent);
                dog.arm(core.now_ms() + millis(WRITE_STALL_TIMEOUT));
            }
            Poll::Pending
        })
        .await
    }

    /// None: a field is no header field; our own are.
    fn head(&self, response: &Response) -> Option<http::Response<()>> {
        let mut builder = http::Response::builder()
            .status(response.status)
            .header("date", self.core.date.borrow().as_str());
        if !response.content_type.is_empty() {
            builder = builder.header("content-type", response.content_type);
        }
        if !matches!(response.status, 204 | 304) {
            builder = builder.header("content-length", response.body.len());
        }
        // Of one connection, and none of HTTP/2's business (RFC 9113 section 8.2.2).
        let of_connection = |name: &str| matches!(name, "Connection" | "Upgrade");
        let fields = response.fields.iter();
        for (name, value) in fields.filter(|(name, _)| !of_connection(name)) {
            builder = builder.header(*name, value);
        }
        builder.body(()).ok()
    }
}

/// What HTTP/1.1 says of an upgrade, HTTP/2 says otherwise (RFC 8441 section 5).
fn check_handshake(request: &Request<'_>, outcome: Outcome) -> Result<Outcome, Reject> {
    let opens = matches!(
        outcome,
        Outcome::IngestSocket { .. } | Outcome::LiveSocket { .. }
    );
    match &request.upgrade {
        None if opens => Err(Reject::because(Reason::BadUpgrade, OVER_HTTP2)),
        Some(_) if !opens => Err(Reject::because(Reason::NotFound, "no WebSocket here")),
        Some(upgrade) if upgrade.version.is_some_and(|version| version != b"13") => Err(
            Reject::because(Reason::BadUpgrade, "WebSocket version 13 only"),
        ),
        _ => Ok(outcome),
    }
}

/// HTTP/2 knows no Upgrade, nor the status that asks for one.
fn in_http2(reject: Reject) -> Reject {
    match reject.reason {
        Reason::UpgradeRequired => Reject::because(Reason::BadUpgrade, OVER_HTTP2),
        _ => reject,
    }
}

const OVER_HTTP2: &str = "over HTTP/2 a WebSocket is opened by extended CONNECT (RFC 8441)";

fn compact(parts: &mut Parts) {
    let mut kept = HeaderMap::with_capacity(FIELDS.len());
    for name in FIELDS {
        for value in parts.headers.get_all(name) {
            kept.append(name, value.clone());
        }
    }
    parts.headers = kept;
}
