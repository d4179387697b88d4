//! Stub until part RING is merged: the contract's signatures over a locked queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sample::Sample;

type Queue = Arc<Mutex<VecDeque<Sample>>>;

pub fn ring(capacity: usize) -> (Producer, Consumer) {
    let queue = Queue::default();
    let producer = Producer {
        queue: Arc::clone(&queue),
        capacity,
    };
    (producer, Consumer { queue })
}

pub struct Producer {
    queue: Queue,
    capacity: usize,
}

pub struct Consumer {
    queue: Queue,
}

pub struct Reservation<'a> {
    queue: &'a Queue,
    samples: Vec<Sample>,
}

impl Producer {
    pub fn reserve(&mut self, n: usize) -> Option<Reservation<'_>> {
        (lock(&self.queue).len() + n <= self.capacity).then(|| Reservation {
            queue: &self.queue,
            samples: Vec::with_capacity(n),
        })
    }
}

impl Reservation<'_> {
    pub fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    pub fn commit(self) {
        lock(self.queue).extend(self.samples);
    }
}

impl Consumer {
    pub fn drain(&mut self, max: usize, mut f: impl FnMut(&[Sample])) -> usize {
        let mut queue = lock(&self.queue);
        let n = max.min(queue.len());
        f(&queue.make_contiguous()[..n]);
        queue.drain(..n).count()
    }

    pub fn len(&self) -> usize {
        lock(&self.queue).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
    }
}

fn lock(queue: &Queue) -> MutexGuard<'_, VecDeque<Sample>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
