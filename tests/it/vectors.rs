//! The bodies of `tests/vectors` over real HTTP: what a sender hears of each.

use serde_json::Value;

use crate::support::{Answer, Node};

const BAD: &str = include_str!("../vectors/ingest_bad.json");
const GOOD: &str = include_str!("../vectors/ingest_good.json");

fn vectors(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap()
}

fn body(vector: &Value) -> Vec<u8> {
    let Some(hex) = vector["body_hex"].as_str() else {
        return vector["body"].as_str().unwrap().as_bytes().to_vec();
    };
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// On a connection of its own: some refusals end theirs.
fn post(node: &Node, vector: &Value) -> Answer {
    let body = body(vector);
    let media = vector["content_type"].as_str();
    let mut head = format!(
        "POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nContent-Type: {}\r\n",
        body.len(),
        media.unwrap_or("application/json")
    );
    if let Some(encoding) = vector["content_encoding"].as_str() {
        head += &format!("Content-Encoding: {encoding}\r\n");
    }
    let mut connection = node.connect();
    connection
        .send(&[head.as_bytes(), b"\r\n", &body].concat())
        .unwrap();
    connection.read().unwrap()
}

#[test]
fn bad_bodies_are_refused_and_leave_nothing_behind() {
    let (node, bad) = (Node::start(&[]), vectors(BAD));
    assert!(60 <= bad.len());
    let mut failures = Vec::new();
    for vector in &bad {
        let answer = post(&node, vector);
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        let error = said["error"].as_str().unwrap();
        let contains = vector["contains"].as_str().unwrap();
        if u64::from(answer.status) != vector["status"] || !error.contains(contains) {
            let (name, status) = (&vector["name"], answer.status);
            failures.push(format!("{name}: {status} {error:?}, not {contains:?}"));
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    assert_eq!(node.metric("tidewall_samples_accepted_total"), 0);
    let hosts: Value = serde_json::from_str(&node.get("/api/hosts").body).unwrap();
    assert_eq!(
        hosts["hosts"],
        Value::Array(Vec::new()),
        "names of refused samples"
    );
}

#[test]
fn good_bodies_are_taken_with_every_sample() {
    let (node, mut sum) = (Node::start(&[]), 0);
    for vector in vectors(GOOD) {
        let answer = post(&node, &vector);
        let samples = vector["samples"].as_array().unwrap().len();
        sum += samples as u64;
        assert_eq!(
            (answer.status, answer.body),
            (201, format!("{{\"accepted\":{samples}}}")),
            "{}",
            vector["name"]
        );
    }
    assert_eq!(node.metric("tidewall_samples_accepted_total"), sum);
}
