//! Simulated dashboards: their connections, and those that never read.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::socket::Socket;
use super::tally::count;
use super::viewer::{Records, Viewer, subscriptions};
use super::worker::{Phase, Worker};
use crate::agent::Via;
use crate::agent::channel::upgrade;
use crate::agent::client::{ClientError, Line};
use crate::agent::stream::Stream;
use crate::agent::websocket::{self, Kind, Messages, VIEWER_MESSAGE_BYTES_MAX};
use crate::backoff::Backoff;
use crate::limits::READ_BUFFER_BYTES;
use crate::rng::Rng;

const PATH: &str = "/api/live";
const PROTOCOL: &str = "tidewall.v1";
/// What a frozen viewer's kernel takes before the server notices.
const FROZEN_RECEIVE_BUFFER_BYTES: usize = 4_096;

/// Keeps one viewer connected; `n` is its number among all connections.
pub(super) async fn keep(worker: Rc<Worker>, own: usize, n: usize) {
    worker.turn(n).await;
    let shared = worker.shared.clone();
    let (mut backoff, mut rng) = (Backoff::default(), Rng::random());
    let mut first = true;
    while !worker.is_over() {
        let connected = connect(&worker, n, &mut rng).await;
        if std::mem::take(&mut first) {
            shared.tried.fetch_add(1, Ordering::Relaxed);
        }
        let (error, asked) = match connected {
            Ok((stream, carry)) => {
                backoff.reset();
                shared.viewers_up.fetch_add(1, Ordering::Relaxed);
                worker.tally().viewers[own].connected = true;
                let (error, asked) = watch(&worker, own, stream, carry, &mut rng).await;
                shared.viewers_up.fetch_sub(1, Ordering::Relaxed);
                let mut tally = worker.tally();
                tally.viewers[own].reconnects += 1;
                let kind = match &error {
                    ClientError::WebSocketClosed(code) => format!("close {code}"),
                    other => other.kind().to_owned(),
                };
                count(&mut tally.viewer_closes, &kind, 1);
                (error, asked)
            }
            Err(error) => {
                worker.count_failure(&error);
                (error, None)
            }
        };
        let asked = asked.or(error.retry_after());
        sleep(backoff.next(&mut rng, asked)).await;
    }
}

/// Connects and asks for every view.
async fn connect(
    worker: &Worker,
    n: usize,
    rng: &mut Rng,
) -> Result<(Stream, Vec<u8>), ClientError> {
    // Whatever the servers speak.
    let line = Line {
        via: Via::Websocket,
        ..worker.shared.plan.line.clone()
    };
    let mut stream = worker.dial(n, &line).await?;
    let mut carry = Vec::new();
    let (path, token) = (line.target.path(PATH), line.token.as_deref());
    let protocol = Some(PROTOCOL);
    upgrade(
        &mut stream,
        &mut carry,
        &line.target,
        &path,
        token,
        protocol,
    )
    .await?;
    let mut out = Vec::new();
    for text in subscriptions() {
        websocket::write(&mut out, Kind::Text, text.as_bytes(), rng.mask());
    }
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok((stream, carry))
}

/// Reads frames until the connection ends; why it did, and how long to stay away.
async fn watch(
    worker: &Worker,
    own: usize,
    stream: Stream,
    carry: Vec<u8>,
    rng: &mut Rng,
) -> (ClientError, Option<Duration>) {
    let socket = Socket::new(stream);
    let mut viewer = Viewer::new();
    let mut messages = Messages::default();
    let mut scratch = Vec::new();
    let error = worker
        .listen(&socket, carry, |bytes| {
            let now = Instant::now();
            let mut tally = worker.tally();
            let records = &mut Records {
                own,
                now,
                now_us: worker.us(now),
                tally: &mut tally,
                probes: &worker.shared.probes,
            };
            scratch.clear();
            let mut at = 0;
            loop {
                let (message, taken) = messages.next(&bytes[at..], VIEWER_MESSAGE_BYTES_MAX)?;
                at += taken;
                records.tally.viewers[own].bytes += taken as u64;
                match message {
                    None => break,
                    Some((Kind::Binary, frame)) => {
                        if let Some(id) = viewer.frame(frame, records) {
                            let text = format!("{{\"op\":\"resync\",\"id\":{id}}}");
                            let mask = rng.mask();
                            websocket::write(&mut scratch, Kind::Text, text.as_bytes(), mask);
                        }
                    }
                    Some((Kind::Text, text)) => viewer.text(text, records),
                    Some((Kind::Ping, payload)) => {
                        websocket::write(&mut scratch, Kind::Pong, payload, rng.mask());
                    }
                    Some((Kind::Close, payload)) => {
                        let code = websocket::close_code(payload);
                        return Err(ClientError::WebSocketClosed(code));
                    }
                    Some((Kind::Pong, _)) => {}
                }
            }
            if let Some(text) = viewer.acknowledgement(now) {
                websocket::write(&mut scratch, Kind::Text, text.as_bytes(), rng.mask());
            }
            if !scratch.is_empty() {
                socket.put(&scratch);
            }
            Ok(at)
        })
        .await;
    (error, viewer.retry)
}

/// A viewer that subscribes and never reads, to see that it harms nobody.
pub(super) async fn freeze(worker: Rc<Worker>, n: usize) {
    worker.turn(n).await;
    let connected = connect(&worker, n, &mut Rng::random()).await;
    worker.shared.tried.fetch_add(1, Ordering::Relaxed);
    let stream = match connected {
        Ok((stream, _)) => stream,
        Err(error) => return worker.count_failure(&error),
    };
    worker.tally().frozen_connected += 1;
    // Failing leaves the kernel's default: it freezes a little later.
    let _ = socket2::SockRef::from(stream.tcp()).set_recv_buffer_size(FROZEN_RECEIVE_BUFFER_BYTES);
    let mut phases = worker.shared.phases.clone();
    let ended = phases
        .wait_for(|phase| matches!(phase, Phase::Drain | Phase::Stop))
        .await;
    drop(ended);
    if is_closed(stream.tcp()).await {
        worker.tally().frozen_closed += 1;
    }
}

/// Whether the server ended the connection, looked at behind everything it had sent.
async fn is_closed(stream: &TcpStream) -> bool {
    let mut rest = vec![0; READ_BUFFER_BYTES];
    let end = async {
        loop {
            if stream.readable().await.is_err() {
                return;
            }
            match stream.try_read(&mut rest) {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    };
    // What was sent waits in this machine or comes at once.
    tokio::time::timeout(Duration::from_millis(500), end)
        .await
        .is_ok()
}
