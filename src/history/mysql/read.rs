//! The reading side: what all nodes wrote, for questions about hosts that others know.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Client, MysqlError, Target, placeholders};
use crate::history::{FleetRow, Rollup, Row};
use crate::limits::{MYSQL_MINUTES_PER_SELECT, MYSQL_ROWS_READ_MAX};

/// Reads over one connection, which it makes anew when it must. Used within one runtime.
pub struct Reader {
    target: Target,
    client: Option<Client>,
}

impl Reader {
    pub fn new(target: Target) -> Self {
        Self {
            target,
            client: None,
        }
    }

    /// Rows of a series in a range of minutes, in order: one a minute for each node that has any,
    /// but not of the node `but`.
    pub async fn rows(
        &mut self,
        series: i64,
        but: i64,
        minutes: Range<i64>,
        deadline: Instant,
    ) -> Result<Vec<Row>, MysqlError> {
        let mut found = Vec::new();
        let sql = format!(
            "SELECT minute, count, sum, min, max, last, points FROM minutes
             WHERE series = ? AND node <> ? AND minute IN {} ORDER BY minute, node LIMIT {}",
            placeholders(MYSQL_MINUTES_PER_SELECT),
            MYSQL_ROWS_READ_MAX + 1,
        );
        for first in minutes.clone().step_by(MYSQL_MINUTES_PER_SELECT) {
            // One by one: a range of the key would read every series of each minute. Those past the
            // end repeat the last one, so that one prepared statement does.
            let last = minutes.end - 1;
            let each = (first..first + MYSQL_MINUTES_PER_SELECT as i64).map(|at| at.min(last));
            let values = [series, but]
                .into_iter()
                .chain(each)
                .map(Into::into)
                .collect();
            let (client, limit) = self.client(deadline).await?;
            let rows = client.select(limit, &sql, values).await?;
            found.extend(rows.into_iter().map(|row| read_row(series, row)));
            if MYSQL_ROWS_READ_MAX < found.len() {
                return Err(MysqlError::TooMany(MYSQL_ROWS_READ_MAX));
            }
        }
        Ok(found)
    }

    /// A metric's statistics over a range of steps, in order: one of a step for each node but one.
    pub async fn fleet(
        &mut self,
        metric: i64,
        but: i64,
        steps: Range<i64>,
        deadline: Instant,
    ) -> Result<Vec<FleetRow>, MysqlError> {
        let sql = format!(
            "SELECT step, hosts, sum, min, max, spread FROM fleet
             WHERE metric = ? AND node <> ? AND step >= ? AND step < ?
             ORDER BY step, node LIMIT {}",
            MYSQL_ROWS_READ_MAX + 1,
        );
        let values = [metric, but, steps.start, steps.end]
            .map(Into::into)
            .to_vec();
        let (client, limit) = self.client(deadline).await?;
        let rows = client.select(limit, &sql, values).await?;
        if MYSQL_ROWS_READ_MAX < rows.len() {
            return Err(MysqlError::TooMany(MYSQL_ROWS_READ_MAX));
        }
        let rows = rows.into_iter();
        Ok(rows.map(|row| read_fleet(metric, row)).collect())
    }

    pub async fn close(&mut self) {
        if let Some(mut client) = self.client.take() {
            client.close().await;
        }
    }

    async fn client(&mut self, deadline: Instant) -> Result<(&mut Client, Duration), MysqlError> {
        let left = || deadline.saturating_duration_since(Instant::now());
        let client = match self.client.take().filter(Client::is_open) {
            Some(client) => client,
            None => Client::connect(&self.target, left()).await?,
        };
        Ok((self.client.insert(client), left()))
    }
}

type RowColumns = (i64, i64, f64, f64, f64, f64, Vec<u8>);

fn read_row(series: i64, columns: RowColumns) -> Row {
    let (minute, count, sum, min, max, last, points) = columns;
    Row {
        minute,
        series,
        rollup: Rollup {
            count: count as u64,
            sum,
            min,
            max,
            last,
        },
        points,
    }
}

type FleetColumns = (i64, i64, f64, f64, f64, Vec<u8>);

fn read_fleet(metric: i64, columns: FleetColumns) -> FleetRow {
    let (step, hosts, sum, min, max, spread) = columns;
    FleetRow {
        step,
        metric,
        hosts: hosts as u64,
        sum,
        min,
        max,
        spread,
    }
}
