//! The peers by number, for those who show them: the aggregator, `/metrics`, `/api/nodes`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::record::Peer;
use crate::limits::PEERS_MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Standing {
    /// Nobody has this number.
    #[default]
    Free,
    /// Heard, and its picture is on its way.
    Joining,
    Reachable,
    Unreachable,
    /// It said that it stops.
    Left,
}

impl Standing {
    const ALL: [Standing; 5] = [
        Standing::Free,
        Standing::Joining,
        Standing::Reachable,
        Standing::Unreachable,
        Standing::Left,
    ];

    fn of(byte: u8) -> Self {
        Self::ALL
            .get(usize::from(byte))
            .copied()
            .unwrap_or_default()
    }
}

#[derive(Default)]
struct Entry {
    name: Mutex<Arc<str>>,
    standing: AtomicU8,
    heard_ms: AtomicU64,
    hosts: AtomicU64,
}

/// One writer, the cluster's thread.
pub struct Roster {
    /// By number; none for this node itself.
    entries: Vec<Entry>,
    is_linked: AtomicBool,
    /// Since the link whoever is there had the time to say so.
    is_settled: AtomicBool,
}

/// One peer as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standings {
    pub name: String,
    pub state: Standing,
    /// Milliseconds since its last message.
    pub age_ms: u64,
    /// Hosts that it told of.
    pub hosts: u64,
}

impl Roster {
    pub fn new() -> Arc<Self> {
        let entries = (0..PEERS_MAX).map(|_| Entry::default()).collect();
        Arc::new(Self {
            entries,
            is_linked: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
        })
    }

    /// A picture without somebody: a peer is silent, or its picture on the way; or Redis is away,
    /// by which they would be heard.
    pub fn is_partial(&self) -> bool {
        let is_missing = |entry: &Entry| {
            let standing = Standing::of(entry.standing.load(Relaxed));
            matches!(standing, Standing::Unreachable | Standing::Joining)
        };
        !self.is_settled.load(Relaxed) || self.entries.iter().any(is_missing)
    }

    pub fn is_linked(&self) -> bool {
        self.is_linked.load(Relaxed)
    }

    pub fn count(&self, standing: Standing) -> usize {
        let is_so = |entry: &&Entry| entry.standing.load(Relaxed) == standing as u8;
        self.entries.iter().filter(is_so).count()
    }

    pub fn name(&self, peer: Peer) -> Option<Arc<str>> {
        let entry = self.entry(peer)?;
        let name = entry.name.lock().unwrap_or_else(PoisonError::into_inner);
        (!name.is_empty()).then(|| Arc::clone(&name))
    }

    pub fn standings(&self, now_ms: u64) -> Vec<Standings> {
        let peers = (1..=self.entries.len()).filter_map(|number| {
            let (peer, entry) = (number as Peer, &self.entries[number - 1]);
            let state = Standing::of(entry.standing.load(Relaxed));
            (state != Standing::Free).then_some(())?;
            Some(Standings {
                name: self.name(peer)?.to_string(),
                state,
                age_ms: now_ms.saturating_sub(entry.heard_ms.load(Relaxed)),
                hosts: entry.hosts.load(Relaxed),
            })
        });
        peers.collect()
    }

    pub(super) fn link(&self, is_up: bool) {
        self.is_linked.store(is_up, Relaxed);
        self.is_settled.store(false, Relaxed);
    }

    pub(super) fn settle(&self) {
        self.is_settled.store(true, Relaxed);
    }

    pub fn set_name(&self, peer: Peer, name: &str) {
        if let Some(entry) = self.entry(peer) {
            *entry.name.lock().unwrap_or_else(PoisonError::into_inner) = Arc::from(name);
        }
    }

    pub(super) fn set(&self, peer: Peer, standing: Standing, heard_ms: u64, hosts: usize) {
        if let Some(entry) = self.entry(peer) {
            entry.standing.store(standing as u8, Relaxed);
            entry.heard_ms.store(heard_ms, Relaxed);
            entry.hosts.store(hosts as u64, Relaxed);
        }
    }

    fn entry(&self, peer: Peer) -> Option<&Entry> {
        self.entries.get(usize::from(peer).checked_sub(1)?)
    }
}
