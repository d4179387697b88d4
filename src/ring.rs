//! A bounded ring of [`Sample`]s between exactly two threads: one core in, the aggregator out.
//!
//! `tail` counts the records ever published, `head` those ever taken; both wrap, and a record lives
//! in the slot its index names modulo the capacity. Everything leans on three invariants:
//!
//! * **I1** `head <= tail <= head + capacity`, as distances between wrapping counters.
//! * **I2** The consumer owns the slots of `head..tail`, the producer all others. No one else does.
//! * **I3** Only the producer moves `tail`, only the consumer moves `head`, and each does so after
//!   its last access to the slots it gives away with that move.
//!
//! Each side keeps its own index in a plain field and remembers what it last saw of the other's.
//! That memory is old but never wrong: the other index only moves towards more room, or more
//! records. So the other core's cache line is read when the memory runs out, not per record.
//!
//! A full ring refuses; it neither waits nor overwrites. The models of `loom/` run this file with
//! every ordering below weakened in turn and must see each of them fail.

#![allow(
    unsafe_code,
    reason = "two threads write one buffer at disjoint places, which no safe type expresses"
)]

use crossbeam_utils::CachePadded;

use crate::sample::Sample;

#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[cfg(loom)]
use crate::shim::{Arc, AtomicBool, AtomicUsize, Ordering, Slots};

/// Peaks below this share of the capacity are not recorded as high water: to tell them apart the
/// producer would have to look at `head` more often than the room left requires.
const QUIET_DIVISOR: usize = 16;

/// A ring of `capacity` records, which must be a power of two, and its two ends.
pub fn ring(capacity: usize) -> (Producer, Consumer) {
    ring_from(0, capacity)
}

/// A ring whose indices begin at `start`, so that tests need not count to the wrap.
pub(crate) fn ring_from(start: usize, capacity: usize) -> (Producer, Consumer) {
    assert!(
        capacity.is_power_of_two(),
        "a ring's capacity is a power of two"
    );
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicUsize::new(start)),
        head: CachePadded::new(AtomicUsize::new(start)),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
        slots: Slots::new(capacity),
    });
    let level = capacity / QUIET_DIVISOR;
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: start,
        limit: start.wrapping_add(level),
        level,
    };
    let consumer = Consumer {
        shared,
        head: start,
        tail_seen: start,
    };
    (producer, consumer)
}

/// The end that a core fills.
pub struct Producer {
    shared: Arc<Shared>,
    /// What `Shared::tail` holds.
    tail: usize,
    /// The head last seen plus `level`: up to here records fit without a new look at `head`, and
    /// no peak can go unnoticed. `tail <= limit <= head + capacity`.
    limit: usize,
    /// The most records the ring was seen to hold, and at least the quiet level.
    level: usize,
}

impl Producer {
    /// Room for exactly `n` records, or `None` and nothing is changed. Records pushed into it are
    /// seen by the consumer all at once on [`Reservation::commit`], and never without it.
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Option<Reservation<'_>> {
        if !self.has_room(n) {
            return None;
        }
        Some(Reservation {
            next: self.tail,
            left: n,
            producer: self,
        })
    }

    /// One record, published at once; the record itself when the ring is full. Publishing costs the
    /// consumer's core a cache line: batches should [`reserve`](Self::reserve).
    #[inline]
    pub fn push(&mut self, sample: Sample) -> Result<(), Sample> {
        if !self.has_room(1) {
            return Err(sample);
        }
        // SAFETY: there is room for one record, so by I1 `tail` is outside `head..tail` and by I2
        // its slot is ours until `publish`.
        unsafe { self.shared.slots.write(self.tail, sample) };
        self.publish(self.tail.wrapping_add(1));
        Ok(())
    }

    pub fn capacity(&self) -> usize {
        self.shared.slots.capacity()
    }

    /// The most records that were in the ring or reserved at once, as the producer saw it; peaks of
    /// at most a sixteenth of the capacity read as 0.
    pub fn high_water(&self) -> usize {
        if self.level > self.capacity() / QUIET_DIVISOR {
            self.level
        } else {
            0
        }
    }

    /// True once the consumer is dropped; all the room it made is visible from then on.
    pub fn is_abandoned(&self) -> bool {
        // Partner: the release store in `Consumer::drop`.
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    #[inline]
    fn has_room(&mut self, n: usize) -> bool {
        n <= self.limit.wrapping_sub(self.tail) || self.look_for_room(n)
    }

    /// Looks at `head` again. Raises the high-water mark even if the reservation is then dropped.
    #[cold]
    #[inline(never)]
    fn look_for_room(&mut self, n: usize) -> bool {
        // Partner: the release store in `Consumer::release`. Sees its reads of the slots it gave
        // back as done, so that they may be written.
        let head = self.shared.head.load(Ordering::Acquire);
        let held = self.tail.wrapping_sub(head);
        let room = self.capacity() - held;
        if n <= room {
            self.level = self.level.max(held + n);
        }
        self.limit = head.wrapping_add(self.level);
        n <= room
    }

    #[inline]
    fn publish(&mut self, tail: usize) {
        self.tail = tail;
        // Partner: the acquire load in `Consumer::tail`. Shows it the records written before.
        self.shared.tail.store(tail, Ordering::Release);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Partner: the acquire load in `Consumer::is_abandoned`. Shows it the last `tail` as well.
        self.shared.producer_gone.store(true, Ordering::Release);
    }
}

/// Room in the ring that only this batch can fill. Dropping it publishes nothing.
#[must_use = "a reservation publishes nothing unless it is committed"]
pub struct Reservation<'a> {
    producer: &'a mut Producer,
    /// Index of the next record: `tail` plus the records pushed so far.
    next: usize,
    left: usize,
}

impl Reservation<'_> {
    /// # Panics
    /// When more is pushed than was reserved.
    #[inline]
    pub fn push(&mut self, sample: Sample) {
        assert!(self.left > 0, "pushed past the reservation");
        self.left -= 1;
        // SAFETY: `next` lies within the room that `reserve` found past `tail`, so by I1 it is
        // outside `head..tail` and by I2 its slot is ours until `commit`.
        unsafe { self.producer.shared.slots.write(self.next, sample) };
        self.next = self.next.wrapping_add(1);
    }

    /// Publishes what was pushed, all of it at once; room left over returns to the ring.
    #[inline]
    pub fn commit(self) {
        self.producer.publish(self.next);
    }
}

/// The end that the aggregator empties.
pub struct Consumer {
    shared: Arc<Shared>,
    /// What `Shared::head` holds.
    head: usize,
    /// The tail last seen: `head <= tail_seen <= tail`.
    tail_seen: usize,
}

impl Consumer {
    /// Hands the oldest records, at most `max`, to `f` in order and in place: as one slice, or two
    /// where they wrap around the end of the buffer. They leave the ring together, after `f` has
    /// seen all of them; if `f` panics, none do. Returns their number.
    #[inline]
    pub fn drain(&mut self, max: usize, f: impl FnMut(&[Sample])) -> usize {
        let mut n = self.tail_seen.wrapping_sub(self.head);
        if n < max {
            n = self.look_for_records();
        }
        n = n.min(max);
        if n > 0 {
            // SAFETY: `head..head + n` lies within `head..tail_seen`, so by I2 the slots are ours
            // until `release`.
            unsafe { self.shared.slots.read(self.head, n, f) };
            self.release(n);
        }
        n
    }

    /// The oldest record.
    #[inline]
    pub fn pop(&mut self) -> Option<Sample> {
        if self.head == self.tail_seen && self.look_for_records() == 0 {
            return None;
        }
        // SAFETY: `head < tail_seen`, so by I2 the slot of `head` is ours until `release`.
        let sample = unsafe { self.shared.slots.read_one(self.head) };
        self.release(1);
        Some(sample)
    }

    /// Records published and not yet taken.
    pub fn len(&self) -> usize {
        self.tail().wrapping_sub(self.head)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True once the producer is dropped; all that it published is visible from then on, so a
    /// drain that finds nothing after this was true is the last.
    pub fn is_abandoned(&self) -> bool {
        // Partner: the release store in `Producer::drop`.
        self.shared.producer_gone.load(Ordering::Acquire)
    }

    #[inline]
    fn look_for_records(&mut self) -> usize {
        self.tail_seen = self.tail();
        self.tail_seen.wrapping_sub(self.head)
    }

    #[inline]
    fn tail(&self) -> usize {
        // Partner: the release store in `Producer::publish`. The records up to it are written.
        self.shared.tail.load(Ordering::Acquire)
    }

    #[inline]
    fn release(&mut self, n: usize) {
        self.head = self.head.wrapping_add(n);
        // Partner: the acquire load in `Producer::look_for_room`. Our reads come before its writes.
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Partner: the acquire load in `Producer::is_abandoned`. Shows it the last `head` as well.
        self.shared.consumer_gone.store(true, Ordering::Release);
    }
}

struct Shared {
    /// Written by the producer; on a line of its own, as the consumer polls it.
    tail: CachePadded<AtomicUsize>,
    /// Written by the consumer; on a line of its own likewise.
    head: CachePadded<AtomicUsize>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    slots: Slots,
}

/// The buffer. Every slot is initialised from the start, so no read can meet foreign memory.
#[cfg(not(loom))]
struct Slots(Box<[std::cell::UnsafeCell<Sample>]>);

// SAFETY: a `Sample` is plain data, and by I2 no slot is ever written by one thread while another
// accesses it.
#[cfg(not(loom))]
unsafe impl Sync for Slots {}

#[cfg(not(loom))]
impl Slots {
    fn new(capacity: usize) -> Self {
        let blank = Sample {
            value: 0.0,
            time_ms: Sample::NO_TIME,
            slot: 0,
            column: 0,
            flags: 0,
        };
        Self((0..capacity).map(|_| blank.into()).collect())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }

    /// # Safety
    /// The caller's side owns the slot of `index`.
    #[inline]
    unsafe fn write(&self, index: usize, sample: Sample) {
        let place = index & (self.0.len() - 1);
        // SAFETY: the length is a power of two, so the mask keeps `place` below it. Ours to write,
        // says the caller.
        unsafe { *self.0.get_unchecked(place).get() = sample };
    }

    /// # Safety
    /// The caller's side owns the slot of `index`.
    #[inline]
    unsafe fn read_one(&self, index: usize) -> Sample {
        let place = index & (self.0.len() - 1);
        // SAFETY: as in `write`.
        unsafe { *self.0.get_unchecked(place).get() }
    }

    /// # Safety
    /// The caller's side owns the slots of `start..start + n`, and `n` is at most the capacity.
    #[inline]
    unsafe fn read(&self, start: usize, n: usize, mut f: impl FnMut(&[Sample])) {
        let place = start & (self.0.len() - 1);
        let before_wrap = n.min(self.0.len() - place);
        // An `UnsafeCell` has the layout of what it holds.
        let first = self.0.as_ptr().cast::<Sample>();
        // SAFETY: both slices lie within the buffer, together they are the `n` slots that the
        // caller owns, and none of these is written before this call returns.
        unsafe {
            f(std::slice::from_raw_parts(first.add(place), before_wrap));
            if before_wrap < n {
                f(std::slice::from_raw_parts(first, n - before_wrap));
            }
        }
    }
}
