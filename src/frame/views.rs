//! Stub until part FRAME is merged: the registry of watched views.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::view::View;

#[derive(Default)]
pub struct Views {
    version: AtomicU64,
    watched: Mutex<Vec<Arc<Watched>>>,
}

pub struct Watched {
    pub number: u32,
    pub view: View,
    wants_key: AtomicBool,
}

#[derive(Debug)]
pub struct ViewsFull;

impl Views {
    pub fn new() -> Arc<Views> {
        Arc::default()
    }

    pub fn watch(&self, view: View) -> Result<Arc<Watched>, ViewsFull> {
        let number = u32::try_from(self.version.fetch_add(1, Ordering::AcqRel) + 1)
            .map_err(|_| ViewsFull)?;
        let watched = Arc::new(Watched {
            number,
            view,
            wants_key: AtomicBool::new(true),
        });
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&watched));
        Ok(watched)
    }

    pub fn release(&self, watched: &Arc<Watched>) {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| !Arc::ptr_eq(other, watched));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    pub fn refresh(&self, seen: &mut u64) -> Option<Vec<Arc<Watched>>> {
        let version = self.version.load(Ordering::Acquire);
        if version == *seen {
            return None;
        }
        *seen = version;
        let all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        Some(all.clone())
    }
}

impl Watched {
    pub fn ask_key(&self) {
        self.wants_key.store(true, Ordering::Release);
    }

    pub fn take_key_wish(&self) -> bool {
        self.wants_key.swap(false, Ordering::AcqRel)
    }
}
