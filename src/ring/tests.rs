#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::thread;

use proptest::prelude::*;

use super::*;

fn sample(number: u32) -> Sample {
    Sample {
        value: f64::from(number),
        slot: number,
        ..BLANK
    }
}

fn drain(consumer: &mut Consumer, max: usize) -> Vec<u32> {
    let (mut seen, mut parts) = (Vec::new(), 0);
    let n = consumer.drain(max, |part| {
        assert!(!part.is_empty());
        parts += 1;
        seen.extend(part.iter().map(|sample| sample.slot));
    });
    assert!(parts <= 2);
    assert_eq!(n, seen.len());
    seen
}

#[test]
fn a_batch_fits_up_to_the_last_slot() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!(producer.capacity(), 4);
    assert!(producer.reserve(5).is_none());
    assert!(producer.reserve(usize::MAX).is_none());
    let mut room = producer.reserve(4).unwrap();
    for number in 0..4 {
        room.push(sample(number));
    }
    room.commit();
    assert!(producer.reserve(1).is_none());
    assert!(producer.reserve(0).is_some());
    assert_eq!(producer.push(sample(9)), Err(sample(9)));
    assert_eq!(consumer.len(), 4);
    assert_eq!(drain(&mut consumer, 3), [0, 1, 2]);
    assert_eq!(drain(&mut consumer, usize::MAX), [3]);
    assert!(consumer.is_empty());
    assert_eq!(consumer.pop(), None);
}

#[test]
fn the_smallest_ring_holds_one() {
    let (mut producer, mut consumer) = ring(1);
    for number in 0..3 {
        producer.push(sample(number)).unwrap();
        assert!(producer.push(sample(9)).is_err());
        assert_eq!(consumer.pop(), Some(sample(number)));
    }
}

#[test]
#[should_panic(expected = "power of two")]
fn other_capacities_are_refused() {
    ring(3);
}

#[test]
#[should_panic(expected = "pushed past the reservation")]
fn a_reservation_takes_no_more_than_it_asked_for() {
    let (mut producer, _consumer) = ring(4);
    let mut room = producer.reserve(1).unwrap();
    room.push(sample(0));
    room.push(sample(1));
}

#[test]
fn a_panic_while_draining_loses_nothing() {
    let (mut producer, mut consumer) = ring(2);
    producer.push(sample(7)).unwrap();
    let drained = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        consumer.drain(2, |_| panic!("the fold fails"))
    }));
    assert!(drained.is_err());
    assert_eq!(drain(&mut consumer, 2), [7]);
}

#[test]
fn each_end_learns_that_the_other_is_gone() {
    let (mut producer, mut consumer) = ring(2);
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    producer.push(sample(1)).unwrap();
    drop(producer);
    assert!(consumer.is_abandoned());
    assert_eq!(drain(&mut consumer, 2), [1]);

    let (producer, consumer) = ring(2);
    drop(consumer);
    assert!(producer.is_abandoned());
}

#[test]
fn high_water_is_the_peak_above_the_quiet_level() {
    fn check(peaks: &[usize], expected: usize) {
        let (mut producer, mut consumer) = ring(64);
        for peak in peaks {
            for _ in 0..*peak {
                producer.push(sample(0)).unwrap();
            }
            assert_eq!(drain(&mut consumer, 64).len(), *peak);
        }
        assert_eq!(producer.high_water(), expected, "{peaks:?}");
    }
    check(&[], 0);
    check(&[4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4], 0);
    check(&[5], 5);
    check(&[3, 40, 7, 39, 40, 1], 40);
    check(&[64, 64], 64);
}

#[test]
fn two_threads_pass_every_record_in_order() {
    const RECORDS: u32 = if cfg!(miri) { 200 } else { 200_000 };
    let (mut producer, mut consumer) = ring_from(usize::MAX - 100, 64);
    let filling = thread::spawn(move || {
        let mut next = 0;
        while next < RECORDS {
            let batch = (next % 23 + 1).min(RECORDS - next);
            let Some(mut room) = producer.reserve(batch as usize) else {
                thread::yield_now();
                continue;
            };
            for number in next..next + batch {
                room.push(sample(number));
            }
            room.commit();
            next += batch;
        }
    });
    let mut next = 0;
    loop {
        let last = consumer.is_abandoned();
        let seen = drain(&mut consumer, 40);
        for number in &seen {
            assert_eq!(*number, next);
            next += 1;
        }
        if last && seen.is_empty() {
            break;
        }
        thread::yield_now();
    }
    assert_eq!(next, RECORDS);
    filling.join().unwrap();
}

#[derive(Clone, Debug)]
enum Op {
    Reserve {
        room: usize,
        pushed: usize,
        commit: bool,
    },
    Push,
    Pop,
    Drain(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..40usize, 0..40usize, any::<bool>()).prop_map(|(room, pushed, commit)| {
            Op::Reserve { room, pushed: pushed.min(room), commit }
        }),
        2 => Just(Op::Push),
        1 => Just(Op::Pop),
        2 => (0..40usize).prop_map(Op::Drain),
    ]
}

/// Runs `ops` on a ring and on a queue; they must agree at every step.
fn compare(capacity: usize, ops: &[Op]) {
    let (mut producer, mut consumer) = ring_from(usize::MAX - 50, capacity);
    let mut model = VecDeque::new();
    let (mut peak, mut number) = (0, 0);
    for op in ops {
        let (asked, fits) = match *op {
            Op::Reserve { room, .. } => (room, model.len() + room <= capacity),
            Op::Push => (1, model.len() < capacity),
            Op::Pop | Op::Drain(_) => (0, true),
        };
        if fits {
            peak = peak.max(model.len() + asked);
        }
        match *op {
            Op::Reserve { pushed, commit, .. } => {
                let Some(mut room) = producer.reserve(asked) else {
                    assert!(!fits);
                    continue;
                };
                assert!(fits);
                let batch = number..number + pushed as u32;
                batch.clone().for_each(|number| room.push(sample(number)));
                number = batch.end;
                if commit {
                    room.commit();
                    model.extend(batch);
                }
            }
            Op::Push => {
                assert_eq!(producer.push(sample(number)).is_ok(), fits);
                if fits {
                    model.push_back(number);
                }
                number += 1;
            }
            Op::Pop => {
                let popped = consumer.pop().map(|sample| sample.slot);
                assert_eq!(popped, model.pop_front());
            }
            Op::Drain(max) => {
                let expected: Vec<u32> = model.drain(..max.min(model.len())).collect();
                assert_eq!(drain(&mut consumer, max), expected);
            }
        }
        assert_eq!(consumer.len(), model.len());
    }
    let quiet = capacity / QUIET_DIVISOR;
    assert_eq!(producer.high_water(), if peak > quiet { peak } else { 0 });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn ring_and_queue_agree(
        capacity in (0..7u32).prop_map(|power| 1 << power),
        ops in prop::collection::vec(op(), 0..120),
    ) {
        compare(capacity, &ops);
    }
}
