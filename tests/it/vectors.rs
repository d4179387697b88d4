//! The shared ingest vectors over real HTTP: each bad body gets its status and a message that names
//! what is wrong, each good one is taken.

use serde_json::Value;

use crate::support::{Answer, Http, Node};

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn body(vector: &Value) -> Vec<u8> {
    if let Some(text) = vector["body"].as_str() {
        return text.as_bytes().to_vec();
    }
    let digits = vector["body_hex"].as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn post(http: &mut Http, vector: &Value) -> Answer {
    let body = body(vector);
    let content_type = vector["content_type"]
        .as_str()
        .unwrap_or("application/json");
    let encoding = vector["content_encoding"].as_str();
    let encoding = encoding.map_or_else(String::new, |e| format!("Content-Encoding: {e}\r\n"));
    let head = format!(
        "POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{encoding}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    http.send(&[head.as_bytes(), &body].concat()).unwrap();
    http.read().unwrap()
}

#[test]
fn each_bad_body_is_refused_by_name() {
    let node = Node::start(&[]);
    let mut http = node.connect();
    let bad = vectors(include_str!("../vectors/ingest_bad.json"));
    assert!(60 <= bad.len(), "{} bad bodies", bad.len());
    for vector in &bad {
        let answer = post(&mut http, vector);
        let name = &vector["name"];
        assert_eq!(vector["status"], answer.status, "{name}: {}", answer.body);
        let refusal: Value = serde_json::from_str(&answer.body).unwrap();
        let error = refusal["error"].as_str().unwrap();
        assert!(
            error.contains(vector["contains"].as_str().unwrap()),
            "{name}: {error}"
        );
        assert!(refusal["reason"].is_string(), "{name}");
    }
    assert_eq!(node.metric("tidewall_samples_accepted_total"), 0);
    assert_eq!(
        node.metric("tidewall_hosts"),
        0,
        "a refused body leaves no name behind"
    );
    assert!(bad.len() as u64 <= node.metric("tidewall_samples_rejected_total"));
}

#[test]
fn each_good_body_is_taken_whole() {
    let node = Node::start(&[]);
    let mut http = node.connect();
    let mut taken = 0;
    for vector in &vectors(include_str!("../vectors/ingest_good.json")) {
        let answer = post(&mut http, vector);
        let samples = vector["samples"].as_array().unwrap().len();
        let expected = format!("{{\"accepted\":{samples}}}");
        assert_eq!(
            (answer.status, answer.body),
            (201, expected),
            "{}",
            vector["name"]
        );
        taken += samples as u64;
    }
    assert_eq!(node.metric("tidewall_samples_accepted_total"), taken);
}
