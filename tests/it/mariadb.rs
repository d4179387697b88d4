//! A database server of a test's own: MariaDB from PATH, on a free port, in a folder that goes with
//! it, with nothing of the machine's configuration. It can be killed, frozen and started again.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::support::eventually;

const PASSWORD: &str = "s3cret";
const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP";

pub(crate) struct Mariadb {
    folder: PathBuf,
    port: u16,
    flags: Vec<String>,
    child: Child,
}

impl Mariadb {
    pub(crate) fn start(flags: &[&str]) -> Mariadb {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = folder(&number.to_string());
        copy(template(), &folder.join("data"));
        // Not UTF-8 by default, as databases may come; and a user with the rights it needs.
        let init = format!(
            "CREATE DATABASE IF NOT EXISTS wall CHARACTER SET latin1;\n\
             CREATE DATABASE IF NOT EXISTS wall2 CHARACTER SET latin1;\n\
             CREATE USER IF NOT EXISTS 'tide'@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT {RIGHTS} ON wall.* TO 'tide'@'%';\n\
             GRANT {RIGHTS} ON wall2.* TO 'tide'@'%';\n\
             CREATE USER IF NOT EXISTS 'admin'@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO 'admin'@'%';\n"
        );
        fs::write(folder.join("init.sql"), init).unwrap();
        let port = free_port();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let child = spawn(&folder, port, &flags);
        let server = Mariadb {
            folder,
            port,
            flags,
            child,
        };
        server.await_readiness();
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As our server would be given it; by way of a proxy if it is another port.
    pub(crate) fn url(&self, port: u16, database: &str) -> String {
        format!("mysql://tide:{PASSWORD}@127.0.0.1:{port}/{database}")
    }

    /// At once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder, self.port, &self.flags);
        self.await_readiness();
    }

    /// Answers nothing until it is thawed; its connections stay.
    pub(crate) fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub(crate) fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Asks it as one who may do anything, past every proxy.
    pub(crate) fn select<T: FromRow + Send + 'static>(&self, sql: &str) -> Vec<T> {
        block_on(async {
            let mut conn = self.admin().await;
            let rows = conn.exec(sql, ()).await.unwrap();
            conn.disconnect().await.unwrap();
            rows
        })
    }

    pub(crate) fn run(&self, sql: &str) {
        block_on(async {
            let mut conn = self.admin().await;
            conn.query_drop(sql).await.unwrap();
            conn.disconnect().await.unwrap();
        });
    }

    /// A client that holds what it locked until it is dropped.
    pub(crate) fn client(&self) -> HeldClient {
        let runtime = runtime();
        let conn = runtime.block_on(self.admin());
        HeldClient { runtime, conn }
    }

    async fn admin(&self) -> Conn {
        let opts = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some("admin"))
            .pass(Some(PASSWORD))
            .db_name(Some("wall"))
            .prefer_socket(false);
        Conn::new(opts).await.unwrap()
    }

    fn await_readiness(&self) {
        let greets = || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
                return false;
            };
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            stream.read(&mut [0; 64]).is_ok_and(|n| 0 < n)
        };
        eventually("a database that greets", greets);
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) struct HeldClient {
    runtime: Runtime,
    conn: Conn,
}

impl HeldClient {
    pub(crate) fn run(&mut self, sql: &str) {
        self.runtime.block_on(self.conn.query_drop(sql)).unwrap();
    }
}

pub(crate) fn block_on<T>(task: impl Future<Output = T>) -> T {
    runtime().block_on(task)
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn folder(name: &str) -> PathBuf {
    let name = format!("tidewall-db-{}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A data folder as it is installed, for copies: made by the first test that ever needs it.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = Command::new("mariadbd").arg("--version").output();
        let version = version.expect("mariadbd: apt-get install mariadb-server");
        let version = String::from_utf8_lossy(&version.stdout);
        let version: String = version.split_whitespace().nth(2).unwrap_or("").to_owned();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let data = folder.join(format!("mariadb-{version}"));
        if !data.exists() {
            let part = folder.join(format!("mariadb-{}.part", std::process::id()));
            install(&part);
            // Whole or not at all, and another process may have been faster.
            let _ = fs::rename(&part, &data);
            let _ = fs::remove_dir_all(&part);
        }
        data
    })
}

fn install(data: &Path) {
    let output = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"])
        .args([
            "--auth-root-authentication-method=normal",
            "--innodb-log-file-size=8M",
        ])
        .arg(format!("--datadir={}", data.display()))
        .args(as_user())
        .output()
        .expect("mariadb-install-db: apt-get install mariadb-server");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// It will not run as root unless told to.
fn as_user() -> Option<&'static str> {
    rustix::process::getuid().is_root().then_some("--user=root")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn spawn(folder: &Path, port: u16, flags: &[String]) -> Child {
    let at = |name: &str| folder.join(name).display().to_string();
    let log = fs::File::create(folder.join("log")).unwrap();
    Command::new("mariadbd")
        .args(["--no-defaults", "--bind-address=127.0.0.1"])
        .args(["--skip-name-resolve", "--skip-log-bin", "--sql-mode="])
        .args(["--character-set-server=latin1", "--max-connections=50"])
        .args(["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M"])
        .args(["--key-buffer-size=64K", "--aria-pagecache-buffer-size=1M"])
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={}", at("data")))
        .arg(format!("--socket={}", at("s")))
        .arg(format!("--pid-file={}", at("pid")))
        .arg(format!("--init-file={}", at("init.sql")))
        .args(as_user())
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mariadbd: apt-get install mariadb-server")
}

#[test]
fn a_server_comes_back_with_what_was_committed() {
    let mut server = Mariadb::start(&[]);
    server.run("CREATE TABLE t (a INT) ENGINE = InnoDB");
    server.run("INSERT INTO t VALUES (7)");
    server.kill();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert_eq!(server.select::<(i32,)>("SELECT a FROM t"), [(7,)]);
}
