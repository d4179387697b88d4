//! What peers cost: a turn's delta of 5,000 cells, made from samples and taken in by another node.
//!
//! A fleet of 10,000 hosts that sends ten metrics each second comes to 100,000 cells a second, and
//! a node takes twenty turns in one. Hosts send whole, so a turn has all metrics of 500 hosts.
//! `tenths` are values of one place, as agents send them; `raw` are such that no short decimal is
//! exact. Both ends seal or check the seal. Smoke: `cargo bench --bench cluster -- --test`.

#![allow(
    clippy::print_stderr,
    reason = "a message's size is told beside its time"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidewall::catalog::Catalog;
use tidewall::catalog::lookup::Lookup;
use tidewall::clock::{HEAD_START_MS, Now};
use tidewall::cluster::peers::Peers;
use tidewall::cluster::publisher::Publisher;
use tidewall::cluster::wire::{self, Body, Seal};
use tidewall::limits::CLUSTER_OFFSET_MESSAGES_MIN;
use tidewall::sample::{Column, Sample, Slot};

const HOSTS: usize = 10_000;
const COLUMNS: usize = 10;
const TURNS: usize = 20;
const CELLS: usize = HOSTS * COLUMNS / TURNS;
const EPOCH: u64 = 1_795_680_000_000;
const NOW: Now = Now {
    mono_ms: HEAD_START_MS,
    wall_ms: EPOCH as i64,
};

/// A value by its number: the same in each run.
type Values = fn(u32) -> f64;

const VALUES: [(&str, Values); 2] = [
    ("tenths", |at| {
        f64::from(at.wrapping_mul(2_654_435_761) % 1_000) / 10.0
    }),
    ("raw", |at| f64::from(at + 1).sqrt()),
];

fn seal() -> Seal {
    Seal::new(&[7; 32])
}

/// A node with its fleet's samples, one turn after the other.
struct Sender {
    publisher: Publisher,
    turns: Vec<Vec<Sample>>,
    next: usize,
}

impl Sender {
    fn new(values: Values) -> Self {
        let catalog = Catalog::new();
        let mut lookup = Lookup::new(Arc::clone(&catalog));
        let slots: Vec<Slot> = (0..HOSTS)
            .map(|host| lookup.host(&format!("web-{host}.fra.example")))
            .collect();
        let columns: Vec<Column> = (0..COLUMNS)
            .map(|metric| lookup.column(&format!("metric_{metric}"), "%"))
            .collect();
        let sample = |slot: Slot, column: Column| Sample {
            value: values(slot * COLUMNS as u32 + u32::from(column)),
            time_ms: NOW.mono_ms as i64,
            slot,
            column,
            flags: 0,
        };
        let turn = |turn: usize| {
            let heard = slots.iter().skip(turn).step_by(TURNS);
            let all = |&slot| columns.iter().map(move |&column| sample(slot, column));
            heard.flat_map(all).collect()
        };
        Self {
            publisher: Publisher::new("b", EPOCH, seal(), catalog),
            turns: (0..TURNS).map(turn).collect(),
            next: 0,
        }
    }

    fn message(&mut self, out: &mut Vec<u8>) {
        self.publisher.take(&self.turns[self.next % TURNS]);
        self.next += 1;
        self.publisher.delta(NOW, out);
    }
}

fn receiver() -> Peers {
    Peers::new("a", EPOCH, seal(), Catalog::new(), Arc::default())
}

/// A second of the fleet, after which all names are told and the peer's clock is known.
fn warm(sender: &mut Sender, mut each: impl FnMut(&[u8])) {
    const { assert!(CLUSTER_OFFSET_MESSAGES_MIN as usize <= TURNS) };
    let mut message = Vec::new();
    for _ in 0..TURNS {
        sender.message(&mut message);
        each(&message);
    }
}

fn cells_of(message: &[u8]) -> usize {
    let opened = wire::open(message, &seal());
    let body = opened.and_then(|(head, body)| wire::read_body(head.kind, body));
    match body {
        Ok(Body::Delta(picture)) => picture.cells.len(),
        _ => 0,
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode_5000");
    group.throughput(Throughput::Elements(CELLS as u64));
    for (name, values) in VALUES {
        let (mut sender, mut message) = (Sender::new(values), Vec::new());
        warm(&mut sender, |_| {});
        sender.message(&mut message);
        assert_eq!(cells_of(&message), CELLS);
        let bytes = message.len() as f64 / CELLS as f64;
        eprintln!("{name}: {} bytes, {bytes:.2} a cell", message.len());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                sender.message(&mut message);
                black_box(message.len())
            });
        });
    }
    group.finish();
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply_5000");
    group.throughput(Throughput::Elements(CELLS as u64));
    for (name, values) in VALUES {
        let (mut sender, mut peers) = (Sender::new(values), receiver());
        warm(&mut sender, |message| peers.receive(message, NOW));
        peers.records().clear();
        let mut taken = CELLS;
        group.bench_function(name, |bencher| {
            // In order, each once: whatever else comes is refused.
            bencher.iter_batched(
                || {
                    let mut message = Vec::new();
                    sender.message(&mut message);
                    message
                },
                |message| {
                    peers.receive(black_box(&message), NOW);
                    taken = peers.records().drain(..).map(black_box).count();
                },
                BatchSize::SmallInput,
            );
        });
        assert_eq!(taken, CELLS);
    }
    group.finish();
}

criterion_group!(benches, encode, apply);
criterion_main!(benches);
