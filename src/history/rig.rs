//! A store, what is in memory, and the hosts of now, without the threads: for tests.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::journal::Position;
use super::keeper::Desk;
use super::sqlite::Store;
use super::{SeriesName, minute_of};
use crate::catalog::Catalog;
use crate::catalog::lookup::Lookup;

/// 2026-11-26, and a minute of it.
pub(super) const T0: i64 = 20_783 * 86_400_000;

pub(super) struct Rig {
    pub(super) dir: PathBuf,
    pub(super) store: Store,
    pub(super) desk: Desk,
    position: u64,
    pub(super) lookup: Lookup,
    pub(super) catalog: Arc<Catalog>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Rig {
    pub(super) fn new(name: &str) -> Rig {
        let dir = std::env::temp_dir().join(format!("tidewall-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let catalog = Catalog::with_bounds(2_000, 4);
        Rig {
            store: Store::open(&dir).unwrap(),
            dir,
            desk: Desk::default(),
            position: 0,
            lookup: Lookup::new(catalog.clone()),
            catalog,
        }
    }

    pub(super) fn add(&self, host: &str, metric: &str, after_ms: i64, value: f64) {
        let mut recent = self.desk.recent();
        let index = recent.index(&SeriesName::new(host, metric, "%"));
        let (minute, offset_ms) = minute_of(T0 + after_ms);
        recent.add(index, minute, offset_ms, value, false);
    }

    pub(super) fn write(&mut self) {
        self.position += 100;
        let mut recent = self.desk.recent();
        recent.pass(i64::MAX, Position(self.position));
        self.store.write(&recent.next().unwrap()).unwrap();
        recent.stored();
        recent.set_position(Position(self.position));
    }
}
