//! What the embedded store has that was not shipped, read beside whoever writes it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row as Columns};

use crate::history::block::MINUTE_MS;
use crate::history::sqlite::{self, StoreError};
use crate::history::{FLEET_STEP_MS, FleetRow, SeriesName};
use crate::limits::SHIP_PLAN_MAX;

const STEPS_A_MINUTE: i64 = MINUTE_MS / FLEET_STEP_MS;

/// A write of the store that is to be shipped. Each is of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) flush: i64,
    pub(super) day: i64,
    pub(super) path: PathBuf,
    /// Its newest minute's end.
    pub(super) end_ms: i64,
}

/// The first few flushes in `after..=until`, in order. `until` must be known to be in the store: a
/// flush that is written while this reads one file after the other could be missed, and a later one
/// of another day be seen.
pub(super) fn pending(dir: &Path, after: i64, until: i64) -> Result<Vec<Pending>, StoreError> {
    let mut found = Vec::new();
    for (day, path) in sqlite::list(dir)? {
        let Some(file) = Day::open(&path)? else {
            continue;
        };
        let sql = "SELECT flush, MAX(minute) FROM flushes WHERE flush > ?1 AND flush <= ?2
            GROUP BY flush ORDER BY flush LIMIT ?3";
        let mut statement = file.prepare(sql)?;
        let flushes = statement
            .query_map([after, until, SHIP_PLAN_MAX as i64], |row| {
                Ok(Pending {
                    flush: row.get(0)?,
                    day,
                    path: path.clone(),
                    end_ms: (row.get::<_, i64>(1)? + 1).saturating_mul(MINUTE_MS),
                })
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<Pending>>>);
        found.extend(flushes.map_err(|source| file.wrong(source))?);
    }
    found.sort_unstable_by_key(|pending| pending.flush);
    found.truncate(SHIP_PLAN_MAX);
    Ok(found)
}

/// A day's file.
pub(super) struct Day {
    path: PathBuf,
    connection: Connection,
}

impl Day {
    /// None: it was removed to make room.
    pub(super) fn open(path: &Path) -> Result<Option<Day>, StoreError> {
        match sqlite::open_to_read(path) {
            Ok(connection) => Ok(Some(Day {
                path: path.to_owned(),
                connection,
            })),
            Err(_) if !path.exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<rusqlite::Statement<'_>, StoreError> {
        self.connection
            .prepare(sql)
            .map_err(|source| self.wrong(source))
    }

    pub(super) fn wrong(&self, source: rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        StoreError::Sqlite { path, source }
    }

    /// Names of those series that the day knows, in order of keys.
    pub(super) fn names(&self, keys: &[i64]) -> Result<Vec<SeriesName>, StoreError> {
        let sql = "SELECT host, name, unit FROM series JOIN metrics ON metrics.key = metric
            WHERE series.key = ?1";
        let mut statement = self.prepare(sql)?;
        let mut names = Vec::with_capacity(keys.len());
        for key in keys {
            let read = |row: &Columns<'_>| {
                let (host, metric): (String, String) = (row.get(0)?, row.get(1)?);
                let unit: String = row.get(2)?;
                Ok(SeriesName::new(&host, &metric, &unit))
            };
            let found = statement.query_map([key], read);
            let found = found.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
            names.extend(found.map_err(|source| self.wrong(source))?);
        }
        Ok(names)
    }
}

/// Rows that a flush made what they are.
pub(super) const ROWS: &str = "
    SELECT m.minute, m.series, m.count, m.sum, m.min, m.max, m.last, m.points
    FROM flushes f CROSS JOIN minutes m ON m.minute = f.minute
    WHERE f.flush = ?1 AND m.flush = ?1";

/// The fleet's rows of a flush's minutes, whoever wrote them. A metric at a time: their table is in
/// that order, and has no other.
pub(super) fn fleet_sql() -> String {
    format!(
        "SELECT t.metric, t.step, t.hosts, t.sum, t.min, t.max, t.spread
         FROM flushes f CROSS JOIN metrics k CROSS JOIN fleet t
         ON t.metric = k.key AND f.minute * {STEPS_A_MINUTE} <= t.step
            AND t.step < (f.minute + 1) * {STEPS_A_MINUTE}
         WHERE f.flush = ?1"
    )
}

pub(super) fn read_fleet(row: &Columns<'_>) -> rusqlite::Result<FleetRow> {
    Ok(FleetRow {
        metric: row.get(0)?,
        step: row.get(1)?,
        hosts: row.get::<_, i64>(2)? as u64,
        sum: row.get(3)?,
        min: row.get(4)?,
        max: row.get(5)?,
        spread: row.get(6)?,
    })
}
