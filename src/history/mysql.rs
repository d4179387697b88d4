//! History in MySQL or MariaDB, where many nodes write and each reads what the others wrote.
//!
//! The tables are those of the embedded store, with the node that wrote a row in its key, and split
//! by day, so that a day is forgotten by dropping its partitions. Rows are absolute and only grow:
//! one that comes twice, or late, changes nothing. Nothing here is needed to keep a sample: the
//! embedded store has it first.

pub mod migrate;
pub mod partitions;
pub mod read;
pub mod write;

use std::future::Future;
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, ServerError, UrlError, Value};
use thiserror::Error;
use tokio::time::timeout;

use crate::limits::{MYSQL_LOCK_WAIT_SECONDS, MYSQL_STATEMENTS_MAX, MYSQL_TIMEOUT};

/// What went wrong with the database, or with the way to it.
#[derive(Debug, Error)]
pub enum MysqlError {
    #[error("{0}")]
    Url(#[from] UrlError),
    #[error("the URL names no database: mysql://USER:PASSWORD@HOST:PORT/DATABASE")]
    NoDatabase,
    #[error("{0}")]
    Server(ServerError),
    #[error("{0}")]
    Connection(mysql_async::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the connection is closed")]
    Closed,
    #[error("a column is not of the type that the migrations gave it")]
    Type,
    #[error("another node is changing the schema")]
    Locked,
    #[error("migration {0:04} is another one than was applied to this database")]
    Changed(u32),
    #[error("the database has migration {0:04}, which only a newer version knows")]
    Newer(u32),
    #[error("the answer has more than {0} rows")]
    TooMany(usize),
}

impl MysqlError {
    /// Another client was in the way: the same again may well go through.
    pub fn is_busy(&self) -> bool {
        // Deadlock; lock wait timeout; a row changed since it was read, as newer MariaDBs say it.
        matches!(self, MysqlError::Server(error) if [1213, 1205, 1020].contains(&error.code))
    }

    /// The database refused a statement; the connection is as good as before.
    pub fn is_refusal(&self) -> bool {
        matches!(self, MysqlError::Server(_) | MysqlError::Locked)
    }
}

impl From<mysql_async::Error> for MysqlError {
    fn from(error: mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(error) => MysqlError::Server(error),
            other => MysqlError::Connection(other),
        }
    }
}

/// A database and the way to it. Its `Display` has no password.
#[derive(Clone, Debug)]
pub struct Target {
    opts: Opts,
    shown: String,
}

impl Target {
    /// `mysql://user:password@host:port/database`, and mysql_async's parameters: `require_ssl=true`
    /// for TLS, checked against the usual authorities and this system's own.
    pub fn parse(url: &str) -> Result<Target, MysqlError> {
        let opts = Opts::from_url(url)?;
        let Some(database) = opts.db_name().filter(|name| !name.is_empty()) else {
            return Err(MysqlError::NoDatabase);
        };
        let (host, port) = (opts.ip_or_hostname(), opts.tcp_port());
        let shown = format!("{host}:{port}/{database}");
        let ssl = opts.ssl_opts().cloned().map(|ssl| {
            let own = rustls_native_certs::load_native_certs().certs;
            ssl.with_root_certs(own.iter().map(|cert| cert.to_vec().into()).collect())
        });
        // As a name the host is looked up without blocking, but brackets are for URLs.
        let host = host.trim_matches(['[', ']']).to_owned();
        let opts = OptsBuilder::from_opts(opts)
            .ip_or_hostname(host)
            .ssl_opts(ssl)
            // The socket that a forwarded server names may be another server's here.
            .prefer_socket(false)
            .tcp_nodelay(true)
            .stmt_cache_size(MYSQL_STATEMENTS_MAX)
            .setup(setup());
        let opts = opts.into();
        Ok(Target { opts, shown })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What a session begins with, whatever the server's own defaults are.
fn setup() -> Vec<String> {
    let wait = MYSQL_LOCK_WAIT_SECONDS;
    vec![
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin".to_owned(),
        // What does not fit is an error, never cut off.
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'".to_owned(),
        format!("SET SESSION innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait}"),
    ]
}

/// One connection; made and used within one runtime. Every question has a timeout, and one that was
/// not answered leaves it closed.
pub struct Client {
    /// None: closed, or a question was given up halfway.
    conn: Option<Conn>,
}

impl Client {
    pub async fn connect(target: &Target, limit: Duration) -> Result<Client, MysqlError> {
        let conn = within(limit, Conn::new(target.opts.clone())).await?;
        Ok(Client { conn: Some(conn) })
    }

    pub fn is_open(&self) -> bool {
        self.conn.is_some()
    }

    /// Left to itself, mysql_async would read what is still to come first, for ever if it must.
    pub async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = timeout(Duration::from_millis(100), conn.disconnect()).await;
        }
    }

    /// A statement without parameters or result.
    pub async fn say(&mut self, limit: Duration, sql: &str) -> Result<(), MysqlError> {
        let ask = async |conn: &mut Conn| conn.query_drop(sql).await;
        self.ask(limit, ask).await
    }

    /// A prepared statement; gives the rows that it changed.
    pub async fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, MysqlError> {
        let ask = async |conn: &mut Conn| {
            conn.exec_drop(sql, values).await?;
            Ok(conn.affected_rows())
        };
        self.ask(MYSQL_TIMEOUT, ask).await
    }

    /// A prepared statement, so that numbers come as they are stored, bit by bit.
    pub async fn select<T: FromRow>(
        &mut self,
        limit: Duration,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, MysqlError> {
        let ask = async |conn: &mut Conn| conn.exec::<mysql_async::Row, _, _>(sql, values).await;
        let rows = self.ask(limit, ask).await?;
        let rows = rows.into_iter().map(mysql_async::from_row_opt);
        rows.collect::<Result<_, _>>().map_err(|_| MysqlError::Type)
    }

    async fn ask<T>(
        &mut self,
        limit: Duration,
        ask: impl AsyncFnOnce(&mut Conn) -> mysql_async::Result<T>,
    ) -> Result<T, MysqlError> {
        let mut conn = self.conn.take().ok_or(MysqlError::Closed)?;
        let answer = within(limit, ask(&mut conn)).await;
        self.conn = Some(conn);
        if answer.as_ref().is_err_and(|error| !error.is_refusal()) {
            self.close().await;
        }
        answer
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = mysql_async::Result<T>>,
) -> Result<T, MysqlError> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(MysqlError::from),
        Err(_) => Err(MysqlError::Timeout(limit)),
    }
}

/// So many values in parentheses, `(?, ?)`.
fn placeholders(values: usize) -> String {
    format!("({})", vec!["?"; values].join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_are_shown_without_their_password() {
        let target = Target::parse("mysql://tide:s3cret@db.example:3307/wall").unwrap();
        assert_eq!(target.to_string(), "db.example:3307/wall");
        let target = Target::parse("mysql://tide:s3cret@[::1]/wall").unwrap();
        assert_eq!(target.opts.ip_or_hostname(), "::1");
        assert_eq!(target.opts.pass(), Some("s3cret"));
    }

    #[test]
    fn urls_that_cannot_be_are_refused() {
        let wrong = |url: &str| Target::parse(url).unwrap_err().to_string();
        assert!(wrong("mysql://tide@db.example").contains("names no database"));
        assert!(wrong("postgres://tide@db.example/wall").contains("scheme"));
        assert!(wrong("mysql://tide:s3cret@db.example/wall?colour=red").contains("colour"));
        for url in ["mysql://tide:s3cret@db.example:port/wall", "s3cret"] {
            assert!(!wrong(url).contains("s3cret"), "{}", wrong(url));
        }
    }
}
