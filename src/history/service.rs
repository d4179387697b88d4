//! Start and stop of history: its directory, its threads, and what the rest of the node holds of
//! it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use thiserror::Error;

use super::block::MINUTE_MS;
use super::durable::Durable;
use super::journal::Entry;
use super::keeper::{self, Desk, Keeper};
use super::log::Log;
use super::mysql::Target;
use super::node;
use super::picture::Pictures;
use super::reader::{Asked, Reader};
use super::recent::{Away, Recent};
use super::remote::Remote;
use super::sqlite::{MINUTES_A_DAY, Store, StoreError};
use super::writer::{Keep, Writer};
use super::{FLEET_STEP_MS, SeriesName, minute_of};
use crate::catalog::Catalog;
use crate::clock::{self, Clock};
use crate::limits::{HISTORY_QUESTIONS_MAX, HISTORY_RING_CAPACITY};
use crate::observe::{Dropped, History as Counters};
use crate::ring::{Consumer, Producer, ring};
use crate::sample::Sample;

/// Where history is kept, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dir: PathBuf,
    /// Nobody named it: should another node have it, this one takes another.
    pub may_move: bool,
    pub keep: Keep,
    /// Where what is stored goes besides.
    pub mysql: Option<Target>,
}

#[derive(Debug, Error)]
pub enum OpenError {
    #[error("{} is in use by another process", .0.display())]
    Taken(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What cores and `/metrics` hold.
pub struct Access {
    pub questions: SyncSender<Asked>,
    pub durable: Arc<Durable>,
    pub counters: Arc<Counters>,
}

/// The aggregator's end.
pub struct Feed {
    producer: Producer,
    durable: Arc<Durable>,
    counters: Arc<Counters>,
    lost: u64,
}

/// What a start gives; nothing, where nothing is kept.
#[derive(Default)]
pub struct Kept {
    pub access: Option<Access>,
    pub feed: Option<Feed>,
    pub report: Option<Report>,
    /// They end when the feed is dropped. The reader is not among them: it ends when nobody can
    /// ask.
    pub threads: Vec<JoinHandle<io::Result<()>>>,
}

/// What a start tells an operator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub dir: PathBuf,
    pub replayed: u64,
    pub damaged: bool,
    /// Series of the newest day, and bytes of a series and minute, with its points.
    pub series: u64,
    pub row_bytes: f64,
}

impl Report {
    /// Bytes once everything is there that is kept: points and minutes as the newest day has them,
    /// 60 B for a minute without points and for an hour.
    pub fn cost(&self, keep: Keep) -> f64 {
        const BARE_ROW_BYTES: f64 = 60.0;
        let minutes_a_day = MINUTES_A_DAY as f64 * self.series as f64;
        let with_points = keep.points_days as f64 + 1.0;
        let without = (keep.minutes_days - keep.points_days) as f64;
        let hours = keep.hours_days as f64 / 60.0;
        minutes_a_day * (with_points * self.row_bytes + (without + hours) * BARE_ROW_BYTES)
    }
}

impl Feed {
    /// Gives history what was merged. It waits for nothing: what finds no room is counted.
    pub fn forward(&mut self, samples: &[Sample], arrival_ms: i64) {
        self.counters.forwarded.add(samples.len() as u64);
        let Some(mut room) = self.producer.reserve(samples.len()) else {
            self.lost += samples.len() as u64;
            self.counters
                .drop_samples(Dropped::RingFull, samples.len() as u64);
            self.counters.taken_never.add(samples.len() as u64);
            return;
        };
        for &sample in samples {
            let time_ms = super::time_of(&sample, arrival_ms);
            room.push(Sample { time_ms, ..sample });
        }
        room.commit();
    }

    pub fn is_degraded(&self) -> bool {
        self.counters.is_degraded()
    }

    /// All that was forwarded came from the rings up to these places.
    pub fn mark(&self, rings: impl Iterator<Item = usize>) {
        self.durable
            .forward(rings, self.producer.position(), self.lost);
    }
}

/// A directory that is ours, read.
struct Opened {
    store: Store,
    log: Log,
}

impl Opened {
    /// The store is the writer's.
    fn give_to(self, desk: &Desk) -> Log {
        *desk.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.store);
        self.log
    }
}

/// Opens the directory and starts the threads. A directory that another process has is an error;
/// any other trouble with it is told, and tried again later: the live wall does not wait for it.
pub fn start(
    plan: &Plan,
    catalog: Arc<Catalog>,
    clock: Clock,
    cores: usize,
) -> Result<Kept, OpenError> {
    let counters = Arc::new(Counters::default());
    let desk = Arc::new(Desk::default());
    let durable = Arc::new(Durable::new(cores));
    let (producer, consumer) = ring(HISTORY_RING_CAPACITY);
    let (questions, asked) = sync_channel(HISTORY_QUESTIONS_MAX);
    let mut report = Report {
        dir: plan.dir.clone(),
        ..Report::default()
    };
    let opened = match open(plan, &desk, &counters, &mut report) {
        Ok(opened) => Some(opened),
        Err(error @ OpenError::Taken(_)) => return Err(error),
        Err(error) => {
            tracing::error!(%error, "history cannot be kept; the live wall goes on without it");
            None
        }
    };
    let threads = Threads {
        plan: plan.clone(),
        desk,
        counters: Arc::clone(&counters),
        durable: Arc::clone(&durable),
        clock,
    };
    let threads = threads.start(opened, consumer, asked, catalog)?;
    let access = Access {
        questions,
        durable: Arc::clone(&durable),
        counters: Arc::clone(&counters),
    };
    let feed = Feed {
        producer,
        durable,
        counters,
        lost: 0,
    };
    Ok(Kept {
        access: Some(access),
        feed: Some(feed),
        report: Some(report),
        threads,
    })
}

struct Threads {
    plan: Plan,
    desk: Arc<Desk>,
    counters: Arc<Counters>,
    durable: Arc<Durable>,
    clock: Clock,
}

impl Threads {
    fn start(
        self,
        opened: Option<Opened>,
        ring: Consumer,
        asked: Receiver<Asked>,
        catalog: Arc<Catalog>,
    ) -> Result<Vec<JoinHandle<io::Result<()>>>, OpenError> {
        let Self {
            plan,
            desk,
            counters,
            durable,
            clock,
        } = self;
        let log = opened.map(|opened| opened.give_to(&desk));
        let reopen = {
            let (plan, desk, counters) = (plan.clone(), Arc::clone(&desk), Arc::clone(&counters));
            move || {
                let opened = open(&plan, &desk, &counters, &mut Report::default()).ok()?;
                tracing::warn!("history is kept again");
                Some(opened.give_to(&desk))
            }
        };
        let pictures = Pictures::new(Arc::clone(&catalog));
        let inputs = keeper::Inputs {
            ring,
            durable,
            catalog,
            desk: Arc::clone(&desk),
            counters: Arc::clone(&counters),
            clock,
            minutes_max: plan.keep.minutes_days * MINUTES_A_DAY,
            reopen: Box::new(reopen),
        };
        let dir = plan.dir.clone();
        let io = |source| OpenError::Io {
            path: dir.clone(),
            source,
        };
        let keeper = Keeper::new(inputs, log).map_err(io)?;
        let writer = Writer {
            desk: Arc::clone(&desk),
            counters: Arc::clone(&counters),
            clock,
            dir: plan.dir.clone(),
            keep: plan.keep,
            ship: plan.mysql.clone(),
        };
        // Without a directory it has no number, and nothing of its own that could be seen twice.
        let node = || node::load(&plan.dir).unwrap_or_default();
        let remote = plan.mysql.map(|target| Remote::new(target, node()));
        let reader = Reader {
            remote: remote.transpose().map_err(io)?,
            asked,
            desk,
            dir: plan.dir,
            counters,
            pictures,
            told: Vec::new(),
        };
        let threads = vec![
            spawn("history-keeper", || keeper.run()).map_err(io)?,
            spawn("history-writer", || writer.run()).map_err(io)?,
        ];
        spawn("history-reader", || reader.run()).map_err(io)?;
        Ok(threads)
    }
}

fn spawn(
    name: &str,
    life: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    thread::Builder::new().name(name.to_owned()).spawn(|| {
        life();
        Ok(())
    })
}

/// Reads all there is: the store, then what of the journal is not in it.
fn open(
    plan: &Plan,
    desk: &Desk,
    counters: &Counters,
    report: &mut Report,
) -> Result<Opened, OpenError> {
    let dir = &plan.dir;
    let io = |path: &Path, source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(|source| io(dir, source))?;
    let lock = take_lock(dir)?;
    let mut store = Store::open(dir)?;
    store.hold(lock);
    let journal = dir.join("journal");
    let mut replay = Replay {
        store: &store,
        recent: &mut desk.recent(),
        indices: Vec::new(),
        segment: 0,
        oldest: minute_of(clock::wall_ms()).0 - plan.keep.minutes_days * MINUTES_A_DAY,
        last_ms: i64::MIN,
        replayed: 0,
        lost: 0,
    };
    let taken = store.position().segment();
    let read = Log::open(&journal, taken, |position, entry| {
        replay.entry(position, entry)
    });
    let (log, found) = read.map_err(|source| io(&journal, source))?;
    if 0 < replay.lost {
        let samples = replay.lost;
        tracing::error!(samples, "samples of the journal could not be taken back");
    }
    replay.recent.away = away(replay.last_ms, &store);
    report.replayed = replay.replayed;
    report.damaged = found.skipped_records + found.cut_bytes > 0;
    counters.replayed.set(replay.replayed);
    counters.damaged_records.set(found.skipped_records);
    counters.cut_bytes.set(found.cut_bytes);
    if let Some((_, state, path)) = store.newest() {
        let bytes = fs::metadata(path).map_or(0, |data| data.len());
        report.series = store.series();
        report.row_bytes = bytes as f64 / state.rows.max(1) as f64;
    }
    Ok(Opened { store, log })
}

/// Between the last thing that was heard and now. What never was is all of the past.
fn away(last_ms: i64, store: &Store) -> Away {
    let now_ms = clock::wall_ms();
    let stored = store.newest().map_or(i64::MIN, |(_, state, _)| state.until);
    let stored_ms = stored.saturating_add(1).saturating_mul(MINUTE_MS);
    let last_ms = last_ms.saturating_add(1).max(stored_ms).min(now_ms);
    Away {
        left: last_ms.saturating_sub(1).div_euclid(FLEET_STEP_MS),
        came: now_ms.div_euclid(FLEET_STEP_MS),
    }
}

/// Held as long as the file is open.
pub(super) fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = opened.map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Taken(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// What the journal says, taken back where no store has it.
struct Replay<'a> {
    store: &'a Store,
    recent: &'a mut Recent,
    /// The segment's indices to those of `recent`.
    indices: Vec<Option<u32>>,
    segment: u32,
    oldest: i64,
    /// The latest time of a sample.
    last_ms: i64,
    replayed: u64,
    lost: u64,
}

impl Replay<'_> {
    fn entry(&mut self, position: super::journal::Position, entry: Entry<'_>) -> Option<i64> {
        if position.segment() != self.segment {
            self.segment = position.segment();
            self.indices.clear();
        }
        match entry {
            Entry::Name {
                index,
                host,
                metric,
                unit,
            } => {
                let at = index as usize;
                // No more than a segment can name: a damaged number must not be believed.
                if at < crate::limits::HISTORY_NAMES_MAX {
                    if self.indices.len() <= at {
                        self.indices.resize(at + 1, None);
                    }
                    let name = SeriesName::new(host, metric, unit);
                    self.indices[at] = Some(self.recent.index(&name));
                }
                None
            }
            Entry::Sample {
                index,
                time_ms,
                value,
            } => {
                let (minute, offset_ms) = minute_of(time_ms);
                self.last_ms = self.last_ms.max(time_ms);
                if self.store.has(position, minute) || minute < self.oldest {
                    return Some(minute);
                }
                match self.indices.get(index as usize).copied().flatten() {
                    Some(index) if 0 < self.recent.room() => {
                        self.recent.add(index, minute, offset_ms, value, true);
                        self.replayed += 1;
                    }
                    _ => self.lost += 1,
                }
                Some(minute)
            }
        }
    }
}
