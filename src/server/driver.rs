//! One connection's life on its core: HTTP/1.1 first, then maybe a WebSocket.
//!
//! A read, its parse and its write happen in one poll, through the core's own buffers: an idle
//! connection owns none. Timeouts come from the core's sweep (see [`Watchdog`]), not from a timer
//! per connection.

mod answer;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Waiting, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::connection::head::Request;
use crate::connection::http1::{Http1, Step};
use crate::connection::respond::{self, Manner};
use crate::endpoint::query;
use crate::limits::{
    BODY_BYTES_PER_SECOND_MIN, BODY_GRACE, BODY_TIMEOUT, CARRY_BYTES_MAX, HEAD_TIMEOUT,
    IDLE_TIMEOUT, LINGER_BYTES_MAX, LINGER_TIMEOUT, PIPELINE_OUT_BYTES_MAX, WRITE_STALL_TIMEOUT,
};
use crate::reject::Reason;
use crate::route;
use crate::server::core::{Core, Watchdog};
use crate::server::driver::answer::{judge, refusal};
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
pub(super) async fn linger(core: &Core, watchdog: &Watchdog, stream: &mut TcpStream) {
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

/// A request whose answer the aggregator owes, and what that answer needs to know of it.
struct Asked {
    question: query::Asked,
    manner: Manner,
    extra: Fields,
}

/// Fields that an answer has because of who asked.
type Fields = Vec<(&'static str, String)>;

struct HttpDriver {
    http: Http1,
    /// Bytes of a request that has not come whole.
    carry: Vec<u8>,
    /// How much of `carry` the core's counter knows of.
    carried: usize,
    /// Answers the socket did not take at once, from `written` on.
    backlog: Vec<u8>,
    written: usize,
    asked: Option<Box<Asked>>,
    /// `carry` has whole requests, left there because too many answers wait.
    held: bool,
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
            held: false,
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
            if !self.backlog.is_empty() {
                match self.flush(cx, stream) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Next::Done),
                    Poll::Pending if !self.is_clogged(0) && self.next.is_none() => {}
                    Poll::Pending => {
                        self.guard(core, dog, Waits::Write);
                        return Poll::Pending;
                    }
                }
            }
            if self.asked.is_some() {
                ready!(self.poll_answer(cx, core, dog, stream));
                continue;
            }
            if self.held {
                self.work(core, stream, &[]);
                continue;
            }
            if core.is_stopping() && self.carry.is_empty() && self.next.is_none() {
                self.next = Some(Next::Linger);
            }
            if self.next.is_some() {
                if self.backlog.is_empty() {
                    return Poll::Ready(self.next.take().unwrap_or(Next::Done));
                }
                continue;
            }
            self.guard_reading(core, dog);
            let mut buffer = core.read_buffer.borrow_mut();
            let mut into = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => self.work(core, stream, into.filled()),
                // A peer that has said all it will may still read: it gets what it asked for.
                Ok(()) => self.next = Some(Next::Done),
                Err(_) => return Poll::Ready(Next::Done),
            }
        }
    }

    /// Waits for the aggregator; then answers, and goes on with the requests behind.
    fn poll_answer(
        &mut self,
        cx: &mut Waiting<'_>,
        core: &Core,
        dog: &Watchdog,
        stream: &TcpStream,
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
        self.send(stream, out);
        Poll::Ready(())
    }

    fn work(&mut self, core: &Core, stream: &TcpStream, fresh: &[u8]) {
        let out = &mut *core.out.borrow_mut();
        self.consume(core, fresh, out);
        self.send(stream, out);
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
        while at < input.len() && self.asked.is_none() && self.next.is_none() {
            if self.is_clogged(out.len()) {
                self.held = true;
                break;
            }
            let mut allow = "";
            let judge = |request: &Request<'_>| {
                allow = route::allowed(request.path());
                judge(core, request)
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
                        head_only: false,
                        keep_alive: false,
                    };
                    self.write_response(core, &refusal(core, &reject, allow), manner, out);
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
            let refusal = refusal(core, &Reason::Busy.into(), "");
            self.write_response(core, &refusal, manner, out);
            self.next = Some(Next::Linger);
        }
    }

    /// One write for all answers of one read; what the socket does not take becomes the backlog.
    fn send(&mut self, stream: &TcpStream, out: &mut Vec<u8>) {
        if !self.backlog.is_empty() {
            // Each byte moves once at most, and what was written does not pile up in front.
            if self.backlog_len() <= self.written {
                self.backlog.drain(..std::mem::take(&mut self.written));
            }
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

    /// With `more` bytes besides: no request is taken up until the peer has read some answers.
    fn is_clogged(&self, more: usize) -> bool {
        PIPELINE_OUT_BYTES_MAX <= self.backlog_len() + more
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
    fn timed_out(&mut self, core: &Core, dog: &Watchdog, stream: &TcpStream) -> Option<Next> {
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
            Waits::Write | Waits::Answer => return Some(Next::Done),
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
                self.send(stream, &mut out);
                self.next = Some(Next::Linger);
            }
        }
        None
    }

    fn keeps_pace(&self, elapsed_ms: u64) -> bool {
        let due = elapsed_ms * BODY_BYTES_PER_SECOND_MIN / 1_000;
        elapsed_ms < millis(BODY_TIMEOUT) && due <= self.carry.len() as u64
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
            let connecting = TcpStream::connect(listener.local_addr().unwrap());
            let (_client, accepted) = tokio::join!(connecting, listener.accept());
            let (stream, mut driver) = (accepted.unwrap().0, HttpDriver::new());
            driver.backlog = vec![0; 1_000];
            for _ in 0..1_000 {
                driver.written += 900;
                driver.send(&stream, &mut vec![0; 900]);
                assert_eq!(driver.backlog_len(), 1_000);
            }
            assert!(driver.backlog.len() <= 3_000, "{}", driver.backlog.len());
        });
    }
}
