//! One connection to one server: opened, spoken to, and ended, each within its time.
//!
//! The stream under the redis crate is ours. So TLS is the one that the rest of the program has,
//! the reason why a connection ended is known (the crate says only that it did), what waits to be
//! parsed has a bound (the crate has none), and the task that drives it ends with it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisResult, Value,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::LinkError;
use super::target::{Host, Target};
use crate::limits::{
    CLUSTER_CHECK_INTERVAL, CLUSTER_COMMAND_TIMEOUT, CLUSTER_CONNECT_TIMEOUT,
    CLUSTER_KEYFRAME_TIMEOUT, CLUSTER_MESSAGE_BYTES_MAX, CLUSTER_UNPARSED_BYTES_MAX,
};

/// A message, and when it came: whoever reads it may be late.
#[derive(Debug)]
pub struct Arrived {
    pub message: Bytes,
    at: Instant,
}

impl Arrived {
    fn now(message: Vec<u8>) -> Self {
        Self {
            message: Bytes::from(message),
            at: Instant::now(),
        }
    }

    pub fn since_ms(&self) -> u64 {
        self.at.elapsed().as_millis() as u64
    }
}

/// What all connections of a link have in common: whether it still lives, and what came.
pub(super) struct Pulse {
    /// The first thing that went wrong; the rest follows from it.
    fault: OnceLock<LinkError>,
    broken: Notify,
    inbox: Sender<Arrived>,
    dropped: AtomicU64,
}

impl Pulse {
    pub(super) fn new(inbox: Sender<Arrived>) -> Arc<Pulse> {
        Arc::new(Pulse {
            fault: OnceLock::new(),
            broken: Notify::new(),
            inbox,
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) fn fault(&self) -> Result<(), LinkError> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    pub(super) async fn broken(&self) -> LinkError {
        loop {
            // One permit is kept for a waiter that comes late or was dropped, so none is missed.
            let notified = self.broken.notified();
            if let Some(fault) = self.fault.get() {
                return fault.clone();
            }
            notified.await;
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn fail(&self, fault: LinkError) {
        if self.fault.set(fault).is_ok() {
            self.broken.notify_one();
        }
    }

    /// Called while the connection reads: it must not wait. A gap heals by a keyframe, so a message
    /// without room is dropped and the link kept; a new link would miss more.
    fn take(&self, push: PushInfo, host: &str) {
        match push.kind {
            PushKind::Message | PushKind::SMessage => self.deliver(push.data),
            // Never asked for. A shard says it of a slot that moved, and the crate takes it for the
            // answer to whatever was asked last: nothing that follows can be believed.
            PushKind::Unsubscribe | PushKind::SUnsubscribe | PushKind::PUnsubscribe => {
                self.fail(LinkError::Moved(host.to_owned()));
            }
            PushKind::Disconnection => self.fail(LinkError::Closed(host.to_owned())),
            _ => {}
        }
    }

    fn deliver(&self, mut data: Vec<Value>) {
        let fits = |bytes: &Vec<u8>| bytes.len() <= CLUSTER_MESSAGE_BYTES_MAX;
        let sent = match data.pop() {
            Some(Value::BulkString(bytes)) if fits(&bytes) => {
                self.inbox.try_send(Arrived::now(bytes)).is_ok()
            }
            _ => false,
        };
        if !sent {
            self.drop_one();
        }
    }

    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }
}

/// A connection whose session is up. Whatever fails on it fails the link.
pub(super) struct Socket {
    line: Line,
    /// Dropped with us, and the tasks with it: the crate's own lives on while an answer is due.
    tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Line {
    host: String,
    commands: MultiplexedConnection,
    pulse: Arc<Pulse>,
    unparsed: Arc<AtomicUsize>,
}

impl Socket {
    /// Connects and begins the session, all within [`CLUSTER_CONNECT_TIMEOUT`].
    pub(super) async fn open(
        target: &Target,
        host: &Host,
        info: RedisConnectionInfo,
        pulse: &Arc<Pulse>,
    ) -> Result<Socket, LinkError> {
        let shown = host.to_string();
        let clock = Deadline::new(&shown);
        let unparsed = Arc::new(AtomicUsize::new(0));
        let stream = Metered {
            stream: stream(target, host, &clock).await?,
            host: shown.clone(),
            pulse: Arc::clone(pulse),
            unparsed: Arc::clone(&unparsed),
            is_mute: true,
        };
        let (taker, reset, from) = (Arc::clone(pulse), Arc::clone(&unparsed), shown.clone());
        let push = move |push: PushInfo| {
            reset.store(0, Relaxed);
            taker.take(push, &from);
            Ok::<(), ()>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(push);
        // Its own name and version are nothing to us, and one more right for the user to have.
        let info = info
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        let session = MultiplexedConnection::new_with_config(&info, stream, config);
        let session = clock.within("HELLO", session).await?;
        let (commands, driver) = session.map_err(|error| {
            let refused = LinkError::refused(&shown, "HELLO", &error);
            pulse.fault().err().unwrap_or(refused)
        })?;
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(driver, Arc::clone(pulse), shown.clone()));
        let line = Line {
            host: shown,
            commands,
            pulse: Arc::clone(pulse),
            unparsed,
        };
        Ok(Socket { line, tasks })
    }

    pub(super) async fn ask<T: FromRedisValue>(
        &mut self,
        what: &'static str,
        limit: Duration,
        command: &Cmd,
    ) -> Result<T, LinkError> {
        self.line.ask(what, limit, command).await
    }

    /// Commands whose answers say nothing but that they were taken.
    pub(super) async fn ask_all(
        &mut self,
        what: &'static str,
        commands: &Pipeline,
    ) -> Result<(), LinkError> {
        let count = commands.len();
        let say = async |connection: &mut MultiplexedConnection| {
            let answers = connection.send_packed_commands(commands, 0, count).await?;
            let mut answers = answers.into_iter();
            answers.try_for_each(|answer| answer.extract_error().map(drop))
        };
        self.line.say(what, CLUSTER_COMMAND_TIMEOUT, say).await
    }

    /// Has this asked again and again: the server may be gone without a word, or no primary any
    /// more. A keyframe may be before the answer, so it has as long as one.
    pub(super) fn watch(&mut self, what: &'static str, command: Cmd) {
        let mut line = self.line.clone();
        self.tasks.spawn(async move {
            let mut is_well = true;
            while is_well {
                sleep(CLUSTER_CHECK_INTERVAL).await;
                let limit = CLUSTER_KEYFRAME_TIMEOUT;
                let answer = line.ask::<Value>(what, limit, &command).await;
                is_well = answer.is_ok();
            }
        });
    }
}

impl Line {
    async fn ask<T: FromRedisValue>(
        &mut self,
        what: &'static str,
        limit: Duration,
        command: &Cmd,
    ) -> Result<T, LinkError> {
        let say = async |commands: &mut MultiplexedConnection| {
            let answer = commands.send_packed_command(command).await?;
            Ok(T::from_redis_value(answer.extract_error()?)?)
        };
        self.say(what, limit, say).await
    }

    async fn say<T>(
        &mut self,
        what: &'static str,
        limit: Duration,
        say: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, LinkError> {
        self.pulse.fault()?;
        let answer = timeout(limit, say(&mut self.commands)).await;
        // Only now: what is on its way when a question is asked goes on counting.
        self.unparsed.store(0, Relaxed);
        // What broke it is better known than that no answer came.
        self.pulse.fault()?;
        let host = || self.host.clone();
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| LinkError::refused(&self.host, what, &error)),
            Err(_) => Err(LinkError::Timeout {
                host: host(),
                what,
                limit,
            }),
        };
        if let Err(fault) = &answer {
            self.pulse.fail(fault.clone());
        }
        answer
    }
}

async fn drive(driver: impl Future<Output = ()>, pulse: Arc<Pulse>, host: String) {
    driver.await;
    // It ends by itself only when the connection did.
    pulse.fail(LinkError::Closed(host));
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn stream(
    target: &Target,
    host: &Host,
    clock: &Deadline<'_>,
) -> Result<Box<dyn Stream>, LinkError> {
    let unreachable = |error: io::Error| LinkError::unreachable(clock.host, &error);
    let (name, port) = match host {
        Host::Unix(path) => {
            let stream = clock.within("connect", UnixStream::connect(path)).await?;
            return Ok(Box::new(stream.map_err(unreachable)?));
        }
        Host::Tcp(name, port) => (name.as_str(), *port),
    };
    let connecting = TcpStream::connect((name, port));
    let stream = clock.within("connect", connecting).await?;
    let stream = stream.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let Some(tls) = &target.tls else {
        return Ok(Box::new(stream));
    };
    let connecting = tls.connect(stream, clock.host, name);
    let stream = clock.within("a TLS handshake", connecting).await??;
    Ok(Box::new(stream))
}

/// The steps of a connection share one time.
struct Deadline<'a> {
    host: &'a str,
    at: Instant,
}

impl Deadline<'_> {
    fn new(host: &str) -> Deadline<'_> {
        let at = Instant::now() + CLUSTER_CONNECT_TIMEOUT;
        Deadline { host, at }
    }

    async fn within<T>(
        &self,
        what: &'static str,
        step: impl Future<Output = T>,
    ) -> Result<T, LinkError> {
        let done = timeout_at(self.at, step).await;
        done.map_err(|_| LinkError::Timeout {
            host: self.host.to_owned(),
            what,
            limit: CLUSTER_CONNECT_TIMEOUT,
        })
    }
}

/// Knows how much came since the last thing that was whole, and why nothing comes any more.
struct Metered {
    stream: Box<dyn Stream>,
    host: String,
    pulse: Arc<Pulse>,
    unparsed: Arc<AtomicUsize>,
    /// Nothing came yet.
    is_mute: bool,
}

impl Metered {
    fn broke(&self, error: io::Error) -> io::Error {
        let host = self.host.clone();
        self.pulse.fail(match error.kind() {
            io::ErrorKind::ConnectionReset if self.is_mute => LinkError::Mute(host),
            _ => LinkError::Broken {
                host,
                why: error.to_string(),
            },
        });
        error
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            return Poll::Ready(Err(self.broke(error)));
        }
        let new = buf.filled().len() - before;
        let host = || self.host.clone();
        if new == 0 && self.is_mute {
            self.pulse.fail(LinkError::Mute(host()));
        } else if new == 0 {
            self.pulse.fail(LinkError::Closed(host()));
        }
        let bytes = self.unparsed.fetch_add(new, Relaxed) + new;
        if CLUSTER_UNPARSED_BYTES_MAX < bytes {
            let host = host();
            self.pulse.fail(LinkError::TooLarge { host, bytes });
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.is_mute = false;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(written.map_err(|error| self.broke(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.broke(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
