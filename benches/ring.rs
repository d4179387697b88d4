//! The ring beside `rtrb`, per record: one at a time, and in batches of 64.
//!
//! `ping` fills and empties on one thread: the cost of the instructions. `threads` does so from two
//! pinned threads: mostly the cost of the cache lines that travel, in the server's ring and in one
//! that stays in a core's second-level cache, where every line comes from the other core. Every
//! contender folds every field of every record, in order. `-- --test` runs each once at smoke size.

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_utils::CachePadded;
use tidewall::limits::RING_CAPACITY;
use tidewall::ring;
use tidewall::sample::Sample;

/// 96 KiB.
const SMALL_CAPACITY: usize = 4_096;
const BATCH: u32 = 64;
const SAMPLES: u32 = 1 << 20;
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

struct RtrbSingle;

impl Way for RtrbSingle {
    type Producer = rtrb::Producer<Sample>;
    type Consumer = rtrb::Consumer<Sample>;
    const NAME: &str = "rtrb_single";
    const STEP: u32 = 1;

    fn ends(capacity: usize) -> (Self::Producer, Self::Consumer) {
        rtrb::RingBuffer::new(capacity)
    }

    fn put(producer: &mut Self::Producer, first: u32) -> bool {
        producer.push(sample(first)).is_ok()
    }

    fn take(consumer: &mut Self::Consumer, sum: &mut u64) -> u32 {
        let Ok(sample) = consumer.pop() else {
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
        consumer.drain(BATCH as usize, |part| *sum = fold_all(*sum, part)) as u32
    }
}

struct RtrbBatch;

impl Way for RtrbBatch {
    type Producer = rtrb::Producer<Sample>;
    type Consumer = rtrb::Consumer<Sample>;
    const NAME: &str = "rtrb_chunk64";
    const STEP: u32 = BATCH;

    fn ends(capacity: usize) -> (Self::Producer, Self::Consumer) {
        rtrb::RingBuffer::new(capacity)
    }

    fn put(producer: &mut Self::Producer, first: u32) -> bool {
        let Ok(room) = producer.write_chunk_uninit(BATCH as usize) else {
            return false;
        };
        room.fill_from_iter((first..first + BATCH).map(sample));
        true
    }

    fn take(consumer: &mut Self::Consumer, sum: &mut u64) -> u32 {
        let Ok(chunk) = consumer.read_chunk(BATCH as usize) else {
            return 0;
        };
        let (first, second) = chunk.as_slices();
        *sum = fold_all(fold_all(*sum, first), second);
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

fn threads<W: Way>(group: &mut BenchmarkGroup<'_, WallTime>, capacity: usize, samples: u32) {
    let (producer, consumer) = W::ends(capacity);
    // Both ends keep an index: side by side they would share a line.
    let mut ends = (CachePadded::new(producer), CachePadded::new(consumer));
    // A lap around the ring first: `rtrb` leaves the first touch of its memory to the records.
    cross::<W>(&mut ends, capacity as u32);
    group.throughput(Throughput::Elements(u64::from(samples)));
    group.bench_function(W::NAME, |bench| {
        bench.iter_custom(|rounds| (0..rounds).map(|_| cross::<W>(&mut ends, samples)).sum());
    });
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

#[inline]
fn fold_all(sum: u64, samples: &[Sample]) -> u64 {
    samples.iter().fold(sum, fold)
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/ping");
    ping::<OursSingle>(&mut group);
    ping::<RtrbSingle>(&mut group);
    ping::<OursBatch>(&mut group);
    ping::<RtrbBatch>(&mut group);
    group.finish();

    let smoke = std::env::args().any(|argument| argument == "--test");
    let samples = if smoke { SAMPLES_SMOKE } else { SAMPLES };
    for capacity in [SMALL_CAPACITY, RING_CAPACITY] {
        let mut group = criterion.benchmark_group(format!("ring/threads-{capacity}"));
        threads::<OursSingle>(&mut group, capacity, samples);
        threads::<RtrbSingle>(&mut group, capacity, samples);
        threads::<OursBatch>(&mut group, capacity, samples);
        threads::<RtrbBatch>(&mut group, capacity, samples);
        group.finish();
    }
}

criterion_group!(ring_benches, benches);
criterion_main!(ring_benches);
