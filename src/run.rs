//! From the command line to a running command and its exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::fleet::{self, FleetError};
use crate::agent::{self, AgentError, Background};
use crate::auth::tokens::{self, TokensError};
use crate::cli::{
    self, Cli, CliError, Command, DemoArgs, MigrateArgs, ServeArgs, TokenCommand, TokenNewArgs,
    VerifyArgs,
};
use crate::config::{Identity, Settings, SettingsError};
use crate::history::mysql::{self, MysqlError};
use crate::history::service::OpenError;
use crate::history::verify;
use crate::server::tls::{self, TlsError};
use crate::server::{Server, StartError};

/// What ends a command; the text goes to stderr.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot listen on {0}: {1}")]
    Listen(String, io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("--history {0}")]
    History(OpenError),
    #[error("{0}")]
    Verify(String),
    #[error("--history: {0}")]
    Migrate(#[from] MysqlError),
    #[error("this system gives no random bytes")]
    NoRandom,
    #[error("this token would not be taken: {0}")]
    Token(#[from] TokensError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Usage(#[from] clap::Error),
}

/// Runs the command; 2 for a command line that could not be taken, 1 for a command that failed.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(CliError::Usage(error)) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * 2);
        }
        Err(error) => return fail(&error, 2),
    };
    log_to_stderr(&cli);
    let done = match cli.command {
        Command::Serve(args) => serve(&args),
        Command::Demo(args) => demo(&args),
        Command::Agent(args) => agent::run(&args).map_err(Into::into),
        Command::Migrate(args) => migrate(&args),
        Command::Verify(args) => verify(&args),
        Command::Token(TokenCommand::New(args)) => new_token(&args),
        Command::Fleet(args) => match fleet::run(&args) {
            Ok(verdict) => return ExitCode::from(verdict.exit_code()),
            Err(error) => Err(error.into()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

impl RunError {
    /// 2 for what another command line would cure.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Usage(_) | Self::Token(_) | Self::Tls(_) => 2,
            Self::Agent(error) => error.exit_code(),
            Self::Fleet(error) => error.exit_code(),
            Self::History(_) => 2,
            Self::Migrate(MysqlError::Url(_) | MysqlError::NoDatabase) => 2,
            Self::Verify(_)
            | Self::Migrate(_)
            | Self::Listen(..)
            | Self::Io(_)
            | Self::Certificate(_)
            | Self::NoRandom => 1,
        }
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "tidewall: {error}");
    ExitCode::from(code)
}

fn log_to_stderr(cli: &Cli) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    // What a peer does wrong is counted; libraries would write a line for each time.
    let quiet = |targets: Targets, name| targets.with_target(name, LevelFilter::OFF);
    let filter = ["h2", "rustls", "tokio_rustls", "tungstenite"]
        .into_iter()
        .fold(Targets::new().with_default(cli.log), quiet);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    // A second subscriber is refused; the first one, a test's, then stays.
    let _ = if cli.log_json {
        registry.with(layer.json()).try_init()
    } else {
        registry.with(layer.compact()).try_init()
    };
}

fn serve(args: &ServeArgs) -> Result<(), RunError> {
    let settings = Settings::new(args)?;
    let signals = Signals::listen()?;
    let server = start(&settings)?;
    if settings.tokens.is_some() && settings.identity.is_none() && !settings.is_loopback() {
        tracing::warn!("tokens travel in clear text: give --tls-cert and --tls-key");
    }
    if settings
        .cluster
        .as_ref()
        .is_some_and(|plan| !plan.key.is_secret)
    {
        tracing::warn!("whoever reaches Redis may speak as a node: give --cluster-key");
    }
    say(&format!("listening on {}", url(&settings, &server)));
    say_history(&settings, &server);
    say_cluster(&settings, &server);
    signals.until_stopped(|| reload(&server));
    tracing::info!("stopping");
    Ok(server.stop()?)
}

/// Each by itself: a certificate that is not there yet must not keep a withdrawn token good.
fn reload(server: &Server) {
    match server.reload_certificate() {
        Ok(()) => tracing::info!("read the certificate again"),
        Err(error) => tracing::error!(%error, "kept the certificate as it was"),
    }
    match server.reload_tokens() {
        Ok(()) => tracing::info!("read the tokens again"),
        Err(error) => tracing::error!(%error, "kept the tokens as they were"),
    }
}

fn start(settings: &Settings) -> Result<Server, RunError> {
    tracing::info!(listen = %settings.listen, cores = settings.cores, "starting");
    Server::start(settings).map_err(|error| match error {
        StartError::Settings(error) => error.into(),
        StartError::Tls(error) => error.into(),
        StartError::History(error) => RunError::History(error),
        StartError::Io(error) => RunError::Listen(settings.listen.to_string(), error),
    })
}

/// Where history is, and what the fleet seen last will make of it.
fn say_history(settings: &Settings, server: &Server) {
    let (Some(report), Some(plan)) = (&server.report, &settings.history) else {
        say("history is not kept (--history none)");
        return;
    };
    let dir = report.dir.display();
    let keep = plan.keep;
    if 0 < report.replayed {
        say(&format!(
            "{} samples were taken back from the journal",
            report.replayed
        ));
    }
    if report.damaged {
        say("the journal was damaged: /metrics has how much of it was given up");
    }
    if let Some(target) = &plan.mysql {
        say(&format!("history goes on from there to MySQL at {target}"));
    }
    say(&format!(
        "history in {dir}: points for {} days, minutes for {}, hours for {}",
        keep.points_days, keep.minutes_days, keep.hours_days
    ));
    if 0 < report.series {
        let cost = report.cost(keep);
        say(&format!(
            "{} series were seen last: about {} of disk once all that is kept is there",
            report.series,
            bytes(cost)
        ));
    }
}

fn say_cluster(settings: &Settings, server: &Server) {
    if let (Some(plan), Some(cluster)) = (&settings.cluster, &server.shared().cluster) {
        let (node, target) = (&cluster.node, &plan.target);
        say(&format!("joins other nodes as {node} through {target}"));
    }
}

fn bytes(count: f64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut count = count;
    for unit in units {
        if count < 1_000.0 {
            return format!("{count:.1} {unit}");
        }
        count /= 1_000.0;
    }
    format!("{count:.0} EB")
}

fn migrate(args: &MigrateArgs) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let applied = runtime.block_on(mysql::migrate::migrate(&args.history))?;
    for migration in &applied {
        say(&format!(
            "applied {:04} {}",
            migration.number, migration.name
        ));
    }
    if applied.is_empty() {
        say("nothing to do: the database is up to date");
    }
    Ok(())
}

/// Exit code 1 when anything is wrong.
fn verify(args: &VerifyArgs) -> Result<(), RunError> {
    let (checked, findings) = verify::verify(&args.dir).map_err(RunError::History)?;
    say(&format!(
        "{} days: {} rows, {} points; journal: {} segments, {} samples",
        checked.days, checked.rows, checked.points, checked.segments, checked.samples
    ));
    for finding in &findings {
        say(&format!("wrong: {finding}"));
    }
    if findings.is_empty() {
        say("all is well");
        return Ok(());
    }
    let count = findings.len();
    Err(RunError::Verify(format!(
        "{count} faults in {}",
        args.dir.display()
    )))
}

fn url(settings: &Settings, server: &Server) -> String {
    let scheme = if settings.identity.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}/", server.address)
}

/// `tidewall token new`: the token on its own line for scripts, the entry below it.
fn new_token(args: &TokenNewArgs) -> Result<(), RunError> {
    let text = tokens::new_text().ok_or(RunError::NoRandom)?;
    let more: Vec<(&str, String)> = [
        ("expires", args.expires.clone()),
        (
            "samples_per_second",
            args.samples_per_second.map(|n| n.to_string()),
        ),
        ("columns", args.columns.map(|n| n.to_string())),
        (
            "host_prefix",
            args.host_prefix.as_deref().map(tokens::quote),
        ),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect();
    let hash = tokens::hash_text(&text);
    let entry = tokens::entry(&args.name, &hash, &args.scope, &more);
    tokens::parse(&entry)?;
    say(&format!("{text}\n"));
    say("# The line above is the token; it is not kept anywhere. Append this to the tokens file:");
    say(&entry);
    Ok(())
}

/// A server, this machine's own metrics, and a simulated fleet, in one process.
fn demo(args: &DemoArgs) -> Result<(), RunError> {
    let mut settings = Settings::new(&args.serve)?;
    if args.tls {
        settings.identity = Some(tls::make_identity()?);
    }
    let signals = Signals::listen()?;
    let server = match start(&settings) {
        // Somebody else has the usual port; a demo takes any.
        Err(RunError::Listen(usual, error)) if error.kind() == io::ErrorKind::AddrInUse => {
            settings.listen.set_port(0);
            let server = start(&settings)?;
            say(&format!(
                "{usual} is taken, listening on {} instead",
                server.address
            ));
            server
        }
        started => started?,
    };
    let url = url(&settings, &server);
    let trust = match &settings.identity {
        Some(Identity::Made { cert, .. }) => Some(cert.clone()),
        _ => None,
    };
    let (machine, fleet) = senders(&url, trust.as_deref(), args.servers)?;
    say(&format!(
        "Tidewall is live with this machine and {} simulated servers.",
        args.servers
    ));
    say(&format!("Open {url}"));
    if args.tls {
        say("The certificate was made for this run: the browser will ask whether to trust it.");
    }
    say("Ctrl-C ends it.");
    signals.until_stopped(|| reload(&server));
    // Senders first: a server that goes away under them would only make them complain.
    drop((machine, fleet));
    Ok(server.stop()?)
}

/// The demo's senders: this machine's own agent, and servers made up.
fn senders(
    url: &str,
    trust: Option<&str>,
    servers: usize,
) -> Result<(Background, Option<Background>), RunError> {
    let command = ["tidewall", "agent", "--to", url];
    let Command::Agent(mut agent) = Cli::try_parse_from(command)?.command else {
        return Err(RunError::Io(io::Error::other(
            "the agent's own command line failed",
        )));
    };
    agent.trust = trust.map(str::to_owned);
    let machine = agent::spawn_background(&agent)?;
    let every = Duration::from_secs(1);
    let fleet = (0 < servers)
        .then(|| fleet::spawn_background(agent.to, None, servers, every, trust))
        .transpose()?;
    Ok((machine, fleet))
}

/// For people, on stdout; a closed pipe is no reason to end.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// SIGTERM, Ctrl-C and SIGHUP, heard before the server answers: by then somebody may know of it.
struct Signals {
    runtime: tokio::runtime::Runtime,
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let term = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(entered);
        Ok(Self {
            runtime,
            term,
            interrupt,
            hangup,
        })
    }

    /// Waits for the end; a hangup asks for a reload.
    fn until_stopped(self, reload: impl Fn()) {
        let Self {
            runtime,
            mut term,
            mut interrupt,
            mut hangup,
        } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = term.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = hangup.recv() => reload(),
                }
            }
        });
    }
}
