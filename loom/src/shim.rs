//! What `ring.rs` gets from `std` otherwise: loom's atomics, and a buffer whose every access loom
//! watches.

use loom::cell::{ConstPtr, UnsafeCell};

use crate::sample::Sample;

pub use loom::sync::Arc;
pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Panics where two threads' accesses to one slot are not ordered, like the real buffer's data race
/// would be, but every time.
pub struct Slots(Vec<UnsafeCell<Sample>>);

// SAFETY: loom panics before two threads' accesses to one cell could race.
unsafe impl Sync for Slots {}

impl Slots {
    pub fn new(capacity: usize) -> Self {
        Self(
            (0..capacity)
                .map(|_| UnsafeCell::new(crate::sample(0)))
                .collect(),
        )
    }

    pub fn capacity(&self) -> usize {
        self.0.len()
    }

    /// # Safety
    /// The caller's side owns the slot of `index`; loom panics if not.
    pub unsafe fn write(&self, index: usize, sample: Sample) {
        // SAFETY: loom hands out the pointer only if no one else accesses the cell.
        self.cell(index)
            .with_mut(|place| unsafe { *place = sample });
    }

    /// # Safety
    /// As for `write`.
    pub unsafe fn read_one(&self, index: usize) -> Sample {
        // SAFETY: loom hands out the pointer only if no one writes the cell.
        self.cell(index).with(|place| unsafe { *place })
    }

    /// # Safety
    /// As for `write`, for the slots of `start..start + n`.
    pub unsafe fn read(&self, start: usize, n: usize, mut f: impl FnMut(&[Sample])) {
        assert!(n <= self.capacity());
        // Held until `f` returns: a writer that comes too early meets them.
        let held: Vec<ConstPtr<Sample>> = (0..n)
            .map(|i| self.cell(start.wrapping_add(i)).get())
            .collect();
        // SAFETY: the guards in `held` keep writers away.
        let samples: Vec<Sample> = held.iter().map(|place| unsafe { *place.deref() }).collect();
        let before_wrap = n.min(self.capacity() - start % self.capacity());
        f(&samples[..before_wrap]);
        if before_wrap < n {
            f(&samples[before_wrap..]);
        }
        drop(held);
    }

    fn cell(&self, index: usize) -> &UnsafeCell<Sample> {
        &self.0[index % self.capacity()]
    }
}
