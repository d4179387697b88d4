//! The aggregator's work: folding samples, a tick of the default view, one column's percentiles.
//!
//! `fold` stands beside its floor: the same random walk over plain counters, which is what the
//! memory alone costs. Smoke: `cargo bench --bench aggregator -- --test`.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidewall::aggregator::fleet::Fleet;
use tidewall::catalog::Catalog;
use tidewall::catalog::lookup::Lookup;
use tidewall::clock::Now;
use tidewall::frame::view::View;
use tidewall::frame::views::Views;
use tidewall::sample::{Column, Sample, Slot};
use tidewall::stats::{Key, Summary, TopRows, key};

const HOSTS: usize = 10_000;
const COLUMNS: usize = 10;
const TICK_MS: u32 = 100;

/// xorshift64*: a fixed seed gives the same run everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn percent(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 * 100.0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

fn at(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        wall_ms: 1_763_918_083_000 + mono_ms as i64,
    }
}

/// Every series once, in random order.
fn samples(lookup: &mut Lookup) -> Vec<Sample> {
    let mut random = Random(42);
    let slots: Vec<Slot> = (0..HOSTS)
        .map(|i| lookup.host(&format!("host-{i}")))
        .collect();
    let columns: Vec<Column> = (0..COLUMNS)
        .map(|i| lookup.column(&format!("metric_{i}"), "%"))
        .collect();
    let pairs = slots
        .iter()
        .flat_map(|&slot| columns.iter().map(move |&column| (slot, column)));
    let mut samples: Vec<Sample> = pairs
        .map(|(slot, column)| Sample {
            value: random.percent(),
            time_ms: Sample::NO_TIME,
            slot,
            column,
            flags: 0,
        })
        .collect();
    random.shuffle(&mut samples);
    samples
}

/// A fleet that has heard every series.
fn warm_fleet() -> (Fleet, Arc<Views>, Vec<Sample>) {
    let catalog = Catalog::new();
    let views = Views::new();
    let samples = samples(&mut Lookup::new(Arc::clone(&catalog)));
    let mut fleet = Fleet::new(catalog, Arc::clone(&views), TICK_MS);
    fleet.fold(&samples, at(0));
    while fleet.tick(at(0), false).hosts_patch.is_some() {}
    (fleet, views, samples)
}

fn fold(criterion: &mut Criterion) {
    let (mut fleet, _, samples) = warm_fleet();
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(samples.len() as u64));
    let mut now_ms = 0;
    group.bench_function("10k_hosts_x_10_columns", |bencher| {
        bencher.iter(|| {
            now_ms += 1_000;
            fleet.fold(black_box(&samples), at(now_ms));
        });
    });
    // A cell's 12 B as three words, walked in the same order.
    let mut cells = vec![[0_u32; 3]; HOSTS * COLUMNS];
    let order = samples
        .iter()
        .map(|s| usize::from(s.column) * HOSTS + s.slot as usize);
    let order: Vec<usize> = order.collect();
    group.bench_function("floor_random_increments", |bencher| {
        bencher.iter(|| {
            for &i in black_box(&order) {
                cells[i][0] = cells[i][0].wrapping_add(1);
            }
        });
    });
    group.finish();
}

fn tick(criterion: &mut Criterion) {
    let (fleet, views, samples) = warm_fleet();
    let watched = views.watch(View::default_view());
    assert!(watched.is_ok());
    let (fleet, mut now_ms) = (RefCell::new(fleet), 0);
    criterion.bench_function("tick/default_view_10k_hosts", |bencher| {
        bencher.iter_batched(
            || {
                // Every host has news: none goes silent, and the tick finds nothing worked out.
                now_ms += u64::from(TICK_MS);
                fleet.borrow_mut().fold(&samples, at(now_ms));
                at(now_ms)
            },
            |now| fleet.borrow_mut().tick(now, false),
            BatchSize::PerIteration,
        );
    });
    let hosts = fleet.borrow().totals().hosts;
    assert_eq!((hosts.stale, hosts.down), (0, 0));
}

fn percentiles(criterion: &mut Criterion) {
    let mut random = Random(42);
    let keys: Vec<Key> = (0..HOSTS).map(|_| key(random.percent())).collect();
    let mut group = criterion.benchmark_group("stats");
    group.throughput(Throughput::Elements(keys.len() as u64));
    group.bench_function("percentiles_of_10k", |bencher| {
        bencher.iter_batched_ref(
            || keys.clone(),
            |keys| Summary::of(black_box(keys)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("top_50_of_10k", |bencher| {
        bencher.iter(|| {
            let mut top = TopRows::new(50);
            for (&key, slot) in keys.iter().zip(0..) {
                top.offer(slot, key);
            }
            black_box(top.finish())
        });
    });
    group.finish();
}

criterion_group!(benches, fold, tick, percentiles);
criterion_main!(benches);
