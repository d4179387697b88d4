//! Nodes that share a database: what one stored another tells, and neither waits for it.

use serde_json::Value;
use std::process::Command;

use crate::history::{Scratch, now_ms};
use crate::mariadb::Mariadb;
use crate::ship::patiently;
use crate::support::{Node, binary, eventually};

fn start(server: &Mariadb, scratch: &Scratch) -> Node {
    let (url, dir) = (server.url(server.port(), "wall"), scratch.path());
    Node::start(&["--history", &url, "--history-dir", dir])
}

/// Samples of the minutes before last, a second apart, for a host.
fn send(node: &Node, host: &str, values: std::ops::Range<u32>) -> i64 {
    let from_ms = (now_ms() / 60_000 - 4) * 60_000;
    let docs: Vec<String> = values
        .map(|value| {
            let time_ms = from_ms + i64::from(value) * 1_000;
            format!(r#"{{"host":"{host}","time":{time_ms},"metrics":{{"cpu":{value}}}}}"#)
        })
        .collect();
    let answer = node
        .connect()
        .post(&format!("[{}]", docs.join(",")))
        .unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    from_ms
}

fn points(node: &Node, query: &str) -> Vec<Value> {
    let answer = node.get(&format!("/api/history?{query}"));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    body["points"].as_array().cloned().unwrap_or_default()
}

#[test]
fn one_node_tells_what_another_stored() {
    let server = Mariadb::start(&[]);
    let (one, two) = (Scratch::new("shared-one"), Scratch::new("shared-two"));
    let first = start(&server, &one);
    let second = start(&server, &two);
    let from_ms = send(&first, "a", 0..120);
    send(&second, "b", 0..120);
    let shipped = |node: &Node| node.metric("tidewall_history_shipped_rows_total");
    patiently("rows", || 0 < shipped(&first) && 0 < shipped(&second));
    let range = format!("from={from_ms}&to={}", from_ms + 120_000);
    for (node, host) in [(&first, "b"), (&second, "a"), (&first, "a")] {
        let of_host = points(node, &format!("metric=cpu&host={host}&{range}&step=0"));
        assert_eq!(of_host.len(), 120, "{host}");
        let of_host = points(
            node,
            &format!("metric=cpu&host={host}&{range}&step=60000&stat=sum"),
        );
        assert_eq!(of_host[0][1], f64::from((0..60).sum::<u32>()), "{host}");
    }
    let fleet = points(&first, &format!("metric=cpu&{range}&step=60000&stat=count"));
    assert_eq!(fleet[0][1], 2.0, "a host of each node");
    let unknown = first.get(&format!("/api/history?metric=cpu&host=c&{range}"));
    assert_eq!(unknown.status, 404);
}

/// Absent from the start, come, killed and back: each row is there once, and nobody waited.
#[test]
fn a_database_that_comes_and_goes_costs_lag_and_nothing_else() {
    let mut server = Mariadb::start(&[]);
    server.kill();
    let scratch = Scratch::new("shared-away");
    let node = start(&server, &scratch);
    let from_ms = send(&node, "a", 0..60);
    let range = format!("from={from_ms}&to={}", from_ms + 180_000);
    let metric = |name: &str| node.metric(&format!("tidewall_{name}"));
    eventually("the store", || metric("samples_persisted_total") == 60);
    assert_eq!(
        points(&node, &format!("metric=cpu&host=a&{range}&step=0")).len(),
        60
    );
    eventually("the count", || 0 < metric("history_ship_errors_total"));
    assert_eq!(
        node.get("/readyz").status,
        200,
        "the node takes and keeps all the same"
    );
    server.restart();
    patiently("shipping", || 0 < metric("history_shipped_rows_total"));
    patiently("no lag", || metric("history_ship_lag_milliseconds") == 0);
    server.kill();
    send(&node, "a", 60..120);
    eventually("the store", || metric("samples_persisted_total") == 120);
    server.restart();
    let sums = "SELECT SUM(count), SUM(sum), COUNT(*) FROM minutes";
    let expected = (120_i64, f64::from((0..120).sum::<u32>()), 2_i64);
    patiently("every row once", || {
        server.select::<(i64, f64, i64)>(sums) == [expected]
    });
}

#[test]
fn migrate_says_what_it_does() {
    let server = Mariadb::start(&[]);
    let url = server.url(server.port(), "wall");
    let migrate = |url: &str| {
        let command = ["migrate", "--history", url];
        let output = Command::new(binary()).args(command).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (code, said) = migrate(&url);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("applied 0001 names"), "{said}");
    assert_eq!(
        migrate(&url),
        (
            Some(0),
            "nothing to do: the database is up to date\n".to_owned()
        )
    );
    assert_eq!(
        migrate("mysql://nobody@127.0.0.1:1").0,
        Some(2),
        "no database is named"
    );
    let (code, said) = migrate("mysql://nobody:secret@127.0.0.1:1/wall");
    assert_eq!(code, Some(1));
    assert!(!said.contains("secret"), "{said}");
}
