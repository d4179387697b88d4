//! `tidewall verify`: every file of a history directory, read to its last byte.

use std::path::Path;

use super::block::{self, Point};
use super::service::{OpenError, take_lock};
use super::sqlite::{self, StoreError, open_to_read, read_row, sqlite_error};
use super::{Rollup, Row, log};

/// A fault in words.
pub type Finding = String;

/// Checks every file of a directory that no node uses; gives what was looked at and what is wrong.
pub fn verify(dir: &Path) -> Result<(Checked, Vec<Finding>), OpenError> {
    let _lock = take_lock(dir)?;
    let mut checked = Checked::default();
    let mut findings = Vec::new();
    for (_, path) in sqlite::list(dir)? {
        match check_day(&path) {
            Ok(found) => {
                checked.days += 1;
                checked.rows += found.rows;
                checked.points += found.points;
                findings.extend(
                    found
                        .wrong
                        .into_iter()
                        .map(|w| format!("{}: {w}", path.display())),
                );
            }
            Err(error) => findings.push(error.to_string()),
        }
    }
    let journal = dir.join("journal");
    if journal.is_dir() {
        let io = |source| OpenError::Io {
            path: journal.clone(),
            source,
        };
        for (_, path) in log::list(&journal).map_err(io)? {
            let (samples, damage, skipped) = log::check(&path).map_err(io)?;
            checked.segments += 1;
            checked.samples += samples;
            if let Some(damage) = damage {
                findings.push(format!("{}: {damage}", path.display()));
            }
            if 0 < skipped {
                findings.push(format!("{}: {skipped} records are damaged", path.display()));
            }
        }
    }
    Ok((checked, findings))
}

/// What [`verify`] looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub days: u64,
    pub rows: u64,
    pub points: u64,
    pub segments: u64,
    pub samples: u64,
}

/// What [`check_day`] found in a day's file.
#[derive(Debug, Default)]
struct Check {
    rows: u64,
    points: u64,
    /// The first few faults in words.
    wrong: Vec<String>,
}

/// Reads a whole day: SQLite's own check, every block, and its sums against its points.
fn check_day(path: &Path) -> Result<Check, StoreError> {
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
