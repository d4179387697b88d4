//! The sending side against a real node: agent, fleet and demo, by every protocol, in clear text
//! and by TLS, with and without tokens.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use serde_json::Value;
use tidewall::auth::tokens::hash_text;

use crate::support::{Node, eventually};

const PROTOCOLS: [&str; 3] = ["http1", "http2", "websocket"];

/// A folder for one test's files.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("tidewall-agents-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    /// Certificate and key for `localhost` alone.
    fn identity(&self) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (
            self.write("cert.pem", &made.cert.pem()),
            self.write("key.pem", &made.signing_key.serialize_pem()),
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tidewall(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewall"));
    command.args(line.split_ascii_whitespace());
    command
}

/// Runs a fleet to its end; its report, if it wrote one.
fn fleet(folder: &Folder, flags: &str) -> (Output, Value) {
    let path = folder.path("report.json");
    let _ = fs::remove_file(&path);
    let line = format!("fleet --every 250ms --for 1s --report {path} {flags}");
    let output = tidewall(&line).output().unwrap();
    let report = fs::read(&path).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
    (output, report)
}

fn check_clean(folder: &Folder, flags: &str) -> Value {
    let (output, report) = fleet(folder, flags);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}{report:#}");
    assert_eq!(report["requests"]["intended"], 240, "{report:#}");
    assert_eq!(report["requests"]["acknowledged"], 240);
    report
}

/// A command that runs until it is dropped.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    fn start(line: &str) -> Running {
        let mut child = tidewall(line)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, stderr }
    }

    /// The next line of its log that has `part` in it, and those before.
    fn hears(&mut self, part: &str) -> String {
        let mut lines = String::new();
        loop {
            let start = lines.len();
            let count = self.stderr.read_line(&mut lines).unwrap();
            assert!(count > 0, "no {part:?} in {lines}");
            if lines[start..].contains(part) {
                return lines;
            }
        }
    }

    /// Ends it; what else it said.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_fleet_is_clean_by_every_protocol_and_the_books_agree() {
    let folder = Folder::new("clear");
    for via in PROTOCOLS {
        let node = Node::start(&[]);
        let flags = format!(
            "--to http://{} --servers 60 --viewers 3 --threads 2 --via {via}",
            node.address
        );
        let report = check_clean(&folder, &flags);
        let connections = if via == "http2" { 2 } else { 60 };
        assert_eq!(report["run"]["server_connections"], connections);
        let number = |value: &Value| value.as_u64().unwrap();
        let sent = number(&report["requests"]["samples_acknowledged"]);
        let probes = number(&report["probes"]["accepted"]);
        assert_eq!(sent, 2_400);
        let accepted = node.metric("tidewall_samples_accepted_total");
        assert_eq!(accepted, sent + probes, "{via}");
        let label = format!("tidewall_samples_accepted_total{{protocol=\"{via}\"}} ");
        let text = node.get("/metrics").body;
        let of_protocol = text.lines().find_map(|line| line.strip_prefix(&label));
        let of_protocol: u64 = of_protocol.unwrap().parse().unwrap();
        // A probe is a POST, by HTTP/1.1 where the servers have WebSockets.
        let probes = if via == "websocket" { 0 } else { probes };
        assert_eq!(of_protocol, sent + probes, "{via}");
    }
}

#[test]
fn a_fleet_and_its_viewers_go_through_tls() {
    let folder = Folder::new("tls");
    let (cert, key) = folder.identity();
    let node = Node::start(&["--tls-cert", &cert, "--tls-key", &key]);
    let port = node.address.port();
    for via in PROTOCOLS {
        let to = format!("--to https://localhost:{port} --ca {cert} --via {via}");
        let report = check_clean(&folder, &format!("{to} --servers 60 --viewers 3"));
        assert_eq!(report["viewers"]["connected"], 3);
        assert!(report["probes"]["seen"].as_u64() > Some(0), "{report:#}");
    }
    let stranger = fleet(
        &folder,
        &format!("--to https://localhost:{port} --servers 2"),
    );
    let words = String::from_utf8_lossy(&stranger.0.stderr).into_owned();
    assert_eq!(stranger.0.status.code(), Some(1), "{words}");
    assert!(words.contains("--ca FILE"), "{words}");
    let wrong_name = format!("--to wss://127.0.0.1:{port} --ca {cert} --servers 2");
    let words = fleet(&folder, &wrong_name).0.stderr;
    let words = String::from_utf8_lossy(&words);
    assert!(words.contains("give --to a name"), "{words}");
}

#[test]
fn a_fleet_with_a_token_may_do_all_it_does() {
    let folder = Folder::new("tokens");
    let hash = hash_text("good");
    let entry = "[[token]]\nname = \"fleet\"\nscopes = [\"ingest\", \"read\"]\n";
    let file = folder.write("tokens.toml", &format!("{entry}hash = \"{hash}\"\n"));
    let node = Node::start(&["--tokens", &file]);
    let to = format!("--to http://{} --servers 60", node.address);
    for via in PROTOCOLS {
        let report = check_clean(
            &folder,
            &format!("{to} --viewers 3 --frozen-viewers 1 --via {via} --token good"),
        );
        assert_eq!(report["viewers"]["connected"], 3);
    }
    let (output, report) = fleet(
        &folder,
        &format!("{to} --viewers 0 --via http2 --token bad"),
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["requests"]["refused"]["401"], 240, "{report:#}");
}

#[test]
fn an_agent_s_machine_is_on_the_wall() {
    let folder = Folder::new("agent");
    let (cert, key) = folder.identity();
    let clear = Node::start(&[]);
    for via in PROTOCOLS {
        let to = format!("--to http://{} --via {via}", clear.address);
        let agent = Running::start(&format!("agent {to} --every 200ms --host box-{via}"));
        eventually(via, || {
            let host = clear.get(&format!("/api/snapshot?kind=host&host=box-{via}"));
            host.status == 200 && host.body.contains("\"cpu\"")
        });
        assert_eq!(agent.end(), "", "nothing to complain of");
    }
    let secure = Node::start(&["--tls-cert", &cert, "--tls-key", &key]);
    let port = secure.address.port();
    for via in PROTOCOLS {
        let to = format!("--to https://localhost:{port} --via {via} --every 200ms");
        let mut agent = Running::start(&format!("agent {to} --ca {cert} --log info"));
        agent.hears("delivering to https://localhost");
        let mut stranger = Running::start(&format!("agent {to}"));
        let words = stranger.hears("is away");
        assert!(words.contains("--ca FILE"), "{words}");
    }
}

/// A stop says GOAWAY: the agent finds the server away, and nothing wrong with its words.
#[test]
fn a_stop_is_no_error_of_http2() {
    let mut node = Node::start(&[]);
    let to = format!("--to http://{} --via http2", node.address);
    let mut agent = Running::start(&format!("agent {to} --every 50ms --log info"));
    agent.hears("delivering to");
    node.signal("-TERM");
    assert_eq!(node.wait().code(), Some(0));
    let words = agent.hears("is away");
    for error in ["HTTP/2", "anew", "stream"] {
        assert!(!words.contains(error), "{words}");
    }
}

#[test]
fn a_demo_trusts_its_own_certificate() {
    let line = "demo --tls --listen 127.0.0.1:0 --cores 1 --no-pin --servers 5 --log info";
    let mut demo = Running::start(line);
    let words = demo.hears("delivering to https://127.0.0.1");
    assert!(!words.contains(" WARN"), "{words}");
}
