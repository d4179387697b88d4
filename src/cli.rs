//! Flags, environment and configuration file: one table.
//!
//! Each setting is declared once, here. A flag beats its `TIDEWALL_*` variable, which beats its
//! line in the file, which beats the default.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use thiserror::Error;

use crate::agent::AgentArgs;
use crate::agent::fleet::FleetArgs;
use crate::agent::ready::ReadyArgs;
use crate::auth::Scope;
use crate::duration;

/// The live wall of a server fleet: servers push, one process merges, every dashboard sees it move.
#[derive(Debug, Parser)]
#[command(
    name = "tidewall",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// TOML file with a line for any flag of the command, such as `listen = "127.0.0.1:8080"`
    #[arg(long, global = true, env = "TIDEWALL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to log to stderr: error, warn, info, debug (debug is quiet in release builds)
    #[arg(
        long,
        global = true,
        env = "TIDEWALL_LOG",
        default_value = "warn",
        value_name = "LEVEL"
    )]
    pub log: tracing::Level,

    /// Log one JSON object a line
    #[arg(long, global = true, env = "TIDEWALL_LOG_JSON")]
    pub log_json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node: take samples, show the wall
    Serve(ServeArgs),
    /// Run a node with this machine's own metrics and a simulated fleet, and print where to look
    Demo(DemoArgs),
    /// Send this machine's CPU, memory, load, disk and network to a node
    Agent(AgentArgs),
    /// Load a node with simulated servers and viewers, and report what they saw
    Fleet(FleetArgs),
    /// Ask a node whether it takes data, for health checks; exit code 0 if it does
    Ready(ReadyArgs),
    /// Bring a MySQL database's tables up to date, which `serve` does by itself as well
    Migrate(MigrateArgs),
    /// Check every file of a history directory that no node uses
    Verify(VerifyArgs),
    /// Make tokens for a node's --tokens file
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// The database, as `serve` takes it: mysql://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "TIDEWALL_HISTORY", value_name = "URL")]
    pub history: String,
}

#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The directory, as after `sqlite:` in --history
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token, to hand out, and its entry, to append to the file; nothing is kept
    New(TokenNewArgs),
}

#[derive(Args, Clone, Debug)]
pub struct TokenNewArgs {
    /// Whose it is; shown in errors and logs
    #[arg(long, value_name = "NAME")]
    pub name: String,

    /// What it allows; may be repeated
    #[arg(
        long,
        value_enum,
        required = true,
        value_delimiter = ',',
        value_name = "SCOPE"
    )]
    pub scope: Vec<Scope>,

    /// When it ends, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,

    /// Samples a second that may come by it
    #[arg(long, value_name = "N")]
    pub samples_per_second: Option<u64>,

    /// Columns (metric names with their labels) that may come by it
    #[arg(long, value_name = "N")]
    pub columns: Option<usize>,

    /// What the names of its hosts begin with
    #[arg(long, value_name = "PREFIX")]
    pub host_prefix: Option<String>,
}

/// Where history goes when nobody says so.
pub const HISTORY_DEFAULT: &str = "sqlite:tidewall-data";

/// Flags of `serve`; `demo` takes them too.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address to listen on; one port speaks HTTP/1.1, HTTP/2 and WebSocket
    #[arg(
        long,
        env = "TIDEWALL_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    pub listen: String,

    /// Cores that do network work, one thread each [default: all this process may use]
    #[arg(long, env = "TIDEWALL_CORES", value_name = "N")]
    pub cores: Option<usize>,

    /// Time between two frames, 10ms to 10s; halving it doubles the cost of viewers
    #[arg(long, env = "TIDEWALL_TICK", default_value = "100ms", value_parser = duration::parse,
        value_name = "TIME")]
    pub tick: Duration,

    /// Where history goes: `sqlite:DIR`, `mysql://USER:PASSWORD@HOST/DATABASE` or `none`
    #[arg(
        long,
        env = "TIDEWALL_HISTORY",
        default_value = HISTORY_DEFAULT,
        value_name = "WHERE"
    )]
    pub history: String,

    /// With MySQL: the directory that holds what it has not taken yet
    #[arg(
        long,
        env = "TIDEWALL_HISTORY_DIR",
        default_value = "tidewall-data",
        value_name = "DIR"
    )]
    pub history_dir: PathBuf,

    /// How long points are kept one by one; whole days
    #[arg(long, env = "TIDEWALL_KEEP_POINTS", default_value = "2d", value_parser = duration::parse,
        value_name = "TIME")]
    pub keep_points: Duration,

    /// How long each minute's count, sum, least, greatest and last value are kept; whole days
    #[arg(long, env = "TIDEWALL_KEEP_MINUTES", default_value = "30d",
        value_parser = duration::parse, value_name = "TIME")]
    pub keep_minutes: Duration,

    /// The same of hours
    #[arg(long, env = "TIDEWALL_KEEP_HOURS", default_value = "730d", value_parser = duration::parse,
        value_name = "TIME")]
    pub keep_hours: Duration,

    /// Join nodes through Redis: `redis://USER:PASSWORD@HOST:PORT`, or another form of
    /// docs/CLUSTER.md
    #[arg(
        long,
        env = "TIDEWALL_REDIS",
        value_name = "URL",
        hide_env_values = true
    )]
    pub redis: Option<String>,

    /// What all channels and keys in Redis begin with; nodes of one wall have the same
    #[arg(
        long,
        env = "TIDEWALL_REDIS_PREFIX",
        default_value = "tidewall",
        value_name = "PREFIX"
    )]
    pub redis_prefix: String,

    /// PEM file of an authority to trust for rediss, besides those the system trusts
    #[arg(long, env = "TIDEWALL_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,

    /// File of a secret, 32 bytes or more, that all nodes have: they believe no message without it.
    /// Only a Redis on loopback may do without
    #[arg(long, env = "TIDEWALL_CLUSTER_KEY", value_name = "FILE")]
    pub cluster_key: Option<PathBuf>,

    /// This node's name among the others [default: HOSTNAME:PORT]
    #[arg(long, env = "TIDEWALL_NODE", value_name = "NAME")]
    pub node: Option<String>,

    /// Serve addresses other than loopback although there are no tokens
    #[arg(long, env = "TIDEWALL_OPEN")]
    pub open: bool,

    /// Let pages of this origin watch, such as https://wall.example; may be repeated
    #[arg(
        long,
        env = "TIDEWALL_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<String>,

    /// TOML file of tokens; without one nobody is asked for a token. SIGHUP reads it again
    #[arg(long, env = "TIDEWALL_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// PEM file of the certificate, its chain behind it: the port then speaks TLS alone. SIGHUP
    /// reads it again
    #[arg(long, env = "TIDEWALL_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file of the certificate's private key
    #[arg(long, env = "TIDEWALL_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Time between a signal to stop and the stop, 0s to 60s, in which all goes on but /readyz
    /// answers 503, so that a balancer looks elsewhere; a second signal ends it
    #[arg(long, env = "TIDEWALL_DRAIN", default_value = "0s", value_parser = duration::parse_any,
        value_name = "TIME")]
    pub drain: Duration,

    /// Do not pin core threads to CPUs
    #[arg(long, env = "TIDEWALL_NO_PIN")]
    pub no_pin: bool,
}

/// Flags of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    #[command(flatten)]
    pub serve: ServeArgs,

    /// Simulated servers
    #[arg(
        long,
        env = "TIDEWALL_SERVERS",
        default_value_t = 200,
        value_name = "N"
    )]
    pub servers: usize,

    /// Speak TLS with a certificate made for this run; browsers will ask whether to trust it
    #[arg(long, env = "TIDEWALL_TLS")]
    pub tls: bool,
}

/// Why the command line could not be taken.
#[derive(Debug, Error)]
pub enum CliError {
    /// clap's own text, help and version among them.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error("--config {}: {why}", path.display())]
    File { path: PathBuf, why: String },
}

/// Reads the command line, and the file it names.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, CliError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = Cli::command();
    if let Some(path) = config_path(&args) {
        command = with_file(command, &args, &path)?;
    }
    Ok(Cli::from_arg_matches(&command.try_get_matches_from(args)?)?)
}

/// The file must be known before the rest is parsed: its lines become defaults.
fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("TIDEWALL_CONFIG").map(PathBuf::from)
}

fn with_file(
    mut command: clap::Command,
    args: &[OsString],
    path: &Path,
) -> Result<clap::Command, CliError> {
    let wrong = |why: String| CliError::File {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let name = args.iter().find_map(|arg| {
        let known = command.find_subcommand(arg)?;
        Some(known.get_name().to_owned())
    });
    let Some(name) = name else { return Ok(command) };
    for (key, value) in table {
        let id = key.replace('-', "_");
        let texts = texts(&value).ok_or_else(|| {
            wrong(format!(
                "`{key}` must be a string, a number, a boolean or a list of strings"
            ))
        })?;
        let own = command
            .get_arguments()
            .any(|arg| arg.get_id() == id.as_str());
        let set = move |arg: clap::Arg| {
            if matches!(arg.get_action(), clap::ArgAction::SetTrue) {
                return arg.default_value(if texts == ["true"] { "true" } else { "false" });
            }
            arg.default_values(texts)
        };
        if own && id != "config" {
            command = command.mut_arg(&id, set);
            continue;
        }
        let subcommand = command.find_subcommand(&name);
        let known = subcommand
            .is_some_and(|sub| sub.get_arguments().any(|arg| arg.get_id() == id.as_str()));
        if !known {
            return Err(wrong(format!("`{key}` is no flag of `tidewall {name}`")));
        }
        command = command.mut_subcommand(&name, |sub| sub.mut_arg(&id, set));
    }
    Ok(command)
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(yes) => Some(vec![yes.to_string()]),
        toml::Value::Array(list) => list
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// The flags of `serve` as the table in the README shows them; a test keeps both equal.
pub fn flag_table() -> String {
    use std::fmt::Write;
    let mut table = String::from("| flag | variable | default | |\n|---|---|---|---|\n");
    let command = Cli::command();
    let serve = command.find_subcommand("serve");
    let own = serve.into_iter().flat_map(clap::Command::get_arguments);
    for arg in own.chain(command.get_arguments().filter(|arg| arg.is_global_set())) {
        let Some(long) = arg.get_long() else { continue };
        let variable = arg.get_env().unwrap_or_default().to_string_lossy();
        let defaults = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy());
        let default = defaults.collect::<Vec<_>>().join(", ");
        let default = if default == "false" {
            String::new()
        } else {
            default
        };
        let takes = arg.get_action().takes_values();
        let value = arg
            .get_value_names()
            .filter(|_| takes)
            .and_then(<[_]>::first);
        let value = value.map_or_else(String::new, |name| format!(" {name}"));
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = if default.is_empty() {
            default
        } else {
            format!("`{default}`")
        };
        let _ = writeln!(
            table,
            "| `--{long}{value}` | `{variable}` | {default} | {help} |"
        );
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn serve(args: &[&str]) -> Result<ServeArgs, String> {
        let args = ["tidewall", "serve"].iter().chain(args).map(OsString::from);
        match parse(args).map_err(|error| error.to_string())?.command {
            Command::Serve(serve) => Ok(serve),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = std::env::temp_dir().join(format!("tidewall-cli-{}.toml", std::process::id()));
        let path = file.to_str().unwrap();
        std::fs::write(
            &file,
            "listen = \"127.0.0.1:1\"\ncores = 3\nopen = true\nallow-origin = [\"http://a\"]\n\
             log = \"error\"\n",
        )
        .unwrap();
        let args = serve(&["--config", path, "--cores", "2"]).unwrap();
        assert_eq!(
            (args.listen.as_str(), args.cores, args.open),
            ("127.0.0.1:1", Some(2), true)
        );
        assert_eq!(args.tick, Duration::from_millis(100));
        assert_eq!(args.allow_origin, ["http://a"]);
        std::fs::write(&file, "lisen = \"x\"\n").unwrap();
        let error = serve(&["--config", path]).unwrap_err();
        assert!(
            error.contains("`lisen` is no flag of `tidewall serve`"),
            "{error}"
        );
        std::fs::remove_file(&file).unwrap();
        assert!(serve(&["--config", path]).unwrap_err().contains("--config"));
    }
}
