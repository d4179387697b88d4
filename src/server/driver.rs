//! One connection's life on its core: HTTP/1.1 first, then maybe a WebSocket.
//!
//! A read, its parse and its write happen in one poll, through the core's own buffers: an idle
//! connection owns none. Timeouts come from the core's sweep (see [`Watchdog`]), not from a timer
//! per connection.

mod answer;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Waiting, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::auth::Grant;
use crate::broadcast::viewer::Dialect;
use crate::connection::head::{Method, Request};
use crate::connection::http1::{Http1, Step};
use crate::connection::http2 as preface;
use crate::connection::respond::{self, Manner};
use crate::endpoint::query;
use crate::limits::{
    BODY_BYTES_PER_SECOND_MIN, BODY_GRACE, BODY_TIMEOUT, COPIED_BODY_BYTES_MAX, HEAD_TIMEOUT,
    IDLE_TIMEOUT, LINGER_BYTES_MAX, LINGER_TIMEOUT, PIPELINE_OUT_BYTES_MAX, READS_PER_TURN,
    WRITE_BYTES_PER_STALL_MIN, WRITE_STALL_TIMEOUT,
};
use crate::observe::Counters;
use crate::reject::Reason;
use crate::route;
use crate::server::answer::{Fields, extra_fields, judge, millis, refusal};
use crate::server::core::{Core, Held, Watchdog};
use crate::server::wire::Wire;
use crate::server::{http2, sockets};

/// Where a connection goes once HTTP/1.1 is over.
pub(super) enum Next {
    Done,
    /// Say no more, but read until the peer has seen our last words.
    Linger,
    IngestSocket(Grant),
    LiveSocket(Grant, Dialect),
    /// The preface of HTTP/2 came; what was read begins with it.
    Http2,
}

/// Drives a connection to its end.
pub(super) async fn drive<W>(core: Rc<Core>, mut wire: W)
where
    W: Wire + AsyncRead + AsyncWrite + Unpin + 'static,
{
    let watchdog = Watchdog::enrol(&core);
    if wire.is_agreed_http2() {
        return http2::drive(&core, &watchdog, wire, Vec::new()).await;
    }
    let mut http = HttpDriver::new(&core.context.counters);
    let next = poll_fn(|cx| http.poll(cx, &core, &watchdog, &mut wire)).await;
    let rest = std::mem::take(&mut http.carry);
    http.held_bytes.hold(0);
    match next {
        Next::Done => {}
        Next::Linger => linger(&core, &watchdog, &mut wire).await,
        Next::IngestSocket(grant) => {
            Box::pin(sockets::ingest(&core, &watchdog, wire, &grant, &rest)).await;
        }
        Next::LiveSocket(grant, dialect) => {
            Box::pin(sockets::live(
                &core, &watchdog, wire, &grant, dialect, &rest,
            ))
            .await;
        }
        Next::Http2 => Box::pin(http2::drive(&core, &watchdog, wire, rest)).await,
    }
}

/// Closes in the order that keeps our last answer readable: FIN, then read and forget, so that no
/// unread byte turns the close into a reset.
pub(super) async fn linger<W: Wire>(core: &Core, watchdog: &Watchdog, wire: &mut W) {
    wire.finish();
    watchdog.arm(core.now_ms() + millis(LINGER_TIMEOUT));
    let mut left = LINGER_BYTES_MAX;
    poll_fn(|cx| {
        loop {
            if watchdog.barked(cx) || left == 0 {
                return Poll::Ready(());
            }
            let mut buffer = core.read_buffer.borrow_mut();
            let mut into = ReadBuf::new(&mut buffer);
            match ready!(wire.poll_read(cx, &mut into)) {
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

/// A request whose answer the aggregator owes, and what that answer needs to know of it.
struct Asked {
    question: query::Asked,
    manner: Manner,
    extra: Fields,
}

struct HttpDriver {
    http: Http1,
    /// Bytes of a request that has not come whole.
    carry: Vec<u8>,
    held_bytes: Held,
    /// Answers the socket did not take at once, from `written` on.
    backlog: Vec<u8>,
    written: usize,
    /// Bytes of answers that were taken late, and how many when the deadline was set.
    flushed: u64,
    flushed_before: u64,
    /// A large body behind the backlog; shared, so that those who do not read it cost little.
    tail: Bytes,
    asked: Option<Box<Asked>>,
    /// `carry` has whole requests, left there because too many answers wait.
    held: bool,
    requests: u32,
    waits: Waits,
    /// Set by the answer that ends HTTP on this connection.
    next: Option<Next>,
}

impl HttpDriver {
    fn new(counters: &Arc<Counters>) -> Self {
        Self {
            http: Http1::default(),
            carry: Vec::new(),
            held_bytes: Held::new(counters),
            backlog: Vec::new(),
            written: 0,
            flushed: 0,
            flushed_before: 0,
            tail: Bytes::new(),
            asked: None,
            held: false,
            requests: 0,
            waits: Waits::Idle,
            next: None,
        }
    }

    fn poll<W: Wire>(
        &mut self,
        cx: &mut Waiting<'_>,
        core: &Core,
        dog: &Watchdog,
        wire: &mut W,
    ) -> Poll<Next> {
        if dog.barked(cx)
            && let Some(next) = self.timed_out(core, dog, wire)
        {
            return Poll::Ready(next);
        }
        let mut reads = 0;
        loop {
            if self.has_backlog() || wire.has_unsent() {
                match self.flush(cx, wire) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Next::Done),
                    Poll::Pending if !self.is_clogged(0) && self.next.is_none() => {}
                    Poll::Pending => {
                        if self.waits != Waits::Write {
                            self.flushed_before = self.flushed;
                            self.guard(core, dog, Waits::Write);
                        }
                        return Poll::Pending;
                    }
                }
            }
            if self.asked.is_some() {
                ready!(self.poll_answer(cx, core, dog, wire));
                continue;
            }
            if self.held {
                self.work(core, wire, &[]);
                continue;
            }
            if core.is_stopping() && self.carry.is_empty() && self.next.is_none() {
                self.next = Some(Next::Linger);
            }
            if self.next.is_some() {
                if !self.has_backlog() && !wire.has_unsent() {
                    return Poll::Ready(self.next.take().unwrap_or(Next::Done));
                }
                continue;
            }
            self.guard_reading(core, dog);
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            let mut buffer = core.read_buffer.borrow_mut();
            let mut into = ReadBuf::new(&mut buffer);
            match ready!(wire.poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => self.work(core, wire, into.filled()),
                // A peer that has said all it will may still read: it gets what it asked for.
                Ok(()) => self.next = Some(Next::Done),
                Err(_) => return Poll::Ready(Next::Done),
            }
        }
    }

    /// Waits for the aggregator; then answers, and goes on with the requests behind.
    fn poll_answer<W: Wire>(
        &mut self,
        cx: &mut Waiting<'_>,
        core: &Core,
        dog: &Watchdog,
        wire: &mut W,
    ) -> Poll<()> {
        let Some(mut asked) = self.asked.take() else {
            return Poll::Ready(());
        };
        let Poll::Ready(mut response) = asked.question.poll(cx) else {
            self.asked = Some(asked);
            if self.waits != Waits::Answer {
                self.guard(core, dog, Waits::Answer);
            }
            return Poll::Pending;
        };
        if core.is_stopping() {
            asked.manner.keep_alive = false;
            self.next = Some(Next::Linger);
        }
        response.fields.append(&mut asked.extra);
        let out = &mut *core.out.borrow_mut();
        self.write_response(core, &response, asked.manner, out);
        self.consume(core, &[], out);
        self.send(wire, out);
        Poll::Ready(())
    }

    fn work<W: Wire>(&mut self, core: &Core, wire: &mut W, fresh: &[u8]) {
        let out = &mut *core.out.borrow_mut();
        self.consume(core, fresh, out);
        self.send(wire, out);
    }

    /// Everything that the bytes at hand ask for, answered into `out`, until too much waits.
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
        self.held = false;
        if self.requests == 0 && preface::begins(input) {
            // HTTP/2 by prior knowledge (RFC 9113 section 3.3).
            if preface::is_whole(input) {
                self.next = Some(Next::Http2);
            }
            self.carry = if carry.is_empty() {
                fresh.to_vec()
            } else {
                carry
            };
            return self.account(core, out);
        }
        while at < input.len() && self.asked.is_none() && self.next.is_none() {
            if self.is_clogged(out.len()) {
                self.held = true;
                break;
            }
            let (mut allow, mut head_only, mut extra) = ("", false, Vec::new());
            let judge = |request: &Request<'_>| {
                allow = route::allowed(request.path());
                head_only = request.method == Method::Head;
                extra = extra_fields(core, request);
                judge(core, request).map(|_| ())
            };
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
                        head_only,
                        keep_alive: false,
                    };
                    let mut refusal = refusal(core, &reject, allow);
                    refusal.fields.append(&mut extra);
                    self.write_response(core, &refusal, manner, out);
                    self.next = Some(Next::Linger);
                }
            }
        }
        self.keep(carry, fresh, at);
        self.account(core, out);
    }

    /// What was not consumed waits for more: of `carry`, or of `fresh` where there is none.
    fn keep(&mut self, mut carry: Vec<u8>, fresh: &[u8], at: usize) {
        if carry.is_empty() {
            self.carry = fresh[at..].to_vec();
        } else if at < carry.len() {
            carry.drain(..at);
            self.carry = carry;
        }
        if COPIED_BODY_BYTES_MAX < self.carry.len() {
            // So much came that the length is meant: no more doubling on the way there.
            let wants = self.http.wants().saturating_sub(self.carry.len());
            self.carry.reserve_exact(wants);
        }
    }

    /// Bodies in the making are bounded for the core as a whole.
    fn account(&mut self, core: &Core, out: &mut Vec<u8>) {
        let held = self.carry.capacity() + self.http.decoded_bytes();
        if !self.held_bytes.hold(held) && self.next.is_none() && self.http.awaits_body() {
            let manner = Manner {
                head_only: false,
                keep_alive: false,
            };
            let refusal = refusal(core, &Reason::Busy.into(), "");
            self.write_response(core, &refusal, manner, out);
            self.next = Some(Next::Linger);
        }
    }

    /// One write for all answers of one read; what the socket does not take becomes the backlog.
    fn send<W: Wire>(&mut self, wire: &mut W, out: &mut Vec<u8>) {
        if !self.backlog.is_empty() {
            // Each byte moves once at most, and what was written does not pile up in front.
            if self.backlog_len() <= self.written {
                self.backlog.drain(..std::mem::take(&mut self.written));
            }
            self.backlog.append(out);
        } else if !out.is_empty() {
            let written = wire.try_write(out).unwrap_or(0);
            if written < out.len() {
                self.backlog.extend_from_slice(&out[written..]);
            }
        }
        out.clear();
    }

    fn flush<W: Wire>(&mut self, cx: &mut Waiting<'_>, wire: &mut W) -> Poll<io::Result<()>> {
        while self.written < self.backlog.len() {
            ready!(wire.poll_writable(cx))?;
            match wire.try_write(&self.backlog[self.written..]) {
                Ok(written) => {
                    self.written += written;
                    self.flushed += written as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        // Given back: an idle connection owns no buffer.
        self.backlog = Vec::new();
        self.written = 0;
        while !self.tail.is_empty() {
            ready!(wire.poll_writable(cx))?;
            match wire.try_write(&self.tail) {
                Ok(written) => {
                    self.tail.advance(written);
                    self.flushed += written as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        while wire.has_unsent() {
            ready!(wire.poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn has_backlog(&self) -> bool {
        !self.backlog.is_empty() || !self.tail.is_empty()
    }

    fn backlog_len(&self) -> usize {
        self.backlog.len() - self.written
    }

    /// With `more` bytes besides: no request is taken up until the peer has read some answers.
    fn is_clogged(&self, more: usize) -> bool {
        !self.tail.is_empty() || PIPELINE_OUT_BYTES_MAX <= self.backlog_len() + more
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
            Waits::Write | Waits::Answer => WRITE_STALL_TIMEOUT,
        };
        self.waits = waits;
        dog.arm(core.now_ms() + millis(limit));
    }

    /// The deadline passed, or the node stops. None: there is more time, if only for what waits to
    /// be sent before `next`.
    fn timed_out<W: Wire>(&mut self, core: &Core, dog: &Watchdog, wire: &mut W) -> Option<Next> {
        if core.is_stopping() && self.waits == Waits::Idle {
            self.next = Some(Next::Linger);
            return None;
        }
        let now_ms = core.now_ms();
        if !dog.is_due(now_ms) {
            return None;
        }
        match self.waits {
            Waits::Idle => self.next = Some(Next::Linger),
            Waits::Write if WRITE_BYTES_PER_STALL_MIN <= self.flushed - self.flushed_before => {
                self.flushed_before = self.flushed;
                self.guard(core, dog, Waits::Write);
            }
            Waits::Write | Waits::Answer => {
                core.context.counters.refuse(Reason::TooSlow);
                return Some(Next::Done);
            }
            Waits::Body { since_ms } if self.keeps_pace(now_ms - since_ms) => {
                dog.arm(now_ms + 1_000);
            }
            Waits::Head | Waits::Body { .. } => {
                let manner = Manner {
                    head_only: false,
                    keep_alive: false,
                };
                let mut out = Vec::new();
                let refusal = refusal(core, &Reason::TooSlow.into(), "");
                self.write_response(core, &refusal, manner, &mut out);
                self.send(wire, &mut out);
                self.next = Some(Next::Linger);
            }
        }
        None
    }

    fn keeps_pace(&self, elapsed_ms: u64) -> bool {
        let due = elapsed_ms * BODY_BYTES_PER_SECOND_MIN / 1_000;
        let came = self.http.body_bytes(self.carry.len());
        elapsed_ms < millis(BODY_TIMEOUT) && due <= came as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A peer that always left something waiting made every answer ever written stay in memory.
    #[test]
    fn what_was_written_does_not_pile_up() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let connecting = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
            let (_client, accepted) = tokio::join!(connecting, listener.accept());
            let (mut stream, mut driver) = (accepted.unwrap().0, HttpDriver::new(&Arc::default()));
            driver.backlog = vec![0; 1_000];
            for _ in 0..1_000 {
                driver.written += 900;
                driver.send(&mut stream, &mut vec![0; 900]);
                assert_eq!(driver.backlog_len(), 1_000);
            }
            assert!(driver.backlog.len() <= 3_000, "{}", driver.backlog.len());
        });
    }
}
