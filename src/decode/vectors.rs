//! The bodies of `tests/vectors`, decoded without a server.

#![allow(clippy::unwrap_used)]

use serde::Deserialize;

use super::body::{BodyFault, Encoding, inflate};
use super::fault::{Fault, FaultKind};
use super::reference::{Measured, contents};
use super::{Batch, json, ndjson};

const NOW_MS: i64 = 1_763_918_083_000;
const BAD: &str = include_str!("../../tests/vectors/ingest_bad.json");
const GOOD: &str = include_str!("../../tests/vectors/ingest_good.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    name: String,
    body: Option<String>,
    body_hex: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    status: u16,
    reason: Option<String>,
    contains: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Good {
    name: String,
    body: Option<String>,
    body_hex: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    samples: Vec<GoodSample>,
    #[serde(default)]
    tags: serde_json::Map<String, serde_json::Value>,
    seq: Option<u64>,
    sent_at: Option<i64>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct GoodSample {
    host: String,
    metric: String,
    unit: String,
    value: f64,
    time_ms: Option<i64>,
}

enum Refusal {
    Body(BodyFault),
    Fault(Fault),
}

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Self::Body(BodyFault::TooBig | BodyFault::Ratio) => 413,
            Self::Body(BodyFault::Corrupt | BodyFault::Truncated) => 400,
            Self::Fault(fault) => match fault.kind() {
                FaultKind::Syntax => 400,
                FaultKind::Shape | FaultKind::Future => 422,
                FaultKind::TooMany => 413,
            },
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Body(fault) => fault.reason(),
            Self::Fault(fault) => fault.reason(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Body(fault) => fault.to_string(),
            Self::Fault(fault) => fault.to_string(),
        }
    }
}

fn bytes(body: Option<&String>, hex: Option<&String>) -> Vec<u8> {
    match (body, hex) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(hex)) => {
            let digits = hex.as_bytes().chunks(2);
            let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.map(byte).collect()
        }
        _ => panic!("a vector has either `body` or `body_hex`"),
    }
}

fn decode(
    input: &[u8],
    content_type: Option<&String>,
    encoding: Option<&String>,
    plain: &mut Vec<u8>,
    batch: &mut Batch,
) -> Result<(), Refusal> {
    let encoding = Encoding::parse(encoding.map_or("", String::as_str)).unwrap();
    inflate(encoding, input, plain).map_err(Refusal::Body)?;
    let lines = content_type.is_some_and(|value| value == "application/x-ndjson");
    let decode = if lines { ndjson::decode } else { json::decode };
    decode(plain, NOW_MS, batch).map_err(Refusal::Fault)
}

#[test]
fn bad_bodies_are_refused_with_the_reason() {
    let vectors: Vec<Bad> = serde_json::from_str(BAD).unwrap();
    assert!(vectors.len() >= 60);
    let (mut batch, mut plain) = (Batch::new(), Vec::new());
    let mut failures = Vec::new();
    for bad in vectors.iter().filter(|bad| bad.status != 415) {
        let input = bytes(bad.body.as_ref(), bad.body_hex.as_ref());
        let (media, encoding) = (bad.content_type.as_ref(), bad.content_encoding.as_ref());
        let Err(refusal) = decode(&input, media, encoding, &mut plain, &mut batch) else {
            failures.push(format!("{}: accepted", bad.name));
            continue;
        };
        let message = refusal.message();
        if refusal.status() != bad.status
            || Some(refusal.reason()) != bad.reason.as_deref()
            || !message.contains(&bad.contains)
        {
            let (status, reason) = (refusal.status(), refusal.reason());
            failures.push(format!("{}: {status} {reason} {message}", bad.name));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn good_bodies_become_their_samples() {
    let vectors: Vec<Good> = serde_json::from_str(GOOD).unwrap();
    let (mut batch, mut plain) = (Batch::new(), Vec::new());
    for good in &vectors {
        let input = bytes(good.body.as_ref(), good.body_hex.as_ref());
        let (media, encoding) = (good.content_type.as_ref(), good.content_encoding.as_ref());
        let result = decode(&input, media, encoding, &mut plain, &mut batch);
        assert!(
            result.is_ok(),
            "{}: {}",
            good.name,
            result.err().unwrap().message()
        );
        check_good(good, &batch, &plain);
    }
}

fn check_good(good: &Good, batch: &Batch, plain: &[u8]) {
    let documents = contents(batch, plain);
    let mut samples = Vec::new();
    let mut tags = serde_json::Map::new();
    for document in &documents {
        samples.extend(
            document
                .samples
                .iter()
                .map(|Measured { metric, unit, bits }| GoodSample {
                    host: document.host.clone(),
                    metric: metric.clone(),
                    unit: unit.clone(),
                    value: f64::from_bits(*bits),
                    time_ms: document.time_ms,
                }),
        );
        if !document.tags.is_empty() {
            let own = document
                .tags
                .iter()
                .map(|(key, value)| (key.clone(), value.clone().into()));
            tags.insert(
                document.host.clone(),
                serde_json::Value::Object(own.collect()),
            );
        }
    }
    assert_eq!(samples, good.samples, "{}", good.name);
    assert_eq!(batch.samples(), samples.len(), "{}", good.name);
    assert_eq!(tags, good.tags, "{}", good.name);
    if let [document] = &documents[..] {
        assert_eq!(
            (document.seq, document.sent_at),
            (good.seq, good.sent_at),
            "{}",
            good.name
        );
    }
}
