//! This node's part in the cluster: when it says what, and when it asks.
//!
//! Pure, so that the simulation runs what the node runs: time, samples, messages and keyframes come
//! in, [`Act`]s go out, for whoever has the connection and the aggregator.

use std::collections::VecDeque;
use std::sync::Arc;

use super::peers::{Peers, Wish};
use super::publisher::{Draft, Export, Publisher};
use super::roster::Roster;
use super::wire::{Body, Kind, Seal};
use crate::catalog::Catalog;
use crate::clock::Now;
use crate::limits::{
    CLUSTER_EAGER, CLUSTER_HEARTBEAT, CLUSTER_KEYFRAME_INTERVAL, CLUSTER_STORE_INTERVAL_MIN,
    NODES_WAIT, PEERS_MAX,
};
use crate::observe::Cluster as Counters;
use crate::sample::Sample;

#[derive(Debug, PartialEq)]
pub enum Act {
    Publish(Vec<u8>),
    /// Ask the aggregator for what it knows, and give it to [`Member::exported`].
    Export,
    /// Leave this keyframe of this node, then call [`Member::stored`].
    Store {
        bytes: Vec<u8>,
        seq: u64,
    },
    /// Fetch this node's keyframe for [`Member::loaded`].
    Load(String),
}

pub struct Member {
    publisher: Publisher,
    peers: Peers,
    counters: Arc<Counters>,
    is_linked: bool,
    said_ms: u64,
    /// Until then somebody learns this node's clock, one message at a time.
    eager_until_ms: u64,
    draft: Option<Draft>,
    /// Somebody lacks this node's keyframe.
    is_wanted: bool,
    drafted_ms: Option<u64>,
    /// The last one was longer than Redis is given.
    is_too_long: bool,
    /// Nodes that Redis knows of, to be looked at when those that live were heard.
    seen: Option<(u64, Vec<String>)>,
    acts: VecDeque<Act>,
}

impl Member {
    pub fn new(
        node: &str,
        epoch: u64,
        seal: Seal,
        catalog: Arc<Catalog>,
        counters: Arc<Counters>,
    ) -> Self {
        let peers = Peers::new(
            node,
            epoch,
            seal.clone(),
            Arc::clone(&catalog),
            Arc::clone(&counters),
        );
        Self {
            publisher: Publisher::new(node, epoch, seal, catalog),
            peers,
            counters,
            is_linked: false,
            said_ms: 0,
            eager_until_ms: 0,
            draft: None,
            is_wanted: false,
            drafted_ms: None,
            is_too_long: false,
            seen: None,
            acts: VecDeque::new(),
        }
    }

    pub fn roster(&self) -> &Arc<Roster> {
        self.peers.roster()
    }

    /// What is to be done, in this order.
    pub fn act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Not now, but before all others.
    pub fn postpone(&mut self, act: Act) {
        self.acts.push_front(act);
    }

    /// For the aggregator's ring.
    pub fn records(&mut self) -> &mut VecDeque<Sample> {
        self.peers.records()
    }

    /// When this node's own words came back last.
    pub fn echo_ms(&self) -> u64 {
        self.peers.echo_ms()
    }

    /// The keyframe that this node left before it was started, if any: before the first link.
    pub fn restore(&mut self, keyframe: &[u8], now: Now) {
        if let Some(epoch) = self.peers.restore(keyframe, now) {
            // A clock that was set back must not make this start the earlier one.
            self.publisher.outdo(epoch);
            self.peers.set_epoch(self.publisher.epoch());
        }
    }

    /// There is a connection. Everybody may have missed everything: what others have is asked for,
    /// what this node has is left.
    pub fn link(&mut self, seen: Vec<String>, now: Now) {
        self.is_linked = true;
        self.roster().link(true);
        self.counters.link_up.set(1);
        self.seen = Some((now.mono_ms, seen));
        self.is_wanted = true;
        self.drafted_ms = None;
        self.eager_until_ms = now.mono_ms + millis(CLUSTER_EAGER);
        let node = String::new();
        self.say(Kind::Want, &Body::Want { node }, now);
    }

    pub fn unlink(&mut self) {
        self.is_linked = false;
        self.roster().link(false);
        self.counters.link_up.set(0);
        self.acts.clear();
        self.draft = None;
    }

    /// What the aggregator merged of this node's own samples.
    pub fn take(&mut self, samples: &[Sample]) {
        self.publisher.take(samples);
    }

    /// Samples found no room on their way here.
    pub fn lose(&mut self) {
        self.publisher.lose();
    }

    pub fn receive(&mut self, message: &[u8], now: Now) {
        self.peers.receive(message, now);
        self.answer(now);
    }

    pub fn node(&self) -> &str {
        self.peers.node()
    }

    pub fn loaded(&mut self, node: &str, keyframe: &[u8], now: Now) {
        self.peers.keyframe(node, keyframe, now);
    }

    pub fn exported(&mut self, export: Export, now: Now) {
        let Some(draft) = self.draft.take() else {
            return;
        };
        let mut bytes = Vec::new();
        let seq = self.publisher.keyframe(draft, export, now, &mut bytes);
        self.acts.push_back(Act::Store { bytes, seq });
    }

    pub fn stored(&mut self, seq: u64, bytes: usize, now: Now) {
        self.is_too_long = false;
        self.counters.keyframes_stored.add(1);
        self.counters.keyframe_bytes.add(bytes as u64);
        self.say(Kind::Stored, &Body::Stored { seq }, now);
    }

    /// The keyframe could not be stored for its length.
    pub fn too_long(&mut self) {
        self.is_too_long = true;
    }

    /// A message is on its way.
    pub fn sent(&self, bytes: usize) {
        self.counters.messages_sent.add(1);
        self.counters.bytes_sent.add(bytes as u64);
    }

    /// The last word before an ordered stop, after what is left to say.
    pub fn leave(&mut self, now: Now) {
        self.tell(now, true);
        self.say(Kind::Bye, &Body::Bye, now);
    }

    /// Once a turn, after the samples were taken.
    pub fn turn(&mut self, now: Now) {
        for (slot, tags) in self.peers.tagged() {
            self.publisher.heard_tags(slot, tags);
        }
        self.peers.poll(now);
        if !self.is_linked {
            if self.publisher.has_cells() {
                self.publisher.lose();
            }
            self.peers.wishes();
            return;
        }
        self.tell(now, false);
        self.answer(now);
        self.look_for_the_dead(now);
        self.draft(now);
    }

    fn tell(&mut self, now: Now, is_last: bool) {
        let is_eager = now.mono_ms < self.eager_until_ms;
        let is_quiet = millis(CLUSTER_HEARTBEAT) <= now.mono_ms - self.said_ms;
        let is_due = is_last || is_eager || is_quiet;
        if !is_due && !self.publisher.has_more() {
            return;
        }
        loop {
            let mut message = Vec::new();
            self.publisher.delta(now, &mut message);
            self.push(message, now);
            if !self.publisher.has_more() {
                break;
            }
        }
        self.counters.cells_sent.set(self.publisher.cells());
    }

    fn answer(&mut self, now: Now) {
        for wish in self.peers.wishes() {
            match wish {
                Wish::Want(node) => self.say(Kind::Want, &Body::Want { node }, now),
                Wish::Load(node) => self.acts.push_back(Act::Load(node)),
                Wish::Vouch => {
                    self.publisher.fall_behind();
                    self.is_wanted = true;
                }
                Wish::Store => {
                    self.is_wanted = true;
                    self.eager_until_ms = now.mono_ms + millis(CLUSTER_EAGER);
                }
            }
        }
    }

    /// Nodes that Redis knows and nobody hears: what they left says what this node cannot see.
    fn look_for_the_dead(&mut self, now: Now) {
        let is_due = self.seen.as_ref().is_some_and(|(since_ms, seen)| {
            let is_late = millis(NODES_WAIT) <= now.mono_ms - since_ms;
            is_late || self.peers.have_spoken(*since_ms, seen)
        });
        if is_due {
            let (linked_ms, seen) = self.seen.take().unwrap_or_default();
            let unheard = seen
                .into_iter()
                .filter(|node| !self.peers.has_heard(node, linked_ms));
            self.acts.extend(unheard.take(PEERS_MAX).map(Act::Load));
            self.roster().settle();
        }
    }

    fn draft(&mut self, now: Now) {
        let since_ms = self.drafted_ms.map(|at| now.mono_ms - at);
        let is_due = since_ms.is_none_or(|ms| {
            // One that is too long does not get shorter by being asked for.
            let is_wanted = self.is_wanted && !self.is_too_long;
            ms >= millis(CLUSTER_KEYFRAME_INTERVAL)
                || is_wanted && ms >= millis(CLUSTER_STORE_INTERVAL_MIN)
        });
        if is_due && self.draft.is_none() {
            self.is_wanted = false;
            self.drafted_ms = Some(now.mono_ms);
            self.draft = Some(self.publisher.draft());
            self.acts.push_back(Act::Export);
        }
    }

    fn say(&mut self, kind: Kind, body: &Body, now: Now) {
        let mut message = Vec::new();
        self.publisher.say(kind, body, now, &mut message);
        self.push(message, now);
    }

    fn push(&mut self, message: Vec<u8>, now: Now) {
        self.said_ms = now.mono_ms;
        self.acts.push_back(Act::Publish(message));
    }

    #[cfg(test)]
    pub(super) fn ignore_gaps(&mut self) {
        self.peers.ignores_gaps = true;
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    duration.as_millis() as u64
}
