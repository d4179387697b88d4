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
use std::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[cfg(loom)]
use crate::shim::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell, read, take, write};

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
        slots: (0..capacity).map(|_| UnsafeCell::new(BLANK)).collect(),
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

/// The end that a core fills. On a line of its own, like its twin: side by side, the two would pull
/// their private indices back and forth, which costs ten times a push.
#[repr(align(128))]
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
            shared: &self.shared,
            slots: &self.shared.slots,
            next: self.tail,
            left: n,
            tail: &mut self.tail,
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
        unsafe { write(&self.shared.slots, self.tail, sample) };
        self.tail = self.tail.wrapping_add(1);
        self.shared.publish(self.tail);
        Ok(())
    }

    /// Records ever published, wrapping: a place in the order of this ring.
    pub fn position(&self) -> usize {
        self.tail
    }

    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
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
    shared: &'a Shared,
    /// `shared.slots` once more: kept here, its address stays in a register while a batch is
    /// pushed. Behind `shared` it might have changed with every record, for all a compiler knows.
    slots: &'a [UnsafeCell<Sample>],
    /// `Producer::tail`.
    tail: &'a mut usize,
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
        unsafe { write(self.slots, self.next, sample) };
        self.next = self.next.wrapping_add(1);
    }

    /// Publishes what was pushed, all of it at once; room left over returns to the ring.
    #[inline]
    pub fn commit(self) {
        *self.tail = self.next;
        self.shared.publish(self.next);
    }
}

/// The end that the aggregator empties.
#[repr(align(128))]
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
            unsafe { read(&self.shared.slots, self.head, n, f) };
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
        let sample = unsafe { take(&self.shared.slots, self.head) };
        self.release(1);
        Some(sample)
    }

    /// Records ever taken, wrapping.
    pub fn position(&self) -> usize {
        self.head
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
        // Partner: the release store in `Shared::publish`. The records up to it are written.
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
    /// A power of two of them, initialised from the start: no read can meet foreign memory.
    slots: Box<[UnsafeCell<Sample>]>,
}

// SAFETY: a `Sample` is plain data, and by I2 no slot is written by one thread while another one
// accesses it.
unsafe impl Sync for Shared {}

impl Shared {
    #[inline]
    fn publish(&self, tail: usize) {
        // Partner: the acquire load in `Consumer::tail`. Shows it the records written before.
        self.tail.store(tail, Ordering::Release);
    }
}

const BLANK: Sample = Sample {
    value: 0.0,
    time_ms: Sample::NO_TIME,
    slot: 0,
    column: 0,
    flags: 0,
};

/// # Safety
/// The caller's side owns the slot of `index`, and the slots are a power of two.
#[cfg(not(loom))]
#[inline]
unsafe fn write(slots: &[UnsafeCell<Sample>], index: usize, sample: Sample) {
    // SAFETY: masked by a power of two less one, the index is below it. Ours, says the caller.
    unsafe { *slots.get_unchecked(index & (slots.len() - 1)).get() = sample };
}

/// # Safety
/// As for [`write`].
#[cfg(not(loom))]
#[inline]
unsafe fn take(slots: &[UnsafeCell<Sample>], index: usize) -> Sample {
    // SAFETY: as in `write`.
    unsafe { *slots.get_unchecked(index & (slots.len() - 1)).get() }
}

/// # Safety
/// As for [`write`], for the slots of `start..start + n`; `n` is at most the number of slots.
#[cfg(not(loom))]
#[inline]
unsafe fn read(slots: &[UnsafeCell<Sample>], start: usize, n: usize, mut f: impl FnMut(&[Sample])) {
    let place = start & (slots.len() - 1);
    let before_wrap = n.min(slots.len() - place);
    // An `UnsafeCell` has the layout of what it holds.
    let first = slots.as_ptr().cast::<Sample>();
    // SAFETY: both slices lie within `slots`, together they are the `n` slots that the caller owns,
    // and no one writes these before this call returns.
    unsafe {
        f(std::slice::from_raw_parts(first.add(place), before_wrap));
        if before_wrap < n {
            f(std::slice::from_raw_parts(first, n - before_wrap));
        }
    }
}

#[cfg(all(test, not(loom)))]
// Named, since the loom crate includes this file under another root.
#[path = "ring/tests.rs"]
mod tests;
