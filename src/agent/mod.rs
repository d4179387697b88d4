//! The sending side: this machine's agent, and a simulated fleet to load a server with.

mod answer;
mod backlog;
mod channel;
mod client;
pub mod fleet;
pub mod host;
mod http1;
mod http2;
pub mod ready;
mod report;
mod response;
mod sender;
mod stream;
mod target;
mod tls;
mod websocket;

use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;
use tracing::info;

pub use client::ClientError;
pub use target::{Target, TargetError};
pub use tls::{TlsError, TrustError};

use crate::duration;
use crate::limits::{TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX};
use client::Line;
use host::{Identity, Machine};
use sender::Sender;
use tls::{Tls, Trust};

/// How documents travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// One POST a reading on a keep-alive connection
    Http1,
    /// One POST a reading, each a stream of one connection
    Http2,
    /// One text message a reading, each acknowledged
    Websocket,
}

/// Sends this machine's own metrics.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Server to send to, such as https://wall.example or http://127.0.0.1:8080
    #[arg(long, env = "TIDEWALL_TO", value_name = "URL", value_parser = Target::parse)]
    pub to: Target,
    /// PEM file of certificates to trust besides the system's
    #[arg(long, env = "TIDEWALL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Time between two readings
    #[arg(long, env = "TIDEWALL_EVERY", default_value = "1s", value_name = "DURATION",
          value_parser = duration::parse)]
    pub every: Duration,
    /// Protocol to send by
    #[arg(long, env = "TIDEWALL_VIA", default_value = "http1", value_enum)]
    pub via: Via,
    /// Token that allows sending
    #[arg(long, env = "TIDEWALL_TOKEN", hide_env_values = true, value_parser = parse_token)]
    pub token: Option<String>,
    /// Name of this machine; default: its host name
    #[arg(long, env = "TIDEWALL_HOST", value_name = "NAME")]
    pub host: Option<String>,
    /// Tag of this machine, may be repeated
    #[arg(long = "tag", env = "TIDEWALL_TAGS", value_name = "KEY=VALUE", value_delimiter = ',',
          value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
    /// The same as `ca`, as PEM text: for a server in this process.
    #[arg(skip)]
    pub trust: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("this system shows no metrics")]
    NoMetrics,
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl AgentError {
    /// What the process should end with: 2 for what another command line would cure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Trust(_) => 2,
            Self::NoMetrics | Self::Start(_) => 1,
        }
    }
}

/// Sends until interrupted.
pub fn run(args: &AgentArgs) -> Result<(), AgentError> {
    let sender = sender(args)?;
    let machine = Machine::new().ok_or(AgentError::NoMetrics)?;
    let runtime = runtime()?;
    info!(
        "agent: sending to {} every {} via {:?}",
        args.to,
        duration::human(args.every),
        args.via
    );
    runtime.block_on(async {
        let stop = interrupted()?;
        sender.run(machine, stop).await;
        info!("agent: stopped");
        Ok(())
    })
}

/// Runs an agent on a thread of its own until the handle is dropped.
pub fn spawn_background(args: &AgentArgs) -> Result<Background, AgentError> {
    let sender = sender(args)?;
    let machine = Machine::new().ok_or(AgentError::NoMetrics)?;
    let runtime = runtime()?;
    let (stop, mut stopped) = watch::channel(());
    Background::spawn("agent", stop, move || {
        runtime.block_on(sender.run(machine, async {
            // Only ever an error: the handle was dropped.
            let _ = stopped.changed().await;
        }));
    })
    .map_err(AgentError::Start)
}

fn sender(args: &AgentArgs) -> Result<Sender, AgentError> {
    let trust = Trust {
        ca: args.ca.as_deref(),
        text: args.trust.as_deref(),
    };
    let mut identity = Identity::of_this_machine();
    if let Some(host) = &args.host {
        identity.host.clone_from(host);
    }
    for (key, value) in &args.tags {
        identity.tags.retain(|(other, _)| other != key);
        identity.tags.push((key.clone(), value.clone()));
    }
    let line = Line {
        target: args.to.clone(),
        via: args.via,
        token: args.token.clone(),
        tls: Tls::new(&args.to, trust, true)?,
    };
    Ok(Sender::new(line, identity, args.every))
}

/// A sender on a thread of its own. Dropping it stops the thread and waits for its end.
pub struct Background {
    /// Dropped to stop: the sending half of a channel, whose other half sees it go.
    stop: Option<Box<dyn Send + Sync>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    fn spawn(
        name: &str,
        stop: impl Send + Sync + 'static,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)?;
        Ok(Self {
            stop: Some(Box::new(stop)),
            thread: Some(thread),
        })
    }

    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; the sender is gone either way.
            let _ = thread.join();
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Ctrl-C, and where there is one, the service manager's SIGTERM.
fn interrupted() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate())?
    };
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum FlagError {
    #[error("a tag is written key=value")]
    Tag,
    #[error("a tag key has at most {TAG_KEY_BYTES_MAX} bytes, a value {TAG_VALUE_BYTES_MAX}")]
    TagLength,
    #[error("a token is printable ASCII without blanks")]
    Token,
}

fn parse_tag(text: &str) -> Result<(String, String), FlagError> {
    let (key, value) = text.split_once('=').ok_or(FlagError::Tag)?;
    if key.is_empty() || value.is_empty() {
        return Err(FlagError::Tag);
    }
    if key.len() > TAG_KEY_BYTES_MAX || value.len() > TAG_VALUE_BYTES_MAX {
        return Err(FlagError::TagLength);
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// It goes into a header field as it is.
fn parse_token(text: &str) -> Result<String, FlagError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(FlagError::Token);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;
