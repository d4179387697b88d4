//! The views someone watches: what the cores asked for and the aggregator encodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::view::View;
use crate::limits::{REPLAYS_MAX, VIEWS_MAX};

/// Shared by cores and aggregator. The lock is taken on subscribe and unsubscribe, and by the
/// aggregator at the tick after one.
pub struct Views {
    registry: Mutex<Registry>,
    /// Grows with each change of the set. Written under the lock; its release pairs with the
    /// acquire in [`Views::refresh`].
    version: AtomicU64,
    /// Viewers that are in the past. A count and nothing else: its order means nothing.
    replays: AtomicUsize,
}

/// Invariant: at most [`VIEWS_MAX`] entries, each with one watcher or more.
#[derive(Default)]
struct Registry {
    entries: HashMap<View, Entry>,
    last_number: u32,
}

struct Entry {
    watched: Arc<Watched>,
    watchers: usize,
}

/// A view that has a number on this node. The number is never given again.
pub struct Watched {
    pub number: u32,
    pub view: View,
    wants_key: AtomicBool,
    /// Of a map: the ends of its scale, so that the past is seen in the colours of the present.
    scale: Mutex<Option<[f64; 2]>>,
}

/// Leave to be in the past, given back when dropped.
pub struct Seat(Arc<Views>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.replays.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this node has {VIEWS_MAX} different views already; share one of them or come back later")]
pub struct ViewsFull;

impl Watched {
    /// The next frame will have a KEY.
    pub fn ask_key(&self) {
        // Pairs with the acquire below: who sees the wish sees why it was made.
        self.wants_key.store(true, Ordering::Release);
    }

    /// `[lo, hi]` of a map's newest frame; None before the first.
    pub fn scale(&self) -> Option<[f64; 2]> {
        *self.scale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the aggregator, once a frame.
    pub fn set_scale(&self, scale: [f64; 2]) {
        *self.scale.lock().unwrap_or_else(PoisonError::into_inner) = Some(scale);
    }

    /// For the aggregator, right before it encodes.
    pub fn take_key_wish(&self) -> bool {
        self.wants_key.load(Ordering::Relaxed) && self.wants_key.swap(false, Ordering::Acquire)
    }
}

impl Views {
    pub fn new() -> Arc<Views> {
        Arc::new(Views {
            registry: Mutex::default(),
            version: AtomicU64::new(0),
            replays: AtomicUsize::new(0),
        })
    }

    /// One more viewer of `view`. Asks for a KEY: the viewer has nothing yet.
    pub fn watch(&self, view: View) -> Result<Arc<Watched>, ViewsFull> {
        let mut registry = self.lock();
        if let Some(entry) = registry.entries.get_mut(&view) {
            entry.watchers += 1;
            entry.watched.ask_key();
            return Ok(entry.watched.clone());
        }
        if registry.entries.len() >= VIEWS_MAX {
            return Err(ViewsFull);
        }
        registry.last_number += 1;
        let watched = Arc::new(Watched {
            number: registry.last_number,
            view: view.clone(),
            wants_key: AtomicBool::new(true),
            scale: Mutex::default(),
        });
        let entry = Entry {
            watched: watched.clone(),
            watchers: 1,
        };
        registry.entries.insert(view, entry);
        self.version.fetch_add(1, Ordering::Release);
        Ok(watched)
    }

    /// One viewer less. Once for each [`Views::watch`].
    pub fn release(&self, watched: &Arc<Watched>) {
        let mut registry = self.lock();
        let entry = registry.entries.get_mut(&watched.view);
        let Some(entry) = entry.filter(|entry| entry.watched.number == watched.number) else {
            debug_assert!(false, "view {} was released too often", watched.number);
            return;
        };
        entry.watchers -= 1;
        if entry.watchers == 0 {
            registry.entries.remove(&watched.view);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// A seat in the past; None when [`REPLAYS_MAX`] are taken.
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        let more = |taken| (taken < REPLAYS_MAX).then_some(taken + 1);
        let taken = self
            .replays
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Seat(Arc::clone(self)))
    }

    /// All views by number, if the set changed since `seen` (0 at first).
    pub fn refresh(&self, seen: &mut u64) -> Option<Vec<Arc<Watched>>> {
        if self.version.load(Ordering::Acquire) == *seen {
            return None;
        }
        let registry = self.lock();
        *seen = self.version.load(Ordering::Acquire);
        let mut all: Vec<_> = registry
            .entries
            .values()
            .map(|entry| entry.watched.clone())
            .collect();
        all.sort_unstable_by_key(|watched| watched.number);
        Some(all)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::frame::view::Format;

    fn map(metric: &str) -> View {
        let text = serde_json::json!({"kind": "map", "metric": metric});
        View::parse(&text, Format::Binary).unwrap()
    }

    fn numbers(all: Option<Vec<Arc<Watched>>>) -> Option<Vec<u32>> {
        all.map(|all| all.iter().map(|watched| watched.number).collect())
    }

    #[test]
    fn equal_views_share_a_number_until_the_last_viewer_leaves() {
        let views = Views::new();
        let mut seen = 0;
        assert_eq!(numbers(views.refresh(&mut seen)), None);
        let first = views.watch(map("cpu")).unwrap();
        assert!(first.take_key_wish() && !first.take_key_wish());
        let other = views.watch(map("mem")).unwrap();
        assert_eq!(numbers(views.refresh(&mut seen)), Some(vec![1, 2]));

        let second = views.watch(map("cpu")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(first.take_key_wish(), "the second viewer needs a KEY");
        views.release(&first);
        assert_eq!(numbers(views.refresh(&mut seen)), None);
        views.release(&second);
        assert_eq!(numbers(views.refresh(&mut seen)), Some(vec![2]));

        assert_eq!(views.watch(map("cpu")).unwrap().number, 3);
        views.release(&other);
        assert_eq!(numbers(views.refresh(&mut seen)), Some(vec![3]));
    }

    #[test]
    fn the_bound_holds_and_frees() {
        let views = Views::new();
        let watch = |index: usize| views.watch(map(&format!("m{index}")));
        let all: Vec<_> = (0..VIEWS_MAX).map(|index| watch(index).unwrap()).collect();
        assert!(matches!(watch(VIEWS_MAX), Err(ViewsFull)));
        assert!(watch(7).is_ok(), "a view that exists costs nothing");
        views.release(&all[0]);
        assert!(watch(VIEWS_MAX).is_ok());
    }
}
