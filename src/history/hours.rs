//! Hours, made from minutes: one SQLite file a month, for the years after minutes are gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension, params};

use super::sketch::Sketch;
use super::sqlite::{self, MINUTES_A_DAY, Store, StoreError};
use super::{FLEET_STEP_MS, Rollup};
use crate::calendar::{civil_from_days, days_from_civil};
use crate::limits::{HOUR_REMAKE_MINUTES, HOUR_REST_MINUTES};

const SCHEMA: &str = include_str!("../../migrations/sqlite/0001_hours.sql");
const HOURS_A_DAY: i64 = 24;
const STEPS_AN_HOUR: i64 = 3_600_000 / FLEET_STEP_MS;

pub struct Hours {
    dir: PathBuf,
    /// When an hour was last made: stragglers must not have it made again every minute.
    made: BTreeMap<i64, i64>,
}

impl Hours {
    pub fn new(dir: &Path) -> Self {
        let (dir, made) = (dir.to_owned(), BTreeMap::new());
        Self { dir, made }
    }

    /// Makes the oldest hour that is over and not made, or was made before something late came.
    pub fn make_one(&mut self, store: &Store, minute: i64) -> Result<(), StoreError> {
        self.made.retain(|_, at| minute - *at < HOUR_REMAKE_MINUTES);
        let over = (minute - HOUR_REST_MINUTES).div_euclid(60) - 1;
        for (_, path) in store.days() {
            for (hour, flush) in flushed(path)? {
                let rests = over < hour || self.made.contains_key(&hour);
                if !rests && self.flush_made(hour)? < Some(flush) {
                    self.make(hour, flush, path)?;
                    self.made.insert(hour, minute);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether every hour of a day was made.
    pub fn has_day(&self, store: &Store, day: i64) -> Result<bool, StoreError> {
        let Some((_, path)) = store.days().find(|&(other, _)| other == day) else {
            return Ok(true);
        };
        for (hour, _) in flushed(path)? {
            if self.flush_made(hour)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes months that ended before a day.
    pub fn expire(&self, day: i64) -> Result<(), StoreError> {
        for (first, path) in list(&self.dir)? {
            if next_month(first) <= day {
                sqlite::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn flush_made(&self, hour: i64) -> Result<Option<i64>, StoreError> {
        let path = self.dir.join(file_name(hour.div_euclid(HOURS_A_DAY)));
        if !path.exists() {
            return Ok(None);
        }
        let connection = sqlite::open_to_read(&path)?;
        let sql = "SELECT flush FROM made WHERE hour = ?1";
        let made = connection
            .query_row(sql, [hour], |row| row.get(0))
            .optional();
        made.map_err(|source| sqlite::sqlite_error(&path, source))
    }

    fn make(&self, hour: i64, flush: i64, day: &Path) -> Result<(), StoreError> {
        let path = self.dir.join(file_name(hour.div_euclid(HOURS_A_DAY)));
        let from = sqlite::open_to_read(day)?;
        let sums = sum_up(&from, hour).map_err(|source| sqlite::sqlite_error(day, source))?;
        let fleet = sum_up_fleet(&from, hour).map_err(|e| sqlite::sqlite_error(day, e))?;
        drop(from);
        let write = || -> rusqlite::Result<()> {
            let mut connection = Connection::open(&path)?;
            connection.execute_batch(sqlite::PRAGMAS)?;
            let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version == 0 {
                connection.execute_batch(SCHEMA)?;
            }
            connection.execute("ATTACH ?1 AS day", [day.to_string_lossy()])?;
            let transaction = connection.transaction()?;
            for table in ["series", "metrics"] {
                let sql = format!("INSERT OR IGNORE INTO main.{table} SELECT * FROM day.{table}");
                transaction.execute(&sql, [])?;
            }
            {
                let mut insert = transaction.prepare(
                    "INSERT OR REPLACE INTO hours (hour, series, count, sum, min, max, last)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?;
                for (series, sum) in &sums {
                    let count = sum.count as i64;
                    insert.execute(params![
                        hour, series, count, sum.sum, sum.min, sum.max, sum.last
                    ])?;
                }
                let mut insert = transaction.prepare(
                    "INSERT OR REPLACE INTO fleet
                     (metric, hour, count, hosts, sum, min, max, spread)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?;
                for (metric, (sum, hosts, sketch)) in &fleet {
                    let mut spread = Vec::new();
                    sketch.encode(&mut spread);
                    let count = sum.count as i64;
                    insert.execute(params![
                        metric, hour, count, hosts, sum.sum, sum.min, sum.max, spread
                    ])?;
                }
            }
            let sql = "INSERT OR REPLACE INTO made (hour, flush) VALUES (?1, ?2)";
            transaction.execute(sql, [hour, flush])?;
            transaction.commit()
        };
        write().map_err(|source| sqlite::sqlite_error(&path, source))
    }
}

/// The hours of a day's file, each with the last write that touched it.
fn flushed(path: &Path) -> Result<Vec<(i64, i64)>, StoreError> {
    let read = || -> rusqlite::Result<Vec<(i64, i64)>> {
        let connection = Connection::open(path)?;
        let mut hours = connection.prepare(
            "SELECT minute / 60, max(flush) FROM flushes GROUP BY minute / 60 ORDER BY 1",
        )?;
        let hours = hours.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        hours.collect()
    };
    read().map_err(|source| sqlite::sqlite_error(path, source))
}

fn sum_up(from: &Connection, hour: i64) -> rusqlite::Result<HashMap<i64, Rollup, RandomState>> {
    let mut sums: HashMap<i64, Rollup, RandomState> = HashMap::default();
    let mut minute =
        from.prepare("SELECT series, count, sum, min, max, last FROM minutes WHERE minute = ?1")?;
    for at in hour * 60..hour * 60 + 60 {
        let mut rows = minute.query([at])?;
        while let Some(row) = rows.next()? {
            let rollup = Rollup {
                count: row.get::<_, i64>(1)? as u64,
                sum: row.get(2)?,
                min: row.get(3)?,
                max: row.get(4)?,
                last: row.get(5)?,
            };
            let sum = sums.entry(row.get(0)?).or_insert(Rollup::EMPTY);
            sum.merge(&rollup);
        }
    }
    Ok(sums)
}

fn sum_up_fleet(
    from: &Connection,
    hour: i64,
) -> rusqlite::Result<BTreeMap<i64, (Rollup, i64, Sketch)>> {
    let mut sums: BTreeMap<i64, (Rollup, i64, Sketch)> = BTreeMap::new();
    let mut metrics = from.prepare("SELECT key FROM metrics")?;
    let metrics = metrics.query_map([], |row| row.get(0))?;
    let mut steps = from.prepare(
        "SELECT hosts, sum, min, max, spread FROM fleet
         WHERE metric = ?1 AND step >= ?2 AND step < ?3",
    )?;
    for metric in metrics {
        let metric: i64 = metric?;
        let within = [metric, hour * STEPS_AN_HOUR, (hour + 1) * STEPS_AN_HOUR];
        let mut rows = steps.query(within)?;
        while let Some(row) = rows.next()? {
            let none = || (Rollup::EMPTY, 0, Sketch::default());
            let (sum, hosts, sketch) = sums.entry(metric).or_insert_with(none);
            let of_step: i64 = row.get(0)?;
            *hosts = of_step.max(*hosts);
            sum.merge(&Rollup {
                count: of_step as u64,
                sum: row.get(1)?,
                min: row.get(2)?,
                max: row.get(3)?,
                last: f64::NAN,
            });
            let spread: Vec<u8> = row.get(4)?;
            let _ = sketch.merge_encoded(&mut &*spread);
        }
    }
    Ok(sums)
}

/// The file of the month that a day is in.
pub fn file_name(day: i64) -> String {
    let (year, month, _) = civil_from_days(day);
    format!("hours-{year:04}-{month:02}.db")
}

/// Months by their first day, oldest first.
pub fn list(dir: &Path) -> Result<Vec<(i64, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| sqlite::io_error(dir, source))? {
        let path = entry
            .map_err(|source| sqlite::io_error(dir, source))?
            .path();
        let name = path.file_name().and_then(|name| name.to_str());
        let month = name.and_then(|name| name.strip_prefix("hours-")?.strip_suffix(".db"));
        let parts = month.and_then(|month| month.split_once('-'));
        if let Some((year, month)) = parts
            && let (Ok(year), Ok(month)) = (year.parse(), month.parse())
        {
            found.push((days_from_civil(year, month, 1), path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn next_month(first_day: i64) -> i64 {
    let (year, month, _) = civil_from_days(first_day + 31);
    days_from_civil(year, month, 1)
}

const _: () = assert!(MINUTES_A_DAY == HOURS_A_DAY * 60);
