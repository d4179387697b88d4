//! Who waits until a sample is on the disk, and how far the disk is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use tokio::sync::watch;

/// How far each core's ring was taken, as its count of samples; and how many samples were not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub rings: Vec<usize>,
    /// Samples that history did not take, or whose record no disk took, ever.
    pub lost: u64,
}

/// The aggregator says how far it forwarded, the journal how far of that is on the disk; whoever
/// asked for a durable answer waits until his place is reached.
pub struct Durable {
    forwarded: Mutex<Forwarded>,
    synced: watch::Sender<Marks>,
    waiting: AtomicUsize,
    keeper: OnceLock<Thread>,
}

/// What the aggregator put into history's ring, after each round of draining.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    pub marks: Marks,
    /// How much history's own ring had been given then.
    pub position: usize,
}

impl Durable {
    pub fn new(cores: usize) -> Self {
        let marks = Marks {
            rings: vec![0; cores],
            lost: 0,
        };
        let forwarded = Forwarded {
            marks: marks.clone(),
            position: 0,
        };
        Self {
            forwarded: forwarded.into(),
            synced: watch::Sender::new(marks),
            waiting: AtomicUsize::new(0),
            keeper: OnceLock::new(),
        }
    }

    /// The aggregator's, once a round.
    pub fn forward(&self, marks: impl Iterator<Item = usize>, position: usize, lost: u64) {
        let mut forwarded = self
            .forwarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        forwarded.marks.rings.clear();
        forwarded.marks.rings.extend(marks);
        forwarded.marks.lost = lost;
        forwarded.position = position;
    }

    pub fn forwarded(&self) -> Forwarded {
        let forwarded = self.forwarded.lock();
        forwarded.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All up to these marks is on the disk.
    pub fn publish(&self, marks: Marks) {
        self.synced.send_replace(marks);
    }

    pub fn set_keeper(&self, thread: Thread) {
        let _ = self.keeper.set(thread);
    }

    pub fn is_wanted(&self) -> bool {
        0 < self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until what `core` had given its ring by `position` is on the disk: true. False: some
    /// sample was lost meanwhile, and it could be this one.
    pub async fn wait(&self, core: usize, position: usize) -> bool {
        let mut marks = self.synced.subscribe();
        let lost = marks.borrow_and_update().lost;
        let _waiting = Waiting::new(self);
        let is_there = |marks: &Marks| {
            let at = marks.rings.get(core).copied().unwrap_or_default();
            // Counts wrap: the distance decides.
            lost < marks.lost || at.wrapping_sub(position) as isize >= 0
        };
        let reached = marks.wait_for(is_there).await;
        reached.is_ok_and(|marks| marks.lost == lost)
    }
}

struct Waiting<'d>(&'d Durable);

impl<'d> Waiting<'d> {
    fn new(durable: &'d Durable) -> Self {
        durable.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(keeper) = durable.keeper.get() {
            keeper.unpark();
        }
        Self(durable)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn marks(rings: [usize; 2], lost: u64) -> Marks {
        let rings = rings.to_vec();
        Marks { rings, lost }
    }

    #[test]
    fn a_place_is_waited_for_and_a_loss_ends_it() {
        let durable = Durable::new(2);
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut first = std::pin::pin!(durable.wait(1, 10));
            let mut wrapped = std::pin::pin!(durable.wait(0, usize::MAX - 3));
            assert_eq!(first.as_mut().poll(&mut cx), Poll::Pending);
            assert_eq!(
                wrapped.as_mut().poll(&mut cx),
                Poll::Ready(true),
                "0 is past it"
            );
            assert!(durable.is_wanted());
            durable.publish(marks([50, 9], 0));
            assert_eq!(first.as_mut().poll(&mut cx), Poll::Pending);
            durable.publish(marks([50, 10], 0));
            assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(true));
            let mut second = std::pin::pin!(durable.wait(1, 11));
            assert_eq!(second.as_mut().poll(&mut cx), Poll::Pending);
            durable.publish(marks([50, 20], 3));
            assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(false));
        }
        assert!(!durable.is_wanted());
    }
}
