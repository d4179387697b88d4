//! The days' partitions: made before their day begins, dropped once it is too old.
//!
//! A partition holds all that is after the one before it, up to the end of its own day; the last,
//! `later`, has no end. So there is a place for every minute, and no row ever waits for one: what
//! is older than the first partition falls into it, what is from a clock that is ahead into
//! `later`. Only `later` is ever split, and it is empty but for such rows, so that a split copies
//! next to nothing.

use super::migrate::{lock, unlock};
use super::{Client, MysqlError};
use crate::calendar::civil_from_days;
use crate::history::FLEET_STEP_MS;
use crate::history::block::MINUTE_MS;
use crate::history::sqlite::MINUTES_A_DAY;
use crate::limits::{
    MYSQL_ALTER_TIMEOUT, MYSQL_DAYS_AHEAD, MYSQL_DAYS_BACK, MYSQL_NAMES_PER_DELETE, MYSQL_TIMEOUT,
};

/// Split tables, and units of their key in a day.
const TABLES: [(&str, i64); 2] = [
    ("minutes", MINUTES_A_DAY),
    ("fleet", MINUTES_A_DAY * MINUTE_MS / FLEET_STEP_MS),
];

/// What a look after the partitions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    pub made: u64,
    pub dropped: u64,
    pub names_forgotten: u64,
}

/// Makes and drops what is due. `keep_days` none: nothing is ever dropped. A day counts as begun,
/// or as past, when both our clock and the database's say so: one that is wrong must not cost
/// history.
pub async fn care(
    client: &mut Client,
    now_ms: i64,
    keep_days: Option<i64>,
) -> Result<Care, MysqlError> {
    let sql = "SELECT CAST(FLOOR(UNIX_TIMESTAMP()) AS SIGNED)";
    let theirs: Vec<(i64,)> = client.select(MYSQL_TIMEOUT, sql, Vec::new()).await?;
    let theirs = theirs.first().map_or(0, |&(seconds,)| seconds);
    let today = theirs.min(now_ms.div_euclid(1_000)).div_euclid(86_400);
    let mut care = Care::default();
    for (table, units) in TABLES {
        let plan = plan(&list(client, table, units).await?, today, keep_days);
        if !plan.is_empty() {
            lock(client).await?;
            let done = change(client, table, units, today, keep_days).await;
            let freed = unlock(client).await;
            let done = done?;
            freed?;
            care.made += done.make.len() as u64;
            care.dropped += done.drop.len() as u64;
        }
    }
    if let Some(keep_days) = keep_days {
        care.names_forgotten = forget_names(client, today - keep_days).await?;
    }
    Ok(care)
}

/// Partitions that end with a day, oldest first; `later` is none of them.
async fn list(
    client: &mut Client,
    table: &str,
    units: i64,
) -> Result<Vec<(i64, String)>, MysqlError> {
    let sql = "SELECT partition_description, partition_name FROM information_schema.partitions
        WHERE table_schema = DATABASE() AND table_name = ? AND partition_name IS NOT NULL
        ORDER BY partition_ordinal_position";
    let rows: Vec<(String, String)> = client
        .select(MYSQL_TIMEOUT, sql, vec![table.into()])
        .await?;
    let day = |(end, name): (String, String)| {
        let end: i64 = end.parse().ok()?;
        Some((end.div_euclid(units) - 1, name))
    };
    Ok(rows.into_iter().filter_map(day).collect())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Days.
    make: Vec<i64>,
    /// Names.
    drop: Vec<String>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.make.is_empty() && self.drop.is_empty()
    }
}

fn plan(there: &[(i64, String)], today: i64, keep_days: Option<i64>) -> Plan {
    let oldest = keep_days.map_or(i64::MIN, |days| today - days);
    let first = oldest.max(today - MYSQL_DAYS_BACK);
    let first = there.last().map_or(first, |(day, _)| first.max(day + 1));
    let old = there.iter().filter(|(day, _)| *day < oldest);
    Plan {
        make: (first..=today + MYSQL_DAYS_AHEAD).collect(),
        drop: old.map(|(_, name)| name.clone()).collect(),
    }
}

/// Under the lock: another node may have done it meanwhile.
async fn change(
    client: &mut Client,
    table: &str,
    units: i64,
    today: i64,
    keep_days: Option<i64>,
) -> Result<Plan, MysqlError> {
    let plan = plan(&list(client, table, units).await?, today, keep_days);
    if !plan.make.is_empty() {
        let part = |&day: &i64| {
            let (year, month, date) = civil_from_days(day);
            let end = (day + 1) * units;
            format!("PARTITION d{year:04}{month:02}{date:02} VALUES LESS THAN ({end}), ")
        };
        let parts: String = plan.make.iter().map(part).collect();
        let sql = format!(
            "ALTER TABLE {table} REORGANIZE PARTITION later INTO
             ({parts}PARTITION later VALUES LESS THAN MAXVALUE)"
        );
        client.say(MYSQL_ALTER_TIMEOUT, &sql).await?;
    }
    if !plan.drop.is_empty() {
        let names = plan.drop.join("`, `");
        let sql = format!("ALTER TABLE {table} DROP PARTITION `{names}`");
        client.say(MYSQL_ALTER_TIMEOUT, &sql).await?;
    }
    Ok(plan)
}

/// Forgets what nothing of `oldest` or later has named.
async fn forget_names(client: &mut Client, oldest: i64) -> Result<u64, MysqlError> {
    let mut forgotten = 0;
    for table in ["series", "metrics"] {
        let sql = format!("DELETE FROM {table} WHERE day < ? LIMIT {MYSQL_NAMES_PER_DELETE}");
        loop {
            let gone = client.run(&sql, vec![oldest.into()]).await?;
            forgotten += gone;
            if gone < MYSQL_NAMES_PER_DELETE {
                break;
            }
        }
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(from: i64, to: i64) -> Vec<(i64, String)> {
        (from..=to).map(|day| (day, format!("d{day}"))).collect()
    }

    #[test]
    fn partitions_are_made_ahead_and_dropped_behind() {
        let check =
            |there: &[(i64, String)], keep_days, make: std::ops::Range<i64>, drop: &[&str]| {
                let plan = plan(there, 1_000, keep_days);
                assert_eq!(plan.make, make.collect::<Vec<_>>());
                assert_eq!(plan.drop, drop);
            };
        let ahead = 1_000 + MYSQL_DAYS_AHEAD;
        // An empty database, with and without an end to what is kept.
        check(&[], None, 1_000 - MYSQL_DAYS_BACK..ahead + 1, &[]);
        check(&[], Some(7), 993..ahead + 1, &[]);
        // An hour later, a day later.
        check(&days(993, ahead), Some(7), 0..0, &[]);
        check(&days(992, ahead - 1), Some(7), ahead..ahead + 1, &["d992"]);
        // Nobody came for a year: the days between are one partition, which nothing fills any more.
        let old = days(600, 602);
        check(&old, Some(7), 993..ahead + 1, &["d600", "d601", "d602"]);
        // A clock that went back makes nothing and drops nothing.
        check(&days(1_990, 2_002), Some(7), 0..0, &[]);
    }
}
