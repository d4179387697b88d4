//! Readings that wait for their server: bounded, oldest dropped first and counted.

use std::collections::VecDeque;

use super::host::Reading;

/// `queue` holds the readings numbered `first..first + queue.len()`; numbers are never reused, so a
/// delivery that was under way while others were dropped forgets exactly what it sent.
#[derive(Debug)]
pub(crate) struct Backlog {
    queue: VecDeque<Reading>,
    first: u64,
    capacity: usize,
    dropped: u64,
}

impl Backlog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            first: 1,
            capacity,
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, reading: Reading) {
        if self.queue.len() == self.capacity {
            self.queue.pop_front();
            self.first += 1;
            self.dropped += 1;
        }
        self.queue.push_back(reading);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The oldest `max` readings and the number of the last of them.
    pub(crate) fn batch(&self, max: usize) -> (impl ExactSizeIterator<Item = &Reading>, u64) {
        let n = self.queue.len().min(max);
        (self.queue.range(..n), self.first + n as u64 - 1)
    }

    /// Everything up to number `last` is done with.
    pub(crate) fn forget(&mut self, last: u64) {
        while self.first <= last && self.queue.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Readings dropped since last asked.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(backlog: &Backlog, max: usize) -> Vec<i64> {
        backlog.batch(max).0.map(|r| r.time_ms).collect()
    }

    fn reading(time_ms: i64) -> Reading {
        Reading {
            time_ms,
            metrics: Vec::new(),
        }
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let mut backlog = Backlog::new(3);
        for time_ms in 1..=5 {
            backlog.push(reading(time_ms));
        }
        assert_eq!(times(&backlog, 10), [3, 4, 5]);
        assert_eq!(backlog.take_dropped(), 2);
        assert_eq!(backlog.take_dropped(), 0);
        assert_eq!(backlog.batch(2).1, 4);
        backlog.forget(4);
        assert_eq!(times(&backlog, 10), [5]);
        backlog.forget(5);
        assert!(backlog.is_empty());
        backlog.push(reading(6));
        assert_eq!(backlog.batch(1).1, 6);
    }

    #[test]
    fn a_delivery_that_overlaps_a_drop_forgets_only_its_own() {
        let mut backlog = Backlog::new(2);
        backlog.push(reading(1));
        backlog.push(reading(2));
        let last = backlog.batch(2).1;
        backlog.push(reading(3));
        backlog.push(reading(4));
        backlog.forget(last);
        assert_eq!(times(&backlog, 10), [3, 4]);
    }
}
