//! What other nodes stored, asked of the database that all share.

use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::block::MINUTE_MS;
use super::mysql::read::Reader;
use super::mysql::{MysqlError, Target};
use super::shelf::Shelf;
use super::sqlite::MINUTES_A_DAY;
use super::steps::Range;
use super::{FLEET_STEP_MS, FleetRow, Row, minute_of};
use crate::limits::{HISTORY_REMOTE_REST, HISTORY_REMOTE_TIMEOUT};

/// No node has this number.
const NOBODY: i64 = 0;

/// A database that does not answer is left alone for a while: a question is then answered from what
/// this node has.
pub struct Remote {
    runtime: Runtime,
    reader: Reader,
    /// This node: what it wrote is here.
    node: i64,
    rests_until: Option<Instant>,
}

impl Remote {
    pub fn new(target: Target, node: i64) -> io::Result<Self> {
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            reader: Reader::new(target),
            node,
            rests_until: None,
        })
    }

    /// The rows of a series that the shelf lacks, in order.
    pub fn rows(&mut self, series: i64, range: Range, shelf: &Shelf) -> Vec<Row> {
        let mut rows = Vec::new();
        let (first, last) = (minute_of(range.from_ms).0, minute_of(range.to_ms - 1).0);
        for (but, minutes) in self.parts(first..last + 1, MINUTE_MS, shelf) {
            let until = Instant::now() + HISTORY_REMOTE_TIMEOUT;
            if self.rests() {
                break;
            }
            let read = self.reader.rows(series, but, minutes, until);
            let read = self.runtime.block_on(read);
            rows.append(&mut self.note(read));
        }
        rows
    }

    /// The same of the fleet's steps.
    pub fn fleet(&mut self, metric: i64, range: Range, shelf: &Shelf) -> Vec<FleetRow> {
        let mut rows = Vec::new();
        let first = range.from_ms.div_euclid(FLEET_STEP_MS);
        let last = (range.to_ms - 1).div_euclid(FLEET_STEP_MS);
        for (but, steps) in self.parts(first..last + 1, FLEET_STEP_MS, shelf) {
            let until = Instant::now() + HISTORY_REMOTE_TIMEOUT;
            if self.rests() {
                break;
            }
            let read = self.reader.fleet(metric, but, steps, until);
            let read = self.runtime.block_on(read);
            rows.append(&mut self.note(read));
        }
        rows
    }

    /// A range cut where what is asked for changes: of days that this node has a file of, the rows
    /// of others; of other days, all. Days alike in a row are one part.
    fn parts(
        &self,
        range: std::ops::Range<i64>,
        unit_ms: i64,
        shelf: &Shelf,
    ) -> Vec<(i64, std::ops::Range<i64>)> {
        let a_day = MINUTES_A_DAY * MINUTE_MS / unit_ms;
        let mut parts: Vec<(i64, std::ops::Range<i64>)> = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let day = at.div_euclid(a_day);
            let end = range.end.min((day + 1) * a_day);
            let but = if shelf.has_day(day) {
                self.node
            } else {
                NOBODY
            };
            match parts.last_mut() {
                Some((last, part)) if *last == but => part.end = end,
                _ => parts.push((but, at..end)),
            }
            at = end;
        }
        parts
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// Told when it begins and when it is over.
    fn note<T>(&mut self, read: Result<Vec<T>, MysqlError>) -> Vec<T> {
        match read {
            Ok(rows) => {
                if self.rests_until.take().is_some() {
                    tracing::info!("the database answers questions again");
                }
                rows
            }
            Err(error) => {
                if self.rests_until.is_none() {
                    tracing::warn!(%error, "questions are answered without other nodes' history");
                }
                self.rests_until = Some(Instant::now() + HISTORY_REMOTE_REST);
                Vec::new()
            }
        }
    }
}

const _: () = assert!(
    HISTORY_REMOTE_TIMEOUT.as_millis() < Duration::from_secs(5).as_millis(),
    "a database that hangs leaves a question time for what is here"
);
