//! The agent against a server that answers as told.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;

use super::mock::http2::Http2Mock;
use super::mock::tls::Front;
use super::mock::{Mock, accept};
use super::{AgentArgs, Background, spawn_background};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: AgentArgs,
}

fn args(url: &str, more: &[&str]) -> AgentArgs {
    let line = [
        "agent", "--to", url, "--every", "100ms", "--host", "box", "--tag", "dc=fra",
    ];
    Cli::try_parse_from(line.iter().chain(more)).unwrap().args
}

fn start(url: &str, more: &[&str]) -> Background {
    spawn_background(&args(url, more)).unwrap()
}

fn documents(body: &str) -> Vec<Value> {
    match serde_json::from_str(body).unwrap() {
        Value::Array(documents) => documents,
        document => vec![document],
    }
}

#[test]
fn readings_come_on_time_with_units_first() {
    let mock = Mock::accepting();
    let agent = start(&mock.url(), &[]);
    let bodies = mock.wait_for(4);
    drop(agent);
    let first = documents(&bodies[0]);
    assert_eq!(first[0]["host"], "box");
    assert_eq!(first[0]["tags"]["dc"], "fra");
    let cpu = first.iter().find(|d| d["metric_type"] == "cpu").unwrap();
    assert_eq!(
        (&cpu["unit"], &cpu["host"]),
        (&Value::from("%"), &Value::from("box"))
    );
    let mut last = 0;
    for body in &bodies[1..] {
        let document: Value = serde_json::from_str(body).unwrap();
        assert!(document["metrics"]["cpu"].is_number() && document["metrics"]["mem"].is_number());
        let time = document["time"].as_i64().unwrap();
        assert!(time > last);
        last = time;
    }
}

#[test]
fn readings_wait_for_a_server_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let agent = start(&format!("http://{address}"), &[]);
    std::thread::sleep(Duration::from_millis(400));
    let mock = Mock::on(TcpListener::bind(address).unwrap(), Box::new(accept), None);
    let bodies = mock.wait_for(3);
    drop(agent);
    let first = documents(&bodies[0]);
    let mut times: Vec<i64> = first.iter().map(|d| d["time"].as_i64().unwrap()).collect();
    times.dedup();
    assert!(
        times.len() >= 4,
        "{} readings in the first batch",
        times.len()
    );
    assert!(times.is_sorted() && times[times.len() - 1] - times[0] >= 150);
}

#[test]
fn a_busy_server_is_asked_again_when_it_said_to() {
    let mock = Mock::start(Box::new(|n, body| match n {
        0 => (503, "Retry-After: 1\r\n", "{\"error\":\"full\"}".to_owned()),
        _ => accept(n, body),
    }));
    let begun = Instant::now();
    let agent = start(&mock.url(), &[]);
    let bodies = mock.wait_for(2);
    let waited = begun.elapsed();
    drop(agent);
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    let (first, second) = (documents(&bodies[0]), documents(&bodies[1]));
    assert_eq!(first[0]["time"], second[0]["time"], "nothing was lost");
    assert!(
        second.len() > first.len(),
        "readings taken meanwhile come along"
    );
}

#[test]
fn refused_readings_are_dropped() {
    let mock = Mock::start(Box::new(|n, body| match n {
        0 => (422, "", "{\"error\":\"no\"}".to_owned()),
        1 => (400, "Connection: close\r\n", String::new()),
        _ => accept(n, body),
    }));
    let agent = start(&mock.url(), &[]);
    let bodies = mock.wait_for(4);
    drop(agent);
    let time = |body: &str| documents(body)[0]["time"].as_i64().unwrap();
    for pair in bodies.windows(2) {
        assert!(time(&pair[1]) > time(&pair[0]));
    }
}

#[test]
fn a_websocket_is_acknowledged_by_number() {
    let mock = Mock::start(Box::new(|n, body| match n {
        1 => (422, "", "missing_host".to_owned()),
        2 => (503, "", "ring_full".to_owned()),
        _ => accept(n, body),
    }));
    let agent = start(&mock.url(), &["--via", "websocket", "--token", "secret"]);
    let bodies = mock.wait_for(5);
    drop(agent);
    let seqs: Vec<u64> = bodies
        .iter()
        .map(|body| documents(body).last().unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(&seqs[..5], [1, 2, 3, 4, 5]);
    let time = |i: usize| documents(&bodies[i])[0]["time"].as_i64().unwrap();
    assert!(time(2) > time(1), "refused for good");
    assert_eq!(time(3), time(2), "refused for now");
}

#[test]
fn a_goodbye_costs_no_reading() {
    let server = Http2Mock::start(Box::new(|n, body| {
        let (status, _, text) = accept(n, body);
        (status, "Connection: close\r\n", text)
    }));
    let agent = start(&server.mock.url(), &["--via", "http2"]);
    let bodies = server.mock.wait_for(6);
    drop(agent);
    let times: Vec<i64> = bodies
        .iter()
        .map(|body| documents(body)[0]["time"].as_i64().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a < b), "each once: {times:?}");
    assert!(server.connections.load(Ordering::SeqCst) > 1);
}

#[test]
fn a_reading_that_was_turned_away_comes_again() {
    let check = |answers: u32| {
        let server = Http2Mock::with(Box::new(accept), 100, Some(answers));
        let agent = start(&server.mock.url(), &["--via", "http2"]);
        let bodies = server.mock.wait_for(2);
        drop(agent);
        let time = |body: &str| documents(body).last().unwrap()["time"].as_i64();
        assert!(time(&bodies[0]) < time(&bodies[1]), "each once");
        assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    };
    check(0);
    check(1);
}

#[test]
fn an_agent_goes_through_tls() {
    let check = |mock: &Mock, protocol: &str, via: &str| {
        let front = Front::of(mock.address, protocol);
        let mut args = args(&front.url(), &["--via", via]);
        args.trust = Some(front.certificate);
        let agent = spawn_background(&args).unwrap();
        mock.wait_for(3);
        assert!(agent.is_running());
    };
    check(&Mock::accepting(), "http/1.1", "http1");
    check(&Mock::accepting(), "http/1.1", "websocket");
    check(&Http2Mock::start(Box::new(accept)).mock, "h2", "http2");
}

#[test]
fn wrong_flags_are_refused() {
    let fails = |more: &[&str]| {
        let line = ["agent", "--to", "http://a"];
        assert!(
            Cli::try_parse_from(line.iter().chain(more)).is_err(),
            "{more:?}"
        );
    };
    fails(&["--every", "0s"]);
    fails(&["--to", "a"]);
    fails(&["--tag", "x"]);
    fails(&["--token", "a b"]);
    fails(&["--via", "pigeon"]);
    let missing = args("https://a", &["--ca", "/no-such-file"]);
    let error = spawn_background(&missing).err().unwrap();
    assert_eq!(error.exit_code(), 2);
}
