//! WebSocket connections on their core: ingest streams, and viewers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Write};
use std::rc::Rc;
use std::task::{Context as Waiting, Poll, ready};

use bytes::Bytes;
use tokio::io::ReadBuf;

use crate::auth::Grant;
use crate::broadcast::viewer::{Dialect, Viewer};
use crate::connection::websocket::{Bounds, Message, Socket, Status};
use crate::endpoint::history::{self, Wait};
use crate::endpoint::ingest::Acknowledged;
use crate::endpoint::live;
use crate::endpoint::past::Past;
use crate::endpoint::rewind::Rewind;
use crate::frame::websocket::append_text;
use crate::limits::{
    CLOSE_TIMEOUT, DURABLE_ACKS_MAX, INGEST_MESSAGE_BYTES_MAX, MESSAGE_TIMEOUT, PING_INTERVAL,
    PONG_TIMEOUT, READS_PER_TURN, VIEWER_MESSAGE_BYTES_MAX, VIEWER_MESSAGES_PER_TEN_SECONDS_MAX,
    WEBSOCKET_OUT_BYTES_MAX,
};
use crate::reject::{Reason, Reject};
use crate::server::answer::millis;
use crate::server::core::{Core, Held, Watchdog};
use crate::server::driver::linger;
use crate::server::wire::Wire;

const VIEWER_MESSAGES_WINDOW_MS: u64 = 10_000;

/// An empty ping; the peer's pong shows that it lives.
const PING: &[u8] = &[0x89, 0x00];

/// A stream of documents.
pub(super) async fn ingest<W: Wire>(
    core: &Core,
    dog: &Watchdog,
    mut wire: W,
    grant: &Grant,
    rest: &[u8],
) {
    let mut driver = IngestDriver {
        grant: grant.clone(),
        held: Held::new(&core.context.counters),
        socket: Socket::new(Bounds::new(INGEST_MESSAGE_BYTES_MAX)),
        backlog: Vec::new(),
        durable: DurableAcks::default(),
        heard_ms: core.now_ms(),
        over: false,
    };
    driver.hear(core, dog, rest);
    // HTTP's deadline was longer than a ping may be late.
    dog.arm(core.now_ms() + millis(PING_INTERVAL));
    poll_fn(|cx| driver.poll(cx, core, dog, &mut wire)).await;
    if driver.over {
        // What is unread would reset the connection, and the peer might not see our close.
        linger(core, dog, &mut wire).await;
    }
}

struct IngestDriver {
    grant: Grant,
    held: Held,
    socket: Socket,
    /// Acknowledgements and control replies the socket has not taken.
    backlog: Vec<u8>,
    durable: DurableAcks,
    heard_ms: u64,
    over: bool,
}

/// Acknowledgements that wait for the disk, in the order of what they acknowledge.
#[derive(Default)]
struct DurableAcks {
    /// With when they were taken.
    acks: VecDeque<(Acknowledged, i64)>,
    /// For the last one that was there when it began; it settles all up to that place.
    wait: Option<(usize, Wait)>,
}

impl DurableAcks {
    /// Says what is settled, into `out`.
    fn poll(&mut self, cx: &mut Waiting<'_>, core: &Core, out: &mut Vec<u8>) {
        while let Some(&(last, _)) = self.acks.back() {
            if self.wait.is_none() {
                let position = last.durable.unwrap_or_default();
                match history::wait(&core.context, position) {
                    Ok(wait) => self.wait = Some((position, wait)),
                    // The journal was given up meanwhile.
                    Err(_) => return self.settle(position, false, core, out),
                }
            }
            let Some((position, wait)) = &mut self.wait else {
                return;
            };
            let Poll::Ready(is_durable) = wait.as_mut().poll(cx) else {
                return;
            };
            let position = *position;
            self.wait = None;
            self.settle(position, is_durable, core, out);
        }
    }

    fn settle(&mut self, position: usize, is_durable: bool, core: &Core, out: &mut Vec<u8>) {
        // Places wrap: the distance decides.
        let is_within = |ack: &Acknowledged| {
            position.wrapping_sub(ack.durable.unwrap_or_default()) as isize >= 0
        };
        while let Some((ack, ack_ts)) = self.acks.pop_front_if(|(ack, _)| is_within(ack)) {
            if is_durable {
                acknowledge(out, ack, ack_ts);
            } else {
                core.context.counters.refuse(Reason::NotDurable);
                refuse(out, &Reason::NotDurable.into(), Some(ack.seq));
            }
        }
    }
}

impl IngestDriver {
    fn poll<W: Wire>(
        &mut self,
        cx: &mut Waiting<'_>,
        core: &Core,
        dog: &Watchdog,
        wire: &mut W,
    ) -> Poll<()> {
        if dog.barked(cx) && self.timed_out(core, dog) {
            return Poll::Ready(());
        }
        let mut reads = 0;
        loop {
            self.durable.poll(cx, core, &mut self.backlog);
            match self.flush(cx, wire) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if self.over => return Poll::Ready(()),
                Poll::Pending if WEBSOCKET_OUT_BYTES_MAX < self.backlog.len() => {
                    return Poll::Pending;
                }
                _ if DURABLE_ACKS_MAX <= self.durable.acks.len() => return Poll::Pending,
                _ => {}
            }
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            let mut buffer = core.read_buffer.borrow_mut();
            let mut into = ReadBuf::new(&mut buffer);
            match ready!(wire.poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => self.hear(core, dog, into.filled()),
                _ => return Poll::Ready(()),
            }
            dog.arm_within(core.now_ms() + millis(PING_INTERVAL));
        }
    }

    /// Ready once nothing waits in this process.
    fn flush<W: Wire>(&mut self, cx: &mut Waiting<'_>, wire: &mut W) -> Poll<io::Result<()>> {
        while !self.backlog.is_empty() || wire.has_unsent() {
            match wire.try_write(&self.backlog) {
                Ok(written) if 0 < written => drop(self.backlog.drain(..written)),
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
                _ => ready!(wire.poll_writable(cx))?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn hear(&mut self, core: &Core, dog: &Watchdog, input: &[u8]) {
        let context = &core.context;
        self.heard_ms = core.now_ms();
        let mut intake = context.intake.borrow_mut();
        let heard = self
            .socket
            .receive(input, self.heard_ms, &mut self.backlog, |message, out| {
                let Message::Text(text) = message else {
                    let binary = matches!(message, Message::Binary(_));
                    return if binary {
                        Err(Reason::BinaryIngest.into())
                    } else {
                        Ok(())
                    };
                };
                let ack_ts = context.coarse.get().wall_ms;
                let taken = intake.message(context, &self.grant, text, |ack| {
                    if ack.durable.is_some() {
                        self.durable.acks.push_back((ack, ack_ts));
                    } else {
                        acknowledge(out, ack, ack_ts);
                    }
                });
                if let Err((reject, seq)) = taken {
                    context.counters.refuse(reject.reason);
                    refuse(out, &reject, seq);
                }
                Ok(())
            });
        drop(intake);
        match heard {
            Ok(Status::Open) => {
                let unfinished = self.socket.unfinished();
                if let Some(message) = unfinished {
                    dog.arm_within(message.since_ms + millis(MESSAGE_TIMEOUT));
                }
                // The codec doubles what it holds as it grows.
                if !self
                    .held
                    .hold(2 * unfinished.map_or(0, |message| message.bytes))
                {
                    self.close(core, &Reason::Busy.into());
                }
            }
            Ok(Status::Closed) => self.over = true,
            Err(reject) => self.close(core, &reject),
        }
    }

    fn close(&mut self, core: &Core, reject: &Reject) {
        core.context.counters.refuse(reject.reason);
        let answer = reject.reason.answer();
        self.socket
            .close(answer.close_code, answer.text, &mut self.backlog);
        // A peer that broke the protocol cannot be trusted to answer the close.
        self.over = true;
    }

    /// True: give up.
    fn timed_out(&mut self, core: &Core, dog: &Watchdog) -> bool {
        let now_ms = core.now_ms();
        if self.socket.is_closing() {
            return dog.is_due(now_ms);
        }
        if core.is_stopping() {
            let answer = Reason::Stopping.answer();
            self.socket
                .close(answer.close_code, answer.text, &mut self.backlog);
            dog.arm(now_ms + millis(CLOSE_TIMEOUT));
            return false;
        }
        if !dog.is_due(now_ms) {
            return false;
        }
        dog.arm(now_ms + millis(PING_INTERVAL));
        match core.renew(&self.grant) {
            Ok(grant) => self.grant = grant,
            Err(reject) => {
                self.close(core, &reject);
                return false;
            }
        }
        if is_overdue(&self.socket, now_ms) {
            self.close(core, &Reason::TooSlow.into());
            return false;
        }
        if millis(PONG_TIMEOUT) < now_ms.saturating_sub(self.heard_ms) {
            core.context.counters.refuse(Reason::TooSlow);
            return true;
        }
        if self.backlog.is_empty() {
            self.backlog.extend_from_slice(PING);
        }
        false
    }
}

/// A message has not come whole in its time.
fn is_overdue(socket: &Socket, now_ms: u64) -> bool {
    let limit_ms = millis(MESSAGE_TIMEOUT);
    let unfinished = socket.unfinished();
    unfinished.is_some_and(|message| message.since_ms + limit_ms <= now_ms)
}

/// Part of the hot path, so it writes where the socket is written from.
fn acknowledge(out: &mut Vec<u8>, ack: Acknowledged, ack_ts: i64) {
    append_text(out, |out| {
        let _ = write!(
            out,
            "{{\"ack_seq\":{},\"ack_ts\":{ack_ts},\"sent_at\":",
            ack.seq
        );
        let _ = match ack.sent_at {
            Some(sent_at) => write!(out, "{sent_at}}}"),
            None => write!(out, "null}}"),
        };
    });
}

fn refuse(out: &mut Vec<u8>, reject: &Reject, seq: Option<u64>) {
    let mut body = reject.to_json();
    body.pop();
    let seq = seq.map_or_else(|| "null".to_owned(), |seq| seq.to_string());
    append_text(out, |out| {
        let _ = write!(out, "{body},\"seq\":{seq}}}");
    });
}

/// A dashboard. The hub writes its frames; this task reads, and finishes what the socket did not
/// take at once.
pub(super) async fn live<W: Wire>(
    core: &Rc<Core>,
    dog: &Watchdog,
    wire: W,
    grant: &Grant,
    dialect: Dialect,
    rest: &[u8],
) {
    dog.holds_nothing_up();
    let (mut wire, sink) = wire.share();
    let context = &core.context;
    let viewer = Rc::new(Viewer::new(
        sink,
        context.shared.views.clone(),
        context.counters.clone(),
        dialect,
        core.now_ms(),
    ));
    let mut driver = ViewerDriver {
        grant: grant.clone(),
        messages: 0,
        since_ms: core.now_ms(),
        socket: Socket::new(Bounds::new(VIEWER_MESSAGE_BYTES_MAX)),
        viewer: viewer.clone(),
        past: Past::default(),
        rewind: Rewind::default(),
        heard_ms: core.now_ms(),
        over: false,
    };
    if live::welcome(context, &viewer, grant).is_err() {
        return;
    }
    let membership = Membership {
        core: core.clone(),
        key: context.hub.join(viewer),
    };
    driver.hear(core, dog, rest);
    dog.arm(core.now_ms() + millis(PING_INTERVAL));
    poll_fn(|cx| driver.poll(cx, core, dog, &mut wire)).await;
    drop(membership);
    wire.finish();
}

struct Membership {
    core: Rc<Core>,
    key: usize,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.core.context.hub.leave(self.key);
    }
}

struct ViewerDriver {
    grant: Grant,
    /// Messages since then.
    messages: u32,
    since_ms: u64,
    socket: Socket,
    viewer: Rc<Viewer>,
    past: Past,
    rewind: Rewind,
    heard_ms: u64,
    over: bool,
}

impl ViewerDriver {
    fn poll<W: Wire>(
        &mut self,
        cx: &mut Waiting<'_>,
        core: &Core,
        dog: &Watchdog,
        wire: &mut W,
    ) -> Poll<()> {
        self.viewer.wakes(cx.waker());
        if dog.barked(cx) && self.timed_out(core, dog) {
            return Poll::Ready(());
        }
        let mut reads = 0;
        loop {
            while self.viewer.has_waiting() || wire.has_unsent() {
                match wire.poll_writable(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) if self.viewer.flush(core.now_ms()).is_ok() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                }
            }
            match self.ask_history(cx, core) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return Poll::Ready(()),
            }
            if self.over && !self.viewer.has_waiting() && !wire.has_unsent() {
                return Poll::Ready(());
            }
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            let mut buffer = core.read_buffer.borrow_mut();
            let mut into = ReadBuf::new(&mut buffer);
            match ready!(wire.poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => self.hear(core, dog, into.filled()),
                _ => return Poll::Ready(()),
            }
        }
    }

    /// True: something was said.
    fn ask_history(&mut self, cx: &mut Waiting<'_>, core: &Core) -> Result<bool, Reason> {
        let (context, viewer) = (&core.context, &*self.viewer);
        Ok(self.past.poll(cx, context, viewer)? || self.rewind.poll(cx, context, viewer)?)
    }

    fn hear(&mut self, core: &Core, dog: &Watchdog, input: &[u8]) {
        let (context, viewer) = (&core.context, &self.viewer);
        self.heard_ms = core.now_ms();
        let mut out = Vec::new();
        if VIEWER_MESSAGES_WINDOW_MS < self.heard_ms.saturating_sub(self.since_ms) {
            (self.messages, self.since_ms) = (0, self.heard_ms);
        }
        let messages = &mut self.messages;
        let heard = self
            .socket
            .receive(input, self.heard_ms, &mut out, |message, _| {
                *messages += 1;
                if VIEWER_MESSAGES_PER_TEN_SECONDS_MAX < *messages {
                    return Err(Reason::MessageFlood.into());
                }
                let Message::Text(text) = message else {
                    return Ok(());
                };
                live::hear(context, viewer, text).map_err(Reject::new)
            });
        if !out.is_empty() && self.viewer.say(Bytes::from(out), self.heard_ms).is_err() {
            self.over = true;
        }
        match heard {
            Ok(Status::Open) => {
                if let Some(message) = self.socket.unfinished() {
                    dog.arm_within(message.since_ms + millis(MESSAGE_TIMEOUT));
                }
            }
            Ok(Status::Closed) => self.over = true,
            // Said once: a peer that goes on like this must not put its end off.
            Err(_) if self.socket.is_closing() => {}
            Err(reject) => self.close(core, dog, reject.reason),
        }
    }

    fn close(&mut self, core: &Core, dog: &Watchdog, reason: Reason) {
        let (answer, mut out) = (reason.answer(), Vec::new());
        if reason != Reason::Stopping {
            core.context.counters.refuse(reason);
        }
        self.socket.close(answer.close_code, answer.text, &mut out);
        if reason == Reason::Stopping {
            let spread = core
                .now_ms()
                .wrapping_add(core.context.counters.viewers.get());
            out = [&live::bye(spread ^ dog.number())[..], &out[..]].concat();
        }
        self.viewer.say_goodbye(Bytes::from(out), core.now_ms());
        dog.arm(core.now_ms() + millis(CLOSE_TIMEOUT));
    }

    /// True: give up.
    fn timed_out(&mut self, core: &Core, dog: &Watchdog) -> bool {
        let now_ms = core.now_ms();
        if self.socket.is_closing() {
            return dog.is_due(now_ms);
        }
        if core.says_bye() {
            self.close(core, dog, Reason::Stopping);
            return false;
        }
        if !dog.is_due(now_ms) {
            return false;
        }
        dog.arm(now_ms + millis(PING_INTERVAL) / 4);
        if let Err(reject) = core.renew(&self.grant) {
            self.close(core, dog, reject.reason);
            return false;
        }
        if is_overdue(&self.socket, now_ms) {
            self.close(core, dog, Reason::TooSlow);
            return false;
        }
        match self.viewer.overdue(now_ms) {
            // Its socket takes nothing, so no close frame would arrive either.
            Some(Reason::StalledViewer) => {
                core.context.counters.refuse(Reason::StalledViewer);
                return true;
            }
            Some(reason) => {
                self.close(core, dog, reason);
                return false;
            }
            None => {}
        }
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        if millis(PONG_TIMEOUT) < silent_ms && !self.viewer.has_waiting() {
            core.context.counters.refuse(Reason::TooSlow);
            return true;
        }
        if millis(PING_INTERVAL) <= silent_ms && !self.viewer.has_waiting() {
            let _ = self.viewer.say(Bytes::from_static(PING), now_ms);
        }
        false
    }
}
