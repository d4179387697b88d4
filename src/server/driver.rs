//! One connection's life on its core: HTTP/1.1 first, then maybe a WebSocket.
//!
//! A read, its parse and its write happen in one poll, through the core's own buffers: an idle
//! connection owns none. Timeouts come from the core's sweep (see [`Watchdog`]), not from a timer
//! per connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Waiting, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::connection::head::{Method, Request};
use crate::connection::http1::{Http1, Step};
use crate::connection::respond::{self, Manner};
use crate::connection::websocket;
use crate::endpoint::ingest::Post;
use crate::endpoint::{Reply, Response, dashboard, ingest, live, ops, query};
use crate::limits::{
    BODY_BYTES_PER_SECOND_MIN, BODY_GRACE, BODY_TIMEOUT, CARRY_BYTES_MAX, HEAD_TIMEOUT,
    IDLE_TIMEOUT, LINGER_BYTES_MAX, LINGER_TIMEOUT, PIPELINE_OUT_BYTES_MAX,
    REQUESTS_PER_CONNECTION_MAX, WRITE_STALL_TIMEOUT,
};
use crate::observe::Protocol;
use crate::reject::{Reason, Reject};
use crate::route::{self, Endpoint};
use crate::server::core::{Core, Watchdog};
use crate::server::sockets;

/// Where a connection goes once HTTP/1.1 is over.
pub(super) enum Next {
    Done,
    /// Say no more, but read until the peer has seen our last words.
    Linger,
    IngestSocket,
    LiveSocket(crate::broadcast::viewer::Dialect),
}

/// Drives a connection to its end.
pub(super) async fn drive(core: Rc<Core>, mut stream: TcpStream) {
    let watchdog = Watchdog::enrol(&core);
    let mut http = HttpDriver::new();
    let next = poll_fn(|cx| http.poll(cx, &core, &watchdog, &mut stream)).await;
    let rest = std::mem::take(&mut http.carry);
    core.context.counters.carry_bytes.sub(http.carried as u64);
    match next {
        Next::Done => {}
        Next::Linger => linger(&core, &watchdog, &mut stream).await,
        Next::IngestSocket => Box::pin(sockets::ingest(&core, &watchdog, stream, &rest)).await,
        Next::LiveSocket(dialect) => {
            Box::pin(sockets::live(&core, &watchdog, stream, dialect, &rest)).await;
        }
    }
}

/// Closes in the order that keeps our last answer readable: FIN, then read and forget, so that no
/// unread byte turns the close into a reset.
async fn linger(core: &Core, watchdog: &Watchdog, stream: &mut TcpStream) {
    let _ = socket2::SockRef::from(&*stream).shutdown(std::net::Shutdown::Write);
    watchdog.arm(core.now_ms() + millis(LINGER_TIMEOUT));
    let mut left = LINGER_BYTES_MAX;
    poll_fn(|cx| {
        loop {
            if watchdog.barked(cx) || left == 0 {
                return Poll::Ready(());
            }
            let mut buffer = core.read_buffer.borrow_mut();
            let mut into = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {
                    left = left.saturating_sub(into.filled().len());
                }
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// What the deadline of the moment guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Idle,
    Head,
    Body { since_ms: u64 },
    Write,
    Answer,
}

struct HttpDriver {
    http: Http1,
    /// Bytes of a request that has not come whole.
    carry: Vec<u8>,
    /// How much of `carry` the core's counter knows of.
    carried: usize,
    /// Answers the socket did not take at once, from `written` on.
    backlog: Vec<u8>,
    written: usize,
    asked: Option<Box<(query::Asked, Manner)>>,
    requests: u32,
    waits: Waits,
    /// Set by the answer that ends HTTP on this connection.
    next: Option<Next>,
}

impl HttpDriver {
    fn new() -> Self {
        Self {
            http: Http1::default(),
            carry: Vec::new(),
            carried: 0,
            backlog: Vec::new(),
            written: 0,
            asked: None,
            requests: 0,
            waits: Waits::Idle,
            next: None,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Waiting<'_>,
        core: &Core,
        dog: &Watchdog,
        stream: &mut TcpStream,
    ) -> Poll<Next> {
        if dog.barked(cx)
            && let Some(next) = self.timed_out(core, dog, stream)
        {
            return Poll::Ready(next);
        }
        loop {
            if let Some(asked) = &mut self.asked {
                let response = ready!(asked.0.poll(cx));
                let manner = asked.1;
                self.asked = None;
                let out = &mut *core.out.borrow_mut();
                self.write_response(core, &response, manner, out);
                self.consume(core, &[], out);
                self.send(stream, out);
            }
            if !self.backlog.is_empty() {
                match self.flush(cx, stream) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Next::Done),
                    Poll::Pending
                        if self.backlog_len() < PIPELINE_OUT_BYTES_MAX && self.next.is_none() => {}
                    Poll::Pending => {
                        self.guard(core, dog, Waits::Write);
                        return Poll::Pending;
                    }
                }
            }
            if self.backlog.is_empty()
                && let Some(next) = self.next.take()
            {
                return Poll::Ready(next);
            }
            if self.asked.is_some() {
                self.guard(core, dog, Waits::Answer);
                continue;
            }
            self.guard_reading(core, dog);
            let mut buffer = core.read_buffer.borrow_mut();
            let mut into = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {}
                _ => return Poll::Ready(Next::Done),
            }
            let out = &mut *core.out.borrow_mut();
            self.consume(core, into.filled(), out);
            self.send(stream, out);
        }
    }

    /// Everything that the bytes at hand ask for, answered into `out`.
    fn consume(&mut self, core: &Core, fresh: &[u8], out: &mut Vec<u8>) {
        if self.next.is_some() {
            return;
        }
        let mut carry = std::mem::take(&mut self.carry);
        if !carry.is_empty() {
            carry.extend_from_slice(fresh);
        }
        let input = if carry.is_empty() { fresh } else { &carry[..] };
        let mut at = 0;
        while at < input.len() && self.asked.is_none() && self.next.is_none() {
            let judge = |request: &Request<'_>| judge(core, request);
            let heads = &mut core.heads.borrow_mut();
            match self.http.receive(&input[at..], heads, judge) {
                Ok(Step::More) => break,
                Ok(Step::Continue) => {
                    out.extend_from_slice(respond::CONTINUE);
                    break;
                }
                Ok(Step::Skip { consumed }) => at += consumed,
                Ok(Step::Request {
                    request,
                    body,
                    consumed,
                }) => {
                    self.answer(core, &request, body.bytes(), out);
                    at += consumed;
                }
                Err(reject) => {
                    let manner = Manner {
                        head_only: false,
                        keep_alive: false,
                    };
                    self.refuse(core, &reject, "", manner, out);
                    self.next = Some(Next::Linger);
                }
            }
        }
        if carry.is_empty() {
            self.carry = fresh[at..].to_vec();
        } else if at < carry.len() {
            carry.drain(..at);
            self.carry = carry;
        }
        self.account(core, out);
    }

    /// Bodies in the making are bounded for the core as a whole.
    fn account(&mut self, core: &Core, out: &mut Vec<u8>) {
        let held = &core.context.counters.carry_bytes;
        held.sub(self.carried as u64);
        self.carried = self.carry.len();
        held.add(self.carried as u64);
        if CARRY_BYTES_MAX < held.get() && self.next.is_none() && self.http.awaits_body() {
            let manner = Manner {
                head_only: false,
                keep_alive: false,
            };
            self.refuse(core, &Reason::Busy.into(), "", manner, out);
            self.next = Some(Next::Linger);
        }
    }

    fn answer(&mut self, core: &Core, request: &Request<'_>, body: &[u8], out: &mut Vec<u8>) {
        self.requests += 1;
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
        let replied = match route::route(request) {
            Ok(Endpoint::Ingest) => {
                let post = Post {
                    protocol: Protocol::Http1,
                    content_type: request.content_type,
                    content_encoding: request.content_encoding,
                    body,
                };
                match core.context.intake.borrow_mut().post(&core.context, &post) {
                    Ok(samples) => {
                        return respond::accepted(out, samples, &core.date.borrow(), keep_alive);
                    }
                    Err(reject) => Err(reject),
                }
            }
            Ok(endpoint) => self.reply(core, request, endpoint, out),
            Err(reject) => Err(reject),
        };
        match replied {
            Ok(Some(Reply::Now(mut response))) => {
                allow_origin(core, request, &mut response);
                self.write_response(core, &response, manner, out);
            }
            Ok(Some(Reply::Later(asked))) => self.asked = Some(Box::new((asked, manner))),
            Ok(None) => {}
            Err(reject) => self.refuse(core, &reject, request.path(), manner, out),
        }
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

    fn refuse(
        &mut self,
        core: &Core,
        reject: &Reject,
        path: &str,
        manner: Manner,
        out: &mut Vec<u8>,
    ) {
        core.context.counters.refusals.add(1);
        let mut response = Response::from(reject);
        match reject.reason {
            // RFC 9110 sections 15.5.6 and 15.5.22: both answers must say what would do.
            Reason::Method => response = response.with("Allow", route::allowed(path)),
            Reason::UpgradeRequired => {
                response = response
                    .with("Upgrade", "websocket")
                    .with("Sec-WebSocket-Version", "13");
            }
            _ => {}
        }
        self.write_response(core, &response, manner, out);
    }

    fn write_response(
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

    /// One write for all answers of one read; what the socket does not take becomes the backlog.
    fn send(&mut self, stream: &TcpStream, out: &mut Vec<u8>) {
        if !self.backlog.is_empty() {
            self.backlog.append(out);
        } else if !out.is_empty() {
            let written = stream.try_write(out).unwrap_or(0);
            if written < out.len() {
                self.backlog.extend_from_slice(&out[written..]);
            }
        }
        out.clear();
    }

    fn flush(&mut self, cx: &mut Waiting<'_>, stream: &TcpStream) -> Poll<io::Result<()>> {
        while self.written < self.backlog.len() {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(&self.backlog[self.written..]) {
                Ok(written) => self.written += written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        // Given back: an idle connection owns no buffer.
        self.backlog = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn backlog_len(&self) -> usize {
        self.backlog.len() - self.written
    }

    fn guard_reading(&mut self, core: &Core, dog: &Watchdog) {
        if self.carry.is_empty() {
            self.guard(core, dog, Waits::Idle);
        } else if self.http.awaits_body() {
            if !matches!(self.waits, Waits::Body { .. }) {
                self.guard(
                    core,
                    dog,
                    Waits::Body {
                        since_ms: core.now_ms(),
                    },
                );
            }
        } else if self.waits != Waits::Head {
            self.guard(core, dog, Waits::Head);
        }
    }

    fn guard(&mut self, core: &Core, dog: &Watchdog, waits: Waits) {
        let limit = match waits {
            Waits::Idle => IDLE_TIMEOUT,
            Waits::Head => HEAD_TIMEOUT,
            Waits::Body { .. } => BODY_GRACE,
            Waits::Write => WRITE_STALL_TIMEOUT,
            Waits::Answer => WRITE_STALL_TIMEOUT,
        };
        self.waits = waits;
        dog.arm(core.now_ms() + millis(limit));
    }

    /// The deadline passed, or the node stops. None: there is more time.
    fn timed_out(&mut self, core: &Core, dog: &Watchdog, stream: &TcpStream) -> Option<Next> {
        if core.is_stopping() && self.waits == Waits::Idle {
            return Some(Next::Linger);
        }
        let now_ms = core.now_ms();
        if !dog.is_due(now_ms) {
            return None;
        }
        match self.waits {
            Waits::Idle => Some(Next::Linger),
            Waits::Write | Waits::Answer => Some(Next::Done),
            Waits::Body { since_ms } if self.keeps_pace(now_ms - since_ms) => {
                dog.arm(now_ms + 1_000);
                None
            }
            Waits::Head | Waits::Body { .. } => {
                let manner = Manner {
                    head_only: false,
                    keep_alive: false,
                };
                let mut out = Vec::new();
                self.refuse(core, &Reason::TooSlow.into(), "", manner, &mut out);
                self.send(stream, &mut out);
                Some(Next::Linger)
            }
        }
    }

    fn keeps_pace(&self, elapsed_ms: u64) -> bool {
        let due = elapsed_ms * BODY_BYTES_PER_SECOND_MIN / 1_000;
        elapsed_ms < millis(BODY_TIMEOUT) && due <= self.carry.len() as u64
    }
}

/// Refuses by the head alone what would be refused with its body.
fn judge(core: &Core, request: &Request<'_>) -> Result<(), Reject> {
    let endpoint = route::route(request)?;
    if core.is_stopping() {
        return Err(Reason::Stopping.into());
    }
    if endpoint == Endpoint::Ingest {
        ingest::format(request.content_type)?;
        ingest::encoding(request.content_encoding)?;
    }
    Ok(())
}

/// CORS is off but for the origins that were allowed by name.
fn allow_origin(core: &Core, request: &Request<'_>, response: &mut Response) {
    let Some(origin) = request.origin else { return };
    if !core.context.shared.origins.allows(origin) {
        return;
    }
    let origin = String::from_utf8_lossy(origin).into_owned();
    response
        .fields
        .push(("Access-Control-Allow-Origin", origin));
    response.fields.push(("Vary", "Origin".to_owned()));
    if request.preflight {
        let methods = route::allowed(request.path()).to_owned();
        response
            .fields
            .push(("Access-Control-Allow-Methods", methods));
        let fields = "Content-Type, Content-Encoding".to_owned();
        response
            .fields
            .push(("Access-Control-Allow-Headers", fields));
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
