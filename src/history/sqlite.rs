//! The embedded store: one SQLite file a day, each complete in itself, so that a day is forgotten
//! by removing its file.
//!
//! A row of `minutes` is one series in one minute. `flush` is the number of the write that made it
//! what it is, by which a shipper knows what it has not seen. `state` says what of the journal is
//! in the file, in the same transaction as the rows themselves: after a crash nothing is doubled.

mod day;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

use day::Day;

use super::block::Encoder;
use super::fold::Fold;
use super::journal::Position;
use super::recent::Passed;
use super::{Rollup, Row};
use crate::calendar::{civil_from_days, days_from_civil};
use crate::clock;

pub const MINUTES_A_DAY: i64 = 24 * 60;

const SCHEMA: &str = include_str!("../../migrations/sqlite/0001_day.sql");

/// FULL: the journal lets go of what was committed, so it must be on the disk by then.
pub(super) const PRAGMAS: &str = "
    PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;";

/// What went wrong, and with which file.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{}: {source}", path.display())]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
}

impl StoreError {
    /// No room on the disk: what is old may go to make some.
    pub fn is_full(&self) -> bool {
        match self {
            StoreError::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(ErrorCode::DiskFull)
            }
            StoreError::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            StoreError::Damaged { .. } => false,
        }
    }
}

/// What of the journal a day's file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub position: Position,
    pub until: i64,
    pub flush: i64,
    /// Samples it ever took, and rows it was first given.
    pub samples: u64,
    pub rows: u64,
}

impl State {
    /// A write that was made before. Nothing need have come between two writes, so a place alone
    /// does not tell them apart: the later one has later minutes then.
    fn has(&self, passed: &Passed) -> bool {
        passed.position <= self.position && passed.until <= self.until
    }
}

/// The writing side; one thread has it.
pub struct Store {
    dir: PathBuf,
    days: BTreeMap<i64, Day>,
    flush: i64,
    encoder: Encoder,
    /// None: as the files have it.
    fold: Option<Fold>,
    /// Keeps others out of the directory.
    lock: Option<File>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    pub samples: u64,
    /// Samples of minutes that were stored before.
    pub late: u64,
    pub thinned: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, more: Written) {
        self.rows += more.rows;
        self.samples += more.samples;
        self.late += more.late;
        self.thinned += more.thinned;
    }
}

impl Store {
    /// Opens every day that is there.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        let mut store = Store {
            dir: dir.to_owned(),
            days: BTreeMap::new(),
            flush: 0,
            encoder: Encoder::default(),
            fold: None,
            lock: None,
        };
        // No number twice, also where the day that had it was removed: MySQL goes by them. Writes
        // are rarer than seconds.
        store.flush = clock::wall_ms() / 1_000;
        for (day, path) in list(dir)? {
            let opened = Day::open(path)?;
            store.flush = store.flush.max(opened.state.flush);
            store.days.insert(day, opened);
        }
        Ok(store)
    }

    /// Holds the directory's lock as long as the store is open.
    pub fn hold(&mut self, lock: File) {
        self.lock = Some(lock);
    }

    /// Whether a sample at this place of the journal is in the store.
    pub fn has(&self, position: Position, minute: i64) -> bool {
        let day = self.days.get(&minute.div_euclid(MINUTES_A_DAY));
        day.is_some_and(|day| position < day.state.position && minute <= day.state.until)
    }

    /// Writes what has passed, each day in one transaction. Called again after an error, it goes on
    /// where it failed.
    pub fn write(&mut self, passed: &Passed) -> Result<Written, StoreError> {
        let mut fold = match self.fold.take() {
            Some(fold) => fold,
            None => self.load_fold()?,
        };
        let mut minutes: BTreeSet<i64> = passed.minutes.keys().copied().collect();
        if let Some(&last) = minutes.last() {
            minutes.extend(fold.before(last));
        }
        let mut written = Written::default();
        let mut at = minutes.into_iter().peekable();
        while let Some(&first) = at.peek() {
            let day = first.div_euclid(MINUTES_A_DAY);
            let of_day =
                std::iter::from_fn(|| at.next_if(|minute| minute.div_euclid(MINUTES_A_DAY) == day));
            let minutes: Vec<i64> = of_day.collect();
            let flush = self.flush + 1;
            if !self.days.contains_key(&day) {
                let path = self.dir.join(file_name(day));
                self.days.insert(day, Day::open(path)?);
            }
            if let Some(day) = self.days.get_mut(&day)
                && !day.state.has(passed)
            {
                written += day.write(passed, &minutes, flush, &mut self.encoder, &mut fold)?;
                self.flush = flush;
            }
        }
        self.fold = Some(fold);
        Ok(written)
    }

    /// As the last write left it.
    fn load_fold(&self) -> Result<Fold, StoreError> {
        let until = self.days.values().map(|day| day.state.until).max();
        let mut fold = until.map_or_else(Fold::default, Fold::after);
        if let Some(day) = self.days.values().max_by_key(|day| day.state.flush) {
            let read = day.read_held(&mut fold);
            read.map_err(|source| sqlite_error(&day.path, source))?;
        }
        Ok(fold)
    }

    /// Days with their files, oldest first.
    pub fn days(&self) -> impl Iterator<Item = (i64, &Path)> {
        self.days.iter().map(|(&day, file)| (day, &*file.path))
    }

    pub fn flush(&self) -> i64 {
        self.flush
    }

    /// The furthest place in the journal that any day's file knows of.
    pub fn position(&self) -> Position {
        let positions = self.days.values().map(|day| day.state.position);
        positions.max().unwrap_or_default()
    }

    /// Series of the newest day.
    pub fn series(&self) -> u64 {
        let newest = self.days.values().next_back();
        newest.map_or(0, |day| day.known.len() as u64)
    }

    /// The newest day and what is in it.
    pub fn newest(&self) -> Option<(i64, State, &Path)> {
        let (&day, file) = self.days.last_key_value()?;
        Some((day, file.state, &file.path))
    }

    /// Removes a day; gives the samples that were in it.
    pub fn remove(&mut self, day: i64) -> Result<u64, StoreError> {
        let Some(Day {
            path,
            connection,
            state,
            ..
        }) = self.days.remove(&day)
        else {
            return Ok(0);
        };
        drop(connection);
        remove_file(&path)?;
        Ok(state.samples)
    }

    /// Lets the points of a day go: its rows are copied without them, a minute at a time.
    pub fn strip(&mut self, day: i64) -> Result<(), StoreError> {
        let Some(file) = self.days.get(&day) else {
            return Ok(());
        };
        let part = file.path.with_extension("part");
        remove_file(&part)?;
        let copy = Day::open(part.clone())?;
        copy.strip_from(file)
            .map_err(|source| sqlite_error(&part, source))?;
        let path = file.path.clone();
        drop(copy);
        self.days.remove(&day);
        remove_wal(&path)?;
        fs::rename(&part, &path).map_err(|source| io_error(&path, source))?;
        remove_wal(&part)?;
        self.days.insert(day, Day::open(path)?);
        Ok(())
    }

    pub fn is_stripped(&self, day: i64) -> bool {
        self.days.get(&day).is_some_and(|day| !day.has_points())
    }
}

pub(super) const ROW: &str = "SELECT minute, series, count, sum, min, max, last, points
     FROM minutes WHERE minute = ?1 AND series = ?2";

pub(super) fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        minute: row.get(0)?,
        series: row.get(1)?,
        rollup: Rollup {
            count: row.get::<_, i64>(2)? as u64,
            sum: row.get(3)?,
            min: row.get(4)?,
            max: row.get(5)?,
            last: row.get(6)?,
        },
        points: row.get(7)?,
    })
}

pub(super) fn read_state(connection: &Connection) -> rusqlite::Result<State> {
    let sql = "SELECT position, until, flush, samples, rows FROM state";
    connection.query_row(sql, [], |row| {
        Ok(State {
            position: Position(row.get::<_, i64>(0)? as u64),
            until: row.get(1)?,
            flush: row.get(2)?,
            samples: row.get::<_, i64>(3)? as u64,
            rows: row.get::<_, i64>(4)? as u64,
        })
    })
}

/// A day's file to read from, beside whoever writes it.
pub fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags);
    opened.map_err(|source| sqlite_error(path, source))
}

pub fn file_name(day: i64) -> String {
    let (year, month, day) = civil_from_days(day);
    format!("day-{year:04}-{month:02}-{day:02}.db")
}

/// The days of a store's files, oldest first.
pub fn list(dir: &Path) -> Result<Vec<(i64, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| io_error(dir, source))? {
        let path = entry.map_err(|source| io_error(dir, source))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(day) = name.and_then(parse_name) {
            found.push((day, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn parse_name(name: &str) -> Option<i64> {
    let date = name.strip_prefix("day-")?.strip_suffix(".db")?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let number = days_from_civil(year, month, day);
    (file_name(number) == name).then_some(number)
}

fn remove_wal(path: &Path) -> Result<(), StoreError> {
    for suffix in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        ignore_missing(Path::new(&name))?;
    }
    Ok(())
}

pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    ignore_missing(path)?;
    remove_wal(path)
}

fn ignore_missing(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error(path, source)),
        _ => Ok(()),
    }
}

pub(super) fn sqlite_error(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    StoreError::Sqlite { path, source }
}

pub(super) fn io_error(path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    StoreError::Io { path, source }
}
