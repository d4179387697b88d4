//! The encoder against the reader, and the text twin against the binary.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::reader::{self, Body, Outcome, Picture};
use super::view::{Format, View};
use super::{
    Content, Encoder, Frame, Host, HostMetric, Line, Map, Names, Stamp, State, Stats, Top, flag,
    json as twin, websocket,
};
use crate::sample::Slot;

struct TestNames;

impl Names for TestNames {
    fn host(&self, slot: Slot) -> &str {
        ["zero", "one \"1\"", "two", "three"][slot as usize % 4]
    }
}

fn view(view: &Value, format: Format) -> View {
    View::parse(view, format).unwrap()
}

fn map_view(format: Format) -> View {
    view(&json!({"kind": "map", "metric": "cpu"}), format)
}

fn stamp(tick: u64) -> Stamp {
    Stamp {
        tick,
        time_ms: 1_763_918_083_000,
        tick_ms: 100,
        host_epoch: 3,
        flags: 0,
    }
}

fn map(lo: f64, hi: f64, rows: &[(f64, State)]) -> Content {
    Content::Map(Map {
        metric: "cpu".into(),
        unit: "%".into(),
        lo,
        hi,
        values: rows.iter().map(|row| row.0).collect(),
        states: rows.iter().map(|row| row.1).collect(),
    })
}

fn text(frame: &[u8]) -> Value {
    serde_json::from_slice(websocket::payload_of(frame).unwrap()).unwrap()
}

fn quantised(value: f64, lo: f64, hi: f64) -> u8 {
    match value {
        v if v.is_nan() => 255,
        v if v < lo => 253,
        v if v > hi => 254,
        _ if hi == lo => 0,
        v => ((v - lo) * 252.0 / (hi - lo) + 0.5).floor() as u8,
    }
}

/// The picture that `content` should make.
fn naive(content: &Content) -> Body {
    match content {
        Content::Map(map) => Body::Map {
            lo: map.lo,
            hi: map.hi,
            values: map
                .values
                .iter()
                .map(|v| quantised(*v, map.lo, map.hi))
                .collect(),
            states: map.states.iter().map(|state| *state as u8).collect(),
        },
        Content::Lines(lines) => {
            let names = lines
                .iter()
                .map(|l| json!({"expr": l.expr, "group": l.group}));
            Body::Lines {
                head: json!({"lines": names.collect::<Vec<_>>()}).to_string(),
                points: lines.iter().map(|line| line.value as f32).collect(),
            }
        }
        Content::Top(top) => Body::Top {
            rows: top.rows.clone(),
        },
        Content::Host(host) => {
            let metrics = host
                .metrics
                .iter()
                .map(|m| json!({"name": m.name, "unit": m.unit}));
            let metrics: Vec<Value> = metrics.collect();
            let tags: serde_json::Map<_, _> = host
                .tags
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
            let head =
                json!({"host": host.name, "slot": host.slot, "tags": tags, "metrics": metrics});
            Body::Host {
                head: head.to_string(),
                values: host.metrics.iter().map(|metric| metric.value).collect(),
                state: f64::from(host.state as u8),
                age_ms: host.age_ms as f64,
                interval_ms: host.interval_ms as f64,
            }
        }
        Content::Stats(_) => unreachable!("not generated"),
    }
}

/// Comparable: NaN by its name, JSON without regard to the order of keys.
fn shown(body: &Body) -> String {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    match body {
        Body::Lines { head, points } => format!("{} {points:?}", parsed(head)),
        Body::Host { head, values, .. } => format!("{} {values:?} {:?}", parsed(head), {
            let mut rest = body.clone();
            if let Body::Host { head, values, .. } = &mut rest {
                head.clear();
                values.clear();
            }
            rest
        }),
        other => format!("{other:?}"),
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(0.0),
        Just(100.0),
        -10.0..120.0,
        (0_u32..=252).prop_map(|step| (f64::from(step) + 0.5) * 100.0 / 252.0),
    ]
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::None),
        Just(State::Ok),
        Just(State::Ok),
        Just(State::Stale),
        Just(State::Down),
        Just(State::Crit),
    ]
}

fn scale() -> impl Strategy<Value = (f64, f64)> {
    prop_oneof![
        8 => Just((0.0, 100.0)),
        1 => Just((-10.0, 20.0)),
        1 => Just((0.0, 0.0)),
    ]
}

/// How the next content differs from the one before.
#[derive(Clone, Debug)]
enum Change {
    Rows(Vec<(usize, f64, State)>),
    All(Vec<(f64, State)>),
    Scale((f64, f64)),
    Nothing,
}

fn change() -> impl Strategy<Value = Change> {
    let row = (0_usize..400, value(), state());
    prop_oneof![
        6 => prop::collection::vec(row, 0..12).prop_map(Change::Rows),
        2 => prop::collection::vec((value(), state()), 0..300).prop_map(Change::All),
        1 => scale().prop_map(Change::Scale),
        1 => Just(Change::Nothing),
    ]
}

fn apply_change(change: Change, scale: &mut (f64, f64), rows: &mut Vec<(f64, State)>) {
    match change {
        Change::Rows(changes) => {
            for (at, value, state) in changes {
                if let Some(row) = rows.get_mut(at) {
                    *row = (value, state);
                }
            }
        }
        Change::All(all) => *rows = all,
        Change::Scale(new) => *scale = new,
        Change::Nothing => {}
    }
}

/// What becomes of a frame on its way to the viewer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Arrives,
    Lost,
    /// The viewer asked for a KEY before.
    Key,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![8 => Just(Way::Arrives), 1 => Just(Way::Lost), 1 => Just(Way::Key)]
}

fn small_content(kind: usize) -> BoxedStrategy<Content> {
    let top = prop::collection::vec((any::<u32>(), -1e9..1e9), 0..5);
    let lines = prop::collection::vec(value(), 1..4);
    let host = (prop::collection::vec(value(), 0..3), state(), 0_u64..10_000);
    match kind {
        0 => top
            .prop_map(|rows| {
                Content::Top(Top {
                    rows,
                    ..Top::default()
                })
            })
            .boxed(),
        1 => lines
            .prop_map(|values| {
                let line = |(index, value)| Line {
                    expr: "p50(cpu)".into(),
                    group: Some(format!("g{index}")),
                    value,
                };
                Content::Lines(values.into_iter().enumerate().map(line).collect())
            })
            .boxed(),
        _ => host
            .prop_map(|(values, state, age_ms)| {
                let metric = |(index, value)| HostMetric {
                    name: format!("m{index}"),
                    unit: "%".into(),
                    value,
                    age_ms,
                };
                Content::Host(Host {
                    name: "web-1".into(),
                    slot: Some(3),
                    state,
                    age_ms,
                    interval_ms: 1_000,
                    node: None,
                    cause: None,
                    tags: vec![("dc".into(), "fra".into())],
                    metrics: values.into_iter().enumerate().map(metric).collect(),
                })
            })
            .boxed(),
    }
}

/// Sends contents by ways and checks the picture after each. A viewer that misses a frame must
/// notice with the next delta, and be whole with the next KEY.
fn play(view: &View, steps: Vec<(Content, Way)>) {
    let mut encoder = Encoder::new(9, view);
    let mut picture = Picture::new(view.kind.name(), 9).unwrap();
    let mut wants_key = false;
    for (tick, (content, way)) in (1..).zip(steps) {
        let wished = way == Way::Key || wants_key;
        let frame = encoder.encode(&content, &stamp(tick), &TestNames, wished);
        assert!(frame.key.is_some() || frame.delta.is_some());
        if way == Way::Lost {
            continue;
        }
        let Frame { key, delta, .. } = frame;
        let bytes = if wished { key } else { delta.or(key) }.unwrap();
        let payload = websocket::payload_of(&bytes).unwrap();
        assert_eq!(payload.len() % 8, 0, "sections are aligned");
        let parsed = reader::parse(payload).unwrap();
        wants_key = match picture.apply(&parsed) {
            Outcome::Applied => {
                assert_eq!(shown(&picture.body), shown(&naive(&content)));
                false
            }
            Outcome::NeedsResync => {
                assert_eq!(parsed.header.frame_type, 2);
                true
            }
            Outcome::Ignored => panic!("the KEY came with the frame after the wish"),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_map_is_always_the_naive_picture(
        steps in prop::collection::vec((change(), way()), 1..40),
    ) {
        let (mut scale, mut rows) = ((0.0, 100.0), vec![(50.0, State::Ok); 200]);
        let contents = steps.into_iter().map(|(change, way)| {
            apply_change(change, &mut scale, &mut rows);
            (map(scale.0, scale.1, &rows), way)
        });
        play(&map_view(Format::Binary), contents.collect());
    }

    #[test]
    fn other_kinds_too(
        tops in prop::collection::vec((small_content(0), way()), 1..12),
        lines in prop::collection::vec((small_content(1), way()), 1..20),
        hosts in prop::collection::vec((small_content(2), way()), 1..20),
    ) {
        let lines_view = json!({"kind": "lines", "exprs": ["p50(cpu)"], "by": "dc"});
        play(&view(&json!({"kind": "top", "metric": "cpu"}), Format::Binary), tops);
        play(&view(&lines_view, Format::Binary), lines);
        play(&view(&json!({"kind": "host", "host": "web-1"}), Format::Binary), hosts);
    }

    #[test]
    fn the_text_twin_tells_the_same(
        steps in prop::collection::vec((change(), any::<bool>()), 1..20),
    ) {
        let (mut scale, mut rows) = ((0.0, 100.0), vec![(50.0, State::Ok); 40]);
        let mut encoder = Encoder::new(1, &map_view(Format::Json));
        let mut shown = std::collections::BTreeMap::new();
        for (tick, (change, wants_key)) in (1..).zip(steps) {
            apply_change(change, &mut scale, &mut rows);
            let content = map(scale.0, scale.1, &rows);
            let frame = encoder.encode(&content, &stamp(tick), &TestNames, wants_key);
            prop_assert!(frame.key.is_some() || !wants_key);
            let message = text(&frame.delta.or(frame.key).unwrap());
            if message["type"] == "key" {
                shown.clear();
            }
            for gone in message["gone"].as_array().into_iter().flatten() {
                prop_assert!(shown.remove(&gone.as_u64().unwrap()).is_some());
            }
            for row in message["hosts"].as_array().unwrap() {
                let old = shown.insert(row[0].as_u64().unwrap(), row.clone());
                prop_assert_ne!(old.as_ref(), Some(row), "an unchanged row was sent");
            }
            let expected = rows.iter().zip(0_u32..).filter(|(row, _)| row.1 != State::None);
            let expected: Vec<Value> = expected
                .map(|((value, state), slot)| {
                    let row = json!([slot, TestNames.host(slot), value, state.name()]);
                    // serde_json reads a number to within one ulp only: both sides go through it.
                    row.to_string().parse().unwrap()
                })
                .collect();
            let actual: Vec<Value> = shown.values().cloned().collect();
            prop_assert_eq!(actual, expected);
        }
    }

    #[test]
    fn no_bytes_harm_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = reader::parse(&bytes);
        let mut framed = b"TW\x01\x02\x09\0\0\0".to_vec();
        framed.extend(bytes);
        read_all(&[&framed]);
    }

    #[test]
    fn no_mutation_harms_the_reader(
        changes in prop::collection::vec(change(), 2..5),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (mut scale, mut rows) = ((0.0, 100.0), vec![(50.0, State::Ok); 70]);
        let mut encoder = Encoder::new(9, &map_view(Format::Binary));
        let mut payloads = Vec::new();
        for (tick, change) in (1..).zip(changes) {
            apply_change(change, &mut scale, &mut rows);
            let content = map(scale.0, scale.1, &rows);
            let frame = encoder.encode(&content, &stamp(tick), &TestNames, false);
            let bytes = frame.delta.or(frame.key).unwrap();
            payloads.push(websocket::payload_of(&bytes).unwrap().to_vec());
        }
        let last = payloads.last_mut().unwrap();
        for (at, byte) in edits {
            let at = at.index(last.len());
            last[at] = byte;
        }
        if is_cut {
            last.truncate(cut.index(last.len()));
        }
        read_all(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}

fn read_all(payloads: &[&[u8]]) {
    for kind in ["map", "lines", "top", "host", "stats"] {
        let mut picture = Picture::new(kind, 9).unwrap();
        for payload in payloads {
            if let Ok(frame) = reader::parse(payload) {
                picture.apply(&frame);
            }
        }
    }
}

#[test]
fn a_huge_column_is_refused() {
    let mut payload = b"TW\x01\x02".to_vec();
    payload.extend([0; 26]);
    payload.extend([1, 0]);
    payload.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend((crate::limits::READER_CELLS_MAX as u32).to_le_bytes());
    assert!(reader::parse(&payload).is_ok());
    let aux = payload.len() - 4;
    payload[aux..].copy_from_slice(&(crate::limits::READER_CELLS_MAX as u32 + 1).to_le_bytes());
    assert_eq!(reader::parse(&payload), Err(reader::ParseError::Section(0)));
}

#[test]
fn keys_are_made_when_wanted_or_due() {
    let calm = map(0.0, 100.0, &[(1.0, State::Ok)]);
    let wide = map(0.0, 200.0, &[(1.0, State::Ok)]);
    let mut encoder = Encoder::new(1, &map_view(Format::Binary));
    let mut check = |tick, content: &Content, wanted, expected: (bool, bool), base_seq| {
        let frame = encoder.encode(content, &stamp(tick), &TestNames, wanted);
        let actual = (frame.key.is_some(), frame.delta.is_some());
        assert_eq!(
            (actual, frame.base_seq),
            (expected, base_seq),
            "tick {tick}"
        );
    };
    check(1_000, &calm, false, (true, false), 0);
    check(1_001, &calm, false, (false, true), 1);
    check(1_002, &calm, true, (true, true), 2);
    check(1_099, &calm, false, (false, true), 3);
    check(1_100, &calm, false, (true, false), 0);
    check(1_101, &calm, false, (false, true), 5);
    check(1_150, &wide, false, (true, false), 0);
    check(1_249, &wide, false, (false, true), 7);
    check(1_250, &wide, true, (true, false), 0);
}

#[test]
fn a_lowered_view_says_so() {
    let content = map(0.0, 100.0, &[]);
    let lowered = map_view(Format::Binary).lowered();
    let mut encoder = Encoder::new(1, &lowered);
    let stamp = Stamp {
        flags: flag::PARTIAL,
        ..stamp(1)
    };
    let frame = encoder.encode(&content, &stamp, &TestNames, false);
    let key = frame.key.unwrap();
    let header = reader::parse(websocket::payload_of(&key).unwrap())
        .unwrap()
        .header;
    assert_eq!(header.flags, flag::PARTIAL | flag::RATE_LOWERED);
    let mut encoder = Encoder::new(1, &map_view(Format::Json).lowered());
    let frame = encoder.encode(&content, &stamp, &TestNames, false);
    assert_eq!(
        text(&frame.key.unwrap())["flags"],
        json!(["partial", "rate_lowered"])
    );
}

fn web_1() -> Host {
    Host {
        name: "web-1".into(),
        slot: Some(3),
        state: State::Ok,
        age_ms: 420,
        interval_ms: 1_000,
        tags: vec![("dc".into(), "fra".into())],
        node: None,
        cause: None,
        metrics: vec![HostMetric {
            name: "cpu".into(),
            unit: "%".into(),
            value: 53.2,
            age_ms: 420,
        }],
    }
}

#[test]
fn text_frames_have_the_documented_form() {
    let host_body = r#"{"name":"web-1","state":"ok","age_ms":420,"interval_ms":1000,"slot":3,
        "tags":{"dc":"fra"},"metrics":{"cpu":{"value":53.2,"unit":"%","age_ms":420}}}"#;
    let rows = map(
        0.0,
        100.0,
        &[
            (53.2, State::Ok),
            (1.0, State::None),
            (f64::NAN, State::Down),
        ],
    );
    for (asked, content, kind, body) in [
        (
            json!({"kind": "map", "metric": "cpu"}),
            rows,
            "map",
            r#"{"metric":"cpu","unit":"%","lo":0.0,"hi":100.0,
                "hosts":[[0,"zero",53.2,"ok"],[2,"two",null,"down"]]}"#,
        ),
        (
            json!({"kind": "lines", "exprs": ["p50(cpu)"]}),
            Content::Lines(vec![Line {
                expr: "p50(cpu)".into(),
                group: None,
                value: f64::NAN,
            }]),
            "lines",
            r#"{"lines":[{"expr":"p50(cpu)","group":null,"value":null}]}"#,
        ),
        (
            json!({"kind": "top", "metric": "cpu"}),
            Content::Top(Top {
                metric: "cpu".into(),
                unit: String::new(),
                rows: vec![(1, 99.8)],
            }),
            "top",
            r#"{"metric":"cpu","unit":"","rows":[[1,"one \"1\"",99.8]]}"#,
        ),
        (
            json!({"kind": "host", "host": "web-1"}),
            Content::Host(web_1()),
            "host",
            &format!(r#"{{"host":{host_body}}}"#),
        ),
    ] {
        let view = view(&asked, Format::Json);
        let mut expected: Value = serde_json::from_str(body).unwrap();
        let common = json!({"time": 1_763_918_083_000_i64, "epoch": 3, "flags": [], "kind": kind});
        expected
            .as_object_mut()
            .unwrap()
            .extend(common.as_object().unwrap().clone());
        let snapshot = twin::snapshot_json(&view, &content, &stamp(5), &TestNames);
        assert_eq!(
            serde_json::from_slice::<Value>(&snapshot).unwrap(),
            expected
        );

        let envelope = json!({"view": 4, "type": "key", "seq": 1, "base_seq": 0});
        expected
            .as_object_mut()
            .unwrap()
            .extend(envelope.as_object().unwrap().clone());
        let frame = Encoder::new(4, &view).encode(&content, &stamp(5), &TestNames, false);
        assert_eq!(text(&frame.key.unwrap()), expected);
        assert_eq!(frame.delta, None);
    }
}

#[test]
fn the_default_view_is_bare() {
    let stats = Content::Stats(Stats {
        ok: 2,
        stale: 1,
        ..Stats::default()
    });
    let bare = concat!(
        r#"{"seq":812,"time":1763918083000,"tick_ms":100,"flags":[],"#,
        r#""hosts":{"ok":2,"stale":1,"down":0},"metrics":{},"top":{}}"#
    );
    let default = View::default_view();
    let body = twin::snapshot_json(&default, &stats, &stamp(812), &TestNames);
    assert_eq!(String::from_utf8(body).unwrap(), bare);
    let frame = Encoder::new(1, &default).encode(&stats, &stamp(812), &TestNames, false);
    assert_eq!(
        websocket::payload_of(&frame.key.unwrap()),
        Some(bare.as_bytes())
    );

    let asked = view(&json!({"kind": "stats"}), Format::Json);
    let body = twin::snapshot_json(&asked, &stats, &stamp(812), &TestNames);
    let wrapped =
        format!(r#"{{"time":1763918083000,"epoch":3,"flags":[],"kind":"stats","stats":{bare}}}"#);
    assert_eq!(String::from_utf8(body).unwrap(), wrapped);
}
