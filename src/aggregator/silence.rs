//! Who went silent: each host's own rhythm, learnt from its arrivals, and its state by it.
//!
//! A host is stale, then down, after so many of its own intervals without a sample; it is forgotten
//! after a fixed time, and its slot rests before another host gets it. All times are monotonic
//! milliseconds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cluster::record::{Peer, SELF};
use crate::frame::State;
use crate::limits::{FORGET_AFTER, FORGETS_PER_TICK, INTERVAL_MAX, SLOT_REST};
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
    /// The node that heard it last.
    owner: Peer,
    /// Somebody heard it: else its name is known and its sample on the way.
    is_heard: bool,
    /// When this node heard it last in this life, wrapping; 0: never.
    here: u32,
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
    /// By peer: those that cannot be heard, so that nobody here knows what their hosts do.
    unreachable: Vec<bool>,
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
        self.pulses.get(slot as usize).is_some_and(|pulse| {
            now_ms.wrapping_sub(pulse.last_ms) < GAP_MIN_MS && pulse.owner == SELF
        })
    }

    pub fn life(&self, slot: Slot) -> Life {
        self.pulses
            .get(slot as usize)
            .map_or(Life::Free, |pulse| pulse.life)
    }

    /// A host's name is known, its first sample is on the way.
    pub fn expect(&mut self, slot: Slot, now_ms: u64) {
        self.revive(slot, now_ms);
    }

    /// A host was heard here.
    pub fn arrive(&mut self, slot: Slot, now_ms: u64) {
        self.hear(slot, now_ms);
        let pulse = &mut self.pulses[slot as usize];
        pulse.owner = SELF;
        pulse.here = (now_ms as u32).max(1);
    }

    /// A peer heard a host then. It is the peer's if nobody heard it later.
    pub fn arrive_at(&mut self, peer: Peer, slot: Slot, heard_ms: u64) {
        self.revive(slot, heard_ms);
        let pulse = &self.pulses[slot as usize];
        if !pulse.is_heard || pulse.last_ms < heard_ms {
            self.hear(slot, heard_ms);
            self.pulses[slot as usize].owner = peer;
        }
    }

    /// A peer's knowledge of a host, which is the better one if it heard it later.
    pub fn adopt(&mut self, peer: Peer, slot: Slot, heard_ms: u64, interval_ms: u32) {
        self.revive(slot, heard_ms);
        let pulse = &mut self.pulses[slot as usize];
        if peer == SELF && pulse.here == 0 {
            pulse.here = (heard_ms as u32).max(1);
        }
        let told = Rhythm::from_raw_ms(interval_ms.min(millis(INTERVAL_MAX) as u32) as f32);
        if !pulse.is_heard || pulse.last_ms < heard_ms {
            pulse.last_ms = heard_ms;
            pulse.owner = peer;
            pulse.is_heard = true;
            if told.is_known() {
                pulse.rhythm = told;
            }
        } else if !pulse.rhythm.is_known() {
            pulse.rhythm = told;
        }
    }

    /// A peer was started anew: this node tells of the peer's hosts as if it had heard them itself,
    /// until somebody does.
    pub fn vouch_for(&mut self, peer: Peer) {
        let of_peer = |pulse: &&mut Pulse| pulse.owner == peer && pulse.is_heard;
        for pulse in self.pulses.iter_mut().filter(of_peer) {
            pulse.here = (pulse.last_ms as u32).max(1);
        }
    }

    /// What a peer's hosts do cannot be known, or can again.
    pub fn reach(&mut self, peer: Peer, is_reachable: bool) {
        let at = usize::from(peer);
        if at >= self.unreachable.len() {
            self.unreachable.resize(at + 1, false);
        }
        self.unreachable[at] = !is_reachable;
    }

    fn hear(&mut self, slot: Slot, now_ms: u64) {
        self.revive(slot, now_ms);
        let pulse = &mut self.pulses[slot as usize];
        if !std::mem::replace(&mut pulse.is_heard, true) {
            pulse.last_ms = now_ms;
            return;
        }
        let gap_ms = now_ms.saturating_sub(pulse.last_ms);
        if gap_ms < GAP_MIN_MS {
            return;
        }
        pulse.rhythm.learn(gap_ms);
        pulse.last_ms = now_ms;
    }

    fn revive(&mut self, slot: Slot, now_ms: u64) {
        let at = slot as usize;
        if at >= self.pulses.len() {
            self.pulses.resize(at + 1, Pulse::FREE);
            self.states.resize(at + 1, State::None);
        }
        let pulse = &mut self.pulses[at];
        if pulse.life == Life::Live {
            return;
        }
        if pulse.life == Life::Resting {
            self.resting.retain(|&(_, of)| of != slot);
        }
        *pulse = Pulse {
            last_ms: now_ms,
            life: Life::Live,
            ..Pulse::FREE
        };
    }

    /// Works out every host's state. Returns the hosts to be forgotten, a bounded number.
    pub fn refresh(&mut self, now_ms: u64) -> Vec<Slot> {
        let mut forgotten = Vec::new();
        self.counts = Counts::default();
        for (slot, (pulse, state)) in self.pulses.iter().zip(&mut self.states).enumerate() {
            *state = pulse.state(now_ms, &self.unreachable);
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

    /// The node that heard the host last.
    pub fn owner(&self, slot: Slot) -> Peer {
        self.pulses
            .get(slot as usize)
            .map_or(SELF, |pulse| pulse.owner)
    }

    pub fn is_unreachable(&self, peer: Peer) -> bool {
        self.unreachable.get(usize::from(peer)) == Some(&true)
    }

    pub fn is_heard(&self, slot: Slot) -> bool {
        let pulse = self.pulses.get(slot as usize);
        pulse.is_some_and(|pulse| pulse.is_heard)
    }

    /// When this node itself heard the host last, in its present life; wrapping milliseconds.
    pub fn here(&self, slot: Slot) -> Option<u32> {
        let here = self.pulses.get(slot as usize).map(|pulse| pulse.here);
        here.filter(|here| *here > 0)
    }

    /// Hosts that were heard here last: slot, time and rhythm, 0 for one not learnt yet.
    pub fn own(&self) -> impl Iterator<Item = (Slot, u64, u32)> {
        let pulses = self.pulses.iter().zip(0..);
        let own = pulses.filter(|(pulse, _)| pulse.here > 0 && pulse.owner == SELF);
        own.map(|(pulse, slot)| (slot, pulse.last_ms, pulse.rhythm.raw_ms().round() as u32))
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
        owner: SELF,
        is_heard: false,
        here: 0,
    };

    fn state(&self, now_ms: u64, unreachable: &[bool]) -> State {
        if self.life != Life::Live {
            return State::None;
        }
        let age_ms = now_ms.saturating_sub(self.last_ms);
        if unreachable.get(usize::from(self.owner)) == Some(&true) && age_ms <= millis(FORGET_AFTER)
        {
            return State::Stale;
        }
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

    #[test]
    fn a_host_is_the_node_s_that_heard_it_last() {
        let mut silence = Silence::default();
        silence.expect(0, 5_000);
        silence.arrive_at(1, 0, 4_000);
        assert_eq!((silence.owner(0), silence.here(0)), (1, None));
        assert_eq!(silence.age_and_interval_ms(0, 5_000).0, 1_000);
        silence.arrive(0, 6_000);
        assert_eq!((silence.owner(0), silence.here(0)), (SELF, Some(6_000)));
        silence.arrive_at(2, 0, 5_900);
        assert_eq!(silence.owner(0), SELF, "it was heard here later");
        silence.adopt(1, 0, 5_999, 60_000);
        assert_eq!((silence.owner(0), interval(&silence)), (SELF, 2_000));
        silence.adopt(1, 0, 6_001, 60_000);
        assert_eq!((silence.owner(0), interval(&silence)), (1, 60_000));
        assert_eq!(silence.own().count(), 0);
        silence.adopt(SELF, 1, 1_000, 0);
        assert!(silence.own().eq([(1, 1_000, 0)]));
        silence.invariants();
    }

    /// What its hosts do nobody knows: neither that they are well, nor that they are down.
    #[test]
    fn hosts_of_a_peer_that_cannot_be_heard_are_stale_until_they_are_forgotten() {
        let (mut silence, last) = heard_at((0..10).map(|i| i * 1_000));
        silence.arrive_at(3, 0, last + 1_000);
        let last = last + 1_000;
        assert_eq!(state_at(&mut silence, last), State::Ok);
        silence.reach(3, false);
        for after_ms in [0, 20_000, 3_600_000] {
            assert_eq!(state_at(&mut silence, last + after_ms), State::Stale);
        }
        assert_eq!(silence.refresh(last + 3_600_001), [0]);
        silence.reach(3, true);
        assert_eq!(state_at(&mut silence, last + 20_000), State::Down);
        silence.reach(3, false);
        silence.arrive(0, last + 30_000);
        assert_eq!(state_at(&mut silence, last + 30_000), State::Ok, "ours now");
    }
}
