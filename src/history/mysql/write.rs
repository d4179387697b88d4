//! The writing side: batches of rows, the names they need, and how far a node has come.
//!
//! A row is absolute and only ever grows, so that the one with more samples is the newer one. What
//! comes twice, or from a connection that was given up on and still lives in the server, changes
//! nothing, in whatever order it comes.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use mysql_async::Value;

use super::{Client, MysqlError, placeholders};
use crate::history::{FleetRow, Row, SeriesName};
use crate::limits::{HISTORY_NAMES_MAX, MYSQL_BATCH_BYTES, MYSQL_ROWS_MAX, MYSQL_TIMEOUT};

/// What a row takes beside its block or sketch: nine values of at most 9 bytes.
const ROW_BYTES: usize = 96;

/// Rows that are sent together: the most that is in memory at a time.
#[derive(Default)]
pub struct Batch {
    rows: Vec<Row>,
    fleet: Vec<FleetRow>,
    bytes: usize,
}

impl Batch {
    pub fn push(&mut self, row: Row) {
        self.bytes += ROW_BYTES + row.points.len();
        self.rows.push(row);
    }

    pub fn push_fleet(&mut self, row: FleetRow) {
        self.bytes += ROW_BYTES + row.spread.len();
        self.fleet.push(row);
    }

    pub fn is_full(&self) -> bool {
        MYSQL_BATCH_BYTES <= self.bytes
    }

    pub fn len(&self) -> usize {
        self.rows.len() + self.fleet.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.fleet.clear();
        self.bytes = 0;
    }
}

/// A statement of many rows. Of a row that is there already, the one with more samples stays: that
/// is decided before the count itself is set, since MySQL assigns from left to right.
struct Insert {
    head: &'static str,
    values: usize,
    tail: &'static str,
}

const MINUTES: Insert = Insert {
    head: "INSERT INTO minutes (minute, series, node, count, sum, min, max, last, points) VALUES ",
    values: 9,
    tail: " ON DUPLICATE KEY UPDATE
        sum = IF(count <= VALUES(count), VALUES(sum), sum),
        min = IF(count <= VALUES(count), VALUES(min), min),
        max = IF(count <= VALUES(count), VALUES(max), max),
        last = IF(count <= VALUES(count), VALUES(last), last),
        points = IF(count <= VALUES(count) AND VALUES(points) <> '', VALUES(points), points),
        count = GREATEST(count, VALUES(count))",
};

const FLEET: Insert = Insert {
    head: "INSERT INTO fleet (metric, step, node, hosts, sum, min, max, spread) VALUES ",
    values: 8,
    tail: " ON DUPLICATE KEY UPDATE
        sum = IF(hosts <= VALUES(hosts), VALUES(sum), sum),
        min = IF(hosts <= VALUES(hosts), VALUES(min), min),
        max = IF(hosts <= VALUES(hosts), VALUES(max), max),
        spread = IF(hosts <= VALUES(hosts), VALUES(spread), spread),
        hosts = GREATEST(hosts, VALUES(hosts))",
};

const SERIES: Insert = Insert {
    head: "INSERT INTO series (`key`, host, metric, unit, day) VALUES ",
    values: 5,
    tail: " ON DUPLICATE KEY UPDATE day = GREATEST(day, VALUES(day))",
};

const METRICS: Insert = Insert {
    head: "INSERT INTO metrics (`key`, name, day) VALUES ",
    values: 3,
    tail: " ON DUPLICATE KEY UPDATE day = GREATEST(day, VALUES(day))",
};

/// A connection that writes for a node.
pub struct Writer {
    pub client: Client,
    node: i64,
    watermark: i64,
    /// The latest day for which the database has each name, as far as this connection knows.
    series: HashMap<i64, i64, RandomState>,
    metrics: HashMap<i64, i64, RandomState>,
}

impl Writer {
    pub fn new(client: Client, node: i64) -> Self {
        Self {
            client,
            node,
            watermark: 0,
            series: HashMap::default(),
            metrics: HashMap::default(),
        }
    }

    /// The database has all of this node's flushes up to here.
    pub async fn watermark(&mut self) -> Result<i64, MysqlError> {
        let sql = "SELECT flush FROM nodes WHERE node = ?";
        let values = vec![self.node.into()];
        let rows: Vec<(i64,)> = self.client.select(MYSQL_TIMEOUT, sql, values).await?;
        let watermark = rows.first().map_or(0, |&(flush,)| flush);
        if watermark < self.watermark {
            // Emptied under our eyes: its names may have gone too.
            self.series.clear();
            self.metrics.clear();
        }
        self.watermark = watermark;
        Ok(watermark)
    }

    /// Series of the batch that the database has no name for, or none since `day`.
    pub async fn unnamed(&mut self, batch: &Batch, day: i64) -> Result<Vec<i64>, MysqlError> {
        let is_known = |key: &i64| self.series.get(key).is_some_and(|&known| day <= known);
        let keys = batch.rows.iter().map(|row| row.series);
        let mut keys: Vec<i64> = keys.filter(|key| !is_known(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        for keys in pieces(&keys) {
            let sql = format!(
                "SELECT `key` FROM series WHERE day >= ? AND `key` IN {}",
                placeholders(keys.len())
            );
            let values = [day].iter().chain(keys).map(|&key| key.into()).collect();
            let there: Vec<(i64,)> = self.client.select(MYSQL_TIMEOUT, &sql, values).await?;
            self.learn(there.iter().map(|&(key,)| key), day);
        }
        keys.retain(|key| !self.series.contains_key(key) || self.series[key] < day);
        Ok(keys)
    }

    /// Names series, before their rows. In order of keys, so that two nodes wait for each other
    /// rather than each for the other.
    pub async fn name(&mut self, names: &[SeriesName], day: i64) -> Result<(), MysqlError> {
        let known = &self.metrics;
        let metrics: BTreeMap<i64, &str> = names
            .iter()
            .filter(|name| known.get(&name.metric_key).is_none_or(|&known| known < day))
            .map(|name| (name.metric_key, &*name.metric))
            .collect();
        let metrics: Vec<(i64, &str)> = metrics.into_iter().collect();
        let push = |&(key, name): &(i64, &str), values: &mut Vec<Value>| {
            values.extend([key.into(), name.into(), day.into()]);
        };
        insert(&mut self.client, &METRICS, &metrics, push).await?;
        let push = |name: &SeriesName, values: &mut Vec<Value>| {
            let (host, unit) = ((&*name.host).into(), (&*name.unit).into());
            values.extend([
                name.key.into(),
                host,
                name.metric_key.into(),
                unit,
                day.into(),
            ]);
        };
        insert(&mut self.client, &SERIES, names, push).await?;
        self.metrics
            .extend(metrics.iter().map(|&(key, _)| (key, day)));
        self.learn(names.iter().map(|name| name.key), day);
        Ok(())
    }

    fn learn(&mut self, keys: impl Iterator<Item = i64>, day: i64) {
        if HISTORY_NAMES_MAX < self.series.len() {
            self.series.clear();
            self.metrics.clear();
        }
        self.series.extend(keys.map(|key| (key, day)));
    }

    /// Writes a batch as one transaction. `watermark`: it is the last one of that flush.
    pub async fn send(&mut self, batch: &Batch, watermark: Option<i64>) -> Result<(), MysqlError> {
        self.client.say(MYSQL_TIMEOUT, "START TRANSACTION").await?;
        let node = self.node;
        let push = |row: &Row, values: &mut Vec<Value>| {
            let rollup = &row.rollup;
            let counts = [row.minute, row.series, node, rollup.count as i64];
            let sums = [rollup.sum, rollup.min, rollup.max, rollup.last];
            values.extend(counts.map(Value::from));
            values.extend(sums.map(number));
            values.push(row.points.as_slice().into());
        };
        insert(&mut self.client, &MINUTES, &batch.rows, push).await?;
        let push = |row: &FleetRow, values: &mut Vec<Value>| {
            let counts = [row.metric, row.step, node, row.hosts as i64];
            values.extend(counts.map(Value::from));
            values.extend([row.sum, row.min, row.max].map(number));
            values.push(row.spread.as_slice().into());
        };
        insert(&mut self.client, &FLEET, &batch.fleet, push).await?;
        if let Some(flush) = watermark {
            let sql = "INSERT INTO nodes (node, flush) VALUES (?, ?)
                ON DUPLICATE KEY UPDATE flush = VALUES(flush)";
            self.client
                .run(sql, vec![node.into(), flush.into()])
                .await?;
        }
        self.client.say(MYSQL_TIMEOUT, "COMMIT").await?;
        self.watermark = watermark.unwrap_or(self.watermark);
        Ok(())
    }

    /// After a statement that another client was in the way of.
    pub async fn roll_back(&mut self) -> Result<(), MysqlError> {
        self.client.say(MYSQL_TIMEOUT, "ROLLBACK").await
    }
}

/// MySQL's doubles have no infinity, which sums of the largest numbers can come to.
fn number(value: f64) -> Value {
    if value.is_nan() {
        return 0.0.into();
    }
    value.clamp(f64::MIN, f64::MAX).into()
}

async fn insert<T>(
    client: &mut Client,
    insert: &Insert,
    items: &[T],
    push: impl Fn(&T, &mut Vec<Value>),
) -> Result<(), MysqlError> {
    for items in pieces(items) {
        let row = placeholders(insert.values);
        let rows = vec![row.as_str(); items.len()].join(", ");
        let sql = [insert.head, &rows, insert.tail].concat();
        let mut values = Vec::with_capacity(items.len() * insert.values);
        items.iter().for_each(|item| push(item, &mut values));
        client.run(&sql, values).await?;
    }
    Ok(())
}

/// Pieces whose lengths are powers of two, so that a few prepared statements do for all of them.
fn pieces<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1 << items.len().min(MYSQL_ROWS_MAX).checked_ilog2()?;
        let (piece, rest) = items.split_at(length);
        items = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two() {
        let check = |length: usize, expected: &[usize]| {
            let items = vec![(); length];
            let found: Vec<usize> = pieces(&items).map(<[()]>::len).collect();
            assert_eq!(found, expected);
        };
        check(0, &[]);
        check(1, &[1]);
        check(11, &[8, 2, 1]);
        check(MYSQL_ROWS_MAX, &[MYSQL_ROWS_MAX]);
        check(
            2 * MYSQL_ROWS_MAX + 3,
            &[MYSQL_ROWS_MAX, MYSQL_ROWS_MAX, 2, 1],
        );
    }

    #[test]
    fn what_mysql_cannot_hold_is_the_nearest_that_it_can() {
        assert_eq!(number(f64::INFINITY), Value::Double(f64::MAX));
        assert_eq!(number(f64::NEG_INFINITY), Value::Double(f64::MIN));
        assert_eq!(number(f64::NAN), Value::Double(0.0));
        assert_eq!(number(5e-324), Value::Double(5e-324));
    }

    #[test]
    fn a_batch_is_full_at_its_bound() {
        let row = |bytes: usize| Row {
            minute: 0,
            series: 0,
            rollup: crate::history::Rollup::EMPTY,
            points: vec![0; bytes],
        };
        let mut batch = Batch::default();
        batch.push(row(MYSQL_BATCH_BYTES - ROW_BYTES - 1));
        assert!(!batch.is_full());
        batch.clear();
        batch.push(row(MYSQL_BATCH_BYTES - ROW_BYTES));
        assert!(batch.is_full());
    }
}
