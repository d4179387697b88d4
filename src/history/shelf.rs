//! Reading from the stores' files, beside whoever writes them.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension};

use super::block::Point;
use super::held::{Held, STEPS};
use super::journal::Position;
use super::sqlite::{self, MINUTES_A_DAY, StoreError};
use super::steps::{FleetStep, Grid, Range, Step};
use super::{FLEET_STEP_MS, FleetRow, Row, fold, hours, minute_of};
use crate::limits::{
    HISTORY_POINTS_ANSWERED_MAX, HISTORY_QUESTION_TIMEOUT, READ_AHEAD_AFTER, READ_AHEAD_THREADS,
    READ_AHEAD_WAIT,
};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("took longer than {HISTORY_QUESTION_TIMEOUT:?}")]
    TooLong,
    #[error("more than {HISTORY_POINTS_ANSWERED_MAX} points")]
    TooMany,
}

/// The files that a question's range needs, each as it was at one moment.
pub struct Shelf {
    days: BTreeMap<i64, Day>,
    /// Months of hours, for days that are no more.
    months: Vec<(PathBuf, Connection)>,
    until: Instant,
}

struct Day {
    path: PathBuf,
    connection: Connection,
    position: Position,
    /// The last minute that was stored in it.
    last: i64,
    /// When it was written last, in the order of writes.
    flush: i64,
}

impl Shelf {
    /// What was in memory must have been read before: what is stored meanwhile is then seen twice,
    /// and told apart by [`Shelf::has`], and never missed.
    pub fn open(dir: &Path, range: Range) -> Result<Shelf, StoreError> {
        let mut shelf = Shelf {
            days: BTreeMap::new(),
            months: Vec::new(),
            until: Instant::now() + HISTORY_QUESTION_TIMEOUT,
        };
        for (day, path) in sqlite::list(dir)? {
            if range.days().contains(&day) {
                // One that is being made has nothing yet.
                if let Some(opened) = Day::open(path)? {
                    shelf.days.insert(day, opened);
                }
            }
        }
        let needs_hours = range.days().any(|day| !shelf.days.contains_key(&day));
        for (first, path) in hours::list(dir)? {
            let month = first..first + 31;
            let is_sought = range.days().any(|day| month.contains(&day));
            if needs_hours && is_sought {
                let connection = sqlite::open_to_read(&path)?;
                shelf.months.push((path, connection));
            }
        }
        Ok(shelf)
    }

    /// Whether a point of memory is in here too.
    pub fn has(&self, time_ms: i64, after: Position) -> bool {
        let minute = minute_of(time_ms).0;
        let day = self.days.get(&minute.div_euclid(MINUTES_A_DAY));
        day.is_some_and(|day| after < day.position && minute <= day.last)
    }

    /// The first step of the fleet that no store has.
    pub fn first_unfolded(&self) -> Option<i64> {
        let last = self.days.values().map(|day| day.last).max()?;
        Some(last.saturating_add(1).saturating_mul(STEPS as i64))
    }

    /// What stands for each series of a metric since then.
    pub fn held(&self, metric: i64) -> Result<HashMap<i64, Held>, ReadError> {
        let Some(day) = self.days.values().max_by_key(|day| day.flush) else {
            return Ok(HashMap::new());
        };
        let read = || -> rusqlite::Result<Option<Vec<u8>>> {
            // A file of an older version has no such table.
            let sql = "SELECT 1 FROM sqlite_master WHERE name = 'held'";
            if !day.connection.prepare_cached(sql)?.exists([])? {
                return Ok(None);
            }
            let sql = "SELECT series FROM held WHERE metric = ?1";
            let mut held = day.connection.prepare_cached(sql)?;
            held.query_row([metric], |row| row.get(0)).optional()
        };
        let bytes = read().map_err(|source| sqlite::sqlite_error(&day.path, source))?;
        Ok(fold::held_in(&bytes.unwrap_or_default()).collect())
    }

    /// Whether a minute was stored, if only in part.
    pub fn has_minute(&self, minute: i64) -> bool {
        let day = self.days.get(&minute.div_euclid(MINUTES_A_DAY));
        day.is_some_and(|day| minute <= day.last)
    }

    /// Whether anything of a metric, or of one host's, was ever stored in the range.
    pub fn knows(&self, metric: i64, key: Option<i64>) -> Result<bool, ReadError> {
        let (sql, key) = match key {
            Some(key) => ("SELECT 1 FROM series WHERE key = ?1", key),
            None => ("SELECT 1 FROM metrics WHERE key = ?1", metric),
        };
        let days = self.days.values().map(|day| (&day.path, &day.connection));
        for (path, connection) in days.chain(self.months.iter().map(|(p, c)| (p, c))) {
            let found = connection
                .prepare_cached(sql)
                .and_then(|mut s| s.exists([key]));
            if found.map_err(|source| sqlite::sqlite_error(path, source))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a day has a file of its own.
    pub fn has_day(&self, day: i64) -> bool {
        self.days.contains_key(&day)
    }

    /// Calls for each point of a series, as far as points are kept.
    pub fn each_point(
        &self,
        key: i64,
        range: Range,
        mut each: impl FnMut(i64, f64),
    ) -> Result<(), ReadError> {
        let mut points: Vec<Point> = Vec::new();
        self.each_row(key, range, |row| {
            range.each_point(row, &mut points, &mut each);
        })
    }

    /// Adds a series to steps; what is older than minutes, by the hour.
    pub fn sum_up(&self, key: i64, grid: Grid, steps: &mut [Step]) -> Result<(), ReadError> {
        let mut points: Vec<Point> = Vec::new();
        self.each_row(key, grid.range, |row| grid.add_row(row, &mut points, steps))?;
        for (path, connection) in &self.months {
            let mut read = || -> rusqlite::Result<()> {
                let mut hours = connection.prepare_cached(
                    "SELECT hour, series, count, sum, min, max, last, x'' FROM hours
                     WHERE hour = ?1 AND series = ?2",
                )?;
                for hour in self.hours(grid.range) {
                    let mut rows = hours.query([hour, key])?;
                    while let Some(row) = rows.next()? {
                        let row = sqlite::read_row(row)?;
                        if let Some(step) = grid.at(hour * 3_600_000, steps) {
                            step.merge(hour * 3_600_000 + 3_599_999, &row.rollup);
                        }
                    }
                }
                Ok(())
            };
            read().map_err(|source| sqlite::sqlite_error(path, source))?;
        }
        Ok(())
    }

    /// The rows of one series, day by day.
    fn each_row(
        &self,
        key: i64,
        range: Range,
        mut each: impl FnMut(&Row),
    ) -> Result<(), ReadError> {
        let (first, last) = (minute_of(range.from_ms).0, minute_of(range.to_ms - 1).0);
        for (&number, day) in &self.days {
            let begin = number * MINUTES_A_DAY;
            let minutes = first.max(begin)..=last.min(begin + MINUTES_A_DAY - 1).min(day.last);
            let wrong = |source| sqlite::sqlite_error(&day.path, source);
            let mut select = day.connection.prepare_cached(sqlite::ROW).map_err(wrong)?;
            let (begun, begin) = (Instant::now(), *minutes.start());
            for minute in minutes.clone() {
                if minute == begin + READ_AHEAD_AFTER && READ_AHEAD_WAIT < begun.elapsed() {
                    read_ahead(&day.path, key, minute..=*minutes.end(), self.until);
                }
                let mut rows = select.query([minute, key]).map_err(wrong)?;
                if let Some(row) = rows.next().map_err(wrong)? {
                    each(&sqlite::read_row(row).map_err(wrong)?);
                }
                if minute % 64 == 0 && self.until < Instant::now() {
                    return Err(ReadError::TooLong);
                }
            }
        }
        Ok(())
    }

    /// Calls for the row that each of these series, in order of keys, has in one minute.
    pub fn each_of(
        &self,
        keys: &[(i64, u32)],
        minute: i64,
        mut each: impl FnMut(u32, &Row),
    ) -> Result<(), ReadError> {
        let Some(day) = self.days.get(&minute.div_euclid(MINUTES_A_DAY)) else {
            return Ok(());
        };
        let wrong = |source| sqlite::sqlite_error(&day.path, source);
        let mut select = day.connection.prepare_cached(sqlite::ROW).map_err(wrong)?;
        for (count, &(key, place)) in (1_u32..).zip(keys) {
            let mut rows = select.query([minute, key]).map_err(wrong)?;
            if let Some(row) = rows.next().map_err(wrong)? {
                each(place, &sqlite::read_row(row).map_err(wrong)?);
            }
            if count.is_multiple_of(1_024) && self.until < Instant::now() {
                return Err(ReadError::TooLong);
            }
        }
        Ok(())
    }

    /// Calls for each step of the range in which the fleet has something of a metric.
    pub fn each_fleet_step(
        &self,
        metric: i64,
        range: Range,
        mut each: impl FnMut(i64),
    ) -> Result<(), ReadError> {
        let first = range.from_ms.div_euclid(FLEET_STEP_MS);
        let last = (range.to_ms - 1).div_euclid(FLEET_STEP_MS);
        for day in self.days.values() {
            let mut read = || -> rusqlite::Result<()> {
                let mut select = day.connection.prepare_cached(
                    "SELECT step FROM fleet WHERE metric = ?1 AND step >= ?2 AND step <= ?3",
                )?;
                let mut rows = select.query([metric, first, last])?;
                while let Some(row) = rows.next()? {
                    each(row.get(0)?);
                }
                Ok(())
            };
            read().map_err(|source| sqlite::sqlite_error(&day.path, source))?;
        }
        Ok(())
    }

    /// No question may take longer, of however many parts it is.
    pub fn hurry(&mut self, until: Instant) {
        self.until = self.until.min(until);
    }

    /// Adds a metric over the fleet to steps; `besides` are hosts of others in ten seconds.
    pub fn sum_up_fleet(
        &self,
        metric: i64,
        grid: Grid,
        besides: &HashMap<i64, u64>,
        steps: &mut [FleetStep],
    ) -> Result<(), ReadError> {
        let range = grid.range;
        let mut add = |time_ms: i64, row: &FleetRow, hosts: u64| {
            if let Some(step) = grid.at(time_ms, steps) {
                step.merge_row(row, hosts);
            }
        };
        let within = |step: i64| {
            [
                range.from_ms.div_euclid(step),
                (range.to_ms - 1).div_euclid(step),
            ]
        };
        for day in self.days.values() {
            let [first, last] = within(FLEET_STEP_MS);
            read_fleet(
                &day.connection,
                FLEET_STEPS,
                [metric, first, last],
                |row, hosts| {
                    let others = besides.get(&row.step).copied().unwrap_or_default();
                    add(row.step * FLEET_STEP_MS, &row, hosts + others);
                },
            )
            .map_err(|source| sqlite::sqlite_error(&day.path, source))?;
            if self.until < Instant::now() {
                return Err(ReadError::TooLong);
            }
        }
        for (path, connection) in &self.months {
            let [first, last] = within(3_600_000);
            read_fleet(
                connection,
                FLEET_HOURS,
                [metric, first, last],
                |row, hosts| {
                    let is_gone = |day| !self.days.contains_key(&day);
                    if is_gone(row.step.div_euclid(24)) {
                        add(row.step * 3_600_000, &row, hosts);
                    }
                },
            )
            .map_err(|source| sqlite::sqlite_error(path, source))?;
        }
        Ok(())
    }

    /// Hours of the range whose days are no more.
    fn hours(&self, range: Range) -> impl Iterator<Item = i64> {
        let (first, last) = (
            range.from_ms.div_euclid(3_600_000),
            (range.to_ms - 1).div_euclid(3_600_000),
        );
        (first..=last).filter(|hour| !self.days.contains_key(&hour.div_euclid(24)))
    }
}

const FLEET_STEPS: &str = "SELECT step, metric, hosts, sum, min, max, spread, hosts FROM fleet
     WHERE metric = ?1 AND step >= ?2 AND step <= ?3";
const FLEET_HOURS: &str = "SELECT hour, metric, count, sum, min, max, spread, hosts FROM fleet
     WHERE metric = ?1 AND hour >= ?2 AND hour <= ?3";

fn read_fleet(
    connection: &Connection,
    sql: &str,
    bounds: [i64; 3],
    mut each: impl FnMut(FleetRow, u64),
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(bounds)?;
    while let Some(row) = rows.next()? {
        let hosts = row.get::<_, i64>(7)? as u64;
        let row = FleetRow {
            step: row.get(0)?,
            metric: row.get(1)?,
            hosts: row.get::<_, i64>(2)? as u64,
            sum: row.get(3)?,
            min: row.get(4)?,
            max: row.get(5)?,
            spread: row.get(6)?,
        };
        each(row, hosts);
    }
    Ok(())
}

/// Brings a series' rows into the page cache, by several readers at once: each lies on a page of
/// its own, and one reader alone would wait for the disk at every one.
fn read_ahead(path: &Path, key: i64, minutes: RangeInclusive<i64>, until: Instant) {
    let read = |from: usize| -> Result<(), StoreError> {
        let wrong = |source| sqlite::sqlite_error(path, source);
        let connection = sqlite::open_to_read(path)?;
        let mut select = connection.prepare(sqlite::ROW).map_err(wrong)?;
        for minute in minutes.clone().skip(from).step_by(READ_AHEAD_THREADS) {
            if until < Instant::now() {
                break;
            }
            select.exists([minute, key]).map_err(wrong)?;
        }
        Ok(())
    };
    let read = &read;
    thread::scope(|scope| {
        for from in 0..READ_AHEAD_THREADS {
            let named = thread::Builder::new().name("history-ahead".to_owned());
            // What is not read ahead is read in its turn, and so are faults told.
            let _ = named.spawn_scoped(scope, move || read(from).ok());
        }
    });
}

impl Day {
    /// None: nothing was written yet.
    fn open(path: PathBuf) -> Result<Option<Day>, StoreError> {
        let connection = sqlite::open_to_read(&path)?;
        let read = || {
            // One moment for everything that is read of this file.
            connection.execute_batch("BEGIN")?;
            let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version == 0 {
                return Ok(None);
            }
            sqlite::read_state(&connection).map(Some)
        };
        let state = read().map_err(|source| sqlite::sqlite_error(&path, source))?;
        let Some(state) = state.filter(|state| state.until != i64::MIN) else {
            return Ok(None);
        };
        Ok(Some(Day {
            path,
            connection,
            position: state.position,
            last: state.until,
            flush: state.flush,
        }))
    }
}
