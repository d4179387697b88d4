//! From the command line to a running command and its exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::fleet::{self, FleetError};
use crate::agent::{self, AgentError, Background};
use crate::cli::{self, Cli, CliError, Command, DemoArgs, ServeArgs};
use crate::config::{Settings, SettingsError};
use crate::server::Server;

/// What ends a command; the text goes to stderr.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot listen on {0}: {1}")]
    Listen(String, io::Error),
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
        Command::Demo(args) => demo(args),
        Command::Agent(args) => agent::run(&args).map_err(Into::into),
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
            Self::Settings(_) | Self::Usage(_) => 2,
            Self::Agent(error) => error.exit_code(),
            Self::Fleet(error) => error.exit_code(),
            Self::Listen(..) | Self::Io(_) => 1,
        }
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "tidewall: {error}");
    ExitCode::from(code)
}

fn log_to_stderr(cli: &Cli) {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(cli.log);
    // A second subscriber is refused; the first one, a test's, then stays.
    let _ = if cli.log_json {
        builder.json().try_init()
    } else {
        builder.compact().try_init()
    };
}

fn serve(args: &ServeArgs) -> Result<(), RunError> {
    let server = start(args)?;
    say(&format!("listening on http://{}/", server.address));
    until_stopped()?;
    tracing::info!("stopping");
    Ok(server.stop()?)
}

fn start(args: &ServeArgs) -> Result<Server, RunError> {
    let settings = Settings::new(args)?;
    tracing::info!(listen = %settings.listen, cores = settings.cores, "starting");
    Server::start(&settings).map_err(|error| RunError::Listen(args.listen.clone(), error))
}

/// A server, this machine's own metrics, and a simulated fleet, in one process.
fn demo(mut args: DemoArgs) -> Result<(), RunError> {
    let server = match start(&args.serve) {
        // Somebody else has the usual port; a demo takes any.
        Err(RunError::Listen(_, error)) if error.kind() == io::ErrorKind::AddrInUse => {
            let usual = args.serve.listen.clone();
            args.serve.listen = "127.0.0.1:0".to_owned();
            let server = start(&args.serve)?;
            say(&format!(
                "{usual} is taken, listening on {} instead",
                server.address
            ));
            server
        }
        started => started?,
    };
    let url = format!("http://{}/", server.address);
    let (machine, fleet) = senders(&url, args.servers)?;
    say(&format!(
        "Tidewall is live with this machine and {} simulated servers.",
        args.servers
    ));
    say(&format!("Open {url}"));
    say("Ctrl-C ends it.");
    until_stopped()?;
    // Senders first: a server that goes away under them would only make them complain.
    drop((machine, fleet));
    Ok(server.stop()?)
}

/// The demo's senders: this machine's own agent, and servers made up.
fn senders(url: &str, servers: usize) -> Result<(Background, Option<Background>), RunError> {
    let command = ["tidewall", "agent", "--to", url];
    let Command::Agent(agent) = Cli::try_parse_from(command)?.command else {
        return Err(RunError::Io(io::Error::other(
            "the agent's own command line failed",
        )));
    };
    let machine = agent::spawn_background(&agent)?;
    let every = Duration::from_secs(1);
    let fleet = (0 < servers)
        .then(|| fleet::spawn_background(agent.to, None, servers, every))
        .transpose()?;
    Ok((machine, fleet))
}

/// For people, on stdout; a closed pipe is no reason to end.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Waits for SIGTERM or Ctrl-C.
fn until_stopped() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
