//! Frames and the pictures they make, in `tests/vectors/frames/`: read by these tests, the
//! dashboard's and the load tests'. `TIDEWALL_BLESS=1 cargo test vectors` writes them anew.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::{env, fs};

use serde_json::{Value, json};

use super::reader::{self, Body, Outcome, Picture};
use super::view::{Format, View};
use super::{
    Content, Encoder, Frame, Host, HostMetric, Line, Map, MetricStats, Names, Stamp, State, Stats,
    Top, flag, websocket,
};
use crate::sample::Slot;

const VIEW: u32 = 7;

struct NoNames;

impl Names for NoNames {
    fn host(&self, _: Slot) -> &str {
        "-"
    }
}

/// One view's frames in the making.
struct Story {
    name: &'static str,
    kind: &'static str,
    about: &'static str,
    encoder: Encoder,
    tick: u64,
    flags: u16,
    payloads: Vec<Vec<u8>>,
}

impl Story {
    fn new(name: &'static str, view: &Value, about: &'static str) -> Story {
        let view = View::parse(view, Format::Binary).unwrap();
        Story {
            name,
            kind: view.kind.name(),
            about,
            encoder: Encoder::new(VIEW, &view),
            tick: 0,
            flags: 0,
            payloads: Vec::new(),
        }
    }

    fn map(name: &'static str, about: &'static str) -> Story {
        Story::new(name, &json!({"kind": "map", "metric": "cpu"}), about)
    }

    fn frame(&mut self, content: &Content) -> Frame {
        self.tick += 1;
        let stamp = Stamp {
            tick: self.tick,
            time_ms: 1_763_918_083_000 + 100 * self.tick as i64,
            tick_ms: 100,
            host_epoch: 12,
            flags: self.flags,
        };
        self.encoder.encode(content, &stamp, &NoNames, true)
    }

    /// The frame that a viewer with the frame before gets.
    fn next(mut self, content: &Content) -> Story {
        let frame = self.frame(content);
        self.push(&frame.delta.or(frame.key).unwrap())
    }

    fn key(mut self, content: &Content) -> Story {
        let frame = self.frame(content);
        self.push(&frame.key.unwrap())
    }

    /// A frame that this viewer never gets.
    fn skip(mut self, content: &Content) -> Story {
        self.frame(content);
        self
    }

    fn flags(mut self, flags: u16) -> Story {
        self.flags = flags;
        self
    }

    fn edit(mut self, edit: impl FnOnce(&mut Vec<u8>)) -> Story {
        edit(self.payloads.last_mut().unwrap());
        self
    }

    fn push(mut self, frame: &[u8]) -> Story {
        let payload = websocket::payload_of(frame).unwrap();
        self.payloads.push(payload.to_vec());
        self
    }

    fn vector(&self) -> Value {
        let mut picture = Picture::new(self.kind, VIEW).unwrap();
        let mut frames = Vec::new();
        for payload in &self.payloads {
            let frame = reader::parse(payload).unwrap();
            let outcome = match picture.apply(&frame) {
                Outcome::Applied => "applied",
                Outcome::NeedsResync => "needs_resync",
                Outcome::Ignored => "ignored",
            };
            let header = frame.header;
            let header = json!({
                "type": header.frame_type, "view": header.view, "seq": header.seq,
                "base_seq": header.base_seq, "time_ms": header.time_ms,
                "host_epoch": header.host_epoch, "flags": header.flags,
            });
            frames.push(json!({"hex": hex(payload), "outcome": outcome, "header": header}));
        }
        json!({
            "name": self.name, "kind": self.kind, "about": self.about, "view": VIEW,
            "frames": frames, "expect": expect(&picture),
        })
    }
}

/// A picture as JSON: NaN is null, texts that are JSON are parsed.
fn expect(picture: &Picture) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut body = match &picture.body {
        Body::Map {
            lo,
            hi,
            values,
            states,
        } => json!({"lo": lo, "hi": hi, "values": values, "states": states}),
        Body::Lines { head, points } => json!({"head": parsed(head), "points": points}),
        Body::Top { rows } => json!({"rows": rows}),
        Body::Host {
            head,
            values,
            state,
            age_ms,
            interval_ms,
        } => json!({
            "head": parsed(head), "values": values, "state": state, "age_ms": age_ms,
            "interval_ms": interval_ms,
        }),
        Body::Stats { json } => json!({"stats": parsed(json)}),
    };
    body["seq"] = json!(picture.header.unwrap().seq);
    body["stale"] = json!(picture.stale);
    body
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn map_of(values: Vec<f64>) -> Map {
    let states = values.iter().map(|value| {
        if value.is_nan() {
            State::None
        } else {
            State::Ok
        }
    });
    Map {
        metric: "cpu".into(),
        unit: "%".into(),
        lo: 0.0,
        hi: 100.0,
        states: states.collect(),
        values,
    }
}

/// `count` slots with values that differ; those in `changed` are another value.
fn fleet(count: usize, changed: &[usize]) -> Content {
    let value = |slot: usize| (slot * 37 % 101) as f64;
    let values = (0..count).map(|slot| {
        if changed.contains(&slot) {
            100.0 - value(slot) + 0.7
        } else {
            value(slot)
        }
    });
    Content::Map(map_of(values.collect()))
}

fn stories() -> Vec<Story> {
    let mut all = map_stories();
    all.extend(flow_stories());
    all.extend(other_stories());
    all
}

fn map_stories() -> Vec<Story> {
    let calm = || fleet(64, &[]);
    let every: Vec<usize> = (0..64).collect();
    let scale = |lo, hi| {
        Content::Map(Map {
            unit: String::new(),
            lo,
            hi,
            ..map_of(vec![-40.0, 0.0, 12.5, 180.0, f64::NAN])
        })
    };
    let mut sick = map_of((0..64).map(f64::from).collect());
    sick.states[3] = State::Stale;
    sick.states[9] = State::Down;
    sick.states[10] = State::Muted;
    sick.states[62] = State::Warn;
    sick.states[63] = State::Crit;
    let healthy = Content::Map(map_of((0..64).map(f64::from).collect()));
    vec![
        Story::map("map_key", "a KEY with every slot").next(&calm()),
        Story::map("map_empty", "no slots yet").next(&fleet(0, &[])),
        Story::map("map_edges", "none, lo, hi, below, above, rounding").next(&edges()),
        Story::map("map_full", "all changed: FULL")
            .next(&calm())
            .next(&fleet(64, &every)),
        Story::map("map_bitmap", "10 of 64 changed: BITMAP")
            .next(&calm())
            .next(&fleet(64, &[0, 1, 7, 8, 15, 16, 31, 32, 62, 63])),
        Story::map("map_bitmap_odd", "4 of 21: a bitmap that is padded")
            .next(&fleet(21, &[]))
            .next(&fleet(21, &[0, 8, 19, 20])),
        Story::map("map_list16", "3 of 64 changed: LIST16, indices padded")
            .next(&calm())
            .next(&fleet(64, &[5, 44, 63])),
        Story::map("map_unchanged", "a DELTA without a section")
            .next(&calm())
            .next(&calm()),
        Story::map("map_states", "states change, values do not")
            .next(&healthy)
            .next(&Content::Map(sick)),
        Story::map("map_grows", "new slots at the end, some of them none")
            .next(&fleet(64, &[]))
            .next(&Content::Map(grown())),
        Story::map("map_shrinks", "slots go from the end, none changes")
            .next(&calm())
            .next(&fleet(40, &[])),
        Story::map("map_shrinks_to_nothing", "FULL of no elements")
            .next(&calm())
            .next(&fleet(0, &[])),
        Story::map("map_new_scale", "another lo or hi makes a KEY")
            .next(&scale(-100.0, 200.0))
            .next(&scale(-100.0, 500.0)),
        Story::map("map_list32", "made by hand: LIST32 of a small column")
            .next(&calm())
            .next(&fleet(64, &[5, 44, 63]))
            .edit(to_list32),
    ]
}

fn edges() -> Content {
    let edges = vec![
        f64::NAN,
        0.0,
        100.0,
        -0.001,
        100.001,
        0.198,
        0.199,
        50.0,
        99.8,
        f64::MAX,
        f64::MIN,
    ];
    Content::Map(Map {
        states: vec![State::Ok; edges.len()],
        ..map_of(edges)
    })
}

fn grown() -> Map {
    let Content::Map(mut map) = fleet(64, &[]) else {
        unreachable!("a fleet is a map")
    };
    map.values.extend([f64::NAN, f64::NAN, 7.0, f64::NAN]);
    let states = [State::None, State::None, State::Ok, State::None];
    map.states.extend(states);
    map
}

/// Widens the one LIST16 section of a frame.
fn to_list32(payload: &mut Vec<u8>) {
    let values = payload[32 + 16 + 8..32 + 16 + 8 + 3].to_vec();
    payload.truncate(32 + 16);
    payload[32] = 3;
    payload[32 + 8] = 16 + 3;
    for index in [5_u32, 44, 63] {
        payload.extend_from_slice(&index.to_le_bytes());
    }
    payload.extend_from_slice(&[0; 4]);
    payload.extend_from_slice(&values);
    payload.extend_from_slice(&[0; 5]);
}

/// Puts a section of an encoding from the future before all others.
fn add_unknown(payload: &mut Vec<u8>) {
    let section = [42, 9, 0, 0, 3, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0];
    let bytes = [0xee; 11];
    payload.splice(32..32, section.into_iter().chain(bytes).chain([0; 5]));
    payload[30] += 1;
}

fn flow_stories() -> Vec<Story> {
    let fleet = |changed: usize| fleet(24, &[changed]);
    vec![
        Story::map("flow_gap", "a missed frame: grey until the KEY")
            .next(&fleet(0))
            .next(&fleet(1))
            .skip(&fleet(2))
            .next(&fleet(3))
            .next(&fleet(4))
            .key(&fleet(5))
            .next(&fleet(6)),
        Story::map(
            "flow_gap_stays",
            "the picture of a viewer that waits for its KEY",
        )
        .next(&fleet(0))
        .skip(&fleet(1))
        .next(&fleet(2)),
        Story::map("flow_key_any_time", "a KEY applies after any skip")
            .next(&fleet(0))
            .skip(&fleet(1))
            .skip(&fleet(2))
            .key(&fleet(3)),
        Story::map("flow_other_view", "a frame of another view is ignored")
            .next(&fleet(0))
            .next(&fleet(1))
            .edit(|payload| payload[4] = 8),
        Story::map(
            "flow_other_type",
            "BACKFILL and REPLAY are no frames of the sequence",
        )
        .next(&fleet(0))
        .next(&fleet(1))
        .edit(|payload| payload[3] = 3),
        Story::map("flow_unknown_section", "skipped by its length")
            .next(&fleet(0))
            .edit(add_unknown)
            .next(&fleet(1))
            .edit(add_unknown),
        Story::map("flow_flags", "degraded, partial and rate lowered")
            .flags(flag::DEGRADED | flag::PARTIAL | flag::RATE_LOWERED)
            .next(&fleet(0)),
    ]
}

fn other_stories() -> Vec<Story> {
    let top = json!({"kind": "top", "metric": "cpu", "n": 3});
    let rows = |rows: &[(Slot, f64)]| {
        Content::Top(Top {
            metric: "cpu".into(),
            unit: "%".into(),
            rows: rows.to_vec(),
        })
    };
    let lines = json!({"kind": "lines", "exprs": ["p50(cpu)", "max(cpu)"], "by": "dc"});
    let total = json!({"kind": "lines", "exprs": ["sum(net)"]});
    let fra_iad = |values| line_set(&["fra", "iad"], values);
    let host = json!({"kind": "host", "host": "web-1"});
    let unseen = Content::Host(Host {
        name: "web-1".into(),
        ..Host::default()
    });
    let host_of = |values: [f64; 2], state, age_ms| Content::Host(web_1(&values, state, age_ms));
    vec![
        Story::new(
            "top",
            &top,
            "an odd number of rows, then an even one, then none",
        )
        .next(&rows(&[(17, 99.8), (3, 98.1), (70_000, -1.5e300)]))
        .next(&rows(&[(3, 98.2), (17, 97.0)]))
        .next(&rows(&[])),
        Story::new(
            "top_rows",
            &top,
            "an odd number of rows: the slots are padded",
        )
        .next(&rows(&[(17, 99.8), (3, 98.1), (70_000, -1.5e300)])),
        Story::new("lines", &lines, "by a tag, with a gap")
            .next(&fra_iad(&[23.1, 24.2, 99.8, 98.0]))
            .next(&fra_iad(&[23.2, f64::NAN, 99.9, f64::NAN])),
        Story::new("lines_new_set", &lines, "a group comes: a KEY")
            .next(&fra_iad(&[23.1, 24.2, 99.8, 98.0]))
            .next(&line_set(
                &["fra", "iad", "sin"],
                &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            )),
        Story::new("lines_total", &total, "no groups: null").next(&Content::Lines(vec![Line {
            expr: "sum(net)".into(),
            group: None,
            value: 1e12,
        }])),
        Story::new("host", &host, "a KEY and two DELTAs")
            .next(&host_of([53.2, 62.0], State::Ok, 40))
            .next(&host_of([53.2, 62.0], State::Stale, 3_140))
            .next(&host_of([f64::NAN, 63.5], State::Ok, 0)),
        Story::new("host_unseen", &host, "slot null, no metrics").next(&unseen),
        Story::new("host_appears", &host, "from unseen to seen: a KEY")
            .next(&unseen)
            .next(&host_of([53.2, 62.0], State::Ok, 40)),
        Story::new(
            "stats",
            &json!({"kind": "stats"}),
            "the default view's object",
        )
        .flags(flag::PARTIAL)
        .next(&Content::Stats(stats())),
    ]
}

fn line_set(groups: &[&str], values: &[f64]) -> Content {
    let names = ["p50(cpu)", "max(cpu)"]
        .into_iter()
        .flat_map(|expr| groups.iter().map(move |group| (expr, *group)));
    let lines = names.zip(values).map(|((expr, group), value)| Line {
        expr: expr.into(),
        group: Some(group.into()),
        value: *value,
    });
    Content::Lines(lines.collect())
}

fn web_1(values: &[f64], state: State, age_ms: u64) -> Host {
    let names = ["cpu", "disk.used{device=sda}"].iter().zip(values);
    let metrics = names.map(|(name, value)| HostMetric {
        name: (*name).into(),
        unit: "%".into(),
        value: *value,
        age_ms,
    });
    Host {
        name: "web-1".into(),
        slot: Some(3),
        state,
        age_ms,
        interval_ms: 1_000,
        node: None,
        cause: None,
        tags: vec![
            ("dc".into(), "fra".into()),
            ("note".into(), "\"é\"\n".into()),
        ],
        metrics: metrics.collect(),
    }
}

fn stats() -> Stats {
    Stats {
        ok: 9_874,
        stale: 96,
        down: 30,
        metrics: vec![MetricStats {
            name: "cpu".into(),
            unit: "%".into(),
            hosts: 9_970,
            min: 0.1,
            avg: 31.2,
            p50: 23.0,
            p95: 78.4,
            p99: 91.0,
            max: 99.8,
            top: vec![("web-17".into(), 99.8), ("db-3".into(), 98.1)],
        }],
    }
}

/// Frames that no reader may take, with what is wrong.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let whole = |changed: &[usize]| {
        let story = Story::map("", "")
            .next(&fleet(64, &[]))
            .next(&fleet(64, changed));
        story.payloads
    };
    let key = whole(&[]).swap_remove(0);
    let list = whole(&[5, 44, 63]).swap_remove(1);
    let bitmap = whole(&[0, 9, 18, 27, 36, 45]).swap_remove(1);
    let edit = |payload: &[u8], edit: fn(&mut Vec<u8>)| {
        let mut payload = payload.to_vec();
        edit(&mut payload);
        payload
    };
    vec![
        ("empty", Vec::new()),
        ("header cut", edit(&key, |p| p.truncate(31))),
        ("magic", edit(&key, |p| p[0] = b'X')),
        ("version 2", edit(&key, |p| p[2] = 2)),
        ("section header cut", edit(&key, |p| p.truncate(40))),
        ("payload cut", edit(&key, |p| p.truncate(p.len() - 8))),
        ("bytes after the end", edit(&key, |p| p.extend([0; 8]))),
        ("a section more than there is", edit(&key, |p| p[30] += 1)),
        ("length past the end", edit(&key, |p| p[32 + 11] = 0xff)),
        (
            "FULL count is not its length",
            edit(&key, |p| p[32 + 4] -= 1),
        ),
        ("unknown dtype", edit(&key, |p| p[32 + 1] = 77)),
        (
            "LIST16 index past the column",
            edit(&list, |p| p[32 + 12] = 63),
        ),
        ("LIST16 indices descend", edit(&list, |p| p[32 + 16] = 45)),
        (
            "LIST16 count is not its length",
            edit(&list, |p| p[32 + 4] = 2),
        ),
        (
            "BITMAP bit without a value",
            edit(&bitmap, |p| p[32 + 16] |= 2),
        ),
        (
            "BITMAP bit past the column",
            edit(&bitmap, |p| {
                p[32 + 12] = 63;
                p[32 + 16] &= 0xfe;
                p[32 + 16 + 7] |= 0x80;
            }),
        ),
    ]
}

/// A line per frame and picture, so that a diff shows which changed.
fn frames_text() -> String {
    let vectors = stories().into_iter().map(|story| {
        let vector = story.vector();
        let frames: Vec<String> = vector["frames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|frame| format!("    {frame}"))
            .collect();
        let head =
            ["name", "kind", "about", "view"].map(|key| format!("\"{key}\":{}", vector[key]));
        format!(
            "  {{{},\n   \"frames\":[\n{}],\n   \"expect\":{}}}",
            head.join(","),
            frames.join(",\n"),
            vector["expect"],
        )
    });
    let vectors: Vec<String> = vectors.collect();
    format!("[\n{}\n]\n", vectors.join(",\n"))
}

fn malformed_text() -> String {
    let vectors = malformed().into_iter().map(|(name, payload)| {
        assert!(reader::parse(&payload).is_err(), "{name}");
        format!("  {}", json!({"name": name, "hex": hex(&payload)}))
    });
    let vectors: Vec<String> = vectors.collect();
    format!("[\n{}\n]\n", vectors.join(",\n"))
}

#[test]
fn the_vectors_are_what_the_encoder_makes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/frames");
    for (name, text) in [
        ("frames.json", frames_text()),
        ("malformed.json", malformed_text()),
    ] {
        let path = format!("{folder}/{name}");
        if env::var_os("TIDEWALL_BLESS").is_some() {
            fs::create_dir_all(folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "{path} is old: see the head of this file");
    }
}
