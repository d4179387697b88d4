//! A viewer in the past: its clock, and which of its views is owed which step of history.

use std::sync::Arc;

use bytes::Bytes;

use super::{Refusal, Subscription, Viewer, position};
use crate::frame::view::Kind;
use crate::frame::views::{Seat, Watched};
use crate::reject::Reason;

/// History's own step.
const STEP_MS: i64 = 10_000;

/// A clock that runs `speed` times as fast from a time of the past.
pub(super) struct Replay {
    from_ms: i64,
    speed: u32,
    /// When it was `from_ms`, by the clock that never goes back.
    since_ms: u64,
    /// The step that was looked at last.
    seen_ms: i64,
    seat: Seat,
}

/// A picture that is owed.
pub struct Owed {
    pub id: u32,
    pub watched: Arc<Watched>,
    /// The end of its step.
    pub at_ms: i64,
    replay: (i64, u64),
}

impl Replay {
    fn time_ms(&self, now_ms: u64) -> i64 {
        let passed_ms = now_ms.saturating_sub(self.since_ms).cast_signed();
        let gone_ms = passed_ms.saturating_mul(self.speed.into());
        self.from_ms.saturating_add(gone_ms)
    }

    fn step_ms(&self, now_ms: u64) -> i64 {
        self.time_ms(now_ms).div_euclid(STEP_MS) * STEP_MS
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.seen_ms < self.step_ms(now_ms)
    }

    /// Its clock stands still meanwhile.
    pub(super) fn pause(&mut self, paused: bool, now_ms: u64) {
        if paused {
            self.from_ms = self.time_ms(now_ms);
        }
        self.since_ms = now_ms;
    }

    /// What tells it from any other of the same viewer but for one begun in the same millisecond.
    fn mark(&self) -> (i64, u64) {
        (self.from_ms, self.since_ms)
    }
}

impl Viewer {
    /// Rewinds to a time: from now on live frames of what is replayed rest, and REPLAY frames are
    /// owed for it. Another time, or speed, takes the place of the one before.
    pub fn rewind(&self, from_ms: i64, speed: u32, now_ms: u64) -> Result<(), Refusal> {
        let state = &mut *self.state.borrow_mut();
        let before = state.replay.take();
        let was_live = before.is_none();
        let seat = match before {
            Some(before) => before.seat,
            None => self.views.seat().ok_or(Refusal::TooManyReplays)?,
        };
        for subscription in state.subscriptions.iter_mut().filter(|s| s.is_replayed()) {
            subscription.replayed_ms = i64::MIN;
            if state.outbox.withdraw(subscription.id) {
                self.counters.frames_coalesced.add(1);
                if was_live {
                    subscription.take_back();
                }
            }
        }
        state.replay = Some(Replay {
            from_ms,
            speed,
            since_ms: now_ms,
            seen_ms: i64::MIN,
            seat,
        });
        Ok(())
    }

    /// Back to the present: KEY frames, as after a pause.
    pub fn go_live(&self, now_ms: u64) {
        let state = &mut *self.state.borrow_mut();
        if state.replay.take().is_none() {
            return;
        }
        for subscription in state.subscriptions.iter_mut().filter(|s| s.is_replayed()) {
            if state.outbox.withdraw(subscription.id) {
                self.counters.frames_coalesced.add(1);
            }
            subscription.owed_since_ms = now_ms;
            subscription.start_over();
        }
    }

    /// Where its replay is.
    pub fn replay_ms(&self, now_ms: u64) -> Option<i64> {
        let state = self.state.borrow();
        let replay = state.replay.as_ref().filter(|_| !state.paused);
        replay.map(|replay| replay.time_ms(now_ms))
    }

    /// The picture that is owed longest. None while anything waits for the socket: a viewer that
    /// does not read holds no REPLAY frame, and any other one at a time.
    pub fn take_owed(&self, now_ms: u64) -> Option<Owed> {
        let state = &mut *self.state.borrow_mut();
        if state.paused || state.closing || !state.outbox.is_empty() {
            return None;
        }
        let replay = state.replay.as_mut()?;
        let at_ms = replay.step_ms(now_ms);
        let owed = |s: &Subscription| s.is_replayed() && s.replayed_ms < at_ms;
        let waits = |s: &Subscription| owed(s) && !s.has_scale();
        // One that waits for its scale is looked at again with the next tick.
        if !state.subscriptions.iter().any(waits) {
            replay.seen_ms = at_ms;
        }
        let longest = state.subscriptions.iter_mut();
        let longest = longest.filter(|s| owed(s) && s.has_scale());
        let longest = longest.min_by_key(|s| s.replayed_ms)?;
        longest.replayed_ms = at_ms;
        Some(Owed {
            id: longest.id,
            watched: longest.watched.clone(),
            at_ms,
            replay: replay.mark(),
        })
    }

    /// Queues the frame that was owed, unless the viewer has moved on or shows something else.
    pub fn show(
        &self,
        owed: &Owed,
        frame: impl FnOnce(&Watched) -> Option<Bytes>,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let state = &mut *self.state.borrow_mut();
        let is_same = state.replay.as_ref().map(Replay::mark) == Some(owed.replay);
        let Ok(at) = position(&state.subscriptions, owed.id) else {
            return Ok(());
        };
        let watched = &state.subscriptions[at].watched;
        let (now, then) = (&watched.view, &owed.watched.view);
        let shows_the_same = (&now.kind, &now.filter) == (&then.kind, &then.filter);
        if state.paused || state.closing || !is_same || !shows_the_same {
            return Ok(());
        }
        if let Some(bytes) = frame(watched) {
            self.counters.frames_due.add(1);
            if state.outbox.frame(owed.id, bytes) {
                self.counters.frames_coalesced.add(1);
            }
            let flushed = self.flush_state(state, now_ms);
            flushed.map_err(|_| Reason::StalledViewer)?;
        }
        Ok(())
    }
}

impl Subscription {
    pub(super) fn is_replayed(&self) -> bool {
        match self.watched.view.kind {
            Kind::Map { .. } | Kind::Top { .. } | Kind::Lines { .. } => true,
            Kind::Host { .. } | Kind::Stats => false,
        }
    }

    /// The colours of the past are those of the present, which a map has with its first frame.
    fn has_scale(&self) -> bool {
        !matches!(self.watched.view.kind, Kind::Map { .. }) || self.watched.scale().is_some()
    }

    /// The frame queued last is not sent after all.
    fn take_back(&mut self) {
        self.sent.pop();
        self.last = None;
    }
}
