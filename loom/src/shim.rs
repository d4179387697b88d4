//! What `ring.rs` gets from `std`, and does with pointers, otherwise: loom's atomics, and slots
//! whose every access loom watches.

use loom::cell::ConstPtr;

use crate::sample::Sample;

pub use loom::cell::UnsafeCell;
pub use loom::sync::Arc;
pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// # Safety
/// The caller's side owns the slot of `index`; loom panics if not.
pub unsafe fn write(slots: &[UnsafeCell<Sample>], index: usize, sample: Sample) {
    // SAFETY: loom hands out the pointer only if no one else accesses the cell.
    slots[index % slots.len()].with_mut(|place| unsafe { *place = sample });
}

/// # Safety
/// As for `write`.
pub unsafe fn take(slots: &[UnsafeCell<Sample>], index: usize) -> Sample {
    // SAFETY: loom hands out the pointer only if no one writes the cell.
    slots[index % slots.len()].with(|place| unsafe { *place })
}

/// # Safety
/// As for `write`, for the slots of `start..start + n`.
pub unsafe fn read(
    slots: &[UnsafeCell<Sample>],
    start: usize,
    n: usize,
    mut f: impl FnMut(&[Sample]),
) {
    assert!(n <= slots.len());
    let place = start % slots.len();
    // Held until `f` returns: a writer that comes too early meets them.
    let held: Vec<ConstPtr<Sample>> = (place..place + n)
        .map(|index| slots[index % slots.len()].get())
        .collect();
    // SAFETY: the guards in `held` keep writers away.
    let samples: Vec<Sample> = held.iter().map(|place| unsafe { *place.deref() }).collect();
    let before_wrap = n.min(slots.len() - place);
    f(&samples[..before_wrap]);
    if before_wrap < n {
        f(&samples[before_wrap..]);
    }
    drop(held);
}
