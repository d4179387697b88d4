//! The whole protocol under a fake clock: nodes with their real aggregators, and a network that
//! loses, doubles, delays, reorders, damages and replays what they say; nodes crash and come back,
//! Redis goes and comes back empty, hosts wander.
//!
//! At any time a cell holds only what its host sent for it, and its host's newest values never go
//! back. Once all is quiet every node shows the same fleet, to the last cell. Each run is repeated
//! exactly by its seed.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::member::{Act, Member};
use super::roster::Standing;
use super::wire::Seal;
use crate::aggregator::export::Exporter;
use crate::aggregator::fleet::Fleet;
use crate::catalog::Catalog;
use crate::catalog::lookup::Lookup;
use crate::clock::{HEAD_START_MS, Now};
use crate::frame::Content;
use crate::frame::view::{Kind, View};
use crate::frame::views::Views;
use crate::limits::CLUSTER_NODES_TTL;
use crate::observe::Cluster as Counters;
use crate::rng::Rng;
use crate::sample::Sample;

const STEP_MS: u64 = 50;
const METRICS: usize = 3;
/// Until here things go wrong; then everything is there again, and hosts fall silent.
const CHAOS_MS: u64 = 6_000;
/// What it may take to be whole again.
const REST_MS: u64 = 2_000;
/// 2026-11-26.
const WALL_MS: i64 = 1_795_680_000_000;

struct Node {
    name: String,
    fleet: Fleet,
    lookup: Lookup,
    member: Member,
    exporter: Option<Exporter>,
    /// When it was started, which its monotonic clock counts from, and how wrong its wall clock is.
    born_ms: u64,
    skew_ms: i64,
    is_linked: bool,
    /// Steps between two turns, as if it were busy.
    turns: u64,
}

struct Letter {
    due_ms: u64,
    to: usize,
    bytes: Arc<[u8]>,
}

struct World {
    rng: Rng,
    now_ms: u64,
    nodes: Vec<Option<Node>>,
    hosts: usize,
    /// Where each host sends to.
    homes: Vec<usize>,
    /// The last value of each host and metric that some node has accepted, by node and its birth.
    sent: BTreeMap<(usize, usize), (u64, usize, u64)>,
    count: u64,
    letters: Vec<Letter>,
    /// For replays.
    tape: Vec<Arc<[u8]>>,
    keyframes: HashMap<String, (u64, Vec<u8>)>,
    is_redis_up: bool,
    /// Of a hundred messages: how many go wrong, in each of the ways.
    mischief: usize,
    ignores_gaps: bool,
    /// Nodes that died, and links that broke.
    losses: usize,
    /// No message went wrong.
    was_kind: bool,
}

impl Node {
    fn now(&self, now_ms: u64) -> Now {
        Now {
            mono_ms: HEAD_START_MS + now_ms - self.born_ms,
            wall_ms: WALL_MS + now_ms as i64 + self.skew_ms,
        }
    }

    fn hand_on(&mut self, now: Now) {
        let records: Vec<Sample> = self.member.records().drain(..).collect();
        self.fleet.fold_peers(&records, now);
    }

    /// Every value it shows.
    fn cells(&mut self, world_ms: u64, hosts: usize) -> Result<Cells, String> {
        let now = self.now(world_ms);
        let mut cells = Cells::new();
        for host in 0..hosts {
            let kind = Kind::Host {
                host: host_name(host),
            };
            let view = View {
                kind,
                ..View::default_view()
            };
            let Content::Host(shown) = &*self.fleet.content(&view, now) else {
                continue;
            };
            for shown in &shown.metrics {
                let metric = shown.name[1..].parse().unwrap();
                let value = shown.value as u64;
                let is_its_own = value % 100 == host as u64 && value / 100 % 10 == metric as u64;
                ensure(is_its_own, || format!("{host} {metric} has {value}"))?;
                cells.insert((host, metric), value / 1_000);
            }
        }
        Ok(cells)
    }
}

fn host_name(host: usize) -> String {
    format!("host-{host}")
}

impl World {
    fn new(seed: u64, ignores_gaps: bool) -> Self {
        let mut rng = Rng::seeded(seed);
        let (nodes, hosts) = (2 + rng.below(2), 1 + rng.below(6));
        let mut world = Self {
            now_ms: 0,
            nodes: (0..nodes).map(|_| None).collect(),
            hosts,
            homes: (0..hosts).map(|_| rng.below(nodes)).collect(),
            sent: BTreeMap::new(),
            count: 0,
            letters: Vec::new(),
            tape: Vec::new(),
            keyframes: HashMap::new(),
            is_redis_up: true,
            mischief: [0, 2, 10, 30][rng.below(4)],
            ignores_gaps,
            losses: 0,
            was_kind: false,
            rng,
        };
        world.was_kind = world.mischief == 0;
        for node in 0..nodes {
            world.start(node);
        }
        world
    }

    fn start(&mut self, at: usize) {
        let name = ["a", "b", "c"][at].to_owned();
        let catalog = Catalog::with_bounds(64, 16);
        let counters: Arc<Counters> = Arc::default();
        let skew_ms = at as i64 * 20;
        let epoch = (WALL_MS + self.now_ms as i64 + skew_ms) as u64;
        let seal = Seal::new(&[1; 32]);
        let mut member = Member::new(&name, epoch, seal, Arc::clone(&catalog), counters);
        if self.ignores_gaps {
            member.ignore_gaps();
        }
        let mut fleet = Fleet::new(Arc::clone(&catalog), Views::new(), 100);
        fleet.set_roster(Arc::clone(member.roster()));
        let now = Now {
            mono_ms: HEAD_START_MS,
            wall_ms: WALL_MS + self.now_ms as i64 + skew_ms,
        };
        if let Some((_, keyframe)) = self.keyframes.get(&name) {
            member.restore(keyframe, now);
        }
        self.nodes[at] = Some(Node {
            lookup: Lookup::new(Arc::clone(&catalog)),
            name,
            fleet,
            member,
            exporter: None,
            born_ms: self.now_ms,
            skew_ms,
            is_linked: false,
            turns: 1 + self.rng.below(3) as u64,
        });
    }

    /// A step of the world: mischief, hosts send, letters arrive, nodes take their turns.
    fn step(&mut self) {
        self.now_ms += STEP_MS;
        if self.now_ms < CHAOS_MS {
            self.upset();
            self.send();
        }
        self.deliver();
        for at in 0..self.nodes.len() {
            if let Some(mut node) = self.nodes[at].take() {
                if (self.now_ms / STEP_MS).is_multiple_of(node.turns) {
                    self.turn(&mut node);
                }
                self.nodes[at] = Some(node);
            }
        }
    }

    fn upset(&mut self) {
        let at = self.rng.below(self.nodes.len());
        match self.rng.below(200) {
            0 => {
                self.nodes[at] = None;
                self.lose_one();
            }
            17 => self.stop(at),
            1 => {
                self.is_redis_up = false;
                self.lose_one();
                self.letters.clear();
            }
            2 => self.keyframes.clear(),
            3..10 => self.is_redis_up = true,
            10..15 if self.nodes[at].is_none() => {
                self.homes_of_the_dead();
                self.start(at);
            }
            // One node's connection breaks.
            15..17 => {
                if let Some(node) = &mut self.nodes[at] {
                    node.is_linked = false;
                    node.member.unlink();
                    self.lose_one();
                }
                self.letters.retain(|letter| letter.to != at);
            }
            _ => {}
        }
    }

    /// Whoever goes before others know its clock was never heard: as good as two.
    fn lose_one(&mut self) {
        self.losses += if self.now_ms < 1_000 { 2 } else { 1 };
    }

    /// An ordered stop: what is left is said, and that it stops.
    fn stop(&mut self, at: usize) {
        let Some(mut node) = self.nodes[at].take() else {
            return;
        };
        self.lose_one();
        let now = node.now(self.now_ms);
        if node.is_linked {
            node.member.leave(now);
            while let Some(act) = node.member.act() {
                self.act(&mut node, act, now);
            }
        }
    }

    /// All is well again: the dead are back, and what hosts send stays.
    fn mend(&mut self) {
        self.mischief = 0;
        self.is_redis_up = true;
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_none() {
                self.start(at);
            }
        }
    }

    fn homes_of_the_dead(&mut self) {
        let nodes = self.nodes.len();
        for home in &mut self.homes {
            if self.nodes[*home].is_none() {
                *home = self.rng.below(nodes);
            }
        }
    }

    fn send(&mut self) {
        for host in 0..self.hosts {
            if self.rng.below(100) < 3 {
                self.homes[host] = self.rng.below(self.nodes.len());
            }
            // About twice a second; a host does not send through two nodes at one time.
            if self.rng.below(10) > 0 {
                continue;
            }
            let home = self.homes[host];
            let Some(node) = &mut self.nodes[home] else {
                continue;
            };
            let now = node.now(self.now_ms);
            node.lookup.begin();
            let slot = node.lookup.host(&host_name(host));
            let mut samples = Vec::new();
            for metric in 0..METRICS {
                if self.rng.below(3) > 0 {
                    continue;
                }
                self.count += 1;
                let column = node.lookup.column(&format!("m{metric}"), "");
                let value = (self.count * 1_000 + metric as u64 * 100 + host as u64) as f64;
                samples.push(Sample {
                    value,
                    time_ms: now.mono_ms as i64,
                    slot,
                    column,
                    flags: 0,
                });
                self.sent
                    .insert((host, metric), (self.count, home, node.born_ms));
            }
            node.fleet.fold(&samples, now);
            node.member.take(&samples);
        }
    }

    fn deliver(&mut self) {
        let (mut due, later): (Vec<Letter>, Vec<Letter>) = std::mem::take(&mut self.letters)
            .into_iter()
            .partition(|l| l.due_ms <= self.now_ms);
        self.letters = later;
        due.sort_by_key(|letter| letter.due_ms);
        for letter in due {
            if let Some(node) = &mut self.nodes[letter.to]
                && node.is_linked
                && node.born_ms < letter.due_ms
            {
                let now = node.now(letter.due_ms);
                node.member.receive(&letter.bytes, now);
            }
        }
    }

    fn turn(&mut self, node: &mut Node) {
        let now = node.now(self.now_ms);
        if node.is_linked != self.is_redis_up {
            node.is_linked = self.is_redis_up;
            if node.is_linked {
                let mut seen: Vec<String> = self.keyframes.keys().cloned().collect();
                seen.sort();
                node.member.link(seen, now);
            } else {
                node.member.unlink();
            }
        }
        node.member.turn(now);
        node.hand_on(now);
        while let Some(act) = node.member.act() {
            self.act(node, act, now);
        }
        if let Some(mut exporter) = node.exporter.take()
            && node.fleet.export(&mut exporter)
        {
            node.member.exported(exporter.finish(), now);
        }
        while let Some(act) = node.member.act() {
            self.act(node, act, now);
        }
        node.hand_on(now);
        if self.now_ms.is_multiple_of(100) {
            node.fleet.tick(now, false);
        }
    }

    fn act(&mut self, node: &mut Node, act: Act, now: Now) {
        match act {
            Act::Publish(bytes) => self.post(&bytes.into()),
            Act::Export => node.exporter = Some(Exporter::new(now.mono_ms)),
            Act::Store { bytes, seq } => {
                let size = bytes.len();
                if self.is_redis_up {
                    self.keyframes
                        .insert(node.name.clone(), (self.now_ms, bytes));
                    node.member.stored(seq, size, now);
                }
            }
            Act::Load(name) => {
                let found = self
                    .keyframes
                    .get(&name)
                    .filter(|(at, _)| self.now_ms - at < CLUSTER_NODES_TTL.as_millis() as u64);
                if let Some((_, bytes)) = found {
                    let mut bytes = bytes.clone();
                    if self.rng.below(100) < self.mischief {
                        let at = self.rng.below(bytes.len());
                        bytes[at] ^= 1;
                    }
                    node.member.loaded(&name, &bytes, now);
                }
            }
        }
    }

    fn post(&mut self, bytes: &Arc<[u8]>) {
        if !self.is_redis_up {
            return;
        }
        self.tape.push(Arc::clone(bytes));
        for to in 0..self.nodes.len() {
            let mut bytes = Arc::clone(bytes);
            let mut due_ms = self.now_ms + 1;
            let mut copies = 1;
            if self.rng.below(100) < self.mischief {
                match self.rng.below(5) {
                    0 => copies = 0,
                    1 => copies = 2,
                    2 => due_ms += self.rng.below(400) as u64,
                    3 => bytes = damaged(&bytes, &mut self.rng),
                    _ => {
                        let at = self.rng.below(self.tape.len());
                        let bytes = Arc::clone(&self.tape[at]);
                        self.letters.push(Letter { due_ms, to, bytes });
                    }
                }
            }
            for _ in 0..copies {
                let bytes = Arc::clone(&bytes);
                self.letters.push(Letter { due_ms, to, bytes });
            }
        }
    }

    /// Each node shows each host's values, which only ever grow.
    fn check_all(&mut self, last: &mut [Seen]) -> Result<(), String> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let Some(node) = node else {
                continue;
            };
            let cells = node.cells(self.now_ms, self.hosts)?;
            let (born_ms, before) = &mut last[at];
            if *born_ms == node.born_ms {
                for (series, value) in before.iter() {
                    let is_newer = cells.get(series) >= Some(value);
                    ensure(is_newer, || format!("{}: {series:?} went back", node.name))?;
                }
            }
            (*born_ms, *before) = (node.born_ms, cells);
        }
        Ok(())
    }

    /// What was accepted by nodes that lived on is there, everywhere the same.
    fn check_end(&mut self) -> Result<(), String> {
        let mut shown = Vec::new();
        for node in self.nodes.iter_mut().flatten() {
            shown.push((node.name.clone(), node.cells(self.now_ms, self.hosts)?));
        }
        // Where two things went wrong at once, a dead node's last words may be known to some.
        let is_one = self.losses <= 1 && self.was_kind;
        for (name, cells) in shown[1..].iter().filter(|_| is_one) {
            let (first, all) = &shown[0];
            let is_equal = cells == all;
            ensure(is_equal, || {
                format!("{first} has {all:?}, {name} {cells:?}")
            })?;
        }
        for (series, (count, home, born_ms)) in &self.sent {
            let lived_on = |node: &Node| node.born_ms == *born_ms;
            if !self.nodes[*home].as_ref().is_some_and(lived_on) {
                continue;
            }
            for (name, cells) in &shown {
                let found = cells.get(series);
                let is_there = found == Some(count);
                ensure(is_there, || {
                    format!("{name} has {found:?} for {series:?}, {count} was sent to {home}")
                })?;
            }
        }
        for node in self.nodes.iter_mut().flatten() {
            let roster = node.member.roster();
            let joined = roster.count(Standing::Reachable);
            let is_whole = joined == shown.len() - 1 && !roster.is_partial();
            ensure(is_whole, || format!("{} has {joined} peers", node.name))?;
            node.fleet.invariants();
        }
        Ok(())
    }
}

type Cells = BTreeMap<(usize, usize), u64>;
type Seen = (u64, Cells);

fn ensure(is_so: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(fault()) }
}

fn damaged(bytes: &[u8], rng: &mut Rng) -> Arc<[u8]> {
    let mut bytes = bytes.to_vec();
    if rng.below(2) == 0 {
        let at = rng.below(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
    } else {
        bytes.truncate(rng.below(bytes.len()));
    }
    bytes.into()
}

fn run(seed: u64, ignores_gaps: bool) -> Result<(), String> {
    let mut world = World::new(seed, ignores_gaps);
    let mut last = vec![Seen::default(); world.nodes.len()];
    while world.now_ms < CHAOS_MS {
        world.step();
        if world.now_ms.is_multiple_of(500) {
            world.check_all(&mut last)?;
        }
    }
    world.mend();
    let until_ms = world.now_ms + REST_MS;
    while world.now_ms < until_ms {
        world.step();
    }
    world.check_all(&mut last)?;
    world.check_end()
}

fn failures(seeds: Range<u64>, ignores_gaps: bool) -> Vec<(u64, String)> {
    let fault = |seed| run(seed, ignores_gaps).err().map(|fault| (seed, fault));
    seeds.filter_map(fault).collect()
}

#[test]
fn nodes_agree_whatever_happens_between_them() {
    let seeds = std::env::var("TIDEWALL_SIMULATION_SEEDS").ok();
    let seeds: u64 = seeds.map_or(20_000, |text| text.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = seeds.div_ceil(threads);
    let parts = (0..threads).map(|i| i * part..seeds.min((i + 1) * part));
    let found: Vec<(u64, String)> = std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .map(|seeds| scope.spawn(|| failures(seeds, false)))
            .collect();
        let running = running.into_iter();
        running.flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        found.is_empty(),
        "of {seeds} seeds {}: {found:#?}",
        found.len()
    );
}

/// The negative twin: a node that takes any message for the next one is found out.
#[test]
fn a_skipped_gap_check_is_found() {
    assert!(
        !failures(0..300, true).is_empty(),
        "the simulation sees no gaps"
    );
}
