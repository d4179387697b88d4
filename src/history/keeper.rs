//! The thread that writes down what comes: from the aggregator's ring into the journal, and into
//! the recent minutes from which the writer fills the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::durable::{Durable, Forwarded};
use super::journal::{Position, Writer};
use super::log::Log;
use super::minute_of;
use super::names::Names;
use super::recent::Recent;
use super::sqlite::Store;
use super::sync::Syncer;
use crate::catalog::Catalog;
use crate::clock::{Clock, Now};
use crate::limits::{
    HISTORY_DRAIN_BATCH, HISTORY_GRACE, HISTORY_PASSED_MAX, HISTORY_POINTS_MAX,
    HISTORY_REOPEN_INTERVAL, HISTORY_RING_CAPACITY, JOURNAL_BATCH_BYTES, JOURNAL_INTERVAL,
    JOURNAL_SYNC_INTERVAL, JOURNAL_WANTED_INTERVAL, SLOT_REST,
};
use crate::observe::{Dropped, History as Counters};
use crate::ring::Consumer;
use crate::sample::Sample;

/// What the keeper shares with the writer and the reader.
#[derive(Default)]
pub struct Desk {
    recent: Mutex<Recent>,
    /// What the store has: the journal may let go of it.
    released: Mutex<Option<(Position, i64)>>,
    /// For the writer to take, once the directory could be opened.
    pub store: Mutex<Option<Store>>,
    pub writer: OnceLock<Thread>,
    /// The keeper has ended: nothing more will pass.
    pub is_done: AtomicBool,
}

impl Desk {
    /// A panic under this lock leaves at worst a point too few.
    pub fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn release(&self, position: Position, until: i64) {
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = Some((position, until));
    }

    fn wake_writer(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

pub struct Inputs {
    pub ring: Consumer,
    pub durable: Arc<Durable>,
    pub catalog: Arc<Catalog>,
    pub desk: Arc<Desk>,
    pub counters: Arc<Counters>,
    pub clock: Clock,
    /// Minutes older than this many are not kept.
    pub minutes_max: i64,
    /// Tries to open the directory again.
    pub reopen: Box<dyn FnMut() -> Option<Log> + Send>,
}

pub struct Keeper {
    inputs: Inputs,
    /// None: there is no directory to keep anything in.
    log: Option<Log>,
    journal: Journal,
    names: Names,
    syncer: Syncer,
    drained_ms: u64,
    synced_ms: u64,
    opened_ms: u64,
    passed_ms: Option<u64>,
    is_failing: bool,
}

/// Records on their way into the log.
#[derive(Default)]
struct Journal {
    writer: Writer,
    /// In which segment each index was named last.
    named: Vec<u32>,
    samples: u64,
    last_minute: i64,
}

impl Journal {
    fn sample(&mut self, index: u32, sample: &Sample, segment: u32, recent: &Recent) {
        let at = index as usize;
        if self.named.len() <= at {
            self.named.resize(at + 1, 0);
        }
        if self.named[at] != segment
            && let Some(name) = recent.name(index)
        {
            self.named[at] = segment;
            self.writer.name(index, name);
        }
        self.writer.sample(index, sample.time_ms, sample.value);
        self.samples += 1;
        self.last_minute = self.last_minute.max(minute_of(sample.time_ms).0);
    }
}

impl Keeper {
    pub fn new(inputs: Inputs, log: Option<Log>) -> std::io::Result<Self> {
        let now_ms = inputs.clock.mono_ms();
        Ok(Self {
            syncer: Syncer::start(Arc::clone(&inputs.durable))?,
            log,
            journal: Journal::default(),
            names: Names::default(),
            drained_ms: now_ms,
            synced_ms: now_ms,
            opened_ms: now_ms,
            passed_ms: None,
            is_failing: false,
            inputs,
        })
    }

    /// The thread's whole life; over when the aggregator has gone and all it left is on the disk.
    pub fn run(mut self) {
        self.inputs.durable.set_keeper(thread::current());
        loop {
            let is_over = self.inputs.ring.is_abandoned();
            let now = self.inputs.clock.now();
            let forwarded = self.inputs.durable.forwarded();
            self.prepare(now);
            self.drain(now);
            self.write();
            self.pass(now);
            if is_over {
                self.end(&forwarded);
                return;
            }
            self.sync(&forwarded, now);
            thread::park_timeout(if self.inputs.durable.is_wanted() {
                JOURNAL_WANTED_INTERVAL
            } else {
                JOURNAL_INTERVAL
            });
        }
    }

    /// A segment to write to, if the disk has place for one.
    fn prepare(&mut self, now: Now) {
        if self.syncer.take_failure()
            && let Some(log) = &mut self.log
        {
            log.give_up();
        }
        if self.log.is_none() {
            let since_ms = now.mono_ms.saturating_sub(self.opened_ms);
            if millis(HISTORY_REOPEN_INTERVAL) <= since_ms {
                self.opened_ms = now.mono_ms;
                self.log = (self.inputs.reopen)();
                self.inputs.desk.wake_writer();
            }
        }
        let Some(log) = &mut self.log else { return };
        let released = self.inputs.desk.released.lock();
        if let Some((position, until)) = released.unwrap_or_else(PoisonError::into_inner).take() {
            self.syncer.remove(log.release(position, until));
        }
        if log.must_rotate() {
            match log.rotate() {
                Ok(files) => self.syncer.leave(files),
                Err(error) => self.fails(&error),
            }
        }
    }

    /// Takes all that is in the ring.
    fn drain(&mut self, now: Now) {
        let waited_ms = now.mono_ms.saturating_sub(self.drained_ms);
        let is_late = millis(SLOT_REST) / 2 < waited_ms;
        self.drained_ms = now.mono_ms;
        let segment = self.log.as_ref().map(Log::segment);
        let Self {
            inputs,
            names,
            journal,
            ..
        } = self;
        let (counters, oldest) = (
            &inputs.counters,
            minute_of(now.wall_ms).0 - inputs.minutes_max,
        );
        for _ in 0..HISTORY_RING_CAPACITY / HISTORY_DRAIN_BATCH {
            let mut recent = inputs.desk.recent();
            let taken = inputs.ring.drain(HISTORY_DRAIN_BATCH, |samples| {
                // Not before the samples were seen: their names are there by now.
                let doubtful = names.refresh(&inputs.catalog, is_late);
                for sample in samples {
                    let (minute, offset_ms) = minute_of(sample.time_ms);
                    let kept = match segment {
                        None => Err(Dropped::Unavailable),
                        Some(_) if minute < oldest => Err(Dropped::TooOld),
                        Some(_) if recent.room() == 0 => Err(Dropped::MemoryFull),
                        Some(_) if doubtful.contains(&sample.slot) => Err(Dropped::Stalled),
                        Some(segment) => names
                            .index(sample, &mut recent)
                            .map(|index| (segment, index))
                            .ok_or(Dropped::Stalled),
                    };
                    match kept {
                        Ok((segment, index)) => {
                            recent.add(index, minute, offset_ms, sample.value, false);
                            journal.sample(index, sample, segment, &recent);
                        }
                        Err(reason) => counters.drop_samples(reason, 1),
                    }
                }
            });
            counters.taken.add(taken as u64);
            counters.held.set(recent.aggregated());
            drop(recent);
            if taken == 0 {
                break;
            }
            // A long backlog must not become one giant record in memory.
            if JOURNAL_BATCH_BYTES < journal.writer.len() {
                break;
            }
        }
    }

    /// What was drained goes to the page cache: from there on a kill costs nothing.
    fn write(&mut self) {
        let Some(log) = &mut self.log else {
            self.inputs.counters.journal_ok.set(0);
            return;
        };
        let journal = &mut self.journal;
        if !journal.writer.is_empty() {
            let records = journal.writer.take();
            let written = log.append(&records, journal.last_minute);
            let samples = std::mem::take(&mut journal.samples);
            journal.last_minute = i64::MIN;
            journal.writer.reuse(records);
            self.inputs.counters.journal_bytes.set(log.bytes());
            self.inputs.desk.recent().set_position(log.position());
            match written {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    self.inputs.counters.unjournaled.add(samples);
                    self.fails(&error);
                }
            }
        }
        let is_ok = u64::from(!self.is_failing);
        self.inputs.counters.journal_ok.set(is_ok);
    }

    /// Hands minutes that are over to the writer, all of them when memory runs short.
    fn pass(&mut self, now: Now) {
        let Some(log) = &self.log else { return };
        let mut recent = self.inputs.desk.recent();
        let is_short = recent.room() < HISTORY_POINTS_MAX / 4;
        let over = minute_of(now.wall_ms - millis(HISTORY_GRACE) as i64).0 - 1;
        let until = if is_short { i64::MAX } else { over };
        let is_due = recent.first_open().is_some_and(|first| first <= until);
        // What comes late comes bit by bit: each bit is a write.
        let since_ms = self.passed_ms.map(|at| now.mono_ms.saturating_sub(at));
        let is_early = since_ms.is_some_and(|ms| ms < millis(HISTORY_GRACE)) && !is_short;
        if !is_due || is_early || HISTORY_PASSED_MAX <= recent.waiting() {
            return;
        }
        self.passed_ms = Some(now.mono_ms);
        if recent.pass(until, log.position()) {
            self.names.forget();
            self.journal.named.clear();
        }
        drop(recent);
        self.inputs.desk.wake_writer();
    }

    fn sync(&mut self, forwarded: &Forwarded, now: Now) {
        let since_ms = now.mono_ms.saturating_sub(self.synced_ms);
        if !self.inputs.durable.is_wanted() && since_ms < millis(JOURNAL_SYNC_INTERVAL) {
            return;
        }
        let handle = self
            .log
            .as_ref()
            .and_then(|log| log.handle().ok())
            .flatten();
        // What is not in a file can't be durable: whoever waits hears of the loss.
        let marks = self.marks(forwarded);
        let Some(handle) = handle else {
            self.inputs.durable.publish(marks);
            return;
        };
        if self.syncer.sync(handle, marks) {
            self.synced_ms = now.mono_ms;
        }
    }

    fn marks(&self, forwarded: &Forwarded) -> super::durable::Marks {
        let mut marks = forwarded.marks.clone();
        marks.lost += self.inputs.counters.lost_by_keeper();
        marks
    }

    fn end(mut self, forwarded: &Forwarded) {
        let handle = self
            .log
            .as_ref()
            .and_then(|log| log.handle().ok())
            .flatten();
        let marks = self.marks(forwarded);
        self.syncer.finish(handle, marks);
        self.inputs.desk.is_done.store(true, Ordering::Release);
        self.inputs.desk.wake_writer();
    }

    fn fails(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "the journal cannot be written; samples are only in memory");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
