//! The encoder against the reader, at the bound of a frame; and `tests/vectors/frames/`, whose
//! `backfill.json` the dashboard's tests read too: `TIDEWALL_BLESS=1 cargo test vectors`.
#![allow(clippy::unwrap_used)]

use std::{env, fs};

use serde_json::{Value, json};

use super::*;
use crate::frame::reader;
use crate::frame::vectors::hex;

const VIEW: u32 = 7;
const FROM_MS: i64 = 1_763_918_090_000;

fn backfill(names: &[(&str, Option<&str>)], values: &[&[f32]]) -> Backfill {
    let line = |((expr, group), values): (&(&str, Option<&str>), &&[f32])| PastLine {
        expr: (*expr).into(),
        group: group.map(Into::into),
        values: values.to_vec(),
    };
    Backfill {
        from_ms: FROM_MS,
        step_ms: 10_000,
        lines: names.iter().zip(values).map(line).collect(),
    }
}

/// `lines` lines of `points` points, with names of `name` bytes.
fn block(lines: usize, points: usize, name: usize) -> Backfill {
    let line = |at: usize| PastLine {
        expr: format!("{at:0name$}"),
        group: None,
        values: (0..points).map(|step| (1_000 * at + step) as f32).collect(),
    };
    Backfill {
        from_ms: FROM_MS,
        step_ms: 10_000,
        lines: (0..lines).map(line).collect(),
    }
}

fn payload(backfill: &Backfill, format: Format) -> Vec<u8> {
    let frame = backfill.encode(VIEW, format).unwrap();
    websocket::payload_of(&frame).unwrap().to_vec()
}

fn read(payload: &[u8]) -> Option<Backfill> {
    Backfill::read(&reader::parse(payload).unwrap())
}

/// The text twin's object, as the binary frame would have it.
fn read_text(text: &Value) -> Backfill {
    let lines = text["lines"].as_array().unwrap().iter().map(|line| {
        let values = line["values"].as_array().unwrap().iter();
        PastLine {
            expr: line["expr"].as_str().unwrap().into(),
            group: line["group"].as_str().map(Into::into),
            values: values
                .map(|value| value.as_f64().map_or(f32::NAN, |value| value as f32))
                .collect(),
        }
    });
    Backfill {
        from_ms: text["from"].as_i64().unwrap(),
        step_ms: u32::try_from(text["step_ms"].as_u64().unwrap()).unwrap(),
        lines: lines.collect(),
    }
}

/// Of everything that a frame may be too large for, the largest that fits is sent.
#[test]
fn points_are_left_out_evenly_until_the_frame_fits() {
    for format in [Format::Binary, Format::Json] {
        for (lines, points, name) in [
            (1, 360, 8),
            (4, 360, 8),
            (16, 360, 261),
            (100, 60, 8),
            (100, 360, 40),
            (100, 360, 100),
            (3, 1, 8),
        ] {
            let whole = block(lines, points, name);
            let frame = whole.encode(VIEW, format).unwrap();
            assert!(frame.len() <= BACKFILL_BYTES_MAX);
            let payload = websocket::payload_of(&frame).unwrap();
            let kept = match format {
                Format::Binary => read(payload).unwrap(),
                _ => read_text(&serde_json::from_slice(payload).unwrap()),
            };
            let stride = (kept.step_ms / whole.step_ms) as usize;
            assert_eq!(kept, whole.every(stride), "{lines} x {points}");
            let last = |of: &Backfill| of.lines[lines - 1].values.last().copied();
            assert_eq!(last(&kept), last(&whole));
            let denser = whole.every((stride - 1).max(1));
            let denser = match format {
                Format::Binary => denser.binary(VIEW),
                _ => denser.text(VIEW),
            };
            assert!(stride == 1 || BACKFILL_BYTES_MAX < denser.len());
        }
    }
}

#[test]
fn the_bound_is_met_to_the_byte() {
    let bytes = |backfill: &Backfill| backfill.binary(VIEW).len();
    let mut widest = block(4, 360, 8);
    // Sections end at multiples of 8.
    widest.lines[0].expr = "x".repeat(8 + BACKFILL_BYTES_MAX - bytes(&widest) - 4);
    assert_eq!(bytes(&widest), BACKFILL_BYTES_MAX - 4);
    assert_eq!(
        read(&payload(&widest, Format::Binary)),
        Some(widest.clone())
    );
    widest.lines[0].expr += "12345678";
    assert!(BACKFILL_BYTES_MAX < bytes(&widest));
    let thinned = read(&payload(&widest, Format::Binary)).unwrap();
    assert_eq!((thinned.step_ms, thinned.points()), (20_000, 180));
}

#[test]
fn what_is_no_frame_is_not_sent() {
    for nothing in [Backfill::default(), block(3, 0, 8), block(50, 60, 400)] {
        for format in [Format::Binary, Format::Json] {
            assert_eq!(nothing.encode(VIEW, format), None);
        }
    }
}

/// Name, what it is about, the frame, and the twin where there is one.
type Vector = (&'static str, &'static str, Vec<u8>, Option<Value>);

fn good() -> Vec<(&'static str, &'static str, Backfill)> {
    const NAN: f32 = f32::NAN;
    let grouped = [("p50(cpu)", Some("fra")), ("p50(cpu)", Some("\"é\"\n"))];
    vec![
        (
            "lines",
            "two lines of three points",
            backfill(
                &[("p50(cpu)", None), ("max(cpu)", None)],
                &[&[23.0, 24.5, 22.25], &[99.8, 98.0, 97.5]],
            ),
        ),
        (
            "gap",
            "the server was away: no line has a value; then one line has none",
            backfill(&grouped, &[&[1.0, NAN, NAN, -4.5], &[2.0, NAN, 1e30, 0.0]]),
        ),
        (
            "one_point",
            "an odd number of bytes: padded",
            backfill(&[("sum(disk.used{device=sda,mount=/})", None)], &[&[1e12]]),
        ),
    ]
}

fn vectors() -> Vec<Vector> {
    let good = good().into_iter().map(|(name, about, backfill)| {
        let text = serde_json::from_slice(&payload(&backfill, Format::Json)).unwrap();
        (name, about, payload(&backfill, Format::Binary), Some(text))
    });
    let bad = |name, about, edit: fn(&mut Vec<u8>)| {
        let mut payload = payload(&self::good()[0].2, Format::Binary);
        edit(&mut payload);
        (name, about, payload, None)
    };
    // Where the section of points begins, 8 before its payload of 6 x 4 bytes.
    const POINTS: usize = 16 + 24;
    let mut all: Vec<Vector> = good.collect();
    all.extend([
        bad("key", "a frame of another type", |p| p[3] = 1),
        bad("no_names", "the JSON is another column's", |p| {
            p[32 + 2] = 9;
        }),
        bad("no_points", "the points are another column's", |p| {
            let at = p.len() - POINTS;
            p[at + 2] = 9;
        }),
        bad("lines_missing", "three lines of two for two names", |p| {
            let at = p.len() - POINTS;
            (p[at + 4], p[at + 12]) = (3, 2);
        }),
        bad("no_json", "names that do not parse", |p| p[32 + 16] = b'['),
        bad("no_step", "a step of nothing", |p| {
            let text = b"\"step_ms\":10000";
            let at = p.windows(text.len()).position(|bytes| bytes == text);
            let at = at.unwrap() + 10;
            p[at..at + 5].copy_from_slice(b"    0");
        }),
    ]);
    all
}

/// The bytes that neither section could have: no reader takes them for a frame.
fn malformed() -> Vec<u8> {
    let mut payload = payload(&good()[0].2, Format::Binary);
    let at = payload.len() - 40;
    payload[at + 12] = 4;
    payload
}

fn expect(payload: &[u8]) -> Value {
    let frame = reader::parse(payload).unwrap();
    read(payload).map_or(Value::Null, |read| {
        let lines = read.lines.iter();
        let line = |l: &PastLine| json!({"expr": l.expr, "group": l.group, "values": l.values});
        json!({
            "view": frame.header.view, "time_ms": frame.header.time_ms, "from": read.from_ms,
            "step_ms": read.step_ms, "lines": lines.map(line).collect::<Vec<_>>(),
        })
    })
}

fn vectors_text() -> String {
    let vectors = vectors().into_iter().map(|(name, about, payload, text)| {
        let expect = expect(&payload);
        let hex = hex(&payload);
        format!(
            "  {{\"name\":\"{name}\",\"about\":\"{about}\",\n   \"hex\":\"{hex}\",\n   \
             \"text\":{},\n   \"expect\":{expect}}}",
            text.unwrap_or_default(),
        )
    });
    let vectors: Vec<String> = vectors.collect();
    format!("[\n{}\n]\n", vectors.join(",\n"))
}

#[test]
fn the_vectors_are_what_the_encoder_makes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/frames");
    let (path, text) = (format!("{folder}/backfill.json"), vectors_text());
    if env::var_os("TIDEWALL_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "{path} is old: see the head of this file");
}

#[test]
fn both_dialects_tell_the_same() {
    for (name, _, backfill) in good() {
        let binary = read(&payload(&backfill, Format::Binary)).unwrap();
        let text: Value = serde_json::from_slice(&payload(&backfill, Format::Json)).unwrap();
        // NaN is no number's equal.
        assert_eq!(format!("{binary:?}"), format!("{backfill:?}"), "{name}");
        let twin = read_text(&text);
        assert_eq!(format!("{twin:?}"), format!("{backfill:?}"), "{name}");
        let head = ["view", "type", "seq", "base_seq", "epoch", "flags", "kind"];
        let head = head.map(|key| text[key].clone());
        let expected = json!([VIEW, "backfill", 0, 0, 0, [], "lines"]);
        assert_eq!(json!(head), expected, "{name}");
        let last = backfill.from_ms + 10_000 * (backfill.points() as i64 - 1);
        assert_eq!(text["time"], last, "{name}");
    }
}

#[test]
fn a_frame_of_points_that_are_not_there_does_not_parse() {
    assert_eq!(
        reader::parse(&malformed()),
        Err(reader::ParseError::Section(1))
    );
}
