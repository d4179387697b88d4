//! The cluster's thread: a connection to Redis as long as there is one, and turns whether there is
//! one or not. Nobody waits for it: what it cannot take from the aggregator is made up for by a
//! keyframe.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::Plan;
use super::member::{Act, Member};
use super::publisher::Export;
use super::redis::error::LinkError;
use super::redis::target::Target;
use super::redis::{Arrived, Link};
use super::roster::{Roster, Standing};
use super::wire::Seal;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::limits::{
    CLUSTER_CHANNELS, CLUSTER_ECHO_TIMEOUT, CLUSTER_INBOX_MAX, CLUSTER_NODES_TTL,
    CLUSTER_RECORDS_MAX, CLUSTER_RETRY_MAX, CLUSTER_RING_CAPACITY, CLUSTER_TURN_MAX, DRAIN_BATCH,
};
use crate::observe::Cluster as Counters;
use crate::ring::{Consumer, Producer, ring};
use crate::rng::Rng;
use crate::sample::Sample;

/// What cores, `/metrics` and `/api/nodes` hold.
pub struct Access {
    pub node: String,
    pub roster: Arc<Roster>,
    pub counters: Arc<Counters>,
}

/// The aggregator's end.
pub struct Feed {
    samples: Producer,
    /// Records of peers, for [`super::record::Record::unpack`].
    pub records: Consumer,
    pub roster: Arc<Roster>,
    exports: Sender<Export>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

/// What a start gives; nothing for a node that is alone.
#[derive(Default)]
pub struct Joined {
    pub access: Option<Access>,
    pub feed: Option<Feed>,
    pub thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    is_export_wanted: AtomicBool,
    lost: AtomicU64,
}

impl Feed {
    /// Gives peers what was merged just now.
    pub fn forward(&mut self, samples: &[Sample], mono_ms: u64) {
        let Some(mut room) = self.samples.reserve(samples.len()) else {
            self.shared.lost.fetch_add(1, Relaxed);
            self.counters.samples_lost.add(samples.len() as u64);
            return;
        };
        let time_ms = mono_ms as i64;
        for &sample in samples {
            room.push(Sample { time_ms, ..sample });
        }
        room.commit();
    }

    /// True once for each export that is wanted.
    pub fn takes_export(&self) -> bool {
        self.shared.is_export_wanted.swap(false, Relaxed)
    }

    pub fn export(&self, export: Export) {
        // One is asked for at a time: there is room, or nobody waits any more.
        let _ = self.exports.try_send(export);
    }

    pub fn is_partial(&self) -> bool {
        self.roster.is_partial()
    }
}

/// Starts the thread; `node` is the name for a plan that has none.
pub fn start(
    plan: &Plan,
    node: &str,
    catalog: &Arc<Catalog>,
    clock: Clock,
    tick: Duration,
) -> io::Result<Joined> {
    let node = plan.node.clone().unwrap_or_else(|| node.to_owned());
    let counters: Arc<Counters> = Arc::default();
    let seal = Seal::new(plan.key.bytes());
    let epoch = clock.now().wall_ms.max(1) as u64;
    let (catalog, counted) = (Arc::clone(catalog), Arc::clone(&counters));
    let member = Member::new(&node, epoch, seal, catalog, counted);
    let roster = Arc::clone(member.roster());
    let (samples, feed) = ring(CLUSTER_RING_CAPACITY);
    let (inlet, records) = ring(CLUSTER_RING_CAPACITY);
    let (exports, exported) = mpsc::channel(1);
    let shared: Arc<Shared> = Arc::default();
    let service = Service {
        channel: channel_of(&node),
        target: plan.target.clone(),
        member,
        feed,
        inlet,
        exported,
        shared: Arc::clone(&shared),
        counters: Arc::clone(&counters),
        clock,
        turn: (tick / 2).min(CLUSTER_TURN_MAX),
        rng: Rng::random(),
        is_restored: false,
        dropped: 0,
        listening_ms: 0,
    };
    let thread = thread::Builder::new()
        .name("cluster".to_owned())
        .spawn(move || service.run())?;
    let feed = Feed {
        samples,
        records,
        roster: Arc::clone(&roster),
        exports,
        shared,
        counters: Arc::clone(&counters),
    };
    let access = Access {
        node,
        roster,
        counters,
    };
    Ok(Joined {
        access: Some(access),
        feed: Some(feed),
        thread: Some(thread),
    })
}

/// The channel that a node publishes on: any function of its name that all nodes have (FNV-1a).
fn channel_of(node: &str) -> usize {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash >> 32) as usize % CLUSTER_CHANNELS
}

struct Service {
    target: Target,
    channel: usize,
    member: Member,
    /// Samples from the aggregator, records to it.
    feed: Consumer,
    inlet: Producer,
    exported: Receiver<Export>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    clock: Clock,
    turn: Duration,
    rng: Rng,
    /// What this node left behind when it stopped was looked at.
    is_restored: bool,
    /// Of this link.
    dropped: u64,
    /// Since when what comes is read.
    listening_ms: u64,
}

/// Why a session with Redis ends.
enum End {
    Stopped,
    Broken(LinkError),
    /// This node does not hear what it says itself.
    Deaf,
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        End::Broken(error)
    }
}

impl Service {
    fn run(mut self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.live());
        // A resolver that hangs must not hold the stop.
        runtime.shutdown_background();
        Ok(())
    }

    async fn live(&mut self) {
        let mut turns = interval(self.turn);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            let (sender, mut inbox) = mpsc::channel(CLUSTER_INBOX_MAX);
            let Some(connected) = self.connect(sender, &mut turns).await else {
                return;
            };
            let end = match connected {
                Ok(mut link) => {
                    is_told = false;
                    self.counters.links.add(1);
                    let end = self.session(&mut link, &mut inbox, &mut turns).await;
                    self.member.unlink();
                    end
                }
                Err(error) => End::Broken(error),
            };
            match end {
                End::Stopped => return,
                // Once for each time: while Redis is away the same would be said twice a second.
                End::Broken(error) if !is_told => tracing::warn!(%error, "no link to other nodes"),
                End::Deaf if !is_told => tracing::warn!("Redis forgot that this node listens"),
                End::Broken(_) | End::Deaf => {}
            }
            is_told = true;
            self.counters.link_errors.add(1);
            let rest = CLUSTER_RETRY_MAX.mul_f64(self.rng.unit());
            if self.rest(rest, &mut turns).await {
                return;
            }
        }
    }

    /// None for a stop.
    async fn connect(
        &mut self,
        inbox: Sender<Arrived>,
        turns: &mut Interval,
    ) -> Option<Result<Link, LinkError>> {
        let target = self.target.clone();
        let mut connecting = pin!(Link::connect(&target, inbox));
        loop {
            tokio::select! {
                connected = &mut connecting => return Some(connected),
                _ = turns.tick() => if self.take_turn() {
                    return None;
                },
            }
        }
    }

    /// True for a stop.
    async fn rest(&mut self, rest: Duration, turns: &mut Interval) -> bool {
        let mut resting = pin!(sleep(rest));
        loop {
            tokio::select! {
                () = &mut resting => return false,
                _ = turns.tick() => if self.take_turn() {
                    return true;
                },
            }
        }
    }

    async fn session(
        &mut self,
        link: &mut Link,
        inbox: &mut Receiver<Arrived>,
        turns: &mut Interval,
    ) -> End {
        self.dropped = 0;
        let (Ok(end) | Err(end)) = self.talk(link, inbox, turns).await;
        self.count_dropped(link);
        end
    }

    async fn talk(
        &mut self,
        link: &mut Link,
        inbox: &mut Receiver<Arrived>,
        turns: &mut Interval,
    ) -> Result<End, End> {
        let node = self.member.node().to_owned();
        if !self.is_restored {
            if let Some(keyframe) = link.load_keyframe(&node, self.channel).await? {
                self.member.restore(&keyframe, self.clock.now());
            }
            self.is_restored = true;
        }
        let seen = link.nodes().await?;
        self.member.link(seen, self.clock.now());
        tracing::info!(%node, "linked to other nodes");
        self.listening_ms = self.clock.mono_ms();
        loop {
            let has_room = self.has_room();
            let mut is_over = false;
            tokio::select! {
                error = link.broken() => return Err(error.into()),
                Some(message) = inbox.recv(), if has_room => self.hear(&message),
                Some(export) = self.exported.recv() => {
                    let now = self.clock.now();
                    self.member.exported(export, now);
                }
                _ = turns.tick() => {
                    // Before anybody is called silent: it may have spoken while this thread did not
                    // listen.
                    while self.has_room() && let Ok(message) = inbox.try_recv() {
                        self.hear(&message);
                    }
                    is_over = self.take_turn();
                    self.look_after(link)?;
                }
            }
            if is_over {
                self.member.leave(self.clock.now());
                self.act(link).await?;
                link.leave(&node).await?;
                return Ok(End::Stopped);
            }
            let before_ms = self.clock.mono_ms();
            // Before an export is asked for: what peers said counts in it.
            self.hand_on();
            self.act(link).await?;
            self.hand_on();
            // What came meanwhile, the node's own words too, is not read yet.
            let now_ms = self.clock.mono_ms();
            if self.turn.as_millis() as u64 <= now_ms - before_ms {
                self.listening_ms = now_ms;
            }
        }
    }

    fn has_room(&mut self) -> bool {
        self.member.records().len() < CLUSTER_RECORDS_MAX
    }

    fn hear(&mut self, arrived: &Arrived) {
        let mut now = self.clock.now();
        now.mono_ms = now.mono_ms.saturating_sub(arrived.since_ms());
        self.member.receive(&arrived.message, now);
    }

    async fn act(&mut self, link: &mut Link) -> Result<(), End> {
        while let Some(act) = self.member.act() {
            match act {
                Act::Publish(message) => {
                    link.publish(self.channel, &message).await?;
                    self.member.sent(message.len());
                }
                Act::Export => {
                    // One that was asked for by an earlier link is of no use any more.
                    while self.exported.try_recv().is_ok() {}
                    self.shared.is_export_wanted.store(true, Relaxed);
                }
                Act::Store { bytes, seq } => {
                    let (node, channel) = (self.member.node().to_owned(), self.channel);
                    let stored = link.store_keyframe(&node, channel, &bytes, CLUSTER_NODES_TTL);
                    match stored.await {
                        Ok(()) => self.member.stored(seq, bytes.len(), self.clock.now()),
                        // Said each time: whoever joins sees nothing of this node.
                        Err(error @ LinkError::Oversize { .. }) => {
                            self.member.too_long();
                            tracing::error!(%error, "this node's keyframe");
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                // Keyframes are large: one at a time, once the aggregator has taken those before.
                Act::Load(node) if !self.has_room() => {
                    self.member.postpone(Act::Load(node));
                    return Ok(());
                }
                Act::Load(node) => {
                    let channel = channel_of(&node);
                    if let Some(keyframe) = link.load_keyframe(&node, channel).await? {
                        self.member.loaded(&node, &keyframe, self.clock.now());
                        self.hand_on();
                    }
                }
            }
        }
        Ok(())
    }

    /// What is done with a link and without one. True for a stop: the aggregator is gone, and all
    /// it left was taken.
    fn take_turn(&mut self) -> bool {
        let is_over = self.feed.is_abandoned();
        if 0 < self.shared.lost.swap(0, Relaxed) {
            self.member.lose();
        }
        let member = &mut self.member;
        while 0 < self.feed.drain(DRAIN_BATCH, |samples| member.take(samples)) {}
        self.member.turn(self.clock.now());
        self.hand_on();
        let roster = self.member.roster();
        let (heard, silent) = (Standing::Reachable, Standing::Unreachable);
        self.counters
            .peers_reachable
            .set(roster.count(heard) as u64);
        self.counters
            .peers_joining
            .set(roster.count(Standing::Joining) as u64);
        self.counters
            .peers_unreachable
            .set(roster.count(silent) as u64);
        self.counters.cpu_us.set(cpu_us());
        is_over
    }

    /// Records to the aggregator, as far as there is room.
    fn hand_on(&mut self) {
        let records = self.member.records();
        while let Some(&record) = records.front() {
            if self.inlet.push(record).is_err() {
                return;
            }
            records.pop_front();
        }
        records.shrink_to(CLUSTER_RING_CAPACITY);
    }

    fn count_dropped(&mut self, link: &Link) {
        let dropped = link.dropped();
        self.counters.inbox_dropped.add(dropped - self.dropped);
        self.dropped = dropped;
    }

    fn look_after(&mut self, link: &Link) -> Result<(), End> {
        self.count_dropped(link);
        let heard_ms = self.member.echo_ms().max(self.listening_ms);
        let silent_ms = self.clock.mono_ms().saturating_sub(heard_ms);
        if silent_ms > CLUSTER_ECHO_TIMEOUT.as_millis() as u64 {
            return Err(End::Deaf);
        }
        Ok(())
    }
}

/// CPU time that this thread has taken.
fn cpu_us() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000 + spent.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_spread_over_the_channels() {
        let mut counts = [0; CLUSTER_CHANNELS];
        for node in 0..1_600 {
            counts[channel_of(&format!("node-{node}.example:8080"))] += 1;
        }
        assert!(
            counts.iter().all(|count| (60..140).contains(count)),
            "{counts:?}"
        );
    }
}
