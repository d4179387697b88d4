//! Redis servers of a test's own, from PATH, on free ports, in folders that go with them: alone, as
//! replicas, sentinels or shards. They can be killed, frozen, and started again as empty as before.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisResult};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::eventually;

pub(crate) struct RedisServer {
    folder: PathBuf,
    port: u16,
    flags: Vec<String>,
    child: Child,
}

impl RedisServer {
    pub(crate) fn start(flags: &[&str]) -> RedisServer {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        RedisServer::launch(folder(), free_port(), flags)
    }

    fn launch(folder: PathBuf, port: u16, flags: Vec<String>) -> RedisServer {
        let child = spawn(&folder, port, &flags);
        let server = RedisServer {
            folder,
            port,
            flags,
            child,
        };
        server.await_readiness();
        server
    }

    /// A copy of `primary` that follows it.
    pub(crate) fn replica_of(primary: &RedisServer) -> RedisServer {
        let port = primary.port.to_string();
        let server = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
        eventually("a replica that follows", || {
            server.info("master_link_status") == "up"
        });
        server
    }

    /// With TLS on a port of its own, and a certificate for localhost that `ca` is.
    pub(crate) fn start_tls() -> (RedisServer, u16) {
        let folder = folder();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let at = |name: &str| folder.join(name).display().to_string();
        fs::write(at("cert.pem"), made.cert.pem()).unwrap();
        fs::write(at("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let flags = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", at("cert.pem")),
            ("--tls-key-file", at("key.pem")),
            ("--tls-ca-cert-file", at("cert.pem")),
            ("--tls-auth-clients", "no".to_owned()),
        ];
        let flags = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value]);
        let server = RedisServer::launch(folder, free_port(), flags.collect());
        (server, port)
    }

    /// One that watches `primary` as `wall`, and alone decides who is.
    pub(crate) fn start_sentinel(primary: &RedisServer) -> RedisServer {
        let folder = folder();
        let port = primary.port;
        let config = format!(
            "sentinel monitor wall 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds wall 500\n\
             sentinel failover-timeout wall 3000\n"
        );
        fs::write(folder.join("sentinel.conf"), config).unwrap();
        RedisServer::launch(folder, free_port(), vec!["--sentinel".to_owned()])
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// At once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Nothing was saved.
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
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.try_ask(command).unwrap()
    }

    /// The same in words, for what answers nothing of interest.
    pub(crate) fn run(&self, words: &str) {
        self.ask::<redis::Value>(&command(words));
    }

    fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        let patience = Duration::from_secs(5);
        let mut connection = client.get_connection_with_timeout(patience)?;
        connection.set_read_timeout(Some(patience))?;
        command.query(&mut connection)
    }

    /// A field of `INFO`, or of `CLUSTER INFO`.
    pub(crate) fn info(&self, field: &str) -> String {
        let words = if field.starts_with("cluster_") {
            "CLUSTER INFO"
        } else {
            "INFO all"
        };
        let text: String = self.ask(&command(words));
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(name, _)| *name == field);
        found.map_or(String::new(), |(_, value)| value.to_owned())
    }

    fn await_readiness(&self) {
        eventually("a Redis that answers", || {
            self.try_ask::<String>(&command("PING")).is_ok()
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Three primaries that share the slots, and one replica, of the first.
pub(crate) struct RedisCluster {
    pub(crate) shards: Vec<RedisServer>,
    pub(crate) replica: RedisServer,
}

impl RedisCluster {
    pub(crate) fn start() -> RedisCluster {
        let start = |bus: &u16| {
            let bus = bus.to_string();
            let flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
            RedisServer::start(&[&flags[..], &["--cluster-port", &bus]].concat())
        };
        let buses: Vec<u16> = (0..4).map(|_| free_port()).collect();
        let mut shards: Vec<RedisServer> = buses.iter().map(start).collect();
        for (server, bus) in shards.iter().zip(&buses).skip(1) {
            shards[0].run(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port));
        }
        let replica = shards.pop().unwrap();
        for (shard, slots) in shards.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            shard.run(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        }
        let all = || shards.iter().chain([&replica]);
        eventually("servers that know each other", || {
            all().all(|server| server.info("cluster_known_nodes") == "4")
        });
        let first: String = shards[0].ask(&command("CLUSTER MYID"));
        replica.run(&format!("CLUSTER REPLICATE {first}"));
        eventually("a replica that follows", || {
            replica.info("master_link_status") == "up"
        });
        let cluster = RedisCluster { shards, replica };
        cluster.await_health(0);
        cluster
    }

    /// Every server from this one on says that all slots are served.
    pub(crate) fn await_health(&self, from: usize) {
        let all = || self.shards[from..].iter().chain([&self.replica]);
        eventually("a whole cluster", || {
            all().all(|server| server.info("cluster_state") == "ok")
        });
    }

    pub(crate) fn url(&self) -> String {
        let hosts = self
            .shards
            .iter()
            .map(|shard| format!("127.0.0.1:{}", shard.port));
        format!("redis+cluster://{}", hosts.collect::<Vec<_>>().join(","))
    }
}

pub(crate) fn command(words: &str) -> Cmd {
    let mut command = Cmd::new();
    for word in words.split_whitespace() {
        command.arg(word);
    }
    command
}

fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tidewall-redis-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Not among those that the system hands out by itself: no connection of another test may have it
/// by the time the server, or the server that comes back, wants it.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (20_000 + offset % 10_000) as u16;
        let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free && TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

fn spawn(folder: &Path, port: u16, flags: &[String]) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("redis-server");
    // A sentinel writes what it learned into the file that it has read.
    let config = folder.join("sentinel.conf");
    if config.exists() {
        command.arg(config);
    }
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--protected-mode", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(folder);
    if !flags.iter().any(|flag| flag == "--sentinel") {
        let socket = folder.join("s").display().to_string();
        command.args(["--save", "", "--appendonly", "no"]);
        command.args(["--repl-diskless-sync-delay", "0"]);
        command.args(["--unixsocket", &socket]);
    }
    command
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server: apt-get install redis-server")
}

#[test]
fn a_server_comes_back_empty() {
    let mut server = RedisServer::start(&[]);
    server.run("SET a 7");
    assert_eq!(server.ask::<u8>(&command("GET a")), 7);
    server.kill();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert_eq!(server.ask::<Option<u8>>(&command("GET a")), None);
}
