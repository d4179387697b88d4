//! Stub until part SERVER is merged: keeps what was posted, for the aggregator's tests.

use std::sync::{Arc, Mutex, PoisonError};

use crate::frame::Tick;

#[derive(Default)]
pub struct Mailbox {
    ticks: Mutex<Vec<Arc<Tick>>>,
}

impl Mailbox {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn post(&self, tick: Arc<Tick>) {
        let mut ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        ticks.push(tick);
    }
}
