//! What the repository offers to run nodes with names only what is there: flags and variables that
//! the binary has, ports that agree, files that exist, times that fit into one another.

mod balancer;
mod files;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use clap::{Arg, CommandFactory};
use serde_json::Value;
use tidewall::cli::{self, Cli};
use tidewall::config::Settings;
use tidewall::duration;
use tidewall::limits::STOP_TIMEOUT;

use files::{Compose, Dockerfile, Haproxy, Unit, strings};

/// A node as one of the files would start it.
struct Start {
    whose: String,
    variables: BTreeMap<String, String>,
    /// Behind the program's name.
    words: Vec<String>,
}

impl Start {
    /// Its variables as flags, so that the command line's own checks see them.
    fn line(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["tidewall".into()];
        line.extend(self.words.iter().map(Into::into));
        let (flags, secrets) = (flags(), secrets());
        for (name, value) in &self.variables {
            let flag = flags
                .iter()
                .find(|flag| flag.get_env().is_some_and(|env| env == name.as_str()));
            let value = value.replace("/run/secrets", secrets);
            let flag = flag.unwrap_or_else(|| panic!("{}: no flag has {name}", self.whose));
            line.push(format!("--{}={value}", flag.get_long().unwrap()).into());
        }
        line
    }

    fn settings(&self) -> Settings {
        let parsed = cli::parse(self.line());
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", self.whose));
        let cli::Command::Serve(args) = parsed.command else {
            panic!("{} serves nothing: {:?}", self.whose, self.words);
        };
        Settings::new(&args).unwrap_or_else(|error| panic!("{}: {error}", self.whose))
    }

    fn check_flags(&self) {
        let known = flags();
        for word in self.words.iter().filter(|word| word.starts_with("--")) {
            let is_known = known.iter().any(|flag| flag.get_long() == Some(&word[2..]));
            assert!(is_known, "{}: `tidewall serve` has no {word}", self.whose);
        }
    }
}

/// Those of `serve`, and those that all commands have.
fn flags() -> Vec<Arg> {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let all = serve.get_arguments().chain(command.get_arguments());
    all.cloned().collect()
}

/// A folder with what a start reads: the rest is read by the node itself.
fn secrets() -> &'static str {
    static MADE: Once = Once::new();
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/secrets");
    MADE.call_once(|| {
        fs::create_dir_all(folder).unwrap();
        fs::write(format!("{folder}/cluster-key"), "k".repeat(64)).unwrap();
    });
    folder
}

/// Every way to start a node that the files have.
fn starts() -> Vec<Start> {
    let (image, compose, unit) = (Dockerfile::read(), Compose::read(), Unit::read());
    let mut starts = vec![
        Start {
            whose: "Dockerfile".to_owned(),
            // Without tokens it would serve nobody.
            variables: with(&image.variables(), &[("TIDEWALL_TOKENS", "tokens.toml")]),
            words: image.words("CMD"),
        },
        Start {
            whose: "deploy/tidewall.service".to_owned(),
            variables: unit.variables(),
            words: unit.command()[1..].to_vec(),
        },
    ];
    for (name, service) in compose.nodes() {
        let own = files::variables(service);
        let own: Vec<_> = own.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        starts.push(Start {
            whose: format!("docker-compose.yml, {name}"),
            variables: with(&image.variables(), &own),
            words: strings(&service["command"]),
        });
    }
    starts
}

fn with(base: &BTreeMap<String, String>, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let more = more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    base.clone().into_iter().chain(more).collect()
}

#[test]
fn every_start_is_one_that_the_binary_takes() {
    let starts = starts();
    assert_eq!(starts.len(), 4, "an image, a unit and two nodes");
    for start in starts {
        start.check_flags();
        let is_joined = start.settings().cluster.is_some();
        assert_eq!(
            is_joined,
            start.whose.contains("compose"),
            "{}",
            start.whose
        );
    }
}

#[test]
fn ports_agree_from_the_balancer_to_the_node() {
    let (image, compose, balancer) = (Dockerfile::read(), Compose::read(), Haproxy::read());
    let listen = &image.variables()["TIDEWALL_LISTEN"];
    let port = listen.rsplit(':').next().unwrap();
    assert_eq!(image.words("EXPOSE"), [port]);
    let command = Cli::command();
    let ready = command.find_subcommand("ready").unwrap();
    let to = ready.get_arguments().find(|arg| arg.get_id() == "to");
    let asked = to.unwrap().get_default_values()[0].to_str().unwrap();
    assert!(asked.ends_with(&format!(":{port}")), "{asked}");
    for (name, service) in compose.nodes() {
        assert_eq!(strings(&service["expose"]), [port], "{name}");
    }
    let expected = compose.nodes().map(|(name, _)| format!("{name}:{port}"));
    assert_eq!(balancer.servers(), expected.collect::<Vec<_>>());
    let published = strings(&compose.service("balancer")["ports"]);
    let bound = balancer.bind();
    assert!(
        published[0].ends_with(&format!(":{}", bound.rsplit(':').next().unwrap())),
        "{published:?} is not {bound}"
    );
}

#[test]
fn health_is_asked_of_the_binary_itself() {
    let image = Dockerfile::read();
    let health = image.line("HEALTHCHECK");
    let words = health.split_once("CMD ").unwrap().1;
    let words: Vec<String> = serde_json::from_str(words).unwrap();
    cli::parse(words.iter().map(Into::into)).unwrap();
    assert_eq!(words, ["tidewall", "ready"]);
    for (name, service) in Compose::read().services() {
        let is_node = service.get("build").is_some();
        let has_own = service.get("healthcheck").is_some();
        assert!(
            is_node != has_own,
            "{name}: a health check, its image's or its own"
        );
    }
}

#[test]
fn a_drain_is_seen_by_the_balancer_and_ends_before_patience_does() {
    let balancer = Haproxy::read();
    let noticed = balancer.check_interval() * balancer.checks_to_fall();
    let check = |whose: &str, drain: Duration, patience: Duration| {
        assert!(
            noticed < drain,
            "{whose} drains {drain:?}, noticed after {noticed:?}"
        );
        let most = drain + STOP_TIMEOUT;
        assert!(
            most < patience,
            "{whose} is killed after {patience:?}, needs {most:?}"
        );
    };
    let time = |text: &str| duration::parse(text).unwrap();
    for start in starts().iter().filter(|start| start.whose != "Dockerfile") {
        let drain = start.settings().drain;
        let patience = match start.whose.split_once(", ") {
            Some((_, name)) => {
                let service = Compose::read().service(name).clone();
                service["stop_grace_period"].as_str().unwrap().to_owned()
            }
            None => Unit::read().value("TimeoutStopSec"),
        };
        check(&start.whose, drain, time(&patience));
    }
}

#[test]
fn images_are_pinned() {
    let image = Dockerfile::read();
    let compose = Compose::read();
    let used = compose.services().filter_map(|(_, s)| s["image"].as_str());
    for image in image.images().into_iter().chain(used.map(str::to_owned)) {
        let tag = image.split_once(':').map_or("", |(_, tag)| tag);
        let is_pinned =
            tag.starts_with(|c: char| c.is_ascii_digit()) || tag.starts_with("bookworm");
        assert!(is_pinned, "{image} is any version");
    }
    let built = compose.nodes().map(|(_, service)| &service["image"]);
    let own = format!("tidewall:{}", env!("CARGO_PKG_VERSION"));
    assert!(
        built.into_iter().all(|image| image == own.as_str()),
        "{own}"
    );
}

#[test]
fn what_is_named_is_there() {
    let (image, compose) = (Dockerfile::read(), Compose::read());
    let ignored = fs::read_to_string(".dockerignore").unwrap();
    let let_in: Vec<&str> = ignored
        .lines()
        .filter_map(|l| l.strip_prefix('!'))
        .collect();
    for path in image.copied() {
        assert!(Path::new(&path).exists(), "Dockerfile copies {path}");
        let top = path.split('/').next().unwrap();
        assert!(let_in.contains(&top), ".dockerignore hides {path}");
    }
    let example = fs::read_to_string(".env.example").unwrap();
    let maker = fs::read_to_string("deploy/secrets.sh").unwrap();
    for name in compose.interpolated() {
        let line = example.lines().find(|l| l.starts_with(&format!("{name}=")));
        let line = line.unwrap_or_else(|| panic!(".env.example lacks {name}"));
        assert!(
            !name.contains("PASSWORD") || line.ends_with('='),
            "a password: {line}"
        );
        assert!(
            maker.contains(&format!("{name}=")),
            "secrets.sh makes no {name}"
        );
    }
    for (name, secret) in compose.map("secrets") {
        let file = secret["file"].as_str().unwrap();
        let base = file.rsplit('/').next().unwrap();
        assert!(
            file.starts_with("deploy/secrets/"),
            "{name}: git would have {file}"
        );
        assert!(
            maker.contains(&format!("$dir/{base}")),
            "secrets.sh makes no {file}"
        );
    }
    for (name, service) in compose.services() {
        check_names(&compose, name, service);
    }
    let keeper = fs::read_to_string(".gitignore").unwrap();
    for line in ["/deploy/secrets/", ".env"] {
        assert!(
            keeper.lines().any(|known| known == line),
            "git would take {line}"
        );
    }
}

/// Volumes, secrets, networks and services that a service leans on.
fn check_names(compose: &Compose, name: &str, service: &Value) {
    let known = |kind: &str, wanted: &str| {
        let found = compose.map(kind).any(|(known, _)| known == wanted);
        assert!(found, "{name}: no {kind} has {wanted}");
    };
    strings(&service["networks"])
        .iter()
        .for_each(|n| known("networks", n));
    strings(&service["secrets"])
        .iter()
        .for_each(|s| known("secrets", s));
    for volume in strings(&service["volumes"]) {
        let from = volume.split(':').next().unwrap();
        if from.starts_with("./") {
            assert!(Path::new(from).exists(), "{name} mounts {from}");
        } else {
            known("volumes", from);
        }
    }
    let needed = service.get("depends_on").and_then(Value::as_object);
    for (other, how) in needed.into_iter().flatten() {
        known("services", other);
        assert_eq!(how["condition"], "service_healthy", "{name} on {other}");
    }
    for (variable, value) in files::variables(service) {
        if let Some(secret) = value.strip_prefix("/run/secrets/") {
            let own = strings(&service["secrets"]);
            assert!(own.iter().any(|name| name == secret), "{name}: {variable}");
        }
    }
}

#[test]
fn the_unit_keeps_history_where_systemd_makes_room() {
    let unit = Unit::read();
    let dir = format!("/var/lib/{}", unit.value("StateDirectory"));
    let variables = unit.variables();
    assert_eq!(variables["TIDEWALL_HISTORY"], format!("sqlite:{dir}"));
    assert_eq!(variables["TIDEWALL_HISTORY_DIR"], dir);
    assert_eq!(unit.value("WorkingDirectory"), dir);
    assert!(unit.value("ExecReload").contains("-HUP"));
    assert_eq!(unit.command()[0], "/usr/local/bin/tidewall");
    // 10,000 agents, of the 90 % that connections may take.
    assert!(16_384 <= unit.value("LimitNOFILE").parse().unwrap());
    let image = Dockerfile::read();
    assert_eq!(image.words("VOLUME"), [dir.as_str()]);
    assert_eq!(
        image.variables()["TIDEWALL_HISTORY"],
        format!("sqlite:{dir}")
    );
}
