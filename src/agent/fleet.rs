//! A simulated fleet from one process: servers that push on time, viewers that read every frame,
//! a probe that times the way between them.
//!
//! An open loop: every request has an intended time, fixed before the run, and its latency counts
//! from there. A server that stalls cannot make the load wait and so hide its stall.

mod body;
mod http2;
mod probe;
pub(super) mod run;
mod servers;
mod socket;
mod tally;
mod viewer;
mod viewers;
mod wire;
pub(super) mod worker;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::watch;

use super::client::Line;
use super::report::Report;
use super::tls::{Tls, Trust};
use super::{Background, Target, TrustError, Via};
use crate::duration;
use crate::limits::{FLEET_PREFIX_BYTES_MAX, FLEET_SERVERS_PER_CONNECTION};
use probe::ProbeLog;
pub(crate) use tally::{Counts, Latency, Requests, Tally, Viewing, total};
use worker::{Phase, Plan, Shared};

/// Connections to one address from one loopback address: ports 32768 to 60999, with some to spare.
const CONNECTIONS_PER_SOURCE: usize = 25_000;
/// File descriptors for everything else: runtimes, standard streams, the report.
const SPARE_DESCRIPTORS: usize = 64;

/// Loads a server with a simulated fleet, open loop, and measures what comes back.
#[derive(Args, Clone, Debug)]
pub struct FleetArgs {
    /// Server to load, such as https://wall.example or http://127.0.0.1:8080
    #[arg(long, env = "TIDEWALL_TO", value_name = "URL", value_parser = Target::parse)]
    pub to: Target,
    /// PEM file of certificates to trust besides the system's
    #[arg(long, env = "TIDEWALL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    #[arg(
        long,
        env = "TIDEWALL_SERVERS",
        default_value_t = 1_000,
        value_name = "N",
        help = format!(
            "Simulated servers, one connection each; by http2 up to {FLEET_SERVERS_PER_CONNECTION} \
             of one thread share one, fewer if the server allows fewer streams"
        )
    )]
    pub servers: usize,
    /// Simulated dashboards on /api/live that read and acknowledge every frame
    #[arg(long, env = "TIDEWALL_VIEWERS", default_value_t = 50, value_name = "N")]
    pub viewers: usize,
    /// Dashboards that subscribe and then never read
    #[arg(
        long,
        env = "TIDEWALL_FROZEN_VIEWERS",
        default_value_t = 0,
        value_name = "N",
        visible_alias = "idle-viewers"
    )]
    pub frozen_viewers: usize,
    /// Protocol that the servers send by
    #[arg(long, env = "TIDEWALL_VIA", default_value = "http1", value_enum)]
    pub via: Via,
    /// Measured time, after all have connected
    #[arg(long = "for", env = "TIDEWALL_FOR", default_value = "60s", value_name = "DURATION",
          value_parser = duration::parse)]
    pub duration: Duration,
    /// Time between two readings of one server
    #[arg(long, env = "TIDEWALL_EVERY", default_value = "1s", value_name = "DURATION",
          value_parser = duration::parse)]
    pub every: Duration,
    /// Metrics in each reading
    #[arg(long, env = "TIDEWALL_METRICS", default_value_t = 10, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=body::METRICS_MAX as i64))]
    pub metrics: u16,
    /// Write the report to this file, as JSON
    #[arg(long, env = "TIDEWALL_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write to this file what was sent of every series: host, metric, count and sum, a line each
    #[arg(long, env = "TIDEWALL_SUMS", value_name = "FILE")]
    pub sums: Option<PathBuf>,
    /// Local addresses 127.0.0.1, 127.0.0.2, … to connect from; default: as many as needed
    #[arg(long, env = "TIDEWALL_SOURCES", value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=254))]
    pub sources: Option<u8>,
    /// What the names of all simulated servers begin with: fleets of one wall must differ
    #[arg(long, env = "TIDEWALL_PREFIX", default_value = "", value_name = "TEXT",
          hide_default_value = true, value_parser = parse_prefix)]
    pub prefix: String,
    /// Seed of names, values and schedules
    #[arg(long, env = "TIDEWALL_SEED", default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Threads to send and read with
    #[arg(long, env = "TIDEWALL_THREADS", default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Connections opened per second
    #[arg(long, env = "TIDEWALL_RAMP", default_value_t = 2_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub ramp: u32,
    /// Token that allows sending and viewing
    #[arg(long, env = "TIDEWALL_TOKEN", hide_env_values = true,
          value_parser = super::parse_token)]
    pub token: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("nothing to do: give --servers or --viewers")]
    Nothing,
    #[error("--sources needs a server on this machine's 127.0.0.0/8, not {0}")]
    Sources(SocketAddr),
    #[error(
        "needs {needed} open files, the limit is {limit}: raise it (ulimit -Hn {needed}) or ask \
         for fewer connections"
    )]
    OpenFiles { needed: usize, limit: u64 },
    #[error("cannot resolve {target}: {source}")]
    Resolve { target: Target, source: io::Error },
    #[error("no connection to {target} succeeded: {why}")]
    NoConnection { target: Target, why: String },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error("a thread of the fleet failed")]
    Thread,
    #[error("cannot write {}: {source}", path.display())]
    Report { path: PathBuf, source: io::Error },
}

impl FleetError {
    /// What the process should end with: 2 for what another command line would cure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Trust(_) | Self::Nothing | Self::Sources(_) => 2,
            _ => 1,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was lost or refused, and everyone saw everything.
    Clean,
    /// Something was; the report says what.
    Losses,
}

impl Verdict {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Losses => 1,
        }
    }
}

/// Runs the fleet for its time or until interrupted, then reports.
pub fn run(args: &FleetArgs) -> Result<Verdict, FleetError> {
    let report = measure(args)?;
    report.print()?;
    if let Some(path) = &args.report {
        write(path, &report.json())?;
    }
    Ok(report.verdict())
}

fn write(path: &Path, text: &str) -> Result<(), FleetError> {
    std::fs::write(path, text).map_err(|source| FleetError::Report {
        path: path.to_owned(),
        source,
    })
}

fn measure(args: &FleetArgs) -> Result<Report, FleetError> {
    let plan = plan(args)?;
    raise_open_files(plan.connections() + SPARE_DESCRIPTORS)?;
    let (mut fleet, threads) = Fleet::start(plan, args.duration)?;
    let outcome = super::runtime()?.block_on(fleet.conduct(args.duration));
    drop(fleet.phases);
    let mut joined = true;
    for thread in threads {
        joined &= matches!(thread.join(), Ok(Ok(())));
    }
    let mut measured = outcome?;
    if !joined {
        return Err(FleetError::Thread);
    }
    measured.tally = run::merged(&fleet.tallies);
    if let Some(path) = &args.sums {
        let sums = fleet
            .shared
            .sums
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        write(path, sums.as_str())?;
    }
    Ok(Report::new(args, &fleet.shared.plan, &measured))
}

/// Keeps a quiet fleet without viewers running on a thread of its own until the handle is dropped.
/// `trust` is a certificate to trust besides the system's, PEM text.
pub fn spawn_background(
    to: Target,
    token: Option<String>,
    servers: usize,
    every: Duration,
    trust: Option<&str>,
) -> Result<Background, FleetError> {
    let trust = Trust {
        ca: None,
        text: trust,
    };
    let plan = Plan {
        address: resolve(&to)?,
        line: Line {
            tls: Tls::new(&to, trust, false)?,
            target: to,
            via: Via::Http1,
            token,
        },
        servers,
        viewers: 0,
        frozen: 0,
        every,
        metrics: 10,
        sums: false,
        sources: Vec::new(),
        prefix: String::new(),
        seed: 1,
        threads: 1,
        ramp: 2_000,
    };
    let start = Instant::now();
    let (phases, receiver) = watch::channel(Phase::Run { start });
    let shared = Arc::new(Shared::new(plan, receiver, Duration::ZERO));
    let tally = Arc::new(Mutex::new(Tally::new(0)));
    let background = Background::spawn("fleet", phases, move || {
        if let Err(error) = worker::run(0, shared, tally) {
            tracing::error!(%error, "simulated fleet cannot start");
        }
    })?;
    Ok(background)
}

/// Threads under way and the way to tell them what to do.
struct Fleet {
    shared: Arc<Shared>,
    phases: watch::Sender<Phase>,
    tallies: Vec<Arc<Mutex<Tally>>>,
}

type Threads = Vec<std::thread::JoinHandle<io::Result<()>>>;

impl Fleet {
    fn start(plan: Plan, duration: Duration) -> io::Result<(Self, Threads)> {
        let (phases, receiver) = watch::channel(Phase::Connect);
        let shared = Arc::new(Shared::new(plan, receiver, duration));
        let (mut tallies, mut threads) = (Vec::new(), Vec::new());
        for index in 0..shared.plan.threads {
            let viewers = (index..shared.plan.viewers)
                .step_by(shared.plan.threads)
                .count();
            let tally = Arc::new(Mutex::new(Tally::new(viewers)));
            tallies.push(tally.clone());
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("fleet-{index}"))
                .spawn(move || worker::run(index, shared, tally))?;
            threads.push(thread);
        }
        let fleet = Self {
            shared,
            phases,
            tallies,
        };
        Ok((fleet, threads))
    }
}

impl Shared {
    fn new(plan: Plan, phases: watch::Receiver<Phase>, duration: Duration) -> Self {
        Self {
            plan,
            origin: Instant::now(),
            phases,
            end_us: AtomicU64::new(u64::MAX),
            scheduling: AtomicUsize::new(0),
            probes: ProbeLog::new(duration),
            tried: AtomicUsize::new(0),
            servers_up: AtomicUsize::new(0),
            viewers_up: AtomicUsize::new(0),
            failure: OnceLock::new(),
            sums: Mutex::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a prefix is at most {FLEET_PREFIX_BYTES_MAX} bytes of A-Z a-z 0-9 . _ : -")]
struct PrefixError;

/// It goes into bodies as it is.
fn parse_prefix(text: &str) -> Result<String, PrefixError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let fits = text.len() <= FLEET_PREFIX_BYTES_MAX && text.bytes().all(is_plain);
    fits.then(|| text.to_owned()).ok_or(PrefixError)
}

fn plan(args: &FleetArgs) -> Result<Plan, FleetError> {
    if args.servers + args.viewers + args.frozen_viewers == 0 {
        return Err(FleetError::Nothing);
    }
    let trust = Trust {
        ca: args.ca.as_deref(),
        text: None,
    };
    let mut plan = Plan {
        address: resolve(&args.to)?,
        line: Line {
            target: args.to.clone(),
            via: args.via,
            token: args.token.clone(),
            // Each simulated server is a stranger.
            tls: Tls::new(&args.to, trust, false)?,
        },
        servers: args.servers,
        viewers: args.viewers,
        frozen: args.frozen_viewers,
        every: args.every,
        metrics: usize::from(args.metrics),
        sums: args.sums.is_some(),
        sources: Vec::new(),
        prefix: args.prefix.clone(),
        seed: args.seed,
        threads: usize::from(args.threads),
        ramp: args.ramp,
    };
    plan.sources = sources(args, &plan)?;
    Ok(plan)
}

/// Local addresses to connect from; none leaves it to the kernel.
fn sources(args: &FleetArgs, plan: &Plan) -> Result<Vec<IpAddr>, FleetError> {
    let address = plan.address;
    let loopback = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let sources = match args.sources {
        Some(_) if !loopback => return Err(FleetError::Sources(address)),
        Some(sources) => usize::from(sources),
        None if loopback => plan.connections().div_ceil(CONNECTIONS_PER_SOURCE).min(254),
        None => 1,
    };
    // One needs no choice, and the kernel's own is freer.
    Ok(match sources {
        0 | 1 => Vec::new(),
        n => (1..=n as u8)
            .map(|i| IpAddr::V4(Ipv4Addr::new(127, 0, 0, i)))
            .collect(),
    })
}

fn resolve(target: &Target) -> Result<SocketAddr, FleetError> {
    let resolved = target.address().to_socket_addrs();
    let first = resolved.and_then(|mut all| all.next().ok_or(io::ErrorKind::NotFound.into()));
    first.map_err(|source| FleetError::Resolve {
        target: target.clone(),
        source,
    })
}

/// Raises the soft limit on open files to what is needed, and with the right to, the hard one too.
#[cfg(unix)]
fn raise_open_files(needed: usize) -> Result<(), FleetError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    let wanted = needed as u64;
    let has = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if has(limits.current) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limits.maximum.map(|maximum| maximum.max(wanted)),
    };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    Err(FleetError::OpenFiles {
        needed,
        limit: limits.maximum.unwrap_or(u64::MAX),
    })
}

#[cfg(not(unix))]
fn raise_open_files(_needed: usize) -> Result<(), FleetError> {
    Ok(())
}

#[cfg(test)]
mod tests;
