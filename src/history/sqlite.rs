//! The embedded store: one SQLite file a day, each complete in itself, so that a day is forgotten by
//! removing its file.
//!
//! A row of `minutes` is one series in one minute. `flush` is the number of the write that made it
//! what it is, by which a shipper knows what it has not seen. `state` says what of the journal is in
//! the file, in the same transaction as the rows themselves: after a crash nothing is doubled.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};
use thiserror::Error;

use super::block::{self, Encoder, Point};
use super::journal::Position;
use super::recent::{self, Passed};
use super::sketch::Sketch;
use super::{FleetRow, Rollup, Row, SeriesName};
use crate::calendar::{civil_from_days, days_from_civil};

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

/// The writing side; one thread has it.
pub struct Store {
    dir: PathBuf,
    days: BTreeMap<i64, Day>,
    flush: i64,
    encoder: Encoder,
    /// Keeps others out of the directory.
    lock: Option<File>,
}

struct Day {
    path: PathBuf,
    connection: Connection,
    state: State,
    known: HashSet<i64>,
    metrics: HashSet<i64>,
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

impl Store {
    /// Opens every day that is there.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        let mut store = Store {
            dir: dir.to_owned(),
            days: BTreeMap::new(),
            flush: 0,
            encoder: Encoder::default(),
            lock: None,
        };
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
        let mut written = Written::default();
        let mut at = passed.minutes.keys().copied().peekable();
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
                && day.state.position < passed.position
            {
                day.write(passed, &minutes, flush, &mut self.encoder, &mut written)?;
                self.flush = flush;
            }
        }
        Ok(written)
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

impl Day {
    fn open(path: PathBuf) -> Result<Day, StoreError> {
        let wrong = |source| sqlite_error(&path, source);
        let connection = Connection::open(&path).map_err(wrong)?;
        connection.execute_batch(PRAGMAS).map_err(wrong)?;
        let version: i32 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(wrong)?;
        match version {
            0 => connection.execute_batch(SCHEMA).map_err(wrong)?,
            1 => {}
            newer => {
                let what = format!("written by a newer version (schema {newer})");
                return Err(StoreError::Damaged { path, what });
            }
        }
        let state = read_state(&connection).map_err(wrong)?;
        let known = read_keys(&connection, "SELECT key FROM series").map_err(wrong)?;
        let metrics = read_keys(&connection, "SELECT key FROM metrics").map_err(wrong)?;
        Ok(Day {
            path,
            connection,
            state,
            known,
            metrics,
        })
    }

    fn has_points(&self) -> bool {
        let sql = "SELECT points FROM state";
        self.connection
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or(true)
    }

    fn write(
        &mut self,
        passed: &Passed,
        minutes: &[i64],
        flush: i64,
        encoder: &mut Encoder,
        written: &mut Written,
    ) -> Result<(), StoreError> {
        let keeps_points = self.has_points();
        let path = &self.path;
        let wrong = |source| sqlite_error(path, source);
        let transaction = self.connection.transaction().map_err(wrong)?;
        let mut done = Written::default();
        let mut state = self.state;
        let (mut series, mut metrics) = (Vec::new(), Vec::new());
        for &minute in minutes {
            let rows = passed.rows(minute, encoder);
            let is_late = minute <= self.state.until;
            done.thinned += rows.thinned;
            let mut write = Writes::new(&transaction, flush, keeps_points).map_err(wrong)?;
            for row in &rows.rows {
                done.samples += row.rollup.count;
                done.late += if is_late { row.rollup.count } else { 0 };
                write.row(row, is_late, encoder).map_err(wrong)?;
            }
            for row in &rows.fleet {
                write.fleet(row, is_late).map_err(wrong)?;
            }
            done.rows += rows.rows.len() as u64;
            state.rows += if is_late { 0 } else { rows.rows.len() as u64 };
            series.extend(rows.rows.iter().map(|row| row.series));
            let sql = "INSERT INTO flushes (flush, minute) VALUES (?1, ?2)";
            transaction
                .execute(sql, params![flush, minute])
                .map_err(wrong)?;
        }
        let sought: HashSet<i64> = series
            .into_iter()
            .filter(|k| !self.known.contains(k))
            .collect();
        if !sought.is_empty() {
            for name in passed
                .names
                .iter()
                .filter(|name| sought.contains(&name.key))
            {
                insert_name(&transaction, name).map_err(wrong)?;
                if !self.metrics.contains(&name.metric_key) {
                    metrics.push(name.metric_key);
                }
            }
        }
        state.position = passed.position;
        state.until = state.until.max(passed.until);
        state.flush = flush;
        state.samples += done.samples;
        write_state(&transaction, &state).map_err(wrong)?;
        transaction.commit().map_err(wrong)?;
        self.state = state;
        self.known.extend(sought);
        self.metrics.extend(metrics);
        written.rows += done.rows;
        written.samples += done.samples;
        written.late += done.late;
        written.thinned += done.thinned;
        Ok(())
    }

    fn strip_from(&self, full: &Day) -> rusqlite::Result<()> {
        let path = full.path.to_string_lossy();
        self.connection.execute("ATTACH ?1 AS full", [&*path])?;
        for table in ["series", "metrics", "fleet", "flushes"] {
            let sql = format!("INSERT INTO main.{table} SELECT * FROM full.{table}");
            self.connection.execute(&sql, [])?;
        }
        let mut minutes = self
            .connection
            .prepare("SELECT DISTINCT minute FROM full.flushes")?;
        let minutes = minutes.query_map([], |row| row.get(0))?;
        for minute in minutes.collect::<rusqlite::Result<Vec<i64>>>()? {
            self.connection.execute(
                "INSERT INTO main.minutes SELECT minute, series, count, sum, min, max, last, flush, x''
                 FROM full.minutes WHERE minute = ?1",
                [minute],
            )?;
        }
        write_state(&self.connection, &full.state)?;
        self.connection
            .execute("UPDATE main.state SET points = 0", [])?;
        self.connection.execute("DETACH full", [])?;
        Ok(())
    }
}

/// The statements of one write.
struct Writes<'t> {
    insert: rusqlite::Statement<'t>,
    select: rusqlite::Statement<'t>,
    insert_fleet: rusqlite::Statement<'t>,
    select_fleet: rusqlite::Statement<'t>,
    flush: i64,
    keeps_points: bool,
    points: Vec<Point>,
    more: Vec<Point>,
}

impl<'t> Writes<'t> {
    fn new(
        transaction: &'t Transaction<'_>,
        flush: i64,
        keeps_points: bool,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: transaction.prepare(
                "INSERT OR REPLACE INTO minutes
                 (minute, series, count, sum, min, max, last, flush, points)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            select: transaction.prepare(ROW)?,
            insert_fleet: transaction.prepare(
                "INSERT OR REPLACE INTO fleet (metric, step, hosts, sum, min, max, spread)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            select_fleet: transaction.prepare(
                "SELECT hosts, sum, min, max, spread FROM fleet WHERE metric = ?1 AND step = ?2",
            )?,
            flush,
            keeps_points,
            points: Vec::new(),
            more: Vec::new(),
        })
    }

    fn row(&mut self, row: &Row, is_late: bool, encoder: &mut Encoder) -> rusqlite::Result<()> {
        let before = if is_late {
            self.select
                .query_row([row.minute, row.series], read_row)
                .optional()?
        } else {
            None
        };
        let merged = before.map(|before| self.merge(&before, row, encoder));
        let row = merged.as_ref().unwrap_or(row);
        let Rollup {
            count,
            sum,
            min,
            max,
            last,
        } = row.rollup;
        let points: &[u8] = if self.keeps_points { &row.points } else { &[] };
        let (minute, series, count) = (row.minute, row.series, count as i64);
        self.insert.execute(params![
            minute, series, count, sum, min, max, last, self.flush, points
        ])?;
        Ok(())
    }

    /// A row with what came late. Where a block can not be read, its sums stand and its points
    /// are those that came now.
    fn merge(&mut self, before: &Row, row: &Row, encoder: &mut Encoder) -> Row {
        let mut rollup = before.rollup;
        rollup.merge(&row.rollup);
        let read = block::decode(&before.points, &mut self.points);
        let _ = block::decode(&row.points, &mut self.more);
        if read.is_err() {
            self.points.clear();
        }
        self.points.append(&mut self.more);
        self.points.sort_by_key(|point| point.offset_ms);
        let mut merged = recent::row(row.minute, row.series, &self.points, encoder);
        // `last` is the latest one's, as far as there are points to tell.
        rollup.last = merged.rollup.last;
        merged.rollup = rollup;
        merged
    }

    /// What came late counts as further hosts.
    fn fleet(&mut self, row: &FleetRow, is_late: bool) -> rusqlite::Result<()> {
        let mut row = row.clone();
        if is_late {
            let before = self.select_fleet.query_row([row.metric, row.step], |r| {
                Ok((
                    r.get::<_, i64>(0)? as u64,
                    r.get::<_, f64>(1)?,
                    r.get::<_, f64>(2)?,
                    r.get::<_, f64>(3)?,
                    r.get::<_, Vec<u8>>(4)?,
                ))
            });
            if let Some((hosts, sum, min, max, spread)) = before.optional()? {
                row.hosts += hosts;
                row.sum += sum;
                row.min = row.min.min(min);
                row.max = row.max.max(max);
                let mut sketch = Sketch::decode(&row.spread).unwrap_or_default();
                sketch.merge(&Sketch::decode(&spread).unwrap_or_default());
                row.spread.clear();
                sketch.encode(&mut row.spread);
            }
        }
        let FleetRow {
            step,
            metric,
            hosts,
            sum,
            min,
            max,
            spread,
        } = row;
        self.insert_fleet
            .execute(params![metric, step, hosts as i64, sum, min, max, spread])?;
        Ok(())
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

fn insert_name(transaction: &Transaction<'_>, name: &SeriesName) -> rusqlite::Result<()> {
    let mut series = transaction.prepare_cached(
        "INSERT INTO series (key, host, metric, unit) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (key) DO NOTHING",
    )?;
    series.execute(params![name.key, &*name.host, name.metric_key, &*name.unit])?;
    let mut metric = transaction.prepare_cached(
        "INSERT INTO metrics (key, name) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
    )?;
    metric.execute(params![name.metric_key, &*name.metric])?;
    Ok(())
}

fn read_keys(connection: &Connection, sql: &str) -> rusqlite::Result<HashSet<i64>> {
    let mut statement = connection.prepare(sql)?;
    let keys = statement.query_map([], |row| row.get(0))?;
    keys.collect()
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

fn write_state(connection: &Connection, state: &State) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE state SET position = ?1, until = ?2, flush = ?3, samples = ?4, rows = ?5",
        params![
            state.position.0 as i64,
            state.until,
            state.flush,
            state.samples as i64,
            state.rows as i64
        ],
    )?;
    Ok(())
}

/// What [`check`] found in a day's file.
#[derive(Debug, Default)]
pub struct Check {
    pub rows: u64,
    pub points: u64,
    /// The first few faults in words.
    pub wrong: Vec<String>,
}

/// Reads a whole day: SQLite's own check, every block, and its sums against its points.
pub fn check(path: &Path) -> Result<Check, StoreError> {
    const WRONG_MAX: usize = 20;
    let connection = open_to_read(path)?;
    let mut found = Check::default();
    let mut read = || -> rusqlite::Result<()> {
        let mut quick = connection.prepare("PRAGMA quick_check(20)")?;
        let said = quick.query_map([], |row| row.get::<_, String>(0))?;
        for line in said {
            let line = line?;
            if line != "ok" {
                found.wrong.push(line);
            }
        }
        let mut select = connection
            .prepare("SELECT minute, series, count, sum, min, max, last, points FROM minutes")?;
        let mut rows = select.query([])?;
        let mut points = Vec::new();
        while let Some(row) = rows.next()? {
            let row = read_row(row)?;
            found.rows += 1;
            if found.wrong.len() < WRONG_MAX
                && let Some(wrong) = wrong_with(&row, &mut points)
            {
                found.wrong.push(format!(
                    "series {} in minute {}: {wrong}",
                    row.series, row.minute
                ));
            }
            found.points += points.len() as u64;
        }
        Ok(())
    };
    read().map_err(|source| sqlite_error(path, source))?;
    Ok(found)
}

/// What is wrong with a row, if anything; its points are left in place.
fn wrong_with(row: &Row, points: &mut Vec<Point>) -> Option<String> {
    points.clear();
    if row.points.is_empty() {
        return None;
    }
    if let Err(error) = block::decode(&row.points, points) {
        return Some(error.to_string());
    }
    let of_points = Rollup::of(points);
    let is_whole = of_points.count == row.rollup.count;
    // Sums of what came in parts were added in another order.
    let near = (of_points.sum - row.rollup.sum).abs() <= of_points.sum.abs() * 1e-9 + 1e-9;
    let same = of_points.min == row.rollup.min && of_points.max == row.rollup.max;
    (is_whole && !(near && same)).then(|| "its sums are not those of its points".to_owned())
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
