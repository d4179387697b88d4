//! Whatever a view shows, a viewer that gets its frames, misses some or asks for a KEY shows the
//! same; and the text twin tells what the binary frames tell.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tidewall::frame::reader::{Body, Outcome, Picture, parse};
use tidewall::frame::view::{Format, Kind, View};
use tidewall::frame::{
    Content, Encoder, Frame, Host, HostMetric, Line, Map, MetricStats, Names, Stamp, State, Stats,
    Top, websocket,
};
use tidewall::sample::Slot;

const VIEW: u32 = 7;

#[derive(Arbitrary, Debug)]
struct Story {
    kind: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
struct Step {
    change: Change,
    flags: u16,
    ticks: u8,
    wants_key: bool,
    is_lost: bool,
}

/// How a content differs from the one before.
#[derive(Arbitrary, Debug)]
enum Change {
    Nothing,
    Rows(Vec<(u16, Number, u8)>),
    /// Modulo a few thousand, or just around the widths where encodings change.
    Length(u16),
    Scale(Number, Number),
    Names(Vec<String>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Any(f64),
    /// In the middle between two of a map's steps, or close by.
    Step(u8, i8),
    Whole(i16),
    Nan,
}

impl Number {
    fn value(self) -> f64 {
        match self {
            Number::Any(value) if value.is_infinite() => f64::MAX.copysign(value),
            Number::Any(value) => value,
            Number::Step(step, off) => {
                let middle = (f64::from(step) + 0.5) * 100.0 / 252.0;
                f64::from_bits(middle.to_bits().wrapping_add_signed(off.into()))
            }
            Number::Whole(value) => f64::from(value),
            Number::Nan => f64::NAN,
        }
    }

    /// An end of a scale is a number that leaves room for its arithmetic.
    fn end(self) -> f64 {
        let value = self.value();
        if value.is_nan() {
            0.0
        } else {
            value.clamp(-1e305, 1e305)
        }
    }
}

const STATES: [State; 7] = [
    State::None,
    State::Ok,
    State::Stale,
    State::Down,
    State::Muted,
    State::Warn,
    State::Crit,
];

struct SlotNames;

impl Names for SlotNames {
    fn host(&self, slot: Slot) -> &str {
        ["zero", "one \"1\"", "\u{7f}two\\", "drei ö"][slot as usize % 4]
    }
}

/// What is true of the fleet; every kind of view shows its part of it.
struct Fleet {
    rows: Vec<(f64, State)>,
    scale: (f64, f64),
    names: Vec<String>,
}

impl Fleet {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Nothing => {}
            Change::Rows(rows) => {
                for (at, value, state) in rows {
                    let at = usize::from(*at) % self.rows.len().max(1);
                    if let Some(row) = self.rows.get_mut(at) {
                        *row = (value.value(), STATES[usize::from(*state) % STATES.len()]);
                    }
                }
            }
            Change::Length(length) => {
                let length = match usize::from(*length) {
                    wide @ 65_000.. => wide - 65_000 + 65_280,
                    narrow => narrow % 200,
                };
                self.rows.resize(length, (50.0, State::Ok));
            }
            Change::Scale(a, b) => {
                let (a, b) = (a.end(), b.end());
                self.scale = (a.min(b), a.max(b));
            }
            Change::Names(names) => self.names = names.iter().take(8).cloned().collect(),
        }
    }

    fn name(&self, at: usize) -> String {
        let word = self.names.get(at % self.names.len().max(1)).cloned();
        format!("{at}{}", word.unwrap_or_default())
    }

    /// The first few, for kinds of few rows.
    fn few(&self) -> impl Iterator<Item = (usize, f64, State)> {
        let rows = self.rows.iter().take(20).enumerate();
        rows.map(|(at, (value, state))| (at, *value, *state))
    }

    fn content(&self, kind: &Kind) -> Content {
        let (metric, unit) = (self.name(0), self.name(1));
        match kind {
            Kind::Map { .. } => Content::Map(Map {
                metric,
                unit,
                lo: self.scale.0,
                hi: self.scale.1,
                values: self.rows.iter().map(|row| row.0).collect(),
                states: self.rows.iter().map(|row| row.1).collect(),
            }),
            Kind::Lines { .. } => {
                let line = |(at, value, state): (usize, f64, State)| Line {
                    expr: self.name(at),
                    group: (state != State::None).then(|| self.name(at + 1)),
                    value,
                };
                Content::Lines(self.few().map(line).collect())
            }
            Kind::Top { .. } => Content::Top(Top {
                metric,
                unit,
                rows: self
                    .few()
                    .map(|(at, value, _)| (at as Slot * 977, value))
                    .collect(),
            }),
            Kind::Host { .. } => self.host(),
            Kind::Stats => Content::Stats(Stats {
                ok: self.rows.len() as u32,
                stale: self.names.len() as u32,
                down: 0,
                metrics: self
                    .few()
                    .map(|(at, value, _)| self.metric(at, value))
                    .collect(),
            }),
        }
    }

    fn host(&self) -> Content {
        let metric = |(at, value, _)| HostMetric {
            name: self.name(at),
            unit: self.name(at + 1),
            value,
            age_ms: at as u64,
        };
        let first = self.rows.first();
        Content::Host(Host {
            name: self.name(0),
            slot: first.map(|_| 3),
            state: first.map_or(State::None, |row| row.1),
            age_ms: self.rows.len() as u64,
            interval_ms: 1_000,
            tags: (0..self.names.len())
                .map(|at| (self.name(at), self.name(at + 1)))
                .collect(),
            metrics: self.few().map(metric).collect(),
        })
    }

    fn metric(&self, at: usize, value: f64) -> MetricStats {
        MetricStats {
            name: self.name(at),
            unit: self.name(at + 1),
            hosts: at as u32,
            min: value,
            max: self.scale.1,
            top: self
                .few()
                .take(5)
                .map(|(at, value, _)| (self.name(at), value))
                .collect(),
            ..MetricStats::default()
        }
    }
}

/// What a viewer should show, NaN by its name and JSON by its meaning.
fn expected(content: &Content, default_view: &Value) -> String {
    let numbers = |values: Vec<f64>| format!("{values:?}");
    match content {
        Content::Map(map) => {
            let place = |v: &f64| {
                let span = if map.lo < map.hi {
                    map.hi - map.lo
                } else {
                    1.0
                };
                match *v {
                    v if v.is_nan() => 255,
                    v if v < map.lo => 253,
                    v if v > map.hi => 254,
                    v => ((v - map.lo) * 252.0 / span + 0.5).floor() as u8,
                }
            };
            let places: Vec<u8> = map.values.iter().map(place).collect();
            let states: Vec<u8> = map.states.iter().map(|state| *state as u8).collect();
            format!("{:?} {:?} {places:?} {states:?}", map.lo, map.hi)
        }
        Content::Lines(lines) => {
            let names = lines
                .iter()
                .map(|line| json!({"expr": line.expr, "group": line.group}));
            let head = json!({"lines": names.collect::<Vec<_>>()});
            let points: Vec<f32> = lines.iter().map(|line| line.value as f32).collect();
            format!("{head} {points:?}")
        }
        Content::Top(top) => format!("{:?}", top.rows),
        Content::Host(host) => {
            let metrics = host
                .metrics
                .iter()
                .map(|m| json!({"name": m.name, "unit": m.unit}));
            let metrics: Vec<Value> = metrics.collect();
            let tags: serde_json::Map<String, Value> = host
                .tags
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
            let head =
                json!({"host": host.name, "slot": host.slot, "tags": tags, "metrics": metrics});
            let times = [
                f64::from(host.state as u8),
                host.age_ms as f64,
                host.interval_ms as f64,
            ];
            let values = host.metrics.iter().map(|metric| metric.value).collect();
            format!("{head} {} {}", numbers(values), numbers(times.to_vec()))
        }
        Content::Stats(_) => default_view.to_string(),
    }
}

fn shown(body: &Body) -> String {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    match body {
        Body::Map {
            lo,
            hi,
            values,
            states,
        } => format!("{lo:?} {hi:?} {values:?} {states:?}"),
        Body::Lines { head, points } => format!("{} {points:?}", json(head)),
        Body::Top { rows } => format!("{rows:?}"),
        Body::Host {
            head,
            values,
            state,
            age_ms,
            interval_ms,
        } => format!(
            "{} {values:?} {:?}",
            json(head),
            [state, age_ms, interval_ms]
        ),
        Body::Stats { json: text } => json(text).to_string(),
    }
}

/// A viewer of the text twin's map.
#[derive(Default)]
struct Rows {
    rows: BTreeMap<u64, Value>,
}

impl Rows {
    fn apply(&mut self, message: &Value) {
        if message["type"] == "key" {
            self.rows.clear();
        }
        for gone in message["gone"].as_array().into_iter().flatten() {
            assert!(self.rows.remove(&gone.as_u64().unwrap()).is_some());
        }
        for row in message["hosts"].as_array().unwrap() {
            self.rows.insert(row[0].as_u64().unwrap(), row.clone());
        }
    }

    fn check(&self, map: &Map) {
        let rows = map.values.iter().zip(&map.states).zip(0_u32..);
        let rows = rows.filter(|((_, state), _)| **state != State::None);
        let expected: Vec<Value> = rows
            .map(|((value, state), slot)| json!([slot, SlotNames.host(slot), value, state.name()]))
            .collect();
        let shown: Vec<&Value> = self.rows.values().collect();
        assert_eq!(shown, expected.iter().collect::<Vec<_>>());
    }
}

fn view(kind: u8, format: Format) -> View {
    let asked = [
        json!({"kind": "map", "metric": "m"}),
        json!({"kind": "lines", "exprs": ["p50(m)"]}),
        json!({"kind": "top", "metric": "m"}),
        json!({"kind": "host", "host": "h"}),
        json!({"kind": "stats"}),
    ];
    View::parse(&asked[usize::from(kind) % asked.len()], format).unwrap()
}

fn check_frame(frame: &Frame, seq: u32, wants_key: bool) {
    assert_eq!((frame.view, frame.seq), (VIEW, seq));
    assert!(frame.key.is_some() || (frame.delta.is_some() && !wants_key));
    let base = if frame.delta.is_some() { seq - 1 } else { 0 };
    assert_eq!(frame.base_seq, base);
    let headers = frame.key.iter().chain(&frame.delta);
    assert!(
        headers
            .into_iter()
            .all(|bytes| bytes[0] & 0x80 != 0 && bytes[1] < 128)
    );
}

fuzz_target!(|story: Story| {
    let (binary, text) = (
        view(story.kind, Format::Binary),
        view(story.kind, Format::Json),
    );
    let mut encoders = [Encoder::new(VIEW, &binary), Encoder::new(VIEW, &text)];
    let mut fleet = Fleet {
        rows: vec![(50.0, State::Ok); 70],
        scale: (0.0, 100.0),
        names: vec!["cpu".to_owned()],
    };
    let mut picture = Picture::new(binary.kind.name(), VIEW).unwrap();
    let (mut twin, mut tick, mut resync) = (Rows::default(), 0, true);
    for (step, seq) in story.steps.iter().take(16).zip(1..) {
        fleet.change(&step.change);
        tick += 1 + u64::from(step.ticks);
        let stamp = Stamp {
            tick,
            time_ms: 1_763_918_083_000 + tick as i64,
            tick_ms: 100,
            host_epoch: tick as u32 % 3,
            flags: step.flags,
        };
        let content = fleet.content(&binary.kind);
        let wants_key = step.wants_key || resync;
        let [frame, text] = encoders
            .each_mut()
            .map(|encoder| encoder.encode(&content, &stamp, &SlotNames, wants_key));
        check_frame(&frame, seq, wants_key);
        check_frame(&text, seq, wants_key);

        let bytes = text.delta.or(text.key).unwrap();
        let message: Value =
            serde_json::from_slice(websocket::payload_of(&bytes).unwrap()).unwrap();
        assert_eq!(
            (&message["kind"], &message["seq"]),
            (&json!(content.kind()), &json!(seq))
        );
        if let Content::Map(map) = &content {
            twin.apply(&message);
            twin.check(map);
        }

        if step.is_lost {
            continue;
        }
        let bytes = if wants_key {
            frame.key
        } else {
            frame.delta.or(frame.key)
        }
        .unwrap();
        let payload = websocket::payload_of(&bytes).unwrap();
        assert_eq!(payload.len() % 8, 0, "sections are aligned");
        let frame = parse(payload).unwrap();
        resync = match picture.apply(&frame) {
            Outcome::Applied => {
                assert_eq!(shown(&picture.body), expected(&content, &message["stats"]));
                assert_eq!(frame.header.flags, step.flags);
                assert_eq!(frame.header.time_ms, stamp.time_ms as f64);
                false
            }
            Outcome::NeedsResync => {
                assert_eq!(frame.header.frame_type, 2);
                true
            }
            Outcome::Ignored => panic!("the KEY came with the frame after the wish"),
        };
    }
});
