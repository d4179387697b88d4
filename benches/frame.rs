//! What one tick of one view costs: 10,000 hosts, fixed seed. Sizes go to standard error once.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use tidewall::frame::reader::{self, Picture};
use tidewall::frame::view::{Format, View};
use tidewall::frame::{Content, Encoder, Map, MetricStats, Names, Stamp, State, Stats, websocket};
use tidewall::sample::Slot;

const HOSTS: usize = 10_000;

struct FleetNames(Vec<String>);

impl Names for FleetNames {
    fn host(&self, slot: Slot) -> &str {
        &self.0[slot as usize]
    }
}

/// splitmix64: the same fleet in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn percent(&mut self) -> f64 {
        (self.next() % 10_000) as f64 / 100.0
    }
}

fn fleet(random: &mut Random) -> Map {
    Map {
        metric: "cpu".into(),
        unit: "%".into(),
        lo: 0.0,
        hi: 100.0,
        values: (0..HOSTS).map(|_| random.percent()).collect(),
        states: vec![State::Ok; HOSTS],
    }
}

/// Two fleets that differ in this share of hosts, by more than a quantum.
fn two_fleets(percent: usize) -> [Content; 2] {
    let random = &mut Random(1);
    let before = fleet(random);
    let mut after = before.clone();
    for value in &mut after.values {
        if random.next() % 100 < percent as u64 {
            *value = (*value + 37.0) % 100.0;
        }
    }
    [Content::Map(before), Content::Map(after)]
}

fn stamp(tick: u64) -> Stamp {
    Stamp {
        tick,
        time_ms: 1_763_918_083_000,
        tick_ms: 0,
        host_epoch: 1,
        flags: 0,
    }
}

fn view(format: Format) -> View {
    View::parse(&json!({"kind": "map", "metric": "cpu"}), format).unwrap()
}

fn map(c: &mut Criterion) {
    let names = FleetNames((0..HOSTS).map(|slot| format!("web-{slot}")).collect());
    let mut group = c.benchmark_group("map_10000");
    for (format, name) in [(Format::Binary, "binary"), (Format::Json, "json")] {
        for percent in [0, 1, 10, 50, 100] {
            let contents = two_fleets(percent);
            let mut encoder = Encoder::new(1, &view(format));
            let mut tick = 0;
            let mut next = || {
                tick += 1;
                let content = &contents[tick as usize % 2];
                encoder.encode(black_box(content), &stamp(tick), &names, false)
            };
            let key = next().key.map(|key| key.len());
            let delta = next().delta.map(|delta| delta.len());
            eprintln!("{name}, {percent} % changed: key {key:?}, delta {delta:?} bytes");
            group.bench_function(format!("{name}_delta_{percent}"), |b| b.iter(&mut next));
        }
        let contents = two_fleets(10);
        let mut encoder = Encoder::new(1, &view(format));
        let mut tick = 0;
        group.bench_function(format!("{name}_delta_10_and_key"), |b| {
            b.iter(|| {
                tick += 1;
                let content = &contents[tick as usize % 2];
                encoder.encode(black_box(content), &stamp(tick), &names, true)
            });
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let contents = two_fleets(10);
    let names = FleetNames(Vec::new());
    let mut encoder = Encoder::new(1, &view(Format::Binary));
    let frames = [1, 2, 3].map(|tick: u64| {
        let content = &contents[tick as usize % 2];
        let frame = encoder.encode(content, &stamp(tick), &names, tick == 2);
        let bytes = frame.key.or(frame.delta).unwrap();
        websocket::payload_of(&bytes).unwrap().to_vec()
    });
    let mut picture = Picture::new("map", 1).unwrap();
    c.bench_function("read_10000/key_and_delta_10", |b| {
        b.iter(|| {
            for frame in &frames[1..] {
                picture.apply(&reader::parse(black_box(frame)).unwrap());
            }
        });
    });
}

fn default_view(c: &mut Criterion) {
    let random = &mut Random(1);
    let metric = |index| MetricStats {
        name: format!("metric_{index}"),
        unit: "%".into(),
        hosts: HOSTS as u32,
        min: random.percent(),
        avg: random.percent() / 3.0,
        p50: random.percent(),
        p95: random.percent(),
        p99: random.percent(),
        max: random.percent(),
        top: (0..5)
            .map(|host| (format!("web-{host}"), random.percent()))
            .collect(),
    };
    let content = Content::Stats(Stats {
        ok: HOSTS as u32,
        metrics: (0..32).map(metric).collect(),
        ..Stats::default()
    });
    let mut encoder = Encoder::new(1, &View::default_view());
    let names = FleetNames(Vec::new());
    let mut next = || encoder.encode(black_box(&content), &stamp(1), &names, false);
    eprintln!("default view: {:?} bytes", next().key.map(|key| key.len()));
    c.bench_function("default_view", |b| b.iter(&mut next));
}

criterion_group!(benches, map, read, default_view);
criterion_main!(benches);
