//! HTTP/2 (RFC 9113) on a core: h2 speaks it, every option of its own set on purpose; around it
//! stand the timers and counts that it leaves to its user.

mod io;
mod stream;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Waiting, Poll};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason as Code, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;

use crate::limits::{
    CLOSE_TIMEOUT, HEAD_TIMEOUT, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES_MAX,
    HTTP2_HEADER_LIST_BYTES_MAX, HTTP2_HEADER_TABLE_BYTES, HTTP2_LOCAL_RESETS_MAX,
    HTTP2_PENDING_RESETS_MAX, HTTP2_RESET_WINDOW, HTTP2_RESETS_MAX, HTTP2_SEND_BUFFER_BYTES,
    HTTP2_SMALL_DATA_BUDGET, HTTP2_STALLS_MAX, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX,
    IDLE_TIMEOUT, LINGER_TIMEOUT, REQUESTS_PER_CONNECTION_MAX,
};
use crate::reject::Reason;
use crate::server::answer::millis;
use crate::server::core::{Core, Watchdog};
use crate::server::http2::io::{Gate, Gated};
use crate::server::wire::Wire;

/// Drives a connection to its end. `before`: what was read already, the preface first.
pub(super) async fn drive<S>(core: &Rc<Core>, dog: &Watchdog, socket: S, before: Vec<u8>)
where
    S: Wire + AsyncRead + AsyncWrite + Unpin + 'static,
{
    core.context.counters.http2_connections.add(1);
    socket.prefer_fresh();
    let gate = Rc::new(Gate::default());
    gate.open(core.now_ms());
    dog.arm(core.now_ms() + millis(HEAD_TIMEOUT));
    let mut handshake = options().handshake(Gated::new(socket, before, gate.clone()));
    let shaken = poll_fn(|cx| shake(cx, core, dog, &gate, &mut handshake)).await;
    let Some(connection) = shaken else { return };
    let mut driver = Driver {
        connection,
        gate,
        streams: Rc::new(Streams {
            busy_ms: core.now_ms().into(),
            ..Streams::default()
        }),
        accepted: 0,
        ending: false,
        lingers: false,
    };
    dog.arm(core.now_ms() + millis(IDLE_TIMEOUT));
    // Each stream that brings samples holds a stop up by a watchdog of its own.
    dog.holds_nothing_up();
    poll_fn(|cx| driver.poll(cx, core, dog)).await;
}

/// h2's own defaults would let a peer open streams without bound, and send 16 MiB of fields each.
pub fn options() -> Builder {
    let mut options = Builder::new();
    options
        .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_frame_size(HTTP2_FRAME_BYTES_MAX)
        .max_header_list_size(HTTP2_HEADER_LIST_BYTES_MAX)
        .header_table_size(HTTP2_HEADER_TABLE_BYTES)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(HTTP2_LOCAL_RESETS_MAX))
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
        .data_frame_budget(HTTP2_SMALL_DATA_BUDGET)
        .enable_connect_protocol();
    options
}

/// None: no preface and no SETTINGS came in time, or what came was none.
fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    cx: &mut Waiting<'_>,
    core: &Core,
    dog: &Watchdog,
    gate: &Gate,
    handshake: &mut Handshake<Gated<S>, Bytes>,
) -> Poll<Option<Connection<Gated<S>, Bytes>>> {
    gate.open(core.now_ms());
    match Pin::new(handshake).poll(cx) {
        Poll::Ready(Ok(connection)) => Poll::Ready(Some(connection)),
        Poll::Ready(Err(_)) => {
            core.context.counters.refuse(Reason::Http2Protocol);
            Poll::Ready(None)
        }
        Poll::Pending if dog.barked(cx) && dog.is_due(core.now_ms()) => {
            core.context.counters.refuse(Reason::TooSlow);
            Poll::Ready(None)
        }
        Poll::Pending => Poll::Pending,
    }
}

/// What the streams of one connection tell their driver.
#[derive(Default)]
struct Streams {
    open: Cell<u32>,
    /// When the last one began or ended.
    busy_ms: Cell<u64>,
    stalls: Cell<u32>,
    window: RefCell<Window>,
}

/// How the last streams ended.
#[derive(Default)]
struct Window {
    ended: u32,
    given_up: u32,
}

impl Streams {
    fn began(&self, now_ms: u64) {
        self.open.set(self.open.get() + 1);
        self.busy_ms.set(now_ms);
    }

    fn ended(&self, now_ms: u64) {
        self.open.set(self.open.get() - 1);
        self.busy_ms.set(now_ms);
    }

    fn answered(&self) {
        self.window.borrow_mut().count(false);
    }

    /// The peer reset it before it had its answer.
    fn given_up(&self) {
        self.window.borrow_mut().count(true);
    }

    fn stalled(&self) {
        self.stalls.set(self.stalls.get() + 1);
    }

    fn is_flood(&self) -> bool {
        HTTP2_RESETS_MAX < self.window.borrow().given_up || HTTP2_STALLS_MAX <= self.stalls.get()
    }
}

impl Window {
    fn count(&mut self, given_up: bool) {
        if self.ended == HTTP2_RESET_WINDOW {
            *self = Self::default();
        }
        self.ended += 1;
        self.given_up += u32::from(given_up);
    }
}

struct Driver<S> {
    connection: Connection<Gated<S>, Bytes>,
    gate: Rc<Gate>,
    streams: Rc<Streams>,
    accepted: u32,
    /// A GOAWAY was said.
    ending: bool,
    /// All was said.
    lingers: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn poll(&mut self, cx: &mut Waiting<'_>, core: &Rc<Core>, dog: &Watchdog) -> Poll<()> {
        if dog.barked(cx) && self.timed_out(core, dog) {
            return Poll::Ready(());
        }
        self.gate.open(core.now_ms());
        loop {
            let accepted = match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => accepted,
                Poll::Ready(Some(Err(error))) => {
                    // Final: h2 has said its GOAWAY by now, and would say the error for ever.
                    if !self.ending {
                        count(core, &error);
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if self.must_end() => {
                    self.end(core, dog, Code::ENHANCE_YOUR_CALM);
                    core.context.counters.refuse(Reason::Http2Flood);
                    continue;
                }
                Poll::Pending if self.gate.lingers.get() && !self.lingers => {
                    self.lingers = true;
                    dog.arm(core.now_ms() + millis(LINGER_TIMEOUT));
                    break;
                }
                Poll::Pending => break,
            };
            self.accepted += 1;
            if self.accepted == REQUESTS_PER_CONNECTION_MAX {
                self.connection.graceful_shutdown();
            }
            self.begin(cx, core, accepted);
        }
        Poll::Pending
    }

    /// Most requests are whole when they are seen and answered in this poll; others get a task.
    fn begin(
        &mut self,
        cx: &mut Waiting<'_>,
        core: &Rc<Core>,
        (request, respond): (Request<RecvStream>, SendResponse<Bytes>),
    ) {
        let streams = self.streams.clone();
        let mut life = Box::pin(stream::live(core.clone(), streams, request, respond));
        if life.as_mut().poll(cx).is_pending() {
            spawn_local(life);
        }
    }

    fn must_end(&self) -> bool {
        !self.ending && !self.lingers && (self.gate.flooded.get() || self.streams.is_flood())
    }

    fn end(&mut self, core: &Core, dog: &Watchdog, code: Code) {
        self.ending = true;
        self.connection.abrupt_shutdown(code);
        dog.arm(core.now_ms() + millis(CLOSE_TIMEOUT));
    }

    /// True: give up.
    fn timed_out(&mut self, core: &Core, dog: &Watchdog) -> bool {
        let now_ms = core.now_ms();
        if self.lingers && dog.is_due(now_ms) {
            // Asked once more, h2 says what it ended for, so that it is counted.
            return self.gate.lingered.replace(true);
        }
        if self.ending || self.lingers {
            return dog.is_due(now_ms);
        }
        if core.says_bye() {
            // Viewers say farewell and wait for the answer; then what is left is dropped.
            self.ending = true;
            dog.arm(now_ms + millis(CLOSE_TIMEOUT) * 3 / 2);
            return false;
        }
        if core.is_stopping() {
            // GOAWAY NO_ERROR: streams under way may finish, viewers among them.
            self.connection.graceful_shutdown();
        }
        if dog.is_due(now_ms) {
            // What a peer sends without asking for anything keeps nothing open.
            let idle_ms = now_ms.saturating_sub(self.streams.busy_ms.get());
            if 0 < self.streams.open.get() {
                dog.arm(now_ms + millis(IDLE_TIMEOUT));
            } else if millis(IDLE_TIMEOUT) <= idle_ms {
                self.end(core, dog, Code::NO_ERROR);
            } else {
                dog.arm(now_ms + millis(IDLE_TIMEOUT) - idle_ms);
            }
        }
        false
    }
}

/// What h2 found wrong and ended the connection for.
fn count(core: &Core, error: &h2::Error) {
    if !error.is_library() {
        return;
    }
    let reason = match error.reason() {
        Some(Code::ENHANCE_YOUR_CALM) => Reason::Http2Flood,
        _ => Reason::Http2Protocol,
    };
    core.context.counters.refuse(reason);
}

#[cfg(test)]
mod tests;
