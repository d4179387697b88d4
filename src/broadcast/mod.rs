//! The viewers of one core: every tick, one plain loop over all of them.
//!
//! The aggregator posts a tick into each core's [`Mailbox`]; the core's [`Hub`] hands every viewer
//! the shared bytes of its views. Nothing is copied and nothing queues: see [`outbox`].

pub mod outbox;
pub mod viewer;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use slab::Slab;
use tokio::sync::Notify;

use crate::frame::Tick;
use crate::limits::{BROADCAST_BATCH, MAILBOX_TICKS};
use crate::observe::Counters;
use viewer::Viewer;

/// How ticks reach one core: at most one wake-up a tick, whatever the number of viewers.
#[derive(Debug, Default)]
pub struct Mailbox {
    ticks: Mutex<Posted>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Posted {
    queue: VecDeque<Arc<Tick>>,
    missed: u64,
}

impl Mailbox {
    pub fn new() -> Self {
        Self::default()
    }

    /// Never waits: a core that is [`MAILBOX_TICKS`] late loses the oldest tick.
    pub fn post(&self, tick: Arc<Tick>) {
        let mut posted = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        if MAILBOX_TICKS <= posted.queue.len() {
            posted.queue.pop_front();
            posted.missed += 1;
        }
        posted.queue.push_back(tick);
        drop(posted);
        self.notify.notify_one();
    }

    /// The next tick, and how many were given up before it.
    pub async fn receive(&self) -> (Arc<Tick>, u64) {
        loop {
            if let Some(received) = self.try_receive() {
                return received;
            }
            self.notify.notified().await;
        }
    }

    pub fn try_receive(&self) -> Option<(Arc<Tick>, u64)> {
        let mut posted = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let tick = posted.queue.pop_front()?;
        Some((tick, std::mem::take(&mut posted.missed)))
    }
}

/// All viewers of one core.
pub struct Hub {
    viewers: RefCell<Slab<Rc<Viewer>>>,
    counters: Arc<Counters>,
    host_epoch: Cell<u32>,
}

/// Viewers that a delivery leaves something owed to.
#[derive(Default)]
pub struct Owed {
    /// A rate was halved: they get a new `schema`.
    pub schema: Vec<Rc<Viewer>>,
    /// Patches were missed: they get the `hosts` message.
    pub hosts: Vec<Rc<Viewer>>,
}

impl Hub {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            viewers: RefCell::default(),
            counters,
            host_epoch: Cell::new(0),
        }
    }

    pub fn join(&self, viewer: Rc<Viewer>) -> usize {
        self.counters.viewers.add(1);
        self.viewers.borrow_mut().insert(viewer)
    }

    pub fn leave(&self, key: usize) {
        if self.viewers.borrow_mut().try_remove(key).is_some() {
            self.counters.viewers.sub(1);
        }
    }

    /// Version of the host table at the last tick.
    pub fn host_epoch(&self) -> u32 {
        self.host_epoch.get()
    }

    pub fn viewers(&self) -> Vec<Rc<Viewer>> {
        self.viewers
            .borrow()
            .iter()
            .map(|(_, viewer)| viewer.clone())
            .collect()
    }

    /// Hands one tick to every viewer, giving way to other tasks of the core now and then.
    pub async fn deliver(&self, tick: &Tick, missed: u64, now_ms: impl Fn() -> u64) -> Owed {
        let before = self.host_epoch.replace(tick.host_epoch);
        let told = before.wrapping_add(u32::from(tick.hosts_patch.is_some()));
        if told != tick.host_epoch {
            // Missed ticks had patches, and the next one may be long in coming.
            self.viewers
                .borrow()
                .iter()
                .for_each(|(_, viewer)| viewer.miss_hosts());
        }
        self.counters.ticks_missed.add(missed);
        let numbered = |(at, frame): (usize, &crate::frame::Frame)| (frame.view, at);
        let at: HashMap<u32, usize> = tick.frames.iter().enumerate().map(numbered).collect();
        let mut owed = Owed::default();
        let mut key = 0;
        loop {
            let now = now_ms();
            let end = key + BROADCAST_BATCH;
            while key < end {
                let viewer = self.viewers.borrow().get(key).cloned();
                key += 1;
                let Some(viewer) = viewer else { continue };
                if viewer.deliver(tick, &at, now).lowered {
                    owed.schema.push(viewer.clone());
                }
                if viewer.take_hosts_missed() {
                    owed.hosts.push(viewer);
                }
            }
            // Slots are reused, so the table is as long as it ever was wide, not longer.
            if self.viewers.borrow().capacity() <= key {
                return owed;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSlice};

    use super::*;
    use crate::broadcast::viewer::Dialect;
    use crate::frame::views::Views;

    struct Wide;

    impl outbox::Sink for Wide {
        fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }
    }

    fn deliver(hub: &Hub, host_epoch: u32, has_patch: bool) -> usize {
        let patch = bytes::Bytes::from_static(b"patch");
        let tick = Tick {
            host_epoch,
            hosts_patch: has_patch.then_some(patch),
            ..Tick::default()
        };
        let mut delivery = std::pin::pin!(hub.deliver(&tick, 0, || 0));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match delivery.as_mut().poll(&mut context) {
            std::task::Poll::Ready(owed) => owed.hosts.len(),
            std::task::Poll::Pending => panic!("one viewer is no reason to give way"),
        }
    }

    /// A core came late, and the tick it missed was the only one with a patch: its viewers showed
    /// hosts without names until other hosts changed.
    #[test]
    fn viewers_are_told_of_patches_that_a_late_core_missed() {
        let counters: Arc<Counters> = Arc::default();
        let hub = Hub::new(counters.clone());
        for dialect in [Dialect::Binary, Dialect::Plain] {
            let viewer = Viewer::new(Rc::new(Wide), Views::new(), counters.clone(), dialect, 0);
            hub.join(Rc::new(viewer));
        }
        assert_eq!(deliver(&hub, 1, true), 0);
        assert_eq!(deliver(&hub, 1, false), 0);
        assert_eq!(deliver(&hub, 3, false), 1);
        assert_eq!(deliver(&hub, 3, false), 0);
        assert_eq!(deliver(&hub, 4, true), 0);
        assert_eq!(deliver(&hub, 7, true), 1);
    }
}
