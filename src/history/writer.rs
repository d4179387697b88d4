//! The thread that fills the store: minutes that have passed, and what time does to old ones.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;

use super::hours::Hours;
use super::keeper::Desk;
use super::mysql::Target;
use super::node;
use super::recent::Passed;
use super::ship::{Settings, Shipper};
use super::sqlite::{MINUTES_A_DAY, Store, StoreError};
use crate::clock::Clock;
use crate::limits::{HISTORY_FREE_BYTES, HISTORY_FREE_DIVISOR, HISTORY_RETRY_INTERVAL};
use crate::observe::{Dropped, History as Counters};

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub points_days: i64,
    pub minutes_days: i64,
    pub hours_days: i64,
}

pub struct Writer {
    pub desk: Arc<Desk>,
    pub counters: Arc<Counters>,
    pub clock: Clock,
    pub dir: PathBuf,
    pub keep: Keep,
    /// Where what is stored goes besides.
    pub ship: Option<Target>,
}

/// What the thread knows besides.
struct Life {
    store: Option<Store>,
    shipper: Option<Shipper>,
    hours: Hours,
    /// Minutes since the epoch when old days were last looked at.
    tended: i64,
    is_failing: bool,
}

impl Writer {
    /// The thread's whole life; over once the keeper is and what it passed was tried.
    pub fn run(self) {
        let _ = self.desk.writer.set(thread::current());
        yield_to_others();
        let mut life = Life {
            store: None,
            shipper: None,
            hours: Hours::new(&self.dir),
            tended: i64::MIN,
            is_failing: false,
        };
        loop {
            // Before the look at what passed: nothing passes after it.
            let is_done = self.desk.is_done.load(Ordering::Acquire);
            if life.store.is_none() {
                let store = self.desk.store.lock();
                life.store = store.unwrap_or_else(PoisonError::into_inner).take();
                life.shipper = life
                    .store
                    .as_ref()
                    .and_then(|store| self.start_shipping(store));
            }
            let is_ok = self.write_all(&mut life);
            if is_done {
                return life.shipper.map_or((), Shipper::stop);
            }
            self.tell_of_shipping(life.shipper.as_ref());
            if is_ok {
                self.tend(&mut life);
            }
            thread::park_timeout(HISTORY_RETRY_INTERVAL);
        }
    }

    /// Begins once there is a store to ship from.
    fn start_shipping(&self, store: &Store) -> Option<Shipper> {
        let target = self.ship.clone()?;
        let started = node::load(&self.dir)
            .map_err(|error| error.to_string())
            .and_then(|node| {
                let settings = Settings {
                    target,
                    dir: self.dir.clone(),
                    node,
                    keep_days: Some(self.keep.minutes_days),
                };
                Shipper::start(settings, store.flush()).map_err(|error| error.to_string())
            });
        started
            .inspect_err(|error| tracing::error!(%error, "history is not shipped"))
            .ok()
    }

    fn tell_of_shipping(&self, shipper: Option<&Shipper>) {
        let Some(status) = shipper.map(Shipper::status) else {
            return;
        };
        let counters = &self.counters;
        let lag_ms = status.lag_ms(self.clock.now().wall_ms);
        counters
            .ship_ok
            .set(u64::from(status.is_connected.load(Ordering::Relaxed)));
        counters.ship_lag_ms.set(lag_ms as u64);
        counters
            .shipped_rows
            .set(status.rows.load(Ordering::Relaxed));
        counters
            .shipped_bytes
            .set(status.bytes.load(Ordering::Relaxed));
        counters
            .ship_errors
            .set(status.errors.load(Ordering::Relaxed));
    }

    fn write_all(&self, life: &mut Life) -> bool {
        let Some(store) = &mut life.store else {
            self.counters.store_ok.set(0);
            return false;
        };
        loop {
            let next = self.desk.recent().next();
            let Some(passed) = next else { break };
            // A day that has no file yet counts: it is newer than those that could go for it.
            let newest = passed.until.div_euclid(MINUTES_A_DAY);
            self.make_room(store, newest);
            match store.write(&passed) {
                Ok(written) => {
                    life.is_failing = false;
                    self.counters.persisted.add(passed.aggregated());
                    self.counters.rows.add(written.rows);
                    self.counters.late.add(written.late);
                    self.counters.thinned.add(written.thinned);
                    self.done_with(&passed);
                    if let Some(shipper) = &life.shipper {
                        shipper.wake(store.flush());
                    }
                }
                Err(error) if error.is_full() => {
                    self.fails(life.is_failing, &error);
                    life.is_failing = true;
                    if !self.evict(store, newest) {
                        let samples = passed.aggregated();
                        self.counters.drop_samples(Dropped::DiskFull, samples);
                        self.done_with(&passed);
                    }
                }
                Err(error) => {
                    self.fails(life.is_failing, &error);
                    life.is_failing = true;
                    break;
                }
            }
        }
        self.counters.store_ok.set(u64::from(!life.is_failing));
        !life.is_failing
    }

    fn done_with(&self, passed: &Passed) {
        self.desk.recent().stored();
        self.desk.release(passed.position, passed.until);
    }

    /// Told once; counted each time.
    fn fails(&self, is_failing: bool, error: &StoreError) {
        self.counters.store_errors.add(1);
        if !is_failing {
            tracing::error!(%error, "history cannot be stored; the live wall goes on");
        }
    }

    /// The oldest days go first when space is short, before anything new is given up.
    fn make_room(&self, store: &mut Store, newest: i64) {
        while is_short(&self.dir) && self.evict(store, newest) {}
    }

    /// False: there is nothing to remove that is older than what is to be written.
    fn evict(&self, store: &mut Store, newest: i64) -> bool {
        let oldest = store.days().next().map(|(day, _)| day);
        let Some(oldest) = oldest.filter(|&oldest| oldest < newest) else {
            return false;
        };
        match store.remove(oldest) {
            Ok(samples) => {
                self.counters.evicted.add(samples);
                let (year, month, day) = crate::calendar::civil_from_days(oldest);
                tracing::warn!(
                    day = %format!("{year:04}-{month:02}-{day:02}"),
                    samples,
                    "the disk is full: the oldest day of history was removed"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, "the oldest day of history cannot be removed");
                false
            }
        }
    }

    /// Old days, once a minute: hours are made, points let go, and files whose time is over
    /// removed.
    fn tend(&self, life: &mut Life) {
        let minute = super::minute_of(self.clock.now().wall_ms).0;
        let Some(store) = &mut life.store else { return };
        if minute == life.tended {
            return;
        }
        life.tended = minute;
        if let Err(error) = self.tend_store(store, &mut life.hours, minute) {
            self.counters.store_errors.add(1);
            tracing::error!(%error, "old history cannot be tended");
        }
        self.counters.store_bytes.set(bytes_of(&self.dir));
    }

    fn tend_store(
        &self,
        store: &mut Store,
        hours: &mut Hours,
        minute: i64,
    ) -> Result<(), StoreError> {
        hours.make_one(store, minute)?;
        hours.expire(minute / MINUTES_A_DAY - self.keep.hours_days)?;
        let today = minute.div_euclid(MINUTES_A_DAY);
        let days: Vec<i64> = store.days().map(|(day, _)| day).collect();
        for day in days {
            // A day is as old as its last minute.
            let age = today - day - 1;
            if self.keep.minutes_days <= age {
                // What no hour was made of yet stays until it is.
                if hours.has_day(store, day)? {
                    store.remove(day)?;
                }
            } else if self.keep.points_days <= age && !store.is_stripped(day) {
                store.strip(day)?;
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Less than a twentieth, or 256 MiB, is left for others.
fn is_short(dir: &std::path::Path) -> bool {
    let Ok(disk) = rustix::fs::statvfs(dir) else {
        return false;
    };
    let floor = HISTORY_FREE_BYTES.min(disk.f_blocks * disk.f_frsize / HISTORY_FREE_DIVISOR);
    disk.f_bavail * disk.f_frsize < floor
}

fn bytes_of(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok());
    sizes
        .filter(|data| data.is_file())
        .map(|data| data.len())
        .sum()
}

/// Compressing a minute takes a CPU for a while: cores and aggregator come first.
pub(super) fn yield_to_others() {
    let this = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(this), 10) {
        tracing::debug!(%error, "history's thread keeps its priority");
    }
}
