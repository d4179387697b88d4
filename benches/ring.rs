//! The ring beside `rtrb`, per record: one at a time, and in batches of 64.
//!
//! `ping` fills and empties on one thread: the cost of the instructions. `threads` does so from two
//! pinned threads: mostly the cost of the cache lines that travel, in the server's ring and in one
//! that stays in a core's second-level cache, where every line comes from the other core. How close
//! the consumer follows changes from moment to moment and decides what a record costs, so the
//! contenders of `threads` take turns, and their medians over all turns are compared.
//!
//! Every contender folds every field of every record, in order. `-- --test` runs each once at smoke
//! size.

#![allow(clippy::print_stdout, reason = "a bench reports there")]

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use crossbeam_utils::CachePadded;
use tidewall::limits::RING_CAPACITY;
use tidewall::ring;
use tidewall::sample::Sample;

/// 96 KiB.
const SMALL_CAPACITY: usize = 4_096;
const BATCH: u32 = 64;
/// Records of one turn, and turns of each contender, of `threads`.
const SAMPLES: u32 = 1 << 20;
const TURNS: usize = 60;
const SAMPLES_SMOKE: u32 = 1 << 12;

/// One way over a ring.
trait Way {
    type Producer: Send;
    type Consumer: Send;
    const NAME: &str;
    /// Records that one `put` moves, or none.
    const STEP: u32;

    fn ends(capacity: usize) -> (Self::Producer, Self::Consumer);
    fn put(producer: &mut Self::Producer, first: u32) -> bool;
    /// Folds at most `STEP` records into `sum`; returns their number.
    fn take(consumer: &mut Self::Consumer, sum: &mut u64) -> u32;
}

struct OursSingle;

impl Way for OursSingle {
    type Producer = ring::Producer;
    type Consumer = ring::Consumer;
    const NAME: &str = "ours_single";
    const STEP: u32 = 1;

    fn ends(capacity: usize) -> (Self::Producer, Self::Consumer) {
        ring::ring(capacity)
    }

    fn put(producer: &mut Self::Producer, first: u32) -> bool {
        producer.push(sample(first)).is_ok()
    }

    fn take(consumer: &mut Self::Consumer, sum: &mut u64) -> u32 {
        let Some(sample) = consumer.pop() else {
            return 0;
        };
        *sum = fold(*sum, &sample);
        1
    }
}

/// A record of one group of benches alone. `rtrb` leaves inlining to the compiler, which declines
/// when a second caller shares the instance; then the bench would measure a call.
#[derive(Clone, Copy)]
struct Of<const GROUP: u8>(Sample);

struct RtrbSingle<const GROUP: u8>;

impl<const GROUP: u8> Way for RtrbSingle<GROUP> {
    type Producer = rtrb::Producer<Of<GROUP>>;
    type Consumer = rtrb::Consumer<Of<GROUP>>;
    const NAME: &str = "rtrb_single";
    const STEP: u32 = 1;

    fn ends(capacity: usize) -> (Self::Producer, Self::Consumer) {
        rtrb::RingBuffer::new(capacity)
    }

    fn put(producer: &mut Self::Producer, first: u32) -> bool {
        producer.push(Of(sample(first))).is_ok()
    }

    fn take(consumer: &mut Self::Consumer, sum: &mut u64) -> u32 {
        let Ok(Of(sample)) = consumer.pop() else {
            return 0;
        };
        *sum = fold(*sum, &sample);
        1
    }
}

struct OursBatch;

impl Way for OursBatch {
    type Producer = ring::Producer;
    type Consumer = ring::Consumer;
    const NAME: &str = "ours_batch64";
    const STEP: u32 = BATCH;

    fn ends(capacity: usize) -> (Self::Producer, Self::Consumer) {
        ring::ring(capacity)
    }

    fn put(producer: &mut Self::Producer, first: u32) -> bool {
        let Some(mut room) = producer.reserve(BATCH as usize) else {
            return false;
        };
        for number in first..first + BATCH {
            room.push(sample(number));
        }
        room.commit();
        true
    }

    fn take(consumer: &mut Self::Consumer, sum: &mut u64) -> u32 {
        consumer.drain(BATCH as usize, |part| *sum = part.iter().fold(*sum, fold)) as u32
    }
}

struct RtrbBatch<const GROUP: u8>;

impl<const GROUP: u8> Way for RtrbBatch<GROUP> {
    type Producer = rtrb::Producer<Of<GROUP>>;
    type Consumer = rtrb::Consumer<Of<GROUP>>;
    const NAME: &str = "rtrb_chunk64";
    const STEP: u32 = BATCH;

    fn ends(capacity: usize) -> (Self::Producer, Self::Consumer) {
        rtrb::RingBuffer::new(capacity)
    }

    fn put(producer: &mut Self::Producer, first: u32) -> bool {
        let Ok(room) = producer.write_chunk_uninit(BATCH as usize) else {
            return false;
        };
        room.fill_from_iter((first..first + BATCH).map(|number| Of(sample(number))));
        true
    }

    fn take(consumer: &mut Self::Consumer, sum: &mut u64) -> u32 {
        let Ok(chunk) = consumer.read_chunk(BATCH as usize) else {
            return 0;
        };
        let (first, second) = chunk.as_slices();
        for part in [first, second] {
            *sum = part.iter().fold(*sum, |sum, Of(sample)| fold(sum, sample));
        }
        chunk.commit_all();
        BATCH
    }
}

fn ping<W: Way>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (mut producer, mut consumer) = W::ends(SMALL_CAPACITY);
    let mut sum = 0;
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    group.bench_function(W::NAME, |bench| {
        bench.iter(|| {
            for first in (0..BATCH).step_by(W::STEP as usize) {
                assert!(W::put(&mut producer, black_box(first)));
                assert!(W::take(&mut consumer, &mut sum) > 0);
            }
        });
    });
    black_box(sum);
}

/// One contender of `threads`: takes a turn over so many records.
type Contender = (&'static str, Box<dyn FnMut(u32) -> Duration>);

fn contender<W: Way + 'static>(capacity: usize) -> Contender {
    let (producer, consumer) = W::ends(capacity);
    // Both ends keep an index: side by side they would share a line.
    let mut ends = (CachePadded::new(producer), CachePadded::new(consumer));
    // A lap around the ring first: `rtrb` leaves the first touch of its memory to the records.
    cross::<W>(&mut ends, capacity as u32);
    (
        W::NAME,
        Box::new(move |samples| cross::<W>(&mut ends, samples)),
    )
}

fn threads(capacity: usize, samples: u32, turns: usize) {
    let mut contenders = [
        contender::<OursSingle>(capacity),
        contender::<RtrbSingle<1>>(capacity),
        contender::<OursBatch>(capacity),
        contender::<RtrbBatch<1>>(capacity),
    ];
    let mut figures = [const { Vec::new() }; 4];
    for _ in 0..turns {
        for ((_, turn), figures) in contenders.iter_mut().zip(&mut figures) {
            figures.push(turn(samples).as_nanos() as f64 / f64::from(samples));
        }
    }
    if turns < TURNS {
        println!("ring/threads-{capacity}: nothing lost; too short to measure");
        return;
    }
    for figures in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    let at = |which: usize, percent: usize| figures[which][(turns - 1) * percent / 100];
    let rtrb_single = at(1, 50);
    for (which, (name, _)) in contenders.iter().enumerate() {
        println!(
            "ring/threads-{capacity}/{name:12} ns/record: p10 {:6.2}  p50 {:6.2}  p90 {:6.2}  \
             rtrb_single takes {:.2} x",
            at(which, 10),
            at(which, 50),
            at(which, 90),
            rtrb_single / at(which, 50),
        );
    }
}

type Ends<W> = (
    CachePadded<<W as Way>::Producer>,
    CachePadded<<W as Way>::Consumer>,
);

/// Time until `samples` records have been folded by the other thread.
fn cross<W: Way>(ends: &mut Ends<W>, samples: u32) -> Duration {
    let (producer, consumer) = (&mut *ends.0, &mut *ends.1);
    let started = Instant::now();
    let (sum, ended) = thread::scope(|scope| {
        scope.spawn(move || {
            pin(0);
            for first in (0..samples).step_by(W::STEP as usize) {
                while !W::put(producer, first) {
                    spin_loop();
                }
            }
        });
        let emptying = scope.spawn(move || {
            pin(1);
            let (mut sum, mut taken) = (0, 0);
            while taken < samples {
                match W::take(consumer, &mut sum) {
                    0 => spin_loop(),
                    n => taken += n,
                }
            }
            (sum, Instant::now())
        });
        emptying.join().expect("the consumer ends")
    });
    let expected = (0..samples).fold(0, |sum, number| fold(sum, &sample(number)));
    assert_eq!(sum, expected, "records were lost or torn");
    ended - started
}

/// Both threads on one core would measure the scheduler. No matter where there is only one.
fn pin(core: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(id) = cores.get(core) {
        core_affinity::set_for_current(*id);
    }
}

#[inline]
fn sample(number: u32) -> Sample {
    Sample {
        value: f64::from(number),
        time_ms: Sample::NO_TIME,
        slot: number,
        column: 7,
        flags: 0,
    }
}

#[inline]
fn fold(sum: u64, sample: &Sample) -> u64 {
    let names = u64::from(sample.slot) ^ u64::from(sample.column) ^ u64::from(sample.flags);
    sum.wrapping_add(sample.value.to_bits() ^ sample.time_ms.cast_unsigned() ^ names)
}

fn pings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/ping");
    ping::<OursSingle>(&mut group);
    ping::<RtrbSingle<0>>(&mut group);
    ping::<OursBatch>(&mut group);
    ping::<RtrbBatch<0>>(&mut group);
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    pings(&mut criterion);
    criterion.final_summary();

    let smoke = std::env::args().any(|argument| argument == "--test");
    let (samples, turns) = if smoke {
        (SAMPLES_SMOKE, 1)
    } else {
        (SAMPLES, TURNS)
    };
    for capacity in [SMALL_CAPACITY, RING_CAPACITY] {
        threads(capacity, samples, turns);
    }
}
