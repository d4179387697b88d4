//! One core: a thread with its own runtime, listener, buffers and connections.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::net::TcpStream as StdStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context as Waiting, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::auth::Grant;
use crate::broadcast::Mailbox;
use crate::connection::memo::Heads;
use crate::connection::respond::{self, Manner, write_date};
use crate::endpoint::{Context, live};
use crate::limits::{
    ACCEPT_BACKOFF, ACCEPT_BATCH, CARRY_BYTES_MAX, CARRY_SMALL_BODY_BYTES, CARRY_SMALL_BYTES_MAX,
    DRAIN_TIMEOUT, KIB, LOPSIDED_CONNECTIONS, MIB, READ_BUFFER_BYTES, STOP_TIMEOUT, SWEEP_INTERVAL,
};
use crate::observe::Counters;
use crate::reject::{Reason, Reject};
use crate::server::answer::refusal;
use crate::server::driver;
use crate::server::tls::{self, Begun, Tls};

/// How far an ordered stop has come; sent to all cores at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// Refuse what is new, finish what began.
    Draining,
}

/// One core's own things; nothing here is seen by another thread.
pub(super) struct Core {
    pub(super) context: Context,
    pub(super) read_buffer: RefCell<Box<[u8]>>,
    pub(super) heads: RefCell<Heads>,
    /// Answers of the read at hand.
    pub(super) out: RefCell<Vec<u8>>,
    pub(super) date: RefCell<String>,
    pub(super) tls: Option<Arc<Tls>>,
    dogs: RefCell<Slab<Rc<Dog>>>,
    draining: Cell<bool>,
    bye: Cell<bool>,
}

/// What a core's thread is started with; all of it may cross threads.
pub(super) struct Seed {
    pub(super) context: Box<dyn FnOnce() -> Context + Send>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) listener: std::net::TcpListener,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) handed: mpsc::Receiver<StdStream>,
    pub(super) peers: Peers,
}

/// The other cores, as the acceptor sees them.
#[derive(Clone)]
pub(super) struct Peers {
    pub(super) own: usize,
    /// Open connections of every core.
    pub(super) loads: Arc<Vec<AtomicUsize>>,
    pub(super) hand: Vec<mpsc::Sender<StdStream>>,
    pub(super) connections_max: usize,
}

/// The thread's whole life.
pub(super) fn run(seed: Seed) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // Nothing that blocks runs on a core; a stray blocking task would share its one thread.
    let runtime = builder
        .enable_all()
        .max_blocking_threads(1)
        .build_local(Default::default())?;
    runtime.block_on(live_through(seed))
}

async fn live_through(seed: Seed) -> std::io::Result<()> {
    let Seed {
        context,
        tls,
        listener,
        mailbox,
        mut phase,
        handed,
        peers,
    } = seed;
    let core = Rc::new(Core::new(context(), tls));
    let listener = TcpListener::from_std(listener)?;
    let accepting = spawn_local(accept(core.clone(), listener, peers.clone()));
    spawn_local(receive_handed(core.clone(), handed, peers.clone()));
    let (last, mut last_seen) = watch::channel(false);
    spawn_local(broadcast(core.clone(), mailbox, last));
    spawn_local(sweep(core.clone()));

    let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
    let began = Instant::now();
    accepting.abort();
    core.draining.set(true);
    core.wake_all();
    // Requests under way may still bring samples; after that the ring is closed for good.
    let quiet = || core.dogs.borrow().iter().all(|(_, dog)| dog.idle.get());
    wait_until(quiet, DRAIN_TIMEOUT).await;
    core.context.intake.borrow_mut().producer = None;
    // The aggregator answers the last closed ring with the last tick.
    let _ = timeout(left(began), last_seen.wait_for(|last| *last)).await;
    core.bye.set(true);
    core.wake_all();
    wait_until(|| core.connections() == 0, left(began)).await;
    Ok(())
}

/// What is left of [`STOP_TIMEOUT`], less a margin for the threads to end.
fn left(began: Instant) -> Duration {
    let end = STOP_TIMEOUT.saturating_sub(Duration::from_millis(500));
    end.saturating_sub(began.elapsed())
}

async fn wait_until(done: impl Fn() -> bool, limit: Duration) {
    let waiting = async {
        while !done() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(limit, waiting).await;
}

impl Core {
    fn new(context: Context, tls: Option<Arc<Tls>>) -> Self {
        let mut date = String::new();
        write_date(&mut date, crate::clock::wall_ms() / 1000);
        Self {
            context,
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
            heads: RefCell::default(),
            out: RefCell::new(Vec::with_capacity(READ_BUFFER_BYTES)),
            date: RefCell::new(date),
            tls,
            dogs: RefCell::default(),
            draining: Cell::new(false),
            bye: Cell::new(false),
        }
    }

    /// Coarse: see [`Context::coarse`].
    pub(super) fn now_ms(&self) -> u64 {
        self.context.coarse.get().mono_ms
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.draining.get()
    }

    /// The last frame was sent: viewers are told to come back.
    pub(super) fn says_bye(&self) -> bool {
        self.bye.get()
    }

    pub(super) fn connections(&self) -> u64 {
        self.dogs.borrow().len() as u64
    }

    /// What a WebSocket that stands may go on with.
    pub(super) fn renew(&self, grant: &Grant) -> Result<Grant, Reject> {
        let now_ms = self.context.coarse.get().wall_ms;
        grant.renew(&self.context.tokens.borrow(), now_ms)
    }

    fn read_clock(&self) {
        self.context.coarse.set(self.context.shared.clock.now());
    }

    fn wake_all(&self) {
        self.dogs.borrow().iter().for_each(|(_, dog)| dog.bark());
    }
}

/// Takes connections in small batches; keeps them or gives them to the least loaded core.
async fn accept(core: Rc<Core>, listener: TcpListener, peers: Peers) {
    loop {
        for _ in 0..ACCEPT_BATCH {
            match listener.accept().await {
                Ok((stream, _)) => settle(&core, stream, &peers),
                Err(error) => {
                    // EMFILE and the like: the connection stays in the backlog, trying at once
                    // again would only burn the core.
                    core.context.counters.accept_errors.add(1);
                    tracing::warn!(%error, "accept failed, resting");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn settle(core: &Rc<Core>, stream: TcpStream, peers: &Peers) {
    if peers.connections_max <= peers.loads.iter().map(|load| load.load(Relaxed)).sum() {
        core.context.counters.refuse(Reason::TooManyConnections);
        return refuse_full(&stream);
    }
    let target = peers.least_loaded();
    if target == peers.own {
        return serve(core, stream, peers);
    }
    let Ok(stream) = stream.into_std() else {
        return;
    };
    peers.loads[target].fetch_add(1, Relaxed);
    let Err(back) = peers.hand[target].try_send(stream) else {
        return core.context.counters.connections_handed.add(1);
    };
    peers.loads[target].fetch_sub(1, Relaxed);
    if let Ok(stream) = TcpStream::from_std(back.into_inner()) {
        serve(core, stream, peers);
    }
}

impl Peers {
    /// This core, unless another has clearly less to do.
    fn least_loaded(&self) -> usize {
        let load = |core: usize| self.loads[core].load(Relaxed);
        let least = (0..self.loads.len())
            .min_by_key(|&core| load(core))
            .unwrap_or(self.own);
        if load(least) + LOPSIDED_CONNECTIONS < load(self.own) {
            least
        } else {
            self.own
        }
    }
}

/// Connections that another core accepted; their load is counted already.
async fn receive_handed(core: Rc<Core>, mut handed: mpsc::Receiver<StdStream>, peers: Peers) {
    while let Some(stream) = handed.recv().await {
        peers.loads[peers.own].fetch_sub(1, Relaxed);
        if let Ok(stream) = TcpStream::from_std(stream) {
            serve(&core, stream, &peers);
        }
    }
}

fn serve(core: &Rc<Core>, stream: TcpStream, peers: &Peers) {
    let counters = &core.context.counters;
    counters.connections_opened.add(1);
    counters.connections.add(1);
    peers.loads[peers.own].fetch_add(1, Relaxed);
    // Answers are whole when written; waiting to merge them would only delay them.
    let _ = stream.set_nodelay(true);
    let (core, loads, own) = (core.clone(), peers.loads.clone(), peers.own);
    spawn_local(async move {
        match &core.tls.clone() {
            Some(tls) => serve_tls(&core, tls, stream).await,
            None => driver::drive(core.clone(), stream).await,
        }
        core.context.counters.connections.sub(1);
        loads[own].fetch_sub(1, Relaxed);
    });
}

async fn serve_tls(core: &Rc<Core>, tls: &Tls, stream: TcpStream) {
    let counters = &core.context.counters;
    match tls::accept(tls, stream).await {
        Begun::Secure(stream) => {
            counters.tls_handshakes.add(1);
            driver::drive(core.clone(), stream).await;
        }
        Begun::Clear(mut stream) => {
            // Best effort: whoever forgot the s in https learns of it.
            let answer = refusal(core, &Reason::TlsRequired.into(), "");
            let mut out = Vec::new();
            let head = respond::Head {
                status: answer.status,
                content_type: answer.content_type,
                length: answer.body.len(),
                fields: &answer.fields,
                date: &core.date.borrow().clone(),
            };
            let manner = Manner {
                head_only: false,
                keep_alive: false,
            };
            respond::head(&mut out, &head, manner);
            out.extend_from_slice(&answer.body);
            let _ = stream.try_write(&out);
            let dog = Watchdog::enrol(core);
            driver::linger(core, &dog, &mut stream).await;
        }
        Begun::Failed => counters.refuse(Reason::TlsHandshake),
    }
}

/// One line, best effort: a peer that connects when all is full learns why.
fn refuse_full(stream: &TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    let _ = stream.try_write(FULL);
}

/// Hands each tick to this core's viewers.
async fn broadcast(core: Rc<Core>, mailbox: Arc<Mailbox>, last: watch::Sender<bool>) {
    loop {
        let (tick, missed) = mailbox.receive().await;
        core.read_clock();
        let context = &core.context;
        let owed = context.hub.deliver(&tick, missed, || core.now_ms()).await;
        for viewer in owed.schema {
            let _ = live::say_schemas(context, &viewer);
        }
        for viewer in owed.hosts {
            let _ = live::say_hosts(context, &viewer);
        }
        if tick.last {
            let _ = last.send(true);
            return;
        }
    }
}

/// After large buffers were freed, or peers have gone with what was held for them: has the
/// allocator give their pages back to the system, which a core at rest never has it do.
#[derive(Default)]
struct Purge {
    carry_bytes: u64,
    peers: u64,
    rounds: u32,
}

impl Purge {
    /// mimalloc's clock is allocations, and a thread's empty pages are that thread's business: it
    /// puts one away after up to 16 times 1,000 allocations, looks through all its pages after
    /// 10,000, and gives back what was put away a second ago when it needs a new page. So each
    /// round allocates a thousand times, some 20 us, and once what needs a page of its own.
    fn look(&mut self, core: &Core) {
        let carry_bytes = core.context.counters.carry_bytes.get();
        let dropped = self.carry_bytes.saturating_sub(carry_bytes);
        self.carry_bytes = carry_bytes;
        let freed = core.context.intake.borrow_mut().rest();
        let peers = core.connections();
        let gone = peers < std::mem::replace(&mut self.peers, peers);
        if freed || gone || MIB as u64 <= dropped {
            self.rounds = PURGE_ROUNDS;
        }
        if 0 < self.rounds && cfg!(feature = "mimalloc") {
            self.rounds -= 1;
            let allocate = |bytes| drop(black_box(Vec::<u8>::with_capacity(bytes)));
            (0..1_000).for_each(|_| allocate(4 * KIB));
            allocate(MIB);
        }
    }
}

/// A page's 16 rounds, the second, and some more: 6 s of sweeps.
const PURGE_ROUNDS: u32 = 24;

/// Reads the clock for the core and looks for connections past their deadline.
async fn sweep(core: Rc<Core>) {
    let mut every = interval(SWEEP_INTERVAL);
    let mut date_s = 0;
    let mut purge = Purge::default();
    loop {
        every.tick().await;
        core.read_clock();
        core.context.refresh_tokens();
        purge.look(&core);
        let now = core.context.coarse.get();
        if date_s != now.wall_ms / 1000 {
            date_s = now.wall_ms / 1000;
            write_date(&mut core.date.borrow_mut(), date_s);
        }
        if let Some(producer) = &core.context.intake.borrow().producer {
            core.context
                .counters
                .ring_high_water
                .set(producer.high_water() as u64);
        }
        let dogs = core.dogs.borrow();
        dogs.iter()
            .filter(|(_, dog)| dog.is_due(now.mono_ms))
            .for_each(|(_, dog)| dog.bark());
    }
}

/// A peer's share of what its core holds of things that are not whole.
pub(super) struct Held {
    counters: Arc<Counters>,
    bytes: u64,
}

impl Held {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        Self {
            counters: counters.clone(),
            bytes: 0,
        }
    }

    /// False: the core holds too much, and this peer is to give way. Small ones may stay longer.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let all = &self.counters.carry_bytes;
        if bytes as u64 != self.bytes {
            all.sub(self.bytes);
            self.bytes = bytes as u64;
            all.add(self.bytes);
        }
        let more = if bytes <= CARRY_SMALL_BODY_BYTES {
            CARRY_SMALL_BYTES_MAX
        } else {
            0
        };
        all.get() <= CARRY_BYTES_MAX + more
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.carry_bytes.sub(self.bytes);
    }
}

/// A connection's deadline, without a timer: the core's sweep looks at all of them four times a
/// second, which costs less than one timer's bookkeeping per request.
pub(super) struct Watchdog {
    core: Rc<Core>,
    key: usize,
    dog: Rc<Dog>,
}

struct Dog {
    deadline_ms: Cell<u64>,
    /// Brings no samples: a stop need not wait for it.
    idle: Cell<bool>,
    barks: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watchdog {
    pub(super) fn enrol(core: &Rc<Core>) -> Self {
        let dog = Rc::new(Dog {
            deadline_ms: Cell::new(u64::MAX),
            idle: Cell::new(false),
            barks: Cell::new(core.is_stopping()),
            waker: RefCell::new(None),
        });
        let key = core.dogs.borrow_mut().insert(dog.clone());
        Self {
            core: core.clone(),
            key,
            dog,
        }
    }

    /// True once after the deadline passed or a stop began. Remembers whom to wake.
    pub(super) fn barked(&self, cx: &Waiting<'_>) -> bool {
        let waker = &mut *self.dog.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        self.dog.barks.replace(false)
    }

    /// No samples come by this connection: an ordered stop does not wait for it.
    pub(super) fn holds_nothing_up(&self) {
        self.dog.idle.set(true);
    }

    pub(super) fn arm(&self, deadline_ms: u64) {
        self.dog.deadline_ms.set(deadline_ms);
    }

    /// Moves the deadline nearer, never away.
    pub(super) fn arm_within(&self, deadline_ms: u64) {
        self.arm(deadline_ms.min(self.dog.deadline_ms.get()));
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.dog.is_due(now_ms)
    }

    /// Different for each connection of a core.
    pub(super) fn number(&self) -> u64 {
        self.key as u64
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.core.dogs.borrow_mut().try_remove(self.key);
    }
}

impl Dog {
    fn is_due(&self, now_ms: u64) -> bool {
        self.deadline_ms.get() <= now_ms
    }

    fn bark(&self) {
        self.barks.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
