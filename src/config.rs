//! Validated settings: what the flags meant once everything about the machine is known.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use core_affinity::CoreId;
use thiserror::Error;

use crate::auth::tokens::{self, Tokens};
use crate::cli::{HISTORY_DEFAULT, ServeArgs};
use crate::cluster;
use crate::cluster::key::{Key, KeyError};
use crate::cluster::redis::target::{self as redis, TargetError, is_name};
use crate::history::mysql::{MysqlError, Target};
use crate::history::service::Plan;
use crate::history::writer::Keep;
use crate::limits::{CLUSTER_NODE_BYTES_MAX, DRAIN_MAX, HISTORY_DAYS_MAX, TICK_MAX, TICK_MIN};

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub cores: usize,
    pub tick: Duration,
    /// How long the node goes on, not ready, once it is to stop.
    pub drain: Duration,
    pub allow_origin: Vec<String>,
    /// Tokens file; None: nobody is asked for one.
    pub tokens: Option<PathBuf>,
    /// Certificate to speak TLS with.
    pub identity: Option<Identity>,
    /// None: nothing is kept.
    pub history: Option<Plan>,
    /// None: this node is alone.
    pub cluster: Option<cluster::Plan>,
    /// CPUs to pin cores to, in order; empty: do not pin.
    pub pins: Vec<CoreId>,
}

/// Where the node's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    /// Made for a demo; PEM text.
    Made {
        cert: String,
        key: String,
    },
}

/// A setting that cannot be. Each text says what to change.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("--listen {0}: {1}")]
    Listen(String, String),
    #[error(
        "--listen {0} is not loopback, and there are no tokens: everybody who can reach it could \
         push and watch. Give --tokens FILE (see `tidewall token new`), or say --open if that is \
         what you want"
    )]
    NotLoopback(SocketAddr),
    #[error("--tokens {}: {why}", path.display())]
    Tokens { path: PathBuf, why: String },
    #[error("--open and --tokens contradict each other")]
    OpenWithTokens,
    #[error("--tls-cert and --tls-key go together")]
    HalfTls,
    #[error("--tick {0:?}: must be {TICK_MIN:?} to {TICK_MAX:?}")]
    Tick(Duration),
    #[error("--drain {0:?}: must be at most {DRAIN_MAX:?}")]
    Drain(Duration),
    #[error("--cores {0}: must be 1 to 256")]
    Cores(usize),
    #[error("--history {0}: must be sqlite:DIR, mysql://USER:PASSWORD@HOST/DATABASE or none")]
    History(String),
    #[error("--history mysql://…: {0}")]
    Mysql(MysqlError),
    #[error("{flag} {value:?}: must be 1 to {most} whole days, and no less than what is finer")]
    Keep {
        flag: &'static str,
        value: Duration,
        most: i64,
    },
    #[error("{0}")]
    Redis(TargetError),
    #[error("{0} says something about --redis, which is not given")]
    WithoutRedis(&'static str),
    #[error("--cluster-key {}: {why}", path.display())]
    ClusterKey { path: PathBuf, why: KeyError },
    #[error(
        "--redis {0} is not on this machine: give --cluster-key FILE, a secret of 32 bytes or more \
         that all nodes have, or whoever reaches Redis could paint the wall. One is made by: \
         head -c 32 /dev/urandom > FILE"
    )]
    NoClusterKey(String),
    #[error("--node {0:?}: must be 1 to {CLUSTER_NODE_BYTES_MAX} bytes of A-Z a-z 0-9 . _ : -")]
    Node(String),
    #[error("--allow-origin {0}: must be scheme://host or scheme://host:port, without a path")]
    Origin(String),
}

impl Settings {
    pub fn new(args: &ServeArgs) -> Result<Self, SettingsError> {
        let listen = resolve(&args.listen)?;
        if args.open && args.tokens.is_some() {
            return Err(SettingsError::OpenWithTokens);
        }
        if !listen.ip().is_loopback() && !args.open && args.tokens.is_none() {
            return Err(SettingsError::NotLoopback(listen));
        }
        if args.tick < TICK_MIN || TICK_MAX < args.tick {
            return Err(SettingsError::Tick(args.tick));
        }
        if DRAIN_MAX < args.drain {
            return Err(SettingsError::Drain(args.drain));
        }
        let history = history(args)?;
        let cluster = cluster(args)?;
        for origin in &args.allow_origin {
            let rest = origin.split_once("://").map(|(_, rest)| rest);
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains('/')) {
                return Err(SettingsError::Origin(origin.clone()));
            }
        }
        let (pins, usable) = machine();
        let cores = args.cores.unwrap_or(usable);
        if !(1..=256).contains(&cores) {
            return Err(SettingsError::Cores(cores));
        }
        // More threads than CPUs: let the scheduler place them.
        let pins = if args.no_pin || pins.len() < cores {
            Vec::new()
        } else {
            pins
        };
        let identity = match (&args.tls_cert, &args.tls_key) {
            (Some(cert), Some(key)) => Some(Identity::Files {
                cert: cert.clone(),
                key: key.clone(),
            }),
            (None, None) => None,
            _ => return Err(SettingsError::HalfTls),
        };
        let allow_origin = args.allow_origin.clone();
        Ok(Self {
            listen,
            cores,
            tick: args.tick,
            drain: args.drain,
            allow_origin,
            tokens: args.tokens.clone(),
            identity,
            history,
            cluster,
            pins,
        })
    }

    /// The tokens as their file has them now.
    pub fn read_tokens(&self) -> Result<Tokens, SettingsError> {
        let Some(path) = &self.tokens else {
            return Ok(Tokens::open());
        };
        let wrong = |why: String| SettingsError::Tokens {
            path: path.clone(),
            why,
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        tokens::parse(&text).map_err(|error| wrong(error.to_string()))
    }

    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }

    pub fn tick_ms(&self) -> u32 {
        u32::try_from(self.tick.as_millis()).unwrap_or(u32::MAX)
    }
}

fn history(args: &ServeArgs) -> Result<Option<Plan>, SettingsError> {
    let wrong = || SettingsError::History(args.history.clone());
    let points_days = days("--keep-points", args.keep_points, 1)?;
    let minutes_days = days("--keep-minutes", args.keep_minutes, points_days)?;
    let hours_days = days("--keep-hours", args.keep_hours, minutes_days)?;
    let (dir, mysql) = match args.history.split_once(':') {
        None if args.history == "none" => return Ok(None),
        Some(("sqlite", "")) | None => return Err(wrong()),
        Some(("sqlite", dir)) => (PathBuf::from(dir), None),
        Some(("mysql", _)) => {
            let target = Target::parse(&args.history).map_err(SettingsError::Mysql)?;
            (args.history_dir.clone(), Some(target))
        }
        Some(_) => return Err(wrong()),
    };
    Ok(Some(Plan {
        dir,
        mysql,
        may_move: args.history == HISTORY_DEFAULT,
        keep: Keep {
            points_days,
            minutes_days,
            hours_days,
        },
    }))
}

fn cluster(args: &ServeArgs) -> Result<Option<cluster::Plan>, SettingsError> {
    let Some(url) = &args.redis else {
        let stray = [
            (args.redis_ca.is_some(), "--redis-ca"),
            (args.cluster_key.is_some(), "--cluster-key"),
            (args.node.is_some(), "--node"),
        ];
        let stray = stray.iter().find(|(is_given, _)| *is_given);
        return stray.map_or(Ok(None), |(_, flag)| Err(SettingsError::WithoutRedis(flag)));
    };
    let target = redis::Target::parse(url, &args.redis_prefix, args.redis_ca.as_deref());
    let target = target.map_err(SettingsError::Redis)?;
    let key = match &args.cluster_key {
        Some(path) => Key::read(path).map_err(|why| SettingsError::ClusterKey {
            path: path.clone(),
            why,
        })?,
        None if target.is_loopback() => Key::of_prefix(&args.redis_prefix),
        None => return Err(SettingsError::NoClusterKey(target.to_string())),
    };
    let wrong = |name: &&String| !is_name(name, CLUSTER_NODE_BYTES_MAX);
    if let Some(name) = args.node.as_ref().filter(wrong) {
        return Err(SettingsError::Node(name.clone()));
    }
    let node = args.node.clone();
    Ok(Some(cluster::Plan { target, node, key }))
}

fn days(flag: &'static str, value: Duration, least: i64) -> Result<i64, SettingsError> {
    const DAY_S: u64 = 86_400;
    let days = (value.as_secs() / DAY_S) as i64;
    let is_whole = value == Duration::from_secs(days as u64 * DAY_S);
    let most = HISTORY_DAYS_MAX;
    let fits = is_whole && (least..=most).contains(&days);
    fits.then_some(days)
        .ok_or(SettingsError::Keep { flag, value, most })
}

fn resolve(listen: &str) -> Result<SocketAddr, SettingsError> {
    use std::net::ToSocketAddrs;
    let wrong = |why: String| SettingsError::Listen(listen.to_owned(), why);
    let mut found = listen
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?;
    found
        .next()
        .ok_or_else(|| wrong("names no address".to_owned()))
}

/// CPUs this process may use, and how many of them its quota pays for. A quota below the mask means
/// a container without CPUs of its own: there, pinning would put all containers on the same few.
fn machine() -> (Vec<CoreId>, usize) {
    let mask = core_affinity::get_core_ids().unwrap_or_default();
    let paid = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if paid < mask.len() {
        (Vec::new(), paid)
    } else {
        (mask, paid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{self, Command};

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let args = ["tidewall", "serve"].iter().chain(args).map(OsString::from);
        let Ok(Command::Serve(args)) = cli::parse(args).map(|cli| cli.command) else {
            panic!("no flags of serve");
        };
        Settings::new(&args).map_err(|error| error.to_string())
    }

    fn plan(args: &[&str]) -> cluster::Plan {
        settings(args).unwrap().cluster.unwrap()
    }

    #[test]
    fn a_cluster_needs_a_key_unless_it_is_at_home() {
        assert!(settings(&[]).unwrap().cluster.is_none());
        let home = plan(&["--redis", "redis://localhost"]);
        assert!(!home.key.is_secret && home.node.is_none());
        let away = ["--redis", "redis://u:s3@redis.example"];
        let error = settings(&away).unwrap_err();
        assert!(error.contains("--cluster-key FILE"), "{error}");
        assert!(error.contains("redis://redis.example:6379"), "{error}");
        let path = std::env::temp_dir().join(format!("tidewall-config-{}", std::process::id()));
        let with_key = |content: &str| {
            std::fs::write(&path, content).unwrap();
            let key = ["--cluster-key", path.to_str().unwrap()];
            let settings = settings(&[&away[..], &key[..]].concat());
            std::fs::remove_file(&path).unwrap();
            settings.map(|settings| settings.cluster.unwrap())
        };
        assert!(with_key(&"k".repeat(32)).unwrap().key.is_secret);
        let error = with_key("short").unwrap_err();
        assert!(error.starts_with("--cluster-key /") && error.contains("holds 5 bytes"));
        let debug = format!("{:?}", with_key(&"k".repeat(32)).unwrap());
        assert!(!debug.contains("s3") && !debug.contains("kk") && !debug.contains("107"));
    }

    #[test]
    fn what_names_a_node_and_its_wall_is_checked() {
        let redis = ["--redis", "redis://localhost"];
        let with = |more: &[&str]| settings(&[&redis[..], more].concat());
        let longest = "n".repeat(CLUSTER_NODE_BYTES_MAX);
        let named = plan(&[&redis[..], &["--node", &longest]].concat());
        assert_eq!(named.node, Some(longest.clone()));
        let check = |more: &[&str], expected: &str| {
            let error = with(more).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&["--node", &format!("{longest}n")], "--node \"nnn");
        check(&["--node", "a b"], "--node \"a b\": must be");
        check(&["--node", ""], "--node \"\": must be");
        check(
            &["--redis-prefix", "a{b"],
            "--redis-prefix \"a{b\": must be",
        );
        check(&["--redis-ca", "ca.pem"], "--redis-ca goes with");
        let error = settings(&["--redis", "localhost"]).unwrap_err();
        assert!(error.starts_with("--redis: must be redis://"), "{error}");
        for flag in ["--node", "--cluster-key", "--redis-ca"] {
            let error = settings(&[flag, "x"]).unwrap_err();
            assert!(error.starts_with(flag), "{error}");
        }
    }
}
