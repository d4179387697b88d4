//! What must hold in every interleaving of the two threads. Compiled once beside the ring and once
//! beside each of its twins.

use loom::thread::{spawn, yield_now};

use super::ring::{Consumer, Producer, ring_from};
use crate::sample;

pub type Models = &'static [(&'static str, fn())];

pub const ALL: Models = &[
    (
        "records_arrive_once_and_in_order",
        records_arrive_once_and_in_order,
    ),
    (
        "slots_are_reused_only_when_read",
        slots_are_reused_only_when_read,
    ),
    ("a_batch_appears_whole", a_batch_appears_whole),
    (
        "a_dropped_reservation_is_never_seen",
        a_dropped_reservation_is_never_seen,
    ),
    (
        "what_is_counted_can_be_drained",
        what_is_counted_can_be_drained,
    ),
    (
        "a_full_ring_refuses_and_keeps",
        a_full_ring_refuses_and_keeps,
    ),
    (
        "the_last_records_of_a_gone_producer_are_seen",
        the_last_records_of_a_gone_producer_are_seen,
    ),
    (
        "the_last_room_of_a_gone_consumer_is_seen",
        the_last_room_of_a_gone_consumer_is_seen,
    ),
];

/// Indices begin one short of the wrap, so every model crosses it.
fn ring(capacity: usize) -> (Producer, Consumer) {
    ring_from(usize::MAX, capacity)
}

fn drain(consumer: &mut Consumer, max: usize) -> Vec<u32> {
    let mut seen = Vec::new();
    let n = consumer.drain(max, |part| {
        seen.extend(part.iter().map(|sample| sample.slot))
    });
    assert_eq!(n, seen.len());
    seen
}

fn records_arrive_once_and_in_order() {
    let (mut producer, mut consumer) = ring(2);
    let thread = spawn(move || {
        for number in 1..=4 {
            while producer.push(sample(number)).is_err() {
                yield_now();
            }
        }
    });
    for number in 1..=4 {
        let popped = loop {
            match consumer.pop() {
                Some(popped) => break popped,
                None => yield_now(),
            }
        };
        assert_eq!(popped, sample(number));
    }
    assert_eq!(consumer.pop(), None);
    thread.join().expect("the producer ends");
}

fn slots_are_reused_only_when_read() {
    let (mut producer, mut consumer) = ring(2);
    let thread = spawn(move || {
        for first in [1, 3] {
            let mut room = loop {
                match producer.reserve(2) {
                    Some(room) => break room,
                    None => yield_now(),
                }
            };
            room.push(sample(first));
            room.push(sample(first + 1));
            room.commit();
        }
        assert!(producer.high_water() <= 2);
    });
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(drain(&mut consumer, 2));
        yield_now();
    }
    assert_eq!(seen, [1, 2, 3, 4]);
    thread.join().expect("the producer ends");
}

fn a_batch_appears_whole() {
    let (mut producer, mut consumer) = ring(4);
    let thread = spawn(move || {
        for first in [1, 4] {
            let Some(mut room) = producer.reserve(3) else {
                continue;
            };
            for number in first..first + 3 {
                room.push(sample(number));
            }
            room.commit();
        }
    });
    for _ in 0..2 {
        let seen = drain(&mut consumer, 4);
        assert!(
            [vec![], vec![1, 2, 3], vec![4, 5, 6]].contains(&seen),
            "{seen:?}"
        );
    }
    thread.join().expect("the producer ends");
}

fn a_dropped_reservation_is_never_seen() {
    let (mut producer, mut consumer) = ring(4);
    let thread = spawn(move || {
        let mut room = producer.reserve(2).expect("the ring is empty");
        room.push(sample(8));
        room.push(sample(9));
        drop(room);
        let mut room = producer.reserve(4).expect("the room was given back");
        room.push(sample(1));
        room.commit();
    });
    let early = drain(&mut consumer, 4);
    thread.join().expect("the producer ends");
    let late = drain(&mut consumer, 4);
    assert_eq!([early, late].concat(), [1]);
}

fn what_is_counted_can_be_drained() {
    let (mut producer, mut consumer) = ring(2);
    let thread = spawn(move || {
        for number in 1..=2 {
            producer.push(sample(number)).expect("there is room");
        }
    });
    let counted = consumer.len();
    let seen = drain(&mut consumer, counted);
    assert_eq!(seen, [1, 2][..counted]);
    thread.join().expect("the producer ends");
    assert_eq!(consumer.len(), 2 - counted);
}

fn a_full_ring_refuses_and_keeps() {
    let (mut producer, mut consumer) = ring(2);
    for number in 1..=2 {
        producer.push(sample(number)).expect("there is room");
    }
    let thread = spawn(move || {
        let refused = producer.push(sample(3)).is_err();
        assert!(producer.reserve(3).is_none());
        refused
    });
    let early = drain(&mut consumer, 1);
    assert_eq!(early, [1]);
    let refused = thread.join().expect("the producer ends");
    let late = drain(&mut consumer, 2);
    assert_eq!(late, if refused { vec![2] } else { vec![2, 3] });
}

fn the_last_records_of_a_gone_producer_are_seen() {
    let (mut producer, mut consumer) = ring(2);
    let thread = spawn(move || {
        for number in 1..=2 {
            producer.push(sample(number)).expect("there is room");
        }
    });
    if consumer.is_abandoned() {
        assert_eq!(drain(&mut consumer, 2), [1, 2]);
    }
    thread.join().expect("the producer ends");
    assert!(consumer.is_abandoned());
}

fn the_last_room_of_a_gone_consumer_is_seen() {
    let (mut producer, mut consumer) = ring(2);
    for number in 1..=2 {
        producer.push(sample(number)).expect("there is room");
    }
    let thread = spawn(move || assert_eq!(drain(&mut consumer, 2), [1, 2]));
    if producer.is_abandoned() {
        assert!(producer.reserve(2).is_some());
    }
    thread.join().expect("the consumer ends");
    assert!(producer.is_abandoned());
}
