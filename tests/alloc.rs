//! Once warm, a sample costs no allocation: neither where it comes in nor where it is folded. A
//! binary of its own, since it counts by a global allocator.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "an allocator cannot be written without; a test that panics has said it all"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use tidewall::config::Settings;
use tidewall::server::Server;

/// The system's allocator; counts per kind of thread while [`MEASURES`] is set.
struct Counting;

static MEASURES: AtomicBool = AtomicBool::new(false);
static ON_CORES: AtomicU64 = AtomicU64::new(0);
static ON_AGGREGATOR: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came, and so does its answer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: `at` came from the system's allocator with this layout, as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from the system's allocator with this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Every thread runs before anything is measured: a thread that begins has no name to ask for yet.
fn note() {
    if !MEASURES.load(SeqCst) {
        return;
    }
    match thread::current().name() {
        Some("aggregator") => drop(ON_AGGREGATOR.fetch_add(1, SeqCst)),
        Some(name) if name.starts_with("core-") => drop(ON_CORES.fetch_add(1, SeqCst)),
        _ => {}
    }
}

/// What `work` makes the server's cores, and its aggregator, allocate.
fn allocations(work: impl FnOnce()) -> (u64, u64) {
    for counter in [&ON_CORES, &ON_AGGREGATOR] {
        counter.store(0, SeqCst);
    }
    MEASURES.store(true, SeqCst);
    work();
    MEASURES.store(false, SeqCst);
    (ON_CORES.load(SeqCst), ON_AGGREGATOR.load(SeqCst))
}

const PATIENCE: Duration = Duration::from_secs(20);
const SAMPLES: u64 = 10;
const WARM_UP: u64 = 50;
const MEASURED: u64 = 500;

/// The full shape, with all that names and hosts may carry.
fn document() -> String {
    let metrics: Vec<String> = (0..SAMPLES)
        .map(|i| format!("\"disk.used{{device=sd{i},mount=/srv/{i},kind=ssd}}\":{i}.25"))
        .collect();
    let metrics = metrics.join(",");
    let tags = format!(r#"{{"dc":"fra","role":"web","note":"{}"}}"#, "n".repeat(99));
    let ids = r#""host":"web-1","time":1763918083000,"sent_at":1763918083000,"seq":7"#;
    format!("{{{ids},\"tags\":{tags},\"metrics\":{{{metrics}}}}}")
}

/// A node of one core whose next tick is an hour away: what a tick allocates is no sample's.
fn start() -> Server {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        cores: 1,
        tick: Duration::from_secs(3600),
        drain: Duration::ZERO,
        allow_origin: Vec::new(),
        tokens: None,
        identity: None,
        history: None,
        cluster: None,
        pins: Vec::new(),
    };
    Server::start(&settings).unwrap()
}

/// A client that allocates nothing once it is connected.
struct Peer {
    stream: TcpStream,
    answer: [u8; 1024],
}

impl Peer {
    fn connect(server: &Server) -> Peer {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let answer = [0; 1024];
        Peer { stream, answer }
    }

    /// Sends, and reads until the answer ends with `end`; gives the answer.
    fn ask(&mut self, request: &[u8], end: &[u8]) -> &[u8] {
        self.stream.write_all(request).unwrap();
        let mut have = 0;
        while !self.answer[..have].ends_with(end) {
            let read = self.stream.read(&mut self.answer[have..]).unwrap();
            assert_ne!(read, 0, "closed, or an answer of another form");
            have += read;
        }
        &self.answer[..have]
    }
}

/// Sends until warm, then counts: the whole way of a sample, until the last one is folded.
fn check(server: &Server, peer: &mut Peer, request: &[u8], starts: &[u8], ends: &[u8]) {
    let mut sent = server.shared().aggregated.samples.get();
    let mut send = |requests: u64| {
        for _ in 0..requests {
            let answer = peer.ask(request, ends);
            assert!(answer.starts_with(starts), "{}", answer.escape_ascii());
        }
        sent += requests * SAMPLES;
        let until = Instant::now() + PATIENCE;
        while server.shared().aggregated.samples.get() != sent {
            assert!(Instant::now() < until, "{sent} samples are not folded");
            thread::sleep(Duration::from_millis(1));
        }
    };
    send(WARM_UP);
    let counted = allocations(|| send(MEASURED));
    assert_eq!(counted, (0, 0), "on cores and on the aggregator");
}

/// One test, since the counters are the process's: with two, the harness would start the second's
/// thread while the first one counts.
#[test]
fn steady_ingest_allocates_nothing() {
    let (server, body) = (start(), document());
    posts(&server, &body);
    messages(&server, &body);
    other_requests_are_counted(&server);
    server.stop().unwrap();
}

fn posts(server: &Server, body: &str) {
    let mut peer = Peer::connect(server);
    let head = "POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let (starts, ends) = (b"HTTP/1.1 201 ", b"{\"accepted\":10}");
    check(server, &mut peer, request.as_bytes(), starts, ends);
}

fn messages(server: &Server, body: &str) {
    let mut peer = Peer::connect(server);
    let upgrade = b"GET /api/metrics HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    peer.ask(upgrade, b"\r\n\r\n");
    // FIN and text, an extended length, a mask of zeros: the payload goes as it is.
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[0x81, 0x80 | 126], &length[..], &[0; 4], body.as_bytes()].concat();
    let ends = b"\"sent_at\":1763918083000}";
    check(server, &mut peer, &message, b"\x81", ends);
}

/// The rest means something only if the counters see both kinds of threads.
fn other_requests_are_counted(server: &Server) {
    let mut peer = Peer::connect(server);
    let ask = b"GET /api/hosts HTTP/1.1\r\nHost: x\r\n\r\n";
    let (on_cores, on_aggregator) = allocations(|| {
        peer.ask(ask, b"}");
    });
    assert!(
        0 < on_cores && 0 < on_aggregator,
        "{on_cores} and {on_aggregator}"
    );
}
