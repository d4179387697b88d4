//! One thread of the fleet: its runtime, its share of servers and viewers.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::body::{Host, roster};
use super::probe::{self, ProbeLog};
use super::servers::Servers;
use super::socket::Socket;
use super::tally::{Tally, count};
use super::viewers;
use crate::agent::Via;
use crate::agent::client::{ClientError, Line};
use crate::agent::stream::{self, Stream};
use crate::agent::websocket::VIEWER_MESSAGE_BYTES_MAX;
use crate::limits::{FLEET_SERVERS_PER_CONNECTION, READ_BUFFER_BYTES};

/// What every thread of the fleet does next; only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    /// Send what is due, up to [`Shared::end`].
    Run {
        start: Instant,
    },
    /// The time is over; what was due, answers and frames still count.
    Drain,
    Stop,
}

/// What was asked for, checked.
pub(crate) struct Plan {
    pub(crate) line: Line,
    pub(crate) address: SocketAddr,
    pub(crate) servers: usize,
    pub(crate) viewers: usize,
    pub(crate) frozen: usize,
    pub(crate) every: Duration,
    pub(crate) metrics: usize,
    /// Remember what was sent of every series.
    pub(crate) sums: bool,
    /// Local addresses to connect from; empty: the kernel chooses.
    pub(crate) sources: Vec<IpAddr>,
    /// Of names.
    pub(crate) prefix: String,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    /// Connections opened per second.
    pub(crate) ramp: u32,
}

impl Plan {
    pub(crate) fn connections(&self) -> usize {
        self.server_connections() + self.viewers + self.frozen
    }

    pub(super) fn hosts(&self) -> Vec<Host> {
        roster(self.servers, self.seed, &self.prefix)
    }

    /// By HTTP/2, servers of one thread share them.
    pub(crate) fn server_connections(&self) -> usize {
        if self.line.via != Via::Http2 {
            return self.servers;
        }
        (0..self.threads)
            .map(|thread| self.share(thread, self.servers).len())
            .map(|servers| servers.div_ceil(FLEET_SERVERS_PER_CONNECTION))
            .sum()
    }

    /// A thread's part of things numbered 0..n.
    fn share(&self, thread: usize, n: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        (thread..n).step_by(self.threads)
    }

    /// Time to open them all.
    pub(crate) fn ramp_time(&self) -> Duration {
        Duration::from_secs_f64(self.connections() as f64 / f64::from(self.ramp))
    }
}

/// The same for all threads.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) origin: Instant,
    pub(super) phases: watch::Receiver<Phase>,
    /// Microseconds since the origin; nothing is due from here on. Moves back on an interrupt.
    pub(super) end_us: AtomicU64,
    /// Threads that still have requests to send.
    pub(super) scheduling: AtomicUsize,
    pub(super) probes: ProbeLog,
    /// Connections tried at least once.
    pub(super) tried: AtomicUsize,
    pub(super) servers_up: AtomicUsize,
    pub(super) viewers_up: AtomicUsize,
    /// The first connection that did not come about, in full words.
    pub(super) failure: OnceLock<String>,
    /// What was sent, a line a series.
    pub(super) sums: Mutex<String>,
}

impl Shared {
    pub(super) fn say_sums(&self, lines: &str) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.push_str(lines);
    }
}

/// One thread's own.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    tally: Arc<Mutex<Tally>>,
    /// What is read lands here, whoever reads; a connection keeps only what was cut off.
    buffer: RefCell<Vec<u8>>,
}

/// The thread's whole life.
pub(super) fn run(index: usize, shared: Arc<Shared>, tally: Arc<Mutex<Tally>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    // Never written past what was read, so unused pages of it cost nothing.
    let bytes = match shared.plan.viewers {
        0 => READ_BUFFER_BYTES,
        _ => VIEWER_MESSAGE_BYTES_MAX + READ_BUFFER_BYTES,
    };
    let worker = Rc::new(Worker {
        index,
        shared,
        tally,
        buffer: RefCell::new(vec![0; bytes]),
    });
    runtime.block_on(worker.work());
    Ok(())
}

impl Worker {
    async fn work(self: Rc<Self>) {
        let plan = &self.shared.plan;
        let servers = Servers::new(&self);
        servers.spawn();
        let before = plan.server_connections();
        for (own, n) in self.share(plan.viewers).enumerate() {
            spawn_local(viewers::keep(self.clone(), own, before + n));
        }
        for n in self.share(plan.frozen) {
            let number = before + plan.viewers + n;
            spawn_local(viewers::freeze(self.clone(), number));
        }
        if self.index == 0 && plan.viewers > 0 {
            let worker = self.clone();
            spawn_local(async move { probe::run(&worker).await });
        }
        let mut phases = self.shared.phases.clone();
        // An error: the one who orders phases is gone, which is an order to stop.
        let _ = phases.wait_for(|phase| *phase == Phase::Stop).await;
        servers.abandon();
    }

    /// This thread's part of things numbered 0..n.
    pub(super) fn share(&self, n: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        self.shared.plan.share(self.index, n)
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the run's origin.
    pub(super) fn us(&self, then: Instant) -> u64 {
        probe::us_since(self.shared.origin, then)
    }

    /// When nothing is due any more; `None`: not foreseen.
    pub(super) fn end(&self) -> Option<Instant> {
        match self.shared.end_us.load(Ordering::Relaxed) {
            u64::MAX => None,
            end_us => Some(self.shared.origin + Duration::from_micros(end_us)),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.end().is_some_and(|end| Instant::now() >= end)
    }

    /// Until it is connection `n`'s turn to connect.
    pub(super) async fn turn(&self, n: usize) {
        let wait = Duration::from_secs_f64(n as f64 / f64::from(self.shared.plan.ramp));
        tokio::time::sleep_until((self.shared.origin + wait).into()).await;
    }

    /// Connection `n`, to speak what the line says.
    pub(super) async fn dial(&self, n: usize, line: &Line) -> Result<Stream, ClientError> {
        let sources = &self.shared.plan.sources;
        let source = (!sources.is_empty()).then(|| sources[n % sources.len()]);
        let tcp = stream::dial_address(self.shared.plan.address, source).await?;
        Stream::over(tcp, line).await
    }

    pub(super) fn count_failure(&self, error: &ClientError) {
        let mut tally = self.tally();
        count(&mut tally.requests.connect_failures, error.kind(), 1);
        self.shared.failure.get_or_init(|| error.to_string());
    }

    /// Reads until the connection ends. `handle` gets all that is there and says how much of it it
    /// is done with; it runs in the same poll as the read.
    pub(super) async fn listen(
        &self,
        socket: &Socket,
        mut carry: Vec<u8>,
        mut handle: impl FnMut(&[u8]) -> Result<usize, ClientError>,
    ) -> ClientError {
        let given = Cell::new(!carry.is_empty());
        let listening = std::future::poll_fn(|cx| {
            loop {
                let mut buffer = self.buffer.borrow_mut();
                let kept = carry.len();
                let Some(room) = buffer.get_mut(kept..).filter(|room| !room.is_empty()) else {
                    return Poll::Ready(Err::<(), _>(ClientError::Closed));
                };
                // What came behind a handshake is handled before anything is waited for.
                let count = if given.take() {
                    0
                } else {
                    let mut space = ReadBuf::new(room);
                    ready!(socket.poll_read(cx, &mut space))?;
                    match space.filled().len() {
                        0 => return Poll::Ready(Err(ClientError::Closed)),
                        count => count,
                    }
                };
                buffer[..kept].copy_from_slice(&carry);
                let bytes = &buffer[..kept + count];
                let done = handle(bytes)?;
                carry.clear();
                carry.extend_from_slice(&bytes[done..]);
            }
        });
        match listening.await {
            Ok(()) => ClientError::Closed,
            Err(error) => error,
        }
    }
}
