//! Who went silent: each host's own rhythm, learnt from its arrivals, and its state by it.
//!
//! A host is stale, then down, after so many of its own intervals without a sample; it is forgotten
//! after a fixed time, and its slot rests before another host gets it. All times are monotonic
//! milliseconds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::frame::State;
use crate::limits::{FORGET_AFTER, FORGETS_PER_TICK, SLOT_REST};
use crate::rhythm::{GAP_MIN_MS, Rhythm};
use crate::sample::Slot;

/// A `last_ms` that no clock reaches: half of u64 away from any.
const NEVER: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Free,
    Live,
    /// Forgotten, and not yet given to another.
    Resting,
}

#[derive(Clone, Copy)]
struct Pulse {
    /// The newest arrival that counted; [`NEVER`] unless live.
    last_ms: u64,
    rhythm: Rhythm,
    life: Life,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ok: u32,
    pub stale: u32,
    pub down: u32,
}

/// Invariant: a slot is in `resting` once exactly when its life is [`Life::Resting`].
#[derive(Default)]
pub struct Silence {
    pulses: Vec<Pulse>,
    /// As of the last [`Silence::refresh`]; by slot, like the pulses.
    states: Vec<State>,
    counts: Counts,
    /// Oldest first, with the time the rest began.
    resting: VecDeque<(u64, Slot)>,
}

impl Silence {
    /// The whole cost of most samples: this host was heard a moment ago, nothing is to be learnt.
    #[inline]
    pub fn heard(&self, slot: Slot, now_ms: u64) -> bool {
        self.pulses
            .get(slot as usize)
            .is_some_and(|pulse| now_ms.wrapping_sub(pulse.last_ms) < GAP_MIN_MS)
    }

    pub fn life(&self, slot: Slot) -> Life {
        self.pulses
            .get(slot as usize)
            .map_or(Life::Free, |pulse| pulse.life)
    }

    /// A host was heard.
    pub fn arrive(&mut self, slot: Slot, now_ms: u64) {
        let at = slot as usize;
        if at >= self.pulses.len() {
            self.pulses.resize(at + 1, Pulse::FREE);
            self.states.resize(at + 1, State::None);
        }
        let pulse = &mut self.pulses[at];
        if pulse.life != Life::Live {
            if pulse.life == Life::Resting {
                self.resting.retain(|&(_, of)| of != slot);
            }
            *pulse = Pulse {
                last_ms: now_ms,
                rhythm: Rhythm::UNKNOWN,
                life: Life::Live,
            };
            return;
        }
        let gap_ms = now_ms.saturating_sub(pulse.last_ms);
        if gap_ms < GAP_MIN_MS {
            return;
        }
        pulse.rhythm.learn(gap_ms);
        pulse.last_ms = now_ms;
    }

    /// Works out every host's state. Returns the hosts to be forgotten, a bounded number.
    pub fn refresh(&mut self, now_ms: u64) -> Vec<Slot> {
        let mut forgotten = Vec::new();
        self.counts = Counts::default();
        for (slot, (pulse, state)) in self.pulses.iter().zip(&mut self.states).enumerate() {
            *state = pulse.state(now_ms);
            match state {
                State::Ok => self.counts.ok += 1,
                State::Stale => self.counts.stale += 1,
                State::Down => {
                    self.counts.down += 1;
                    let age_ms = now_ms.saturating_sub(pulse.last_ms);
                    if age_ms > millis(FORGET_AFTER) && forgotten.len() < FORGETS_PER_TICK {
                        forgotten.push(slot as Slot);
                    }
                }
                State::None | State::Muted | State::Warn | State::Crit => {}
            }
        }
        forgotten
    }

    /// The host is forgotten: its slot begins to rest. Only for a host that [`Silence::refresh`]
    /// just named.
    pub fn rest(&mut self, slot: Slot, now_ms: u64) {
        let at = slot as usize;
        debug_assert_eq!(self.pulses[at].life, Life::Live);
        self.pulses[at] = Pulse {
            life: Life::Resting,
            ..Pulse::FREE
        };
        self.states[at] = State::None;
        self.counts.down -= 1;
        self.resting.push_back((now_ms, slot));
    }

    /// A slot that has rested and is free now; call until None.
    pub fn rested(&mut self, now_ms: u64) -> Option<Slot> {
        let &(since_ms, slot) = self.resting.front()?;
        if now_ms.saturating_sub(since_ms) < millis(SLOT_REST) {
            return None;
        }
        self.resting.pop_front();
        self.pulses[slot as usize] = Pulse::FREE;
        Some(slot)
    }

    /// By slot; a slot past the end has no host.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    pub fn state(&self, slot: Slot) -> State {
        self.states.get(slot as usize).copied().unwrap_or_default()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Time since the host was heard, to within the shortest gap that counts, and its rhythm.
    pub fn age_and_interval_ms(&self, slot: Slot, now_ms: u64) -> (u64, u64) {
        let pulse = self.pulses.get(slot as usize);
        let pulse = pulse.filter(|pulse| pulse.life == Life::Live);
        pulse.map_or((0, 0), |pulse| {
            let age_ms = now_ms.saturating_sub(pulse.last_ms);
            (age_ms, pulse.rhythm.interval_ms())
        })
    }

    pub fn invariants(&self) {
        let resting = self.pulses.iter().filter(|p| p.life == Life::Resting);
        assert_eq!(resting.count(), self.resting.len());
        let slots = self.resting.iter().map(|&(_, slot)| slot as usize);
        assert!(
            slots
                .into_iter()
                .all(|slot| self.pulses[slot].life == Life::Resting)
        );
        assert_eq!(self.pulses.len(), self.states.len());
    }
}

impl Pulse {
    const FREE: Pulse = Pulse {
        last_ms: NEVER,
        rhythm: Rhythm::UNKNOWN,
        life: Life::Free,
    };

    fn state(&self, now_ms: u64) -> State {
        if self.life != Life::Live {
            return State::None;
        }
        let age_ms = now_ms.saturating_sub(self.last_ms);
        if age_ms > self.rhythm.down_after_ms() {
            State::Down
        } else if age_ms > self.rhythm.stale_after_ms() {
            State::Stale
        } else {
            State::Ok
        }
    }
}

const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_at(silence: &mut Silence, now_ms: u64) -> State {
        silence.refresh(now_ms);
        silence.invariants();
        silence.state(0)
    }

    fn interval(silence: &Silence) -> u64 {
        silence.age_and_interval_ms(0, 0).1
    }

    /// Arrivals at these times; returns the silence and the last time.
    fn heard_at(times_ms: impl IntoIterator<Item = u64>) -> (Silence, u64) {
        let mut silence = Silence::default();
        let mut last_ms = 0;
        for now_ms in times_ms {
            silence.arrive(0, now_ms);
            last_ms = now_ms;
        }
        (silence, last_ms)
    }

    #[test]
    fn a_rhythm_is_learnt_and_clamped() {
        let check = |times: Vec<u64>, expected: u64| {
            assert_eq!(interval(&heard_at(times.clone()).0), expected, "{times:?}");
        };
        check(vec![5], 10_000);
        check(vec![5, 54], 10_000);
        check(vec![5, 1_005], 1_000);
        check(vec![0, 1_000, 1_010, 1_020, 2_000], 1_000);
        check(vec![0, 1_000, 2_080], 1_010);
        check((0..100).map(|i| i * 60).collect(), 500);
        check((0..100).map(|i| i * 60_000).collect(), 60_000);
        check(vec![0, 400_000], 300_000);
        check((0..100).map(|i| i * 900_000).collect(), 300_000);
    }

    #[test]
    fn an_outage_is_not_a_rhythm_but_a_slower_rhythm_is_learnt() {
        let (mut silence, last) = heard_at((0..50).map(|i| i * 1_000));
        silence.arrive(0, last + 3_000_000);
        assert_eq!(interval(&silence), 2_125);
        let (silence, _) = heard_at(
            (0..10)
                .map(|i| i * 1_000)
                .chain((1..20).map(|i| i * 60_000)),
        );
        assert!(interval(&silence) > 50_000);
    }

    #[test]
    fn a_silent_host_is_stale_then_down_then_forgotten_and_comes_back() {
        let (mut silence, last) = heard_at((0..10).map(|i| i * 1_000));
        let mut check = |after_ms: u64, expected: State| {
            assert_eq!(
                state_at(&mut silence, last + after_ms),
                expected,
                "{after_ms}"
            );
        };
        check(0, State::Ok);
        check(3_000, State::Ok);
        check(3_001, State::Stale);
        check(10_000, State::Stale);
        check(10_001, State::Down);
        check(3_600_000, State::Down);
        assert!(silence.refresh(last + 3_600_000).is_empty());
        assert_eq!(silence.refresh(last + 3_600_001), [0]);
        let mut back = heard_at((0..10).map(|i| i * 1_000)).0;
        back.arrive(0, last + 20_000);
        assert_eq!(state_at(&mut back, last + 20_000), State::Ok);
        assert_eq!(
            back.counts(),
            Counts {
                ok: 1,
                stale: 0,
                down: 0
            }
        );
    }

    #[test]
    fn a_forgotten_slot_rests_unless_its_host_returns() {
        let (mut silence, _) = heard_at([0]);
        silence.arrive(1, 0);
        let now = 3_600_001;
        assert_eq!(silence.refresh(now), [0, 1]);
        silence.rest(0, now);
        silence.rest(1, now);
        assert_eq!(
            (silence.state(0), silence.life(0)),
            (State::None, Life::Resting)
        );
        assert!(!silence.heard(0, now));
        assert_eq!(silence.rested(now + 9_999), None);
        silence.arrive(0, now + 9_999);
        assert_eq!(silence.rested(now + 10_000), Some(1));
        assert_eq!(silence.rested(now + 10_000), None);
        assert_eq!((silence.life(0), silence.life(1)), (Life::Live, Life::Free));
        assert_eq!(state_at(&mut silence, now + 10_000), State::Ok);
    }

    #[test]
    fn few_are_forgotten_at_a_time() {
        let mut silence = Silence::default();
        for slot in 0..FORGETS_PER_TICK as Slot + 1 {
            silence.arrive(slot, 0);
        }
        assert_eq!(silence.refresh(3_600_001).len(), FORGETS_PER_TICK);
    }

    #[test]
    fn hearing_holds_at_the_clock_s_origin() {
        let (silence, _) = heard_at([0]);
        assert!(silence.heard(0, 49) && !silence.heard(0, 50));
        assert!(!silence.heard(1, 0));
        assert!(
            !Silence {
                pulses: vec![Pulse::FREE],
                ..Silence::default()
            }
            .heard(0, 0)
        );
    }
}
