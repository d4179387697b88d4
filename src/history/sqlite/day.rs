//! One day's file: its rows, and what of the journal is in them.

use std::collections::HashSet;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{PRAGMAS, ROW, SCHEMA, State, StoreError, Written, read_row, read_state, sqlite_error};
use crate::history::block::{self, Encoder, Point};
use crate::history::fold::{Change, Fold};
use crate::history::recent::{self, Passed};
use crate::history::sketch::Sketch;
use crate::history::{self, FleetRow, Rollup, Row, SeriesName};

pub(super) struct Day {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) state: State,
    pub(super) known: HashSet<i64>,
    metrics: HashSet<i64>,
}

impl Day {
    pub(super) fn open(path: PathBuf) -> Result<Day, StoreError> {
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

    pub(super) fn has_points(&self) -> bool {
        let sql = "SELECT points FROM state";
        self.connection
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or(true)
    }

    pub(super) fn write(
        &mut self,
        passed: &Passed,
        minutes: &[i64],
        flush: i64,
        encoder: &mut Encoder,
        fold: &mut Fold,
    ) -> Result<Written, StoreError> {
        let keeps_points = self.has_points();
        let path = &self.path;
        let wrong = |source| sqlite_error(path, source);
        let transaction = self.connection.transaction().map_err(wrong)?;
        let mut done = Written::default();
        let mut state = self.state;
        let (mut series, mut metrics) = (Vec::new(), Vec::new());
        let mut lacking: HashSet<i64> = HashSet::new();
        for &minute in minutes {
            let rows = passed.rows(minute, encoder, fold);
            let is_late = minute <= self.state.until;
            done.thinned += rows.thinned;
            let mut write = Writes::new(&transaction, flush, keeps_points).map_err(wrong)?;
            for row in &rows.rows {
                done.samples += row.rollup.count;
                done.late += if is_late { row.rollup.count } else { 0 };
                write.row(row, is_late, encoder).map_err(wrong)?;
            }
            for change in &rows.fleet {
                write.fleet(change, is_late).map_err(wrong)?;
            }
            lacking.extend(rows.fleet.iter().map(|change| change.row.metric));
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
        lacking.retain(|metric| !self.metrics.contains(metric));
        if !sought.is_empty() || !lacking.is_empty() {
            // A metric of which there is nothing yet but what stands since the day before.
            let is_lacking = |name: &SeriesName| {
                sought.contains(&name.key) || lacking.contains(&name.metric_key)
            };
            for name in passed.names.iter().filter(|name| is_lacking(name)) {
                insert_name(&transaction, name).map_err(wrong)?;
                metrics.push(name.metric_key);
            }
        }
        write_held(&transaction, fold).map_err(wrong)?;
        state.position = passed.position;
        state.until = state.until.max(passed.until);
        state.flush = flush;
        state.samples += done.samples;
        write_state(&transaction, &state).map_err(wrong)?;
        transaction.commit().map_err(wrong)?;
        self.state = state;
        self.known.extend(sought);
        self.metrics.extend(metrics);
        Ok(done)
    }

    /// What a fold left here.
    pub(super) fn read_held(&self, fold: &mut Fold) -> rusqlite::Result<()> {
        self.connection.execute_batch(HELD)?;
        let mut held = self.connection.prepare("SELECT metric, series FROM held")?;
        let mut rows = held.query([])?;
        while let Some(row) = rows.next()? {
            fold.take_back(row.get(0)?, row.get_ref(1)?.as_blob().unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn strip_from(&self, full: &Day) -> rusqlite::Result<()> {
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
                "INSERT INTO main.minutes
                 SELECT minute, series, count, sum, min, max, last, flush, x''
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

    /// A change joins what is there, in which it was counted otherwise.
    fn fleet(&mut self, change: &Change, is_late: bool) -> rusqlite::Result<()> {
        let mut row = change.row.clone();
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
                row.hosts += hosts.saturating_sub(change.gone.len() as u64);
                let gone = change.gone.iter().fold(sum, |sum, gone| sum - gone);
                row.sum = history::add(row.sum, gone);
                row.min = row.min.min(min);
                row.max = row.max.max(max);
                let mut sketch = Sketch::decode(&row.spread).unwrap_or_default();
                sketch.merge(&Sketch::decode(&spread).unwrap_or_default());
                change.gone.iter().for_each(|&gone| sketch.remove(gone));
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

/// A table of the file that was written last, for the next start and for the reader.
const HELD: &str =
    "CREATE TABLE IF NOT EXISTS held (metric INTEGER PRIMARY KEY, series BLOB NOT NULL)";

fn write_held(transaction: &Transaction<'_>, fold: &Fold) -> rusqlite::Result<()> {
    transaction.execute_batch(HELD)?;
    transaction.execute("DELETE FROM held", [])?;
    let mut insert = transaction.prepare("INSERT INTO held (metric, series) VALUES (?1, ?2)")?;
    for (metric, bytes) in fold.slow().filter(|(_, bytes)| !bytes.is_empty()) {
        insert.execute(params![metric, bytes])?;
    }
    Ok(())
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
