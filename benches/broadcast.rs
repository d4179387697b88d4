//! One tick to all viewers of a core, from the hub's first look at it until the last of them has
//! read its frame.
//!
//! Beside it in the same run stands the floor: `send` of the same bytes to the same sockets in a
//! plain loop, and the same reads. Viewers acknowledge each frame, outside of the measured time as
//! the floor has nothing like it. Smoke: `cargo bench --bench broadcast -- --test`.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::net::{TcpListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustix::net::SendFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tidewall::broadcast::Hub;
use tidewall::broadcast::viewer::{Dialect, Viewer};
use tidewall::frame::view::{Format, View};
use tidewall::frame::views::Views;
use tidewall::frame::{Frame, Tick, websocket};
use tidewall::limits::VIEWER_SEND_BUFFER_BYTES;
use tidewall::observe::Counters;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::runtime::Runtime;

const VIEWERS: usize = 500;
const VIEWERS_SMOKE: usize = 8;
/// A map of 10,000 hosts of which one in a hundred moved costs about as much.
const FRAME_BYTES: usize = 2_048;
/// What each viewer calls its only view.
const ID: u32 = 1;
/// Nothing here waits for time to pass.
const NOW_MS: u64 = 1_000;

struct Wall {
    runtime: Runtime,
    hub: Hub,
    counters: Arc<Counters>,
    viewers: Vec<Rc<Viewer>>,
    sockets: Vec<Rc<OwnedWriteHalf>>,
    peers: Vec<StdStream>,
    /// Number of the one view that all watch.
    view: u32,
    frame: Bytes,
    seq: u32,
    received: Vec<u8>,
}

impl Wall {
    fn new(count: usize) -> Wall {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let counters: Arc<Counters> = Arc::default();
        let payload: Vec<u8> = (0..FRAME_BYTES - 4).map(|i| i as u8).collect();
        let mut wall = Wall {
            runtime,
            hub: Hub::new(counters.clone()),
            counters,
            viewers: Vec::new(),
            sockets: Vec::new(),
            peers: Vec::new(),
            view: 0,
            frame: websocket::binary_frame(&payload),
            seq: 0,
            received: vec![0; FRAME_BYTES],
        };
        assert_eq!(wall.frame.len(), FRAME_BYTES);
        let (listener, views) = (TcpListener::bind("127.0.0.1:0").unwrap(), Views::new());
        for _ in 0..count {
            wall.join(&listener, &views);
        }
        // A first frame is a KEY, whatever it holds.
        wall.deliver();
        wall
    }

    /// One more viewer, its socket set up as the server does.
    fn join(&mut self, listener: &TcpListener, views: &Arc<Views>) {
        let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        let sized = socket2::SockRef::from(&stream).set_send_buffer_size(VIEWER_SEND_BUFFER_BYTES);
        sized.unwrap();
        let socket = self.runtime.block_on(async {
            let (_, socket) = TcpStream::from_std(stream).unwrap().into_split();
            socket.writable().await.unwrap();
            Rc::new(socket)
        });
        let counters = self.counters.clone();
        let viewer = Viewer::new(
            socket.clone(),
            views.clone(),
            counters,
            Dialect::Binary,
            NOW_MS,
        );
        let map = json!({"kind": "map", "metric": "cpu"});
        let view = View::parse(&map, Format::Binary).unwrap();
        self.view = viewer.subscribe(ID, view).unwrap().number;
        let viewer = Rc::new(viewer);
        self.hub.join(viewer.clone());
        self.viewers.push(viewer);
        self.sockets.push(socket);
        self.peers.push(peer);
    }

    fn tick(&mut self) -> Tick {
        let (base_seq, bytes) = (self.seq, Some(self.frame.clone()));
        self.seq += 1;
        let (key, delta) = if base_seq == 0 {
            (bytes, None)
        } else {
            (None, bytes)
        };
        let frame = Frame {
            view: self.view,
            seq: self.seq,
            base_seq,
            key,
            delta,
        };
        Tick {
            tick: u64::from(self.seq),
            frames: vec![frame],
            ..Tick::default()
        }
    }

    /// Gives the time until every viewer has read its frame.
    fn deliver(&mut self) -> Duration {
        let tick = self.tick();
        let started = Instant::now();
        self.runtime.block_on(self.hub.deliver(&tick, 0, || NOW_MS));
        self.receive();
        let took = started.elapsed();
        for viewer in &self.viewers {
            viewer.acknowledge(ID, self.seq, NOW_MS).unwrap();
        }
        took
    }

    fn send(&mut self) -> Duration {
        let started = Instant::now();
        for socket in &self.sockets {
            let sent = rustix::net::send((**socket).as_ref(), &self.frame, SendFlags::NOSIGNAL);
            assert_eq!(sent, Ok(FRAME_BYTES));
        }
        self.receive();
        started.elapsed()
    }

    fn receive(&mut self) {
        for peer in &mut self.peers {
            peer.read_exact(&mut self.received).unwrap();
        }
        assert_eq!(self.received, self.frame);
    }
}

fn broadcast(c: &mut Criterion) {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let count = if smoke { VIEWERS_SMOKE } else { VIEWERS };
    // Two sockets a viewer, with some to spare.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    let mut wall = Wall::new(count);
    let mut group = c.benchmark_group(format!("broadcast_{count}"));
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("hub", |b| {
        b.iter_custom(|times| (0..times).map(|_| wall.deliver()).sum());
    });
    group.bench_function("send", |b| {
        b.iter_custom(|times| (0..times).map(|_| wall.send()).sum());
    });
    group.finish();
    let frames = u64::from(wall.seq) * count as u64;
    assert_eq!(wall.counters.frames_sent.get(), frames, "none was skipped");
}

criterion_group!(benches, broadcast);
criterion_main!(benches);
