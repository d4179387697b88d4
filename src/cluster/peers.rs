//! What comes from other nodes: who may say what, in which order, and what is missing.
//!
//! Pure: messages and time in, records and wishes out. A message counts when it is sealed by the
//! cluster's key, of this hour, of the peer's newest start, and the next of its sequence. A gap is
//! closed by a keyframe of the peer's, which is asked for; what comes meanwhile is held.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::peer::{Inlet, Peer, Place, Sync};
use super::record::{Peer as Number, Reach, Record, SELF};
use super::roster::{Roster, Standing};
use super::wire::{self, Body, Fault, Head, Kind, Picture, Seal};
use crate::catalog::lookup::Lookup;
use crate::catalog::{Catalog, Tags};
use crate::clock::Now;
use crate::limits::{
    CLUSTER_NODES_TTL, CLUSTER_SKEW_MAX, FORGET_AFTER, PEER_SILENT_AFTER, PEERS_MAX, WANT_INTERVAL,
};
use crate::observe::{Cluster as Counters, Refused};
use crate::sample::{Sample, Slot};

/// What [`Peers`] asks of whoever has the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Say [`Body::Want`] of this node.
    Want(String),
    /// Fetch this node's keyframe and give it to [`Peers::keyframe`].
    Load(String),
    /// Somebody lacks this node's own.
    Store,
    /// A peer was started anew, and has to be told what this node knows of its hosts.
    Vouch,
}

pub struct Peers {
    node: String,
    epoch: u64,
    seal: Seal,
    lookup: Lookup,
    by_name: HashMap<Arc<str>, Peer, RandomState>,
    roster: Arc<Roster>,
    counters: Arc<Counters>,
    records: VecDeque<Sample>,
    tagged: Vec<(Slot, Tags)>,
    wishes: Vec<Wish>,
    /// When this node's own last message came back.
    echo_ms: u64,
    /// For the simulation's negative twin: takes any message for the next one.
    #[cfg(test)]
    pub(super) ignores_gaps: bool,
}

impl Peers {
    pub fn new(
        node: &str,
        epoch: u64,
        seal: Seal,
        catalog: Arc<Catalog>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            node: node.to_owned(),
            epoch,
            seal,
            lookup: Lookup::new(catalog),
            by_name: HashMap::default(),
            roster: Roster::new(),
            counters,
            records: VecDeque::new(),
            tagged: Vec::new(),
            wishes: Vec::new(),
            echo_ms: 0,
            #[cfg(test)]
            ignores_gaps: false,
        }
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// For the aggregator, in order; taken from the front as its ring has room.
    pub fn records(&mut self) -> &mut VecDeque<Sample> {
        &mut self.records
    }

    /// Tags that came from peers since the last call.
    pub fn tagged(&mut self) -> Vec<(Slot, Tags)> {
        std::mem::take(&mut self.tagged)
    }

    pub fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// This node starts anew under a later epoch than it thought.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// When this node last heard itself: what says that its subscription lives.
    pub fn echo_ms(&self) -> u64 {
        self.echo_ms
    }

    /// Whether all who may be there, by what Redis says and by what was before, were heard since.
    pub fn have_spoken(&self, since_ms: u64, seen: &[String]) -> bool {
        let known = self.by_name.values().filter(|peer| !peer.has_left);
        let (mut others, mut spoke) = (0, 0);
        for peer in known {
            others += 1;
            spoke += usize::from(since_ms <= peer.heard_ms);
        }
        0 < others && others == spoke && seen.iter().all(|node| self.has_heard(node, since_ms))
    }

    pub fn has_heard(&self, node: &str, since_ms: u64) -> bool {
        let peer = self.by_name.get(node);
        node == self.node || peer.is_some_and(|peer| since_ms <= peer.heard_ms)
    }

    /// A message from the channels.
    pub fn receive(&mut self, message: &[u8], now: Now) {
        self.counters.received(message.len());
        self.lookup.begin();
        if let Err(refused) = self.take(message, now) {
            self.counters.refuse(refused);
        }
    }

    /// What was found as the keyframe of `node`.
    pub fn keyframe(&mut self, node: &str, message: &[u8], now: Now) {
        self.counters.received(message.len());
        self.lookup.begin();
        match self.take_keyframe(node, message, now) {
            Ok(()) => self.counters.keyframes_loaded.add(1),
            Err(refused) => self.counters.refuse(refused),
        }
    }

    /// This node's own keyframe, of a start before this one: hosts that send no more are not
    /// forgotten for it. Gives the epoch it was of.
    pub fn restore(&mut self, message: &[u8], now: Now) -> Option<u64> {
        self.lookup.begin();
        let restored = self.take_former_self(message, now);
        restored
            .inspect_err(|&refused| self.counters.refuse(refused))
            .ok()
    }

    /// Notices silence, and repeats what was asked for in vain.
    pub fn poll(&mut self, now: Now) {
        for (name, peer) in &mut self.by_name {
            let silent_ms = now.mono_ms.saturating_sub(peer.heard_ms);
            if let Sync::Gap { need, asked_ms, .. } = &mut peer.sync
                && 0 < *need
                && silent_ms < millis(PEER_SILENT_AFTER)
                && asked_ms.is_none_or(|at| now.mono_ms - at >= millis(WANT_INTERVAL))
            {
                *asked_ms = Some(now.mono_ms);
                self.wishes.push(Wish::Want(name.to_string()));
            }
            if silent_ms >= millis(PEER_SILENT_AFTER) && !peer.is_silent && !peer.has_left {
                peer.is_silent = true;
                if matches!(peer.sync, Sync::Gap { .. }) {
                    // It answers no more: what it left is better than what it was before the gap.
                    self.wishes.push(Wish::Load(name.to_string()));
                }
                let reach = Reach::Unreachable;
                let record = Record::Reach {
                    peer: peer.number,
                    reach,
                };
                self.records.push_back(record.pack());
            }
            self.roster.set(
                peer.number,
                standing(peer, silent_ms),
                peer.heard_ms,
                peer.hosts(),
            );
        }
        self.drop_forgotten(now);
    }

    fn take(&mut self, message: &[u8], now: Now) -> Result<(), Refused> {
        let (head, bytes) = wire::open(message, &self.seal)?;
        if now.wall_ms.abs_diff(head.wall_ms) > millis(CLUSTER_SKEW_MAX) {
            return Err(Refused::Skew);
        }
        if head.node == self.node {
            return self.take_own(&head, bytes, now);
        }
        if head.kind == Kind::Keyframe {
            return Err(Refused::Malformed);
        }
        // The body first: what cannot be read must not move the sequence.
        let body = wire::read_body(head.kind, bytes)?;
        let ignores_gaps = self.ignores_gaps();
        let peer = self.peer(&head)?;
        // An earlier start than the one known is a recording; but not after so long a silence that
        // a recording's wall clock would betray it. Then the peer's clock was ahead, and set right.
        let silent_ms = now.mono_ms.saturating_sub(peer.heard_ms);
        if head.epoch < peer.epoch && silent_ms < 2 * millis(CLUSTER_SKEW_MAX) {
            return Err(Refused::Old);
        }
        if head.epoch != peer.epoch {
            peer.restart(head.epoch);
            let record = Record::Restart { peer: peer.number };
            self.records.push_back(record.pack());
            self.wishes.push(Wish::Vouch);
        }
        let peer = self.peer(&head)?;
        if ignores_gaps && let Sync::Whole { seq } = &mut peer.sync {
            *seq = head.seq.saturating_sub(1);
        }
        let place = peer.place(head.seq);
        if place == Place::Old {
            return Err(Refused::Old);
        }
        peer.hear(head.mono_ms, now);
        peer.has_left = head.kind == Kind::Bye;
        self.follow(&head, body, place, message.len(), now)
    }

    fn follow(
        &mut self,
        head: &Head<'_>,
        body: Body,
        place: Place,
        bytes: usize,
        now: Now,
    ) -> Result<(), Refused> {
        match body {
            Body::Delta(picture) if place == Place::Held => {
                if let Some(peer) = self.by_name.get_mut(head.node) {
                    peer.hold(head.seq, head.mono_ms, picture, bytes);
                }
            }
            Body::Delta(picture) => self.apply(head, &picture, now)?,
            Body::Stored { seq } => {
                let peer = self.by_name.get(head.node);
                if let Some(peer) = peer
                    && let Sync::Gap { need, .. } = &peer.sync
                    && (1..=seq).contains(need)
                    && peer.is_timed()
                {
                    self.wishes.push(Wish::Load(head.node.to_owned()));
                }
            }
            Body::Want { node } => {
                if node.is_empty() || node == self.node {
                    self.wishes.push(Wish::Store);
                }
            }
            Body::Keyframe(_) | Body::Bye => {}
        }
        self.begin(head.node, now)?;
        self.settle(head.node);
        Ok(())
    }

    /// A peer that was heard from its first message on is whole once its clock is known.
    fn begin(&mut self, node: &str, now: Now) -> Result<(), Refused> {
        let peer = self.by_name.get_mut(node);
        let Some(peer) = peer.filter(|peer| peer.is_timed()) else {
            return Ok(());
        };
        match &peer.sync {
            Sync::Gap { need: 0, .. } => self.catch_up(node, 0, now),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, head: &Head<'_>, picture: &Picture, now: Now) -> Result<(), Refused> {
        let Some(peer) = self.by_name.get_mut(head.node) else {
            return Ok(());
        };
        let mut inlet = Inlet {
            lookup: &mut self.lookup,
            records: &mut self.records,
            tagged: &mut self.tagged,
        };
        self.counters.cells_received.add(picture.cells.len() as u64);
        let applied = peer.apply_delta(picture, head.mono_ms, now, &mut inlet);
        applied.map_err(|_| {
            peer.miss(head.seq);
            Refused::Unknown
        })
    }

    /// The node's own message comes back; or somebody else has its name.
    fn take_own(&mut self, head: &Head<'_>, bytes: &[u8], now: Now) -> Result<(), Refused> {
        if head.epoch != self.epoch {
            return Err(Refused::Name);
        }
        self.echo_ms = now.mono_ms;
        wire::read_body(head.kind, bytes)?;
        Ok(())
    }

    fn take_keyframe(&mut self, node: &str, message: &[u8], now: Now) -> Result<(), Refused> {
        let (head, bytes) = wire::open(message, &self.seal)?;
        let age_ms = now.wall_ms.saturating_sub(head.wall_ms);
        let oldest_ms = millis(CLUSTER_NODES_TTL) as i64;
        if !(-(millis(CLUSTER_SKEW_MAX) as i64)..=oldest_ms).contains(&age_ms) {
            return Err(Refused::Skew);
        }
        if head.node != node || head.kind != Kind::Keyframe || node == self.node {
            return Err(Refused::Malformed);
        }
        let Body::Keyframe(picture) = wire::read_body(head.kind, bytes)? else {
            return Err(Refused::Malformed);
        };
        let is_new = !self.by_name.contains_key(node);
        let peer = self.peer(&head)?;
        let is_needed = match &peer.sync {
            _ if is_new || head.epoch > peer.epoch => true,
            _ if head.epoch < peer.epoch => false,
            Sync::Gap { need, .. } => *need <= head.seq || peer.is_silent,
            Sync::Whole { seq } => *seq < head.seq,
        };
        if !is_needed {
            return Err(Refused::Old);
        }
        if head.epoch > peer.epoch {
            peer.restart(head.epoch);
            let record = Record::Restart { peer: peer.number };
            self.records.push_back(record.pack());
            self.wishes.push(Wish::Vouch);
        }
        self.enter(&head, &picture, now)?;
        self.settle(node);
        Ok(())
    }

    fn take_former_self(&mut self, message: &[u8], now: Now) -> Result<u64, Refused> {
        let (head, bytes) = wire::open(message, &self.seal)?;
        let Body::Keyframe(picture) = wire::read_body(head.kind, bytes)? else {
            return Err(Refused::Malformed);
        };
        let age_ms = now.wall_ms.saturating_sub(head.wall_ms);
        if head.node != self.node || head.epoch == self.epoch {
            return Err(Refused::Name);
        }
        if (0..=millis(CLUSTER_NODES_TTL) as i64).contains(&age_ms) {
            let mut inlet = Inlet {
                lookup: &mut self.lookup,
                records: &mut self.records,
                tagged: &mut self.tagged,
            };
            let base_ms = now.mono_ms as i64 - age_ms;
            let mut former = Peer::new(SELF, head.epoch);
            let applied = former.apply_keyframe(&picture, base_ms, &mut inlet);
            applied.map_err(|_| Refused::Unknown)?;
        }
        Ok(head.epoch)
    }

    /// A keyframe's content, then what was held for it.
    fn enter(&mut self, head: &Head<'_>, picture: &Picture, now: Now) -> Result<(), Refused> {
        let Some(peer) = self.by_name.get_mut(head.node) else {
            return Ok(());
        };
        let mut inlet = Inlet {
            lookup: &mut self.lookup,
            records: &mut self.records,
            tagged: &mut self.tagged,
        };
        // Of a peer that was never heard itself, only the wall clocks say how old it is.
        let base_ms = if peer.is_timed() {
            peer.here_ms(head.mono_ms, now)
        } else {
            let age_ms = (now.wall_ms.saturating_sub(head.wall_ms)).max(0);
            let base_ms = now.mono_ms as i64 - age_ms;
            peer.heard_ms = base_ms.max(0) as u64;
            base_ms
        };
        self.counters.cells_received.add(picture.cells.len() as u64);
        let applied = peer.apply_keyframe(picture, base_ms, &mut inlet);
        applied.map_err(|_| {
            peer.miss(head.seq);
            Refused::Unknown
        })?;
        match &peer.sync {
            // Of a peer that is gone: all there is, and not all there was.
            Sync::Gap { need, .. } if head.seq < *need => Ok(()),
            _ => self.catch_up(head.node, head.seq, now),
        }
    }

    /// What came after all that is known up to `seq`.
    fn catch_up(&mut self, node: &str, seq: u64, now: Now) -> Result<(), Refused> {
        let Some(peer) = self.by_name.get_mut(node) else {
            return Ok(());
        };
        let mut inlet = Inlet {
            lookup: &mut self.lookup,
            records: &mut self.records,
            tagged: &mut self.tagged,
        };
        for held in peer.close_gap(seq) {
            let cells = held.picture.cells.len() as u64;
            self.counters.cells_received.add(cells);
            let applied = peer.apply_delta(&held.picture, held.mono_ms, now, &mut inlet);
            if applied.is_err() {
                peer.miss(held.seq);
                return Err(Refused::Unknown);
            }
        }
        Ok(())
    }

    /// After the records of what it said: a peer that is whole again is there again.
    fn settle(&mut self, node: &str) {
        let Some(peer) = self.by_name.get_mut(node) else {
            return;
        };
        let is_back = matches!(peer.sync, Sync::Whole { .. }) || peer.has_left;
        if peer.is_silent && is_back && (peer.has_left || peer.is_timed()) {
            peer.is_silent = false;
            let reach = Reach::Reachable;
            let record = Record::Reach {
                peer: peer.number,
                reach,
            };
            self.records.push_back(record.pack());
        }
    }

    fn peer(&mut self, head: &Head<'_>) -> Result<&mut Peer, Refused> {
        if !self.by_name.contains_key(head.node) {
            let taken: Vec<Number> = self.by_name.values().map(|peer| peer.number).collect();
            let free = (1..=PEERS_MAX as Number).find(|number| !taken.contains(number));
            let number = free.or_else(|| self.take_from_the_gone());
            let number = number.ok_or(Refused::Crowd)?;
            self.roster.set_name(number, head.node);
            let peer = Peer::new(number, head.epoch);
            self.by_name.insert(Arc::from(head.node), peer);
        }
        self.by_name.get_mut(head.node).ok_or(Refused::Crowd)
    }

    /// The number of whoever left first. Its hosts are the new peer's by name until they are heard.
    fn take_from_the_gone(&mut self) -> Option<Number> {
        let gone = self.by_name.iter().filter(|(_, peer)| peer.has_left);
        let (name, number) = gone
            .min_by_key(|(_, peer)| peer.heard_ms)
            .map(|(name, peer)| (Arc::clone(name), peer.number))?;
        self.by_name.remove(&name);
        Some(number)
    }

    /// A peer that was silent for so long that all its hosts are forgotten.
    fn drop_forgotten(&mut self, now: Now) {
        let Self {
            by_name,
            roster,
            records,
            ..
        } = self;
        by_name.retain(|_, peer| {
            let is_kept = now.mono_ms.saturating_sub(peer.heard_ms) < 2 * millis(FORGET_AFTER);
            if !is_kept {
                roster.set(peer.number, Standing::Free, 0, 0);
                let reach = Reach::Reachable;
                let record = Record::Reach {
                    peer: peer.number,
                    reach,
                };
                records.push_back(record.pack());
            }
            is_kept
        });
    }

    fn ignores_gaps(&self) -> bool {
        #[cfg(test)]
        return self.ignores_gaps;
        #[cfg(not(test))]
        false
    }
}

fn standing(peer: &Peer, silent_ms: u64) -> Standing {
    match &peer.sync {
        _ if peer.has_left => Standing::Left,
        // Its hosts are forgotten by now: nothing is missing on their account.
        _ if peer.is_silent && silent_ms > millis(FORGET_AFTER) => Standing::Left,
        _ if peer.is_silent => Standing::Unreachable,
        Sync::Gap { .. } => Standing::Joining,
        Sync::Whole { .. } => Standing::Reachable,
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Oversized => Refused::Oversized,
            Fault::Version => Refused::Version,
            Fault::Forged => Refused::Forged,
            Fault::Malformed => Refused::Malformed,
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HEAD_START_MS;

    const NOW: Now = Now {
        mono_ms: HEAD_START_MS,
        wall_ms: 1_795_680_000_000,
    };

    fn peers() -> Peers {
        let seal = Seal::new(&[1; 32]);
        Peers::new("a", 7, seal, Catalog::with_bounds(8, 4), Arc::default())
    }

    /// Sums over them must not run over: whoever has the key may still err.
    #[test]
    fn any_number_may_be_said() {
        let ends = [0, 1, 1 << 63, u64::MAX - 1, u64::MAX];
        let (seal, mut message) = (Seal::new(&[1; 32]), Vec::new());
        let mut peers = peers();
        for (epoch, mono_ms) in (1..).zip(ends.into_iter().cycle().take(25)) {
            for seq in ends {
                let mut head = Head {
                    kind: Kind::Delta,
                    node: "b",
                    epoch,
                    seq,
                    mono_ms,
                    wall_ms: NOW.wall_ms,
                };
                let delta = Body::Delta(Picture::default());
                wire::encode(&head, &delta, &seal, &mut message);
                peers.receive(&message, NOW);
                head.kind = Kind::Keyframe;
                let keyframe = Body::Keyframe(Picture::default());
                for wall_ms in [NOW.wall_ms, i64::MIN, i64::MAX] {
                    let head = Head { wall_ms, ..head };
                    wire::encode(&head, &keyframe, &seal, &mut message);
                    peers.keyframe("b", &message, NOW);
                    peers.receive(&message, NOW);
                    let head = Head { node: "a", ..head };
                    wire::encode(&head, &keyframe, &seal, &mut message);
                    peers.restore(&message, NOW);
                }
            }
        }
        assert_eq!(peers.roster().standings(NOW.mono_ms).len(), 0);
        peers.poll(NOW);
        assert_eq!(peers.roster().standings(NOW.mono_ms).len(), 1);
    }
}
