//! A node on its way out: not ready first, so that a balancer looks elsewhere, then gone in order.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::{Node, binary, eventually};
use crate::tls::Files;

const DOC: &str = r#"{"host":"web-1","metrics":{"cpu":53.2}}"#;

fn ready(flags: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("ready").args(flags).output().unwrap()
}

/// Exit code and what was said of it.
fn ask(url: &str) -> (Option<i32>, String) {
    let output = ready(&["--to", url]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_node_that_is_to_stop_says_so_and_goes_on_until_told_again() {
    let mut node = Node::start(&["--drain", "60s"]);
    let url = format!("http://{}", node.address);
    let mut viewer = node.live(None);
    let mut held = node.connect();
    assert_eq!(ask(&url), (Some(0), String::new()));
    node.signal("-TERM");
    eventually("no readiness", || node.get("/readyz").status == 503);
    let (code, said) = ask(&url);
    assert_eq!(code, Some(1));
    assert!(said.ends_with("is not ready: 503 stopping\n"), "{said}");
    // A reload is no second signal to stop.
    node.signal("-HUP");
    assert_eq!(node.get("/healthz").status, 200);
    for connection in [&mut held, &mut node.connect()] {
        assert_eq!(connection.post(DOC).unwrap().status, 201);
    }
    eventually("the host", || viewer.next_json()["hosts"]["ok"] == 1);
    node.signal("-TERM");
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_drain_ends_by_itself_and_by_default_there_is_none() {
    for (flags, least) in [(&["--drain", "700ms"][..], 700), (&[], 0)] {
        let mut node = Node::start(flags);
        let began = Instant::now();
        node.signal("-INT");
        assert_eq!(node.wait().code(), Some(0));
        assert!(Duration::from_millis(least) <= began.elapsed());
    }
}

#[test]
fn a_drain_past_its_bound_is_refused() {
    let serve = |drain: &str| {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--drain", drain]);
        command.output().unwrap()
    };
    let refused = serve("60001ms");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("--drain 60.001s: must be at most 60s"),
        "{said}"
    );
}

#[test]
fn who_asks_a_node_hears_why_it_is_not_ready() {
    let files = Files::new("ready");
    let node = files.node();
    let url = format!("https://localhost:{}", node.address.port());
    let ca = files.cert.to_str().unwrap();
    eventually("readiness", || {
        ready(&["--to", &url, "--ca", ca]).status.success()
    });
    let (code, said) = ask(&url);
    assert_eq!(code, Some(1));
    assert!(said.contains("--ca FILE"), "{said}");
    let (code, said) = ask("http://127.0.0.1:1");
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot ask http://127.0.0.1:1: "), "{said}");
    let missing = ready(&["--to", &url, "--ca", "missing.pem"]);
    assert_eq!(missing.status.code(), Some(2));
}
