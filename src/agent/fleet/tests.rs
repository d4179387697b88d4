//! The whole fleet against a server that answers as told.

#![allow(clippy::unwrap_used)]

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use super::wire::build::{frame, full, json};
use super::*;
use crate::agent::mock::http2::Http2Mock;
use crate::agent::mock::tls::Front;
use crate::agent::mock::{Mock, accept, samples};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: FleetArgs,
}

fn args(url: &str, more: &str) -> FleetArgs {
    let time = if more.contains("--for") {
        ""
    } else {
        "--for 1s"
    };
    let line = format!("fleet --to {url} --every 100ms {time} {more}");
    Cli::try_parse_from(line.split_ascii_whitespace())
        .unwrap()
        .args
}

fn report(url: &str, more: &str) -> (Value, Verdict) {
    let report = measure(&args(url, more)).unwrap();
    (
        serde_json::from_str(&report.json()).unwrap(),
        report.verdict(),
    )
}

fn check_clean(more: &str) {
    let mock = Mock::accepting();
    check_clean_at(&mock.url(), &mock, more);
}

fn check_clean_at(url: &str, mock: &Mock, more: &str) -> Value {
    let (report, verdict) = report(url, more);
    assert_eq!(verdict, Verdict::Clean, "{report:#}");
    let requests = &report["requests"];
    assert_eq!(requests["intended"], 500);
    assert_eq!(requests["acknowledged"], 500);
    assert_eq!(requests["answer"]["count"], 500);
    let bodies = mock.bodies();
    let counted: usize = bodies.iter().map(|body| samples(body)).sum();
    assert_eq!(requests["samples_acknowledged"], counted);
    let hosts: std::collections::HashSet<String> = bodies
        .iter()
        .map(|body| serde_json::from_str::<Value>(body).unwrap()["host"].to_string())
        .collect();
    assert_eq!(hosts.len(), 50);
    report
}

#[test]
fn every_intended_request_is_sent_and_counted() {
    check_clean("--servers 50 --viewers 0 --metrics 7");
    check_clean("--servers 50 --viewers 0 --via websocket");
    check_clean("--servers 50 --viewers 0 --threads 3 --sources 2");
}

#[test]
fn servers_share_streams_as_the_server_allows() {
    let check = |streams_max: u32, threads: usize| {
        let server = Http2Mock::with(Box::new(accept), streams_max, None);
        let more = format!("--servers 50 --viewers 0 --via http2 --threads {threads}");
        let report = check_clean_at(&server.mock.url(), &server.mock, &more);
        assert_eq!(report["run"]["server_connections"], threads);
        assert_eq!(server.connections.load(Ordering::SeqCst), threads);
        let peak = server.streams_peak.load(Ordering::SeqCst);
        assert!(peak <= threads * streams_max as usize, "{peak} streams");
        assert_eq!(report["requests"]["reconnects"], 0);
    };
    check(100, 1);
    check(3, 1);
    check(1, 2);
}

#[test]
fn a_goodbye_moves_servers_to_another_connection() {
    let server = Http2Mock::start(Box::new(|n, body| match (n % 50, accept(n, body)) {
        (20, (status, _, text)) => (status, "Connection: close\r\n", text),
        (_, answer) => answer,
    }));
    let report = check_clean_at(
        &server.mock.url(),
        &server.mock,
        "--servers 50 --viewers 0 --via http2",
    );
    let reconnects = report["requests"]["reconnects"].as_u64().unwrap();
    assert!((1..=10).contains(&reconnects), "{reconnects}");
}

/// What a connection did not look at goes out by the next one.
#[test]
fn requests_that_were_turned_away_are_sent_again() {
    let server = Http2Mock::with(Box::new(accept), 100, Some(1));
    let (report, verdict) = report(&server.mock.url(), "--servers 5 --viewers 0 --via http2");
    assert_eq!(verdict, Verdict::Clean, "{report:#}");
    assert_eq!(report["requests"]["acknowledged"], 50);
    assert_eq!(server.mock.bodies().len(), 49);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

/// One that takes nothing at all is not asked again at once.
#[test]
fn a_connection_that_never_answered_is_a_loss() {
    let server = Http2Mock::with(Box::new(accept), 100, Some(0));
    let (report, verdict) = report(
        &server.mock.url(),
        "--servers 5 --viewers 0 --via http2 --for 3s",
    );
    assert_eq!(verdict, Verdict::Losses, "{report:#}");
    let requests = &report["requests"];
    let lost = requests["lost"].as_object().unwrap();
    assert!(lost["goaway"].as_u64() > Some(0), "{requests:#}");
    let lost: u64 = lost.values().map(|n| n.as_u64().unwrap()).sum();
    let acknowledged = requests["acknowledged"].as_u64().unwrap();
    assert_eq!(acknowledged + lost, 150, "{requests:#}");
    assert_eq!(server.mock.bodies().len() as u64, acknowledged);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[test]
fn refused_and_late_streams_are_counted_as_by_http1() {
    let server = Http2Mock::start(Box::new(|n, body| match n {
        3 => (503, "Retry-After: 1\r\n", String::new()),
        5 => (201, "Delay-Ms: 500\r\n", "{\"accepted\":10}".to_owned()),
        _ => accept(n, body),
    }));
    let (report, verdict) = report(
        &server.mock.url(),
        "--servers 10 --viewers 0 --via http2 --for 2s",
    );
    assert_eq!(verdict, Verdict::Losses);
    let requests = &report["requests"];
    assert_eq!(requests["refused"]["503"], 1);
    assert_eq!(requests["acknowledged"], 199, "{requests:#}");
    // Of that server's next four, each waited for it.
    assert!(requests["answer"]["max_ms"].as_f64().unwrap() > 490.0);
    assert_eq!(requests["answer"]["count"], 200);
}

#[test]
fn a_fleet_goes_through_tls() {
    let file = std::env::temp_dir().join(format!("tidewall-fleet-ca-{}", std::process::id()));
    let check = |mock: &Mock, protocol: &str, more: &str| {
        let front = Front::of(mock.address, protocol);
        std::fs::write(&file, &front.certificate).unwrap();
        let ca = file.display();
        check_clean_at(
            &front.url(),
            mock,
            &format!("--servers 50 --viewers 0 --ca {ca} {more}"),
        );
    };
    check(&Mock::accepting(), "http/1.1", "");
    check(
        &Mock::accepting(),
        "http/1.1",
        "--via websocket --threads 2",
    );
    check(
        &Http2Mock::start(Box::new(accept)).mock,
        "h2",
        "--via http2",
    );
    let mock = live_mock(false);
    let front = Front::of(mock.address, "http/1.1");
    std::fs::write(&file, &front.certificate).unwrap();
    let more = format!(
        "--servers 2 --viewers 3 --frozen-viewers 1 --ca {}",
        file.display()
    );
    let (report, verdict) = report(&front.url(), &more);
    assert_eq!(verdict, Verdict::Clean, "{report:#}");
    assert_eq!(report["viewers"]["frozen_connected"], 1);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn the_token_goes_with_every_request() {
    let mock = live_mock(false);
    for via in ["http1", "websocket"] {
        let more = format!("--servers 2 --viewers 1 --frozen-viewers 1 --token s3cret --via {via}");
        let (report, verdict) = report(&mock.url(), &more);
        assert_eq!(verdict, Verdict::Clean, "{report:#}");
    }
    let heads = mock.heads();
    for part in ["POST /api/metrics", "GET /api/metrics", "GET /api/live"] {
        assert!(heads.iter().any(|head| head.starts_with(part)), "{part}");
    }
    for head in heads {
        assert!(
            head.contains("\r\nAuthorization: Bearer s3cret\r\n"),
            "{head}"
        );
    }
}

#[test]
fn refusals_and_lost_connections_are_counted_and_the_sum_holds() {
    let mock = Mock::start(Box::new(|n, body| match n % 10 {
        3 => (503, "Retry-After: 1\r\n", String::new()),
        7 => (422, "", String::new()),
        9 if n == 59 => (201, "Connection: close\r\n", "{\"accepted\":10}".to_owned()),
        _ => accept(n, body),
    }));
    let (report, verdict) = report(&mock.url(), "--servers 20 --viewers 0");
    assert_eq!(verdict, Verdict::Losses);
    let requests = &report["requests"];
    let number = |value: &Value| value.as_u64().unwrap();
    let sum = |value: &Value| value.as_object().unwrap().values().map(number).sum::<u64>();
    assert_eq!(number(&requests["intended"]), 200);
    let settled = number(&requests["acknowledged"]);
    let (refused, lost) = (sum(&requests["refused"]), sum(&requests["lost"]));
    assert_eq!(settled + refused + lost, 200, "{requests:#}");
    assert!(requests["refused"]["503"].as_u64() > Some(10));
    assert!(requests["refused"]["422"].as_u64() > Some(10));
    assert!(lost > 0, "the closed one missed its turns: {requests:#}");
    assert_eq!(requests["reconnects"], 1);
}

#[test]
fn a_late_answer_counts_from_the_intended_time() {
    let mock = Mock::start(Box::new(|n, body| {
        if n == 0 {
            std::thread::sleep(Duration::from_millis(700));
        }
        accept(n, body)
    }));
    let (report, verdict) = report(&mock.url(), "--servers 1 --viewers 0");
    assert_eq!(verdict, Verdict::Clean);
    // Ten intended; the stall of seven intervals shows in seven of them, not in one.
    assert_eq!(report["requests"]["intended"], 10);
    let answer = &report["requests"]["answer"];
    assert!(answer["p50_ms"].as_f64().unwrap() > 50.0, "{answer}");
    assert!(answer["max_ms"].as_f64().unwrap() > 690.0, "{answer}");
}

/// Serves views as the protocol says: a KEY, then deltas; the probe's host shows the last value.
fn live(mut websocket: WebSocket<TcpStream>, value: &AtomicU64, skip: bool) {
    let tick = Duration::from_millis(20);
    websocket.get_ref().set_read_timeout(Some(tick)).unwrap();
    let _ = websocket.send(r#"{"op":"welcome","boot":"x","now":1,"tick_ms":20}"#.into());
    let mut views: Vec<u64> = Vec::new();
    let mut wants_key = [true; 4];
    for seq in 1u32.. {
        if skip && seq == 20 {
            continue;
        }
        while let Ok(Message::Text(text)) = websocket.read() {
            let message: Value = serde_json::from_str(&text).unwrap();
            let id = message["id"].as_u64().unwrap_or_default();
            match message["op"].as_str().unwrap() {
                "sub" => {
                    views.push(id);
                    let text = format!("{{\"op\":\"schema\",\"id\":{id},\"view\":{}}}", id + 70);
                    websocket.send(text.into()).unwrap();
                }
                "resync" => wants_key[id as usize] = true,
                op => assert_eq!(op, "ack"),
            }
        }
        for id in &views {
            let key = std::mem::take(&mut wants_key[*id as usize]);
            let probe = full(1, &[value.load(Ordering::SeqCst) as f64]);
            let names = json(r#"{"host":"fleet-probe","metrics":[{"name":"probe"}]}"#);
            let parts = match (*id, key) {
                (2, true) => vec![names, probe],
                (2, false) => vec![probe],
                _ => vec![],
            };
            let (kind, base) = if key { (1, 0) } else { (2, seq - 1) };
            let bytes = frame(kind, *id as u32 + 70, seq, base, &parts);
            if websocket.send(Message::Binary(bytes.into())).is_err() {
                return;
            }
        }
    }
}

fn live_mock(skip: bool) -> Mock {
    let value = Arc::new(AtomicU64::new(0));
    let seen = value.clone();
    let respond = move |n: usize, body: &str| {
        let document: Value = serde_json::from_str(body).unwrap();
        if document["host"] == probe::HOST {
            let number = document["metrics"][probe::METRIC].as_f64().unwrap();
            seen.store(number as u64, Ordering::SeqCst);
        }
        accept(n, body)
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let live = Arc::new(move |websocket| live(websocket, &value, skip));
    Mock::on(listener, Box::new(respond), Some(live))
}

#[test]
fn viewers_see_every_probe() {
    let mock = live_mock(false);
    let (report, verdict) = report(&mock.url(), "--servers 2 --viewers 4 --frozen-viewers 2");
    assert_eq!(verdict, Verdict::Clean, "{report:#}");
    let (viewers, probes) = (&report["viewers"], &report["probes"]);
    assert_eq!(viewers["connected"], 4);
    assert_eq!(viewers["frozen_connected"], 2);
    let number = |value: &Value| value.as_u64().unwrap();
    assert!(
        viewers["frames_per_second_min"].as_f64().unwrap() > 30.0,
        "{viewers:#}"
    );
    assert_eq!(
        number(&viewers["gaps"]) + number(&viewers["resyncs"]),
        0,
        "{viewers:#}"
    );
    assert_eq!(number(&viewers["errors"]), 0);
    assert_eq!(number(&probes["lost"]), 0);
    assert_eq!(
        number(&probes["seen"]),
        4 * number(&probes["sent"]),
        "{probes:#}"
    );
    assert!(probes["post_to_frame"]["p50_ms"].as_f64().unwrap() < 1_000.0);
}

#[test]
fn a_missed_frame_is_a_gap_and_heals() {
    let mock = live_mock(true);
    let (report, verdict) = report(&mock.url(), "--servers 0 --viewers 1");
    assert_eq!(verdict, Verdict::Clean, "{report:#}");
    let viewers = &report["viewers"];
    assert_eq!(viewers["gaps"], 3, "one a view: {viewers:#}");
    assert_eq!(viewers["resyncs"], 3);
}

#[test]
fn a_background_fleet_sends_until_dropped() {
    let mock = Mock::accepting();
    let target = Target::parse(&mock.url()).unwrap();
    let fleet = spawn_background(target, None, 5, Duration::from_millis(50), None).unwrap();
    mock.wait_for(20);
    assert!(fleet.is_running());
    drop(fleet);
    std::thread::sleep(Duration::from_millis(100));
    let before = mock.bodies().len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(mock.bodies().len(), before);
}

#[test]
fn what_cannot_run_says_why() {
    let fail = |url: &str, more: &str| measure(&args(url, more)).err().unwrap();
    let url = "http://127.0.0.1:1";
    assert!(matches!(
        fail(url, "--servers 0 --viewers 0"),
        FleetError::Nothing
    ));
    assert!(matches!(
        fail("http://[::1]:1", "--sources 2"),
        FleetError::Sources(_)
    ));
    let away = fail(url, "--servers 2 --viewers 1").to_string();
    assert!(away.contains("connection refused (3)"), "{away}");
    assert_eq!(
        fail("https://127.0.0.1:1", "--ca /no-such-file").exit_code(),
        2
    );
    let front = Front::of("127.0.0.1:1".parse().unwrap(), "http/1.1");
    let untrusted = fail(&front.url(), "--servers 1 --viewers 1").to_string();
    assert!(
        untrusted.contains("certificate not trusted (2)"),
        "{untrusted}"
    );
    assert!(untrusted.contains("--ca FILE"), "{untrusted}");
    assert!(Cli::try_parse_from(["fleet", "--to", url, "--metrics", "0"]).is_err());
    assert!(Cli::try_parse_from(["fleet", "--to", url, "--ramp", "0"]).is_err());
}

#[test]
fn many_connections_spread_over_sources() {
    let sources = |more: &str| plan(&args("http://127.0.0.1:1", more)).unwrap().sources;
    assert!(sources("--servers 24950 --viewers 50").is_empty());
    let two: Vec<String> = sources("--servers 25000")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(two, ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(sources("--sources 3").len(), 3);
    assert!(sources("--servers 65000 --via http2").is_empty());
}

#[test]
fn a_prefix_is_short_and_plain() {
    let parse = |prefix: &str| {
        let line = ["fleet", "--to", "http://127.0.0.1:1", "--prefix", prefix];
        Cli::try_parse_from(line).map(|cli| cli.args.prefix)
    };
    let longest = "x".repeat(FLEET_PREFIX_BYTES_MAX);
    assert_eq!(parse(&longest).unwrap(), longest);
    assert!(parse(&(longest + "x")).is_err());
    assert_eq!(parse("a-1._:").unwrap(), "a-1._:");
    let error = parse("a\"").unwrap_err().to_string();
    assert!(error.contains("a prefix is at most 64 bytes"), "{error}");
}
