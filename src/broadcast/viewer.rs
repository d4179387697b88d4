//! One dashboard: what it subscribed to, how far it is, and which frame it gets next.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use crate::broadcast::outbox::{Outbox, Overflow, Sink};
use crate::frame::view::View;
use crate::frame::views::{Views, ViewsFull, Watched};
use crate::frame::{Frame, Tick};
use crate::limits::{
    ACK_TIMEOUT, LATE_MAX, LATE_WINDOW, UNACKED_FRAMES_MAX, VIEWER_STALL_TIMEOUT,
    VIEWS_PER_VIEWER_MAX,
};
use crate::observe::Counters;
use crate::reject::Reason;

/// How a viewer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// No subprotocol: JSON frames of the default view, no messages expected.
    Plain,
    /// `tidewall.v1`
    Binary,
    /// `tidewall.v1+json`
    Json,
}

/// Shared by the hub, which delivers, and the connection's own task, which reads and waits for
/// the socket. Both run on the same core.
pub struct Viewer {
    sink: Rc<dyn Sink>,
    views: Arc<Views>,
    counters: Arc<Counters>,
    pub dialect: Dialect,
    state: RefCell<State>,
}

struct State {
    subscriptions: Vec<Subscription>,
    outbox: Outbox,
    paused: bool,
    /// Hosts patches were missed: the table must be fetched anew.
    hosts_missed: bool,
    /// No frame may follow a close.
    closing: bool,
    /// The socket took something, or nothing waited.
    progress_ms: u64,
    replay: Option<replay::Replay>,
    waker: Option<Waker>,
}

/// Invariant: `sent` holds, oldest first, the frames queued or sent that the peer has not
/// acknowledged; `last` is the newest of them, or None when the next frame must be a KEY.
struct Subscription {
    id: u32,
    watched: Arc<Watched>,
    last: Option<u32>,
    sent: Vec<u32>,
    acks: bool,
    owed_since_ms: u64,
    late: u32,
    late_since_ms: u64,
    skipping: bool,
    /// A first frame was queued.
    begun: bool,
    /// Made by halving a rate, and the peer has not been told.
    lowered: bool,
    /// How much of its past is still wished for.
    backfill_s: u32,
    /// Of which time its last REPLAY frame was.
    replayed_ms: i64,
}

/// Why a subscription was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    DuplicateId,
    TooManyViews,
    NodeFull,
    TooManyReplays,
    UnknownId,
}

impl From<ViewsFull> for Refusal {
    fn from(_: ViewsFull) -> Self {
        Refusal::NodeFull
    }
}

/// What became of a view's feed, for the `schema` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    pub id: u32,
    pub view: u32,
}

impl Viewer {
    pub fn new(
        sink: Rc<dyn Sink>,
        views: Arc<Views>,
        counters: Arc<Counters>,
        dialect: Dialect,
        now_ms: u64,
    ) -> Self {
        let state = State {
            subscriptions: Vec::new(),
            outbox: Outbox::default(),
            paused: false,
            hosts_missed: false,
            closing: false,
            progress_ms: now_ms,
            replay: None,
            waker: None,
        };
        Self {
            sink,
            views,
            counters,
            dialect,
            state: RefCell::new(state),
        }
    }

    /// Watches a view under the client's own `id`.
    pub fn subscribe(&self, id: u32, view: View) -> Result<Arc<Watched>, Refusal> {
        let subscriptions = &mut self.state.borrow_mut().subscriptions;
        if subscriptions.iter().any(|s| s.id == id) {
            return Err(Refusal::DuplicateId);
        }
        if VIEWS_PER_VIEWER_MAX <= subscriptions.len() {
            return Err(Refusal::TooManyViews);
        }
        let watched = self.views.watch(view)?;
        watched.ask_key();
        subscriptions.push(Subscription::new(id, watched.clone(), self.dialect));
        Ok(watched)
    }

    pub fn unsubscribe(&self, id: u32) -> Result<(), Refusal> {
        let state = &mut *self.state.borrow_mut();
        let at = position(&state.subscriptions, id)?;
        let gone = state.subscriptions.swap_remove(at);
        if state.outbox.withdraw(id) {
            self.counters.frames_closed.add(1);
        }
        self.views.release(&gone.watched);
        Ok(())
    }

    /// The same view at another rate, from a KEY on.
    pub fn change(&self, id: u32, to: impl FnOnce(&View) -> View) -> Result<Arc<Watched>, Refusal> {
        let state = &mut *self.state.borrow_mut();
        let at = position(&state.subscriptions, id)?;
        self.swap(state, at, to)
    }

    fn swap(
        &self,
        state: &mut State,
        at: usize,
        to: impl FnOnce(&View) -> View,
    ) -> Result<Arc<Watched>, Refusal> {
        let old = &state.subscriptions[at];
        let (id, acks, backfill_s) = (old.id, old.acks, old.backfill_s);
        let watched = self.views.watch(to(&old.watched.view))?;
        watched.ask_key();
        if state.outbox.withdraw(id) {
            self.counters.frames_coalesced.add(1);
        }
        let mut fresh = Subscription::new(id, watched.clone(), self.dialect);
        fresh.acks = acks;
        fresh.backfill_s = backfill_s;
        let old = std::mem::replace(&mut state.subscriptions[at], fresh);
        self.views.release(&old.watched);
        Ok(watched)
    }

    /// Cumulative: everything of `id` up to `seq` was painted.
    pub fn acknowledge(&self, id: u32, seq: u32, now_ms: u64) -> Result<(), Refusal> {
        let subscriptions = &mut self.state.borrow_mut().subscriptions;
        let at = position(subscriptions, id)?;
        let subscription = &mut subscriptions[at];
        subscription.acks = true;
        subscription.owed_since_ms = now_ms;
        // Sequence numbers wrap: "not after" is a distance below half the range.
        subscription
            .sent
            .retain(|&sent| 0 < sent.wrapping_sub(seq).cast_signed());
        subscription.ask_if_lost();
        Ok(())
    }

    pub fn resync(&self, id: u32) -> Result<(), Refusal> {
        let subscriptions = &mut self.state.borrow_mut().subscriptions;
        let at = position(subscriptions, id)?;
        subscriptions[at].start_over();
        Ok(())
    }

    pub fn pause(&self, paused: bool, now_ms: u64) {
        let state = &mut *self.state.borrow_mut();
        let was_paused = std::mem::replace(&mut state.paused, paused);
        if let Some(replay) = state.replay.as_mut().filter(|_| paused != was_paused) {
            replay.pause(paused, now_ms);
        }
        if !paused {
            for subscription in &mut state.subscriptions {
                // Nothing was owed meanwhile.
                subscription.owed_since_ms = now_ms;
                subscription.start_over();
            }
        }
    }

    /// Queues a control message and writes what the socket takes.
    pub fn say(&self, message: Bytes, now_ms: u64) -> Result<(), Reason> {
        let queued = self.state.borrow_mut().outbox.control(message);
        queued.map_err(|Overflow| Reason::StalledViewer)?;
        self.flush(now_ms).map_err(|_| Reason::StalledViewer)?;
        Ok(())
    }

    /// So much of a view's past is wished for; it waits until [`Viewer::take_backfill`].
    pub fn wish_backfill(&self, id: u32, backfill_s: u32) {
        let subscriptions = &mut self.state.borrow_mut().subscriptions;
        if let Ok(at) = position(subscriptions, id) {
            subscriptions[at].backfill_s = backfill_s;
        }
    }

    /// A wish, of a view that may have it by now, its subscription and the view of then. None while
    /// anything waits for the socket: a viewer that does not read holds no past, and any other one
    /// at a time.
    pub fn take_backfill(&self, may: impl Fn(&View) -> bool) -> Option<(u32, u32, Arc<Watched>)> {
        let state = &mut *self.state.borrow_mut();
        if state.paused || state.closing || !state.outbox.is_empty() {
            return None;
        }
        let wishes = |s: &&mut Subscription| 0 < s.backfill_s && may(&s.watched.view);
        let mut wishing = state.subscriptions.iter_mut().filter(wishes);
        let wishing = wishing.next()?;
        let backfill_s = std::mem::take(&mut wishing.backfill_s);
        Some((wishing.id, backfill_s, wishing.watched.clone()))
    }

    /// The view that feeds a subscription now, unless the last words were said.
    pub fn watched(&self, id: u32) -> Option<Arc<Watched>> {
        let state = self.state.borrow();
        let mut open = state.subscriptions.iter().filter(|_| !state.closing);
        open.find(|s| s.id == id).map(|s| s.watched.clone())
    }

    /// Queues a message that may as well come later; false when it had better.
    pub fn offer(&self, message: Bytes, now_ms: u64) -> Result<bool, Reason> {
        let state = &mut *self.state.borrow_mut();
        if state.paused || state.outbox.control(message).is_err() {
            return Ok(false);
        }
        self.flush_state(state, now_ms)
            .map_err(|_| Reason::StalledViewer)?;
        Ok(true)
    }

    /// After this no frame is queued; what waits is dropped, so that the close comes soon.
    pub fn say_goodbye(&self, message: Bytes, now_ms: u64) {
        let state = &mut *self.state.borrow_mut();
        if std::mem::replace(&mut state.closing, true) {
            return;
        }
        for subscription in &state.subscriptions {
            if state.outbox.withdraw(subscription.id) {
                self.counters.frames_closed.add(1);
            }
        }
        let _ = state.outbox.control(message);
        let _ = self.flush_state(state, now_ms);
    }

    /// Hosts patches never came to this core.
    pub fn miss_hosts(&self) {
        self.state.borrow_mut().hosts_missed |= self.dialect != Dialect::Plain;
    }

    /// True once after hosts patches were missed and the queue has room again.
    pub fn take_hosts_missed(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        state.outbox.is_empty() && std::mem::take(&mut state.hosts_missed)
    }

    /// One tick: each subscription gets its delta, its KEY, or nothing and a KEY later.
    pub fn deliver(&self, tick: &Tick, at: &HashMap<u32, usize>, now_ms: u64) -> Delivered {
        let state = &mut *self.state.borrow_mut();
        if state.closing {
            return Delivered::default();
        }
        if let (Some(patch), true) = (&tick.hosts_patch, self.dialect != Dialect::Plain)
            && !state.hosts_missed
        {
            state.hosts_missed = state.outbox.shared(patch.clone()).is_err();
        }
        let mut slower = Delivered::default();
        if !state.paused {
            for index in 0..state.subscriptions.len() {
                if state.replay.is_some() && state.subscriptions[index].is_replayed() {
                    continue;
                }
                let view = state.subscriptions[index].watched.number;
                if let Some(&frame) = at.get(&view) {
                    self.give(state, index, &tick.frames[frame], now_ms);
                    slower.lowered |= self.lower_if_late(state, index);
                }
            }
        }
        slower.broken = self.flush_state(state, now_ms).is_err();
        if state.outbox.is_empty() {
            // Only a viewer that could take a KEY asks for one: a stuck one costs no encoding.
            let rests = |s: &Subscription| state.replay.is_some() && s.is_replayed();
            let awake = state.subscriptions.iter().filter(|s| !rests(s));
            awake.for_each(Subscription::ask_if_lost);
        }
        let is_due = !state.paused && state.replay.as_ref().is_some_and(|r| r.is_due(now_ms));
        if (is_due || !state.outbox.is_empty())
            && let Some(waker) = &state.waker
        {
            waker.wake_by_ref();
        }
        slower
    }

    fn give(&self, state: &mut State, index: usize, frame: &Frame, now_ms: u64) {
        let subscription = &mut state.subscriptions[index];
        if !subscription.begun && frame.key.is_none() {
            // Its first KEY comes with the next tick; before it nothing is owed.
            return subscription.watched.ask_key();
        }
        self.counters.frames_due.add(1);
        let replaced = state.outbox.withdraw(subscription.id);
        if replaced {
            // A delta that was never sent breaks the chain; a KEY mends it.
            self.counters.frames_coalesced.add(1);
            subscription.sent.pop();
            subscription.last = None;
        }
        let chosen = subscription.choose(frame);
        if replaced || subscription.is_full() {
            subscription.note_late(now_ms);
        } else if chosen.is_some() {
            subscription.skipping = false;
        }
        if let Some(bytes) = chosen {
            subscription.queue(frame.seq, now_ms);
            state.outbox.frame(subscription.id, bytes);
        } else {
            self.counters.frames_coalesced.add(1);
            subscription.last = None;
        }
    }

    /// A viewer that was late twice gets half the rate; true when it changed.
    fn lower_if_late(&self, state: &mut State, index: usize) -> bool {
        let subscription = &mut state.subscriptions[index];
        if subscription.late < LATE_MAX || self.dialect == Dialect::Plain {
            return false;
        }
        subscription.late = 0;
        let lower = subscription.watched.view.lowered();
        if lower == subscription.watched.view || self.swap(state, index, |_| lower).is_err() {
            return false;
        }
        state.subscriptions[index].lowered = true;
        true
    }

    /// Subscriptions whose rate was halved since the last call, with the view that feeds them now.
    /// The others are not named: a `schema` makes its peer begin a new picture.
    pub fn take_lowered(&self) -> Vec<(Feed, Arc<Watched>)> {
        let subscriptions = &mut self.state.borrow_mut().subscriptions;
        let lowered = subscriptions
            .iter_mut()
            .filter_map(|s| std::mem::take(&mut s.lowered).then_some(&*s));
        let feed = |s: &Subscription| {
            (
                Feed {
                    id: s.id,
                    view: s.watched.number,
                },
                s.watched.clone(),
            )
        };
        lowered.map(feed).collect()
    }

    /// Writes what the socket takes; true when nothing waits any more.
    pub fn flush(&self, now_ms: u64) -> io::Result<bool> {
        self.flush_state(&mut self.state.borrow_mut(), now_ms)
    }

    fn flush_state(&self, state: &mut State, now_ms: u64) -> io::Result<bool> {
        if state.outbox.is_empty() {
            state.progress_ms = now_ms;
            return Ok(true);
        }
        let flushed = state.outbox.flush(&*self.sink)?;
        self.counters.frames_sent.add(flushed.frames);
        if 0 < flushed.bytes {
            state.progress_ms = now_ms;
        }
        Ok(flushed.empty)
    }

    pub fn has_waiting(&self) -> bool {
        !self.state.borrow().outbox.is_empty()
    }

    /// The task that waits for the socket; woken when the hub leaves something waiting.
    pub fn wakes(&self, waker: &Waker) {
        let state = &mut *self.state.borrow_mut();
        if !state
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            state.waker = Some(waker.clone());
        }
    }

    /// Whether this viewer is to be closed: it owes acknowledgements, or its socket is stuck.
    pub fn overdue(&self, now_ms: u64) -> Option<Reason> {
        let state = self.state.borrow();
        let past = |since_ms: u64, limit: std::time::Duration| {
            limit.as_millis() < u128::from(now_ms.saturating_sub(since_ms))
        };
        if !state.outbox.is_empty() && past(state.progress_ms, VIEWER_STALL_TIMEOUT) {
            return Some(Reason::StalledViewer);
        }
        let owes =
            |s: &Subscription| s.acks && !s.sent.is_empty() && past(s.owed_since_ms, ACK_TIMEOUT);
        let slow = !state.paused && state.subscriptions.iter().any(owes);
        slow.then_some(Reason::SlowViewer)
    }
}

/// What a delivery asks of the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// A rate was halved: the viewer is owed a `schema`.
    pub lowered: bool,
    pub broken: bool,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        self.counters
            .frames_closed
            .add(state.outbox.frames_waiting());
        for subscription in &state.subscriptions {
            self.views.release(&subscription.watched);
        }
    }
}

impl Subscription {
    fn new(id: u32, watched: Arc<Watched>, dialect: Dialect) -> Self {
        Self {
            id,
            watched,
            last: None,
            sent: Vec::new(),
            acks: dialect == Dialect::Binary,
            owed_since_ms: 0,
            late: 0,
            late_since_ms: 0,
            skipping: false,
            begun: false,
            lowered: false,
            backfill_s: 0,
            replayed_ms: i64::MIN,
        }
    }

    /// The bytes that bring this viewer to the frame, if any do.
    fn choose(&self, frame: &Frame) -> Option<Bytes> {
        if self.is_full() {
            return None;
        }
        let follows = self.last == Some(frame.base_seq) && frame.delta.is_some();
        if follows {
            frame.delta.clone()
        } else {
            frame.key.clone()
        }
    }

    fn is_full(&self) -> bool {
        self.acks && UNACKED_FRAMES_MAX as usize <= self.sent.len()
    }

    fn ask_if_lost(&self) {
        if self.last.is_none() && !self.is_full() {
            self.watched.ask_key();
        }
    }

    fn queue(&mut self, seq: u32, now_ms: u64) {
        self.last = Some(seq);
        self.begun = true;
        if self.acks {
            if self.sent.is_empty() {
                self.owed_since_ms = now_ms;
            }
            self.sent.push(seq);
        }
    }

    /// The next frame must be a KEY.
    fn start_over(&mut self) {
        self.last = None;
        self.watched.ask_key();
    }

    /// Counts the beginnings of lateness, not its length.
    fn note_late(&mut self, now_ms: u64) {
        if std::mem::replace(&mut self.skipping, true) {
            return;
        }
        if LATE_WINDOW.as_millis() < u128::from(now_ms.saturating_sub(self.late_since_ms)) {
            (self.late, self.late_since_ms) = (0, now_ms);
        }
        self.late += 1;
    }
}

fn position(subscriptions: &[Subscription], id: u32) -> Result<usize, Refusal> {
    subscriptions
        .iter()
        .position(|s| s.id == id)
        .ok_or(Refusal::UnknownId)
}

pub mod replay;
#[cfg(test)]
mod tests;
