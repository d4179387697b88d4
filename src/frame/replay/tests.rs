//! The frames against the reader, and `tests/vectors/frames/replay.json`, which the dashboard's
//! tests read too: `TIDEWALL_BLESS=1 cargo test vectors`.
#![allow(clippy::unwrap_used)]

use std::{env, fs};

use serde_json::{Value, json};

use super::*;
use crate::frame::reader::{self, Body, Outcome, Picture};
use crate::frame::vectors::hex;
use crate::frame::{Host, Map, State, Top, websocket};
use crate::limits::{HOSTS_MAX, REPLAYS_MAX};

const VIEW: u32 = 7;
const TIME_MS: i64 = 1_763_918_090_000;

fn payload(content: &Content) -> Vec<u8> {
    let frame = encode(VIEW, TIME_MS, 12, content).unwrap();
    websocket::payload_of(&frame).unwrap().to_vec()
}

fn map(values: &[f64], states: &[State]) -> Content {
    Content::Map(Map {
        metric: "cpu".into(),
        unit: String::new(),
        lo: 0.0,
        hi: 100.0,
        values: values.to_vec(),
        states: states.to_vec(),
    })
}

fn top() -> Content {
    Content::Top(Top {
        metric: "cpu".into(),
        unit: String::new(),
        rows: vec![(17, 99.8), (3, 98.1), (4, -0.5)],
    })
}

fn lines() -> Content {
    let line = |expr: &str, value| Line {
        expr: expr.into(),
        group: None,
        value,
    };
    Content::Lines(vec![line("p50(cpu)", 23.5), line("max(cpu)", f64::NAN)])
}

fn expect(kind: &str, payload: &[u8]) -> Value {
    let frame = reader::parse(payload).unwrap();
    let mut picture = Picture::new(kind, VIEW).unwrap();
    if !picture.rewind(&frame) {
        return Value::Null;
    }
    let header = picture.header.unwrap();
    let head = json!({"time_ms": header.time_ms, "epoch": header.host_epoch});
    let (body, also) = match &picture.body {
        Body::Map {
            lo,
            hi,
            values,
            states,
        } => (json!({"values": values, "states": states}), json!([lo, hi])),
        Body::Top { rows } => (json!({"rows": rows}), Value::Null),
        Body::Lines { head, points } => {
            let points: Vec<Value> = points.iter().map(|&point| json!(point)).collect();
            let head: Value = serde_json::from_str(head).unwrap();
            (json!({"head": head, "points": points}), Value::Null)
        }
        _ => panic!("a kind that is not replayed"),
    };
    json!({"head": head, "body": body, "scale": also})
}

fn vectors_text() -> String {
    let (ok, none) = (State::Ok, State::None);
    let some = map(&[0.0, f64::NAN, 50.0, 101.0], &[ok, ok, none, ok]);
    let edit = |content: &Content, edit: fn(&mut Vec<u8>)| {
        let mut payload = payload(content);
        edit(&mut payload);
        payload
    };
    let vectors = [
        (
            "map",
            "map",
            "a host without a value, one not shown",
            payload(&some),
        ),
        (
            "empty_map",
            "map",
            "no host at all",
            payload(&map(&[], &[])),
        ),
        ("top", "top", "three rows: padded", payload(&top())),
        ("lines", "lines", "two lines, a gap", payload(&lines())),
        ("key", "map", "a KEY is none", edit(&some, |p| p[3] = 1)),
        ("ranking", "map", "a ranking is no map", payload(&top())),
    ];
    let vectors = vectors.map(|(name, kind, about, payload)| {
        format!(
            "  {{\"name\":\"{name}\",\"kind\":\"{kind}\",\"about\":\"{about}\",\n   \
             \"hex\":\"{}\",\n   \"expect\":{}}}",
            hex(&payload),
            expect(kind, &payload)
        )
    });
    format!("[\n{}\n]\n", vectors.join(",\n"))
}

#[test]
fn the_vectors_are_what_the_encoder_makes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/frames");
    let (path, text) = (format!("{folder}/replay.json"), vectors_text());
    if env::var_os("TIDEWALL_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "{path} is old: see the head of this file");
}

#[test]
fn it_has_no_place_in_the_sequence() {
    let bytes = payload(&map(&[1.0], &[State::Ok]));
    let frame = reader::parse(&bytes).unwrap();
    let header = frame.header;
    assert_eq!((header.seq, header.base_seq, header.flags), (0, 0, 4));
    let mut picture = Picture::new("map", VIEW).unwrap();
    assert_eq!(picture.apply(&frame), Outcome::Ignored);
    let mut other = Picture::new("map", VIEW + 1).unwrap();
    assert!(!other.rewind(&frame));
    assert_eq!(encode(VIEW, 0, 0, &Content::Host(Host::default())), None);
}

/// What [`REPLAYS_MAX`] says that all of them hold.
#[test]
fn the_largest_is_two_bytes_a_slot() {
    let values = vec![f64::NAN; HOSTS_MAX];
    let frame = encode(VIEW, 0, 0, &map(&values, &vec![State::Ok; HOSTS_MAX])).unwrap();
    assert!(frame.len() <= 2 * HOSTS_MAX + 160, "{}", frame.len());
    assert!(REPLAYS_MAX * frame.len() < 3 << 20);
}
