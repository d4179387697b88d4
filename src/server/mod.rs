//! Boot, and its mirror, stop.

mod answer;
mod core;
mod driver;
pub mod http2;
mod listener;
mod sockets;
pub mod tls;
pub mod wire;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::aggregator::{self, Inputs};
use crate::auth::Origins;
use crate::broadcast::{Hub, Mailbox};
use crate::catalog::Catalog;
use crate::catalog::lookup::Lookup;
use crate::clock::Clock;
use crate::cluster::service::{self as cluster, Joined};
use crate::config::{Settings, SettingsError};
use crate::endpoint::ingest::Intake;
use crate::endpoint::{Context, Shared};
use crate::frame::views::Views;
use crate::history::service::{self, Kept, OpenError, Report};
use crate::limits::{
    CLUSTER_NODE_BYTES_MAX, HANDOVER_QUEUE, QUESTIONS_MAX, RING_CAPACITY, STOP_TIMEOUT,
};
use crate::ring::{Producer, ring};
use crate::server::core::{Peers, Phase, Seed};
use crate::server::tls::{Tls, TlsError};

type Thread = JoinHandle<io::Result<()>>;

/// A node that runs. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    pub address: SocketAddr,
    /// What history's directory told; none: nothing is kept.
    pub report: Option<Report>,
    phase: watch::Sender<Phase>,
    stopping: Arc<AtomicBool>,
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    settings: Settings,
    tls: Option<Arc<Tls>>,
}

/// Why a node did not start, or did not take its files again.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "--history {0}; give each node a directory of its own by --history sqlite:DIR, or keep \
         none by --history none"
    )]
    History(#[from] OpenError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What each core gets a share of.
struct Parts {
    producers: Vec<Producer>,
    listeners: Vec<std::net::TcpListener>,
    connections_max: usize,
    tls: Option<Arc<Tls>>,
}

impl Server {
    /// Binds, starts every thread, and gives back a node that answers.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        let cores = settings.cores;
        let tokens = settings.read_tokens()?;
        let tls = settings.identity.clone().map(Tls::new).transpose()?;
        let tls = tls.map(Arc::new);
        let connections_max = listener::raise_open_files();
        let (address, listeners) = listener::bind(settings.listen, cores)?;
        let (questions, asked) = sync_channel(QUESTIONS_MAX);
        let (clock, catalog) = (Clock::start(), Catalog::new());
        let kept = keep_history(settings, address.port(), &catalog, clock)?;
        let joined = join_cluster(settings, address.port(), &catalog, clock)?;
        let shared = Arc::new(Shared {
            clock,
            catalog,
            history: kept.access,
            cluster: joined.access,
            views: Views::new(),
            questions,
            cores: one_a_core(cores),
            aggregated: Arc::default(),
            origins: Origins::new(settings.allow_origin.clone()),
            tokens: RwLock::new(Arc::new(tokens)),
            secure: tls.is_some(),
            tick_ms: settings.tick_ms(),
            boot: boot_id(),
            stopping: AtomicBool::new(false),
        });
        let mailboxes: Vec<Arc<Mailbox>> = one_a_core(cores);
        let (producers, rings) = (0..cores).map(|_| ring(RING_CAPACITY)).unzip();
        let stopping = Arc::new(AtomicBool::new(false));
        let inputs = Inputs {
            rings,
            catalog: shared.catalog.clone(),
            views: shared.views.clone(),
            mailboxes: mailboxes.clone(),
            questions: asked,
            clock: shared.clock,
            tick: settings.tick,
            aggregated: shared.aggregated.clone(),
            stop: stopping.clone(),
            history: kept.feed,
            cluster: joined.feed,
        };
        let (phase, _) = watch::channel(Phase::Serving);
        let aggregate = move || {
            aggregator::run(inputs);
            Ok(())
        };
        let mut threads = vec![spawn("aggregator", None, aggregate)?];
        let parts = Parts {
            producers,
            listeners,
            connections_max,
            tls: tls.clone(),
        };
        let seeds = seeds(&shared, parts, &mailboxes, &phase);
        threads.append(&mut spawn_cores(seeds, &settings.pins)?);
        threads.extend(kept.threads);
        threads.extend(joined.thread);
        Ok(Self {
            report: kept.report,
            address,
            phase,
            stopping,
            shared,
            threads,
            settings: settings.clone(),
            tls,
        })
    }

    /// Reads the certificate again, if there is one; one that cannot be read changes nothing.
    pub fn reload_certificate(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// The same for the tokens.
    pub fn reload_tokens(&self) -> Result<(), SettingsError> {
        self.shared.set_tokens(self.settings.read_tokens()?);
        Ok(())
    }

    /// Not ready any more, and all else as before: what a balancer must see before a stop.
    pub fn announce_stop(&self) {
        self.shared.stopping.store(true, Relaxed);
    }

    /// Refuse, drain, last frame, `bye`; done within [`crate::limits::STOP_TIMEOUT`].
    pub fn stop(self) -> io::Result<()> {
        self.announce_stop();
        self.stopping.store(true, Relaxed);
        // No receiver: every core has ended already, and its result says why.
        let _ = self.phase.send(Phase::Draining);
        // Threads end by themselves before that; one that hangs must not hold the process.
        let until = Instant::now() + STOP_TIMEOUT;
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or("a thread").to_owned();
            while !thread.is_finished() {
                if until < Instant::now() {
                    return Err(io::Error::other(format!("{name} did not end in time")));
                }
                thread::sleep(Duration::from_millis(2));
            }
            thread
                .join()
                .map_err(|_| io::Error::other(format!("{name} panicked")))??;
        }
        self.shared.close_the_books();
        Ok(())
    }

    /// The ledger and all other counters, as `/metrics` reads them.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Nobody named the default directory: where another node has it, this one takes its own.
fn keep_history(
    settings: &Settings,
    port: u16,
    catalog: &Arc<Catalog>,
    clock: Clock,
) -> Result<Kept, OpenError> {
    let Some(plan) = &settings.history else {
        return Ok(Kept::default());
    };
    let mut plan = plan.clone();
    let cores = settings.cores;
    let started = service::start(&plan, Arc::clone(catalog), clock, cores);
    match started {
        Err(OpenError::Taken(taken)) if plan.may_move => {
            let name = format!("{}-{port}", plan.dir.display());
            tracing::warn!(taken = %taken.display(), %name, "another node has it: history goes to");
            plan.dir = name.into();
            service::start(&plan, Arc::clone(catalog), clock, cores)
        }
        started => started,
    }
}

/// Under the name of this machine and the port, unless another is given.
fn join_cluster(
    settings: &Settings,
    port: u16,
    catalog: &Arc<Catalog>,
    clock: Clock,
) -> io::Result<Joined> {
    let Some(plan) = &settings.cluster else {
        return Ok(Joined::default());
    };
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let machine: String = machine
        .chars()
        .map(plain)
        .take(CLUSTER_NODE_BYTES_MAX - ":65535".len())
        .collect();
    let node = format!("{machine}:{port}");
    cluster::start(plan, &node, catalog, clock, settings.tick)
}

fn seeds(
    shared: &Arc<Shared>,
    parts: Parts,
    mailboxes: &[Arc<Mailbox>],
    phase: &watch::Sender<Phase>,
) -> Vec<Seed> {
    let Parts {
        producers,
        listeners,
        connections_max,
        tls,
    } = parts;
    let cores = listeners.len();
    let (hand, handed): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| mpsc::channel(HANDOVER_QUEUE)).unzip();
    let loads: Arc<Vec<AtomicUsize>> = Arc::new((0..cores).map(|_| AtomicUsize::new(0)).collect());
    let parts = producers
        .into_iter()
        .zip(listeners)
        .zip(handed)
        .zip(mailboxes);
    let seed = |(own, (((producer, listener), handed), mailbox))| {
        let own: usize = own;
        let context = context(shared.clone(), own, producer);
        let (hand, loads) = (hand.clone(), loads.clone());
        let peers = Peers {
            own,
            loads,
            hand,
            connections_max,
        };
        let (mailbox, phase) = (Arc::clone(mailbox), phase.subscribe());
        Seed {
            context: Box::new(context),
            tls: tls.clone(),
            listener,
            mailbox,
            phase,
            handed,
            peers,
        }
    };
    parts.enumerate().map(seed).collect()
}

/// Made on the core's own thread: what is in it does not cross threads.
fn context(shared: Arc<Shared>, own: usize, producer: Producer) -> impl FnOnce() -> Context + Send {
    move || {
        let counters = shared.cores[own].clone();
        let lookup = Lookup::new(shared.catalog.clone());
        let context = Context {
            core: own,
            hub: Hub::new(counters.clone()),
            intake: Intake::new(producer, lookup).into(),
            coarse: shared.clock.now().into(),
            tokens: RefCell::default(),
            counters,
            shared,
        };
        context.refresh_tokens();
        context
    }
}

fn one_a_core<T: Default>(cores: usize) -> Vec<Arc<T>> {
    (0..cores).map(|_| Arc::default()).collect()
}

fn spawn_cores(seeds: Vec<Seed>, pins: &[CoreId]) -> io::Result<Vec<Thread>> {
    let spawn_core = |(number, seed)| {
        let (pin, name) = (pins.get(number).copied(), format!("core-{number}"));
        spawn(&name, pin, move || core::run(seed))
    };
    seeds.into_iter().enumerate().map(spawn_core).collect()
}

fn spawn(
    name: &str,
    pin: Option<CoreId>,
    life: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<Thread> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(cpu) = pin
            && !core_affinity::set_for_current(cpu)
        {
            tracing::warn!(cpu = cpu.id, "could not pin, running unpinned");
        }
        life()
    })
}

/// Eight bytes that no earlier start of this node had.
fn boot_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!(
        "{:016x}",
        RandomState::new().hash_one(crate::clock::wall_ms())
    )
}
