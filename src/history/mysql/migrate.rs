//! The schema, step by step: files that are applied in order and never change.
//!
//! MySQL has no transactions for what changes a schema. So every statement does nothing where it
//! was done before, and a migration that was cut off is simply begun again.

use ring::digest::{SHA256, digest};

use super::{Client, MysqlError, Target};
use crate::limits::{MYSQL_ALTER_TIMEOUT, MYSQL_TIMEOUT};

/// By number, from 1.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "names",
        include_str!("../../../migrations/mysql/0001_names.sql"),
    ),
    (
        "minutes",
        include_str!("../../../migrations/mysql/0002_minutes.sql"),
    ),
    (
        "fleet",
        include_str!("../../../migrations/mysql/0003_fleet.sql"),
    ),
    (
        "nodes",
        include_str!("../../../migrations/mysql/0004_nodes.sql"),
    ),
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    number   INT          NOT NULL PRIMARY KEY,
    name     VARCHAR(255) NOT NULL,
    checksum BINARY(32)   NOT NULL,
    applied  TIMESTAMP    NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB";

/// A migration that was applied just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub number: u32,
    pub name: &'static str,
}

/// Brings a database up to date; gives what that took. To be called within a runtime.
pub async fn migrate(url: &str) -> Result<Vec<Applied>, MysqlError> {
    let mut client = Client::connect(&Target::parse(url)?, MYSQL_TIMEOUT).await?;
    let applied = run(&mut client).await;
    client.close().await;
    applied
}

pub async fn run(client: &mut Client) -> Result<Vec<Applied>, MysqlError> {
    client.say(MYSQL_ALTER_TIMEOUT, TABLE).await?;
    if missing(client).await?.is_empty() {
        return Ok(Vec::new());
    }
    lock(client).await?;
    let applied = apply(client).await;
    let freed = unlock(client).await;
    let applied = applied?;
    freed?;
    Ok(applied)
}

/// Under the lock: another node may have applied some meanwhile.
async fn apply(client: &mut Client) -> Result<Vec<Applied>, MysqlError> {
    let missing = missing(client).await?;
    for &Applied { number, name } in &missing {
        let text = MIGRATIONS[number as usize - 1].1;
        for statement in statements(text) {
            client.say(MYSQL_ALTER_TIMEOUT, &statement).await?;
        }
        let sql = "INSERT INTO schema_migrations (number, name, checksum) VALUES (?, ?, ?)";
        let values = vec![number.into(), name.into(), checksum(text).into()];
        client.run(sql, values).await?;
    }
    Ok(missing)
}

/// What the database lacks; an error where it has something else.
async fn missing(client: &mut Client) -> Result<Vec<Applied>, MysqlError> {
    let sql = "SELECT number, checksum FROM schema_migrations ORDER BY number";
    let there: Vec<(u32, Vec<u8>)> = client.select(MYSQL_TIMEOUT, sql, Vec::new()).await?;
    let newest = MIGRATIONS.len() as u32;
    if let Some(&(newer, _)) = there.iter().find(|(number, _)| newest < *number) {
        return Err(MysqlError::Newer(newer));
    }
    let mut missing = Vec::new();
    for (number, &(name, text)) in (1..).zip(MIGRATIONS) {
        match there.iter().find(|(there, _)| *there == number) {
            Some((_, sum)) if *sum == checksum(text) => {}
            Some(_) => return Err(MysqlError::Changed(number)),
            None => missing.push(Applied { number, name }),
        }
    }
    Ok(missing)
}

/// Whoever changes the schema holds this; it ends with the connection. Locks are the whole
/// server's, so the database is in the name, short enough for MySQL's 64 characters.
const LOCK: &str = "CONCAT('tidewall.', LEFT(SHA2(DATABASE(), 256), 40))";

pub(super) async fn lock(client: &mut Client) -> Result<(), MysqlError> {
    let sql = format!("SELECT GET_LOCK({LOCK}, {})", MYSQL_TIMEOUT.as_secs() / 2);
    let got: Vec<(Option<i64>,)> = client.select(MYSQL_TIMEOUT, &sql, Vec::new()).await?;
    match got.first() {
        Some((Some(1),)) => Ok(()),
        _ => Err(MysqlError::Locked),
    }
}

pub(super) async fn unlock(client: &mut Client) -> Result<(), MysqlError> {
    let sql = format!("DO RELEASE_LOCK({LOCK})");
    client.say(MYSQL_TIMEOUT, &sql).await
}

/// A file's statements: each ends with a line that ends in a semicolon.
fn statements(text: &str) -> impl Iterator<Item = String> {
    let mut lines = text.lines().filter(|line| !line.starts_with("--"));
    std::iter::from_fn(move || {
        let mut statement = String::new();
        for line in lines.by_ref() {
            statement += line;
            if let Some(whole) = statement.strip_suffix(';') {
                return Some(whole.to_owned());
            }
            statement += "\n";
        }
        None
    })
}

fn checksum(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_statements() {
        let text = "-- a; b;\nCREATE a (\n  b\n);\n\n-- c\nDROP d;\n-- e\n";
        let found: Vec<String> = statements(text).collect();
        assert_eq!(found, ["CREATE a (\n  b\n)", "\nDROP d"]);
    }

    /// One that was cut off is begun again.
    #[test]
    fn every_statement_may_run_twice() {
        for (name, text) in MIGRATIONS {
            for statement in statements(text) {
                let statement = statement.trim_start();
                assert!(
                    statement.starts_with("CREATE TABLE IF NOT EXISTS "),
                    "{name}"
                );
            }
            assert!(text.trim_end().ends_with(';'), "{name}");
        }
    }

    /// Databases hold these sums: a migration that was released is not touched, another follows it.
    #[test]
    fn migrations_stand_under_their_numbers() {
        let mut files: Vec<String> = std::fs::read_dir("migrations/mysql")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed = (1..).zip(MIGRATIONS);
        let listed: Vec<String> = listed
            .map(|(number, (name, _))| format!("{number:04}_{name}.sql"))
            .collect();
        assert_eq!(files, listed);
    }
}
