//! Whatever a view shows, a viewer that gets its frames, misses some or asks for a KEY shows the
//! same; and the text twin tells what the binary frames tell.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tidewall::frame::reader::{Outcome, Picture, parse};
use tidewall::frame::view::{Format, Kind, View};
use tidewall::frame::{
    Content, Encoder, Frame, Host, HostMetric, Line, Map, MetricStats, Names, Stamp, State, Stats,
    Top, websocket,
};
use tidewall::sample::Slot;
use tidewall_fuzz::frames::{check_picture, message, state_name};

const VIEW: u32 = 7;
/// Slots of all steps together: a few of the widest map.
const CELLS_MAX: usize = 200_000;

#[derive(Arbitrary, Debug)]
struct Story {
    kind: u8,
    /// The text twin.
    text: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
struct Step {
    change: Change,
    flags: u8,
    /// Most arrive as they are; the greatest are lost, or a KEY was asked for.
    way: u8,
}

impl Step {
    fn wants_key(&self) -> bool {
        240 <= self.way
    }

    fn is_lost(&self) -> bool {
        (220..240).contains(&self.way)
    }

    /// Ticks since the step before; a KEY is due after a hundred.
    fn ticks(&self) -> u64 {
        1 + u64::from(self.way % 20)
    }
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
        format!("{at}:{}", word.unwrap_or_default())
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
            node: first.map(|_| self.name(2)),
            cause: first.map(|_| self.name(3)),
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

/// A viewer of the text twin.
#[derive(Default)]
struct Reader {
    /// A map's.
    rows: BTreeMap<u64, Value>,
    /// Looked away, and waits for a KEY.
    is_behind: bool,
}

impl Reader {
    fn read(&mut self, frame: &Frame, content: &Content, stamp: &Stamp) {
        // Reading the widest maps takes longer than it tells.
        let is_wide = matches!(content, Content::Map(map) if 1_000 < map.values.len());
        self.is_behind = is_wide || (self.is_behind && frame.delta.is_some());
        if self.is_behind {
            return;
        }
        let expected = message(content, stamp, &SlotNames);
        for (bytes, kind, base_seq) in [
            (&frame.delta, "delta", frame.base_seq),
            (&frame.key, "key", 0),
        ] {
            let Some(bytes) = bytes else {
                continue;
            };
            let text = websocket::payload_of(bytes).unwrap();
            let mut told: Value = serde_json::from_slice(text).unwrap();
            let fields = told.as_object_mut().unwrap();
            let (hosts, gone) = (fields.remove("hosts"), fields.remove("gone"));
            let mut expected = expected.clone();
            expected["view"] = VIEW.into();
            expected["type"] = kind.into();
            expected["seq"] = frame.seq.into();
            expected["base_seq"] = base_seq.into();
            if let Content::Map(map) = content {
                self.apply(hosts.as_ref(), gone.as_ref(), kind == "key");
                self.check(map);
            }
            assert_eq!(told, expected);
        }
    }

    fn apply(&mut self, hosts: Option<&Value>, gone: Option<&Value>, is_key: bool) {
        if is_key {
            self.rows.clear();
        }
        for gone in gone.into_iter().flat_map(|list| list.as_array().unwrap()) {
            assert!(self.rows.remove(&gone.as_u64().unwrap()).is_some());
        }
        for row in hosts.unwrap().as_array().unwrap() {
            self.rows.insert(row[0].as_u64().unwrap(), row.clone());
        }
    }

    fn check(&self, map: &Map) {
        let rows = map.values.iter().zip(&map.states).zip(0_u32..);
        let rows = rows.filter(|((_, state), _)| **state != State::None);
        let row = rows.map(|((value, state), slot)| {
            json!([slot, SlotNames.host(slot), value, state_name(*state)])
        });
        let shown: Vec<Value> = self.rows.values().cloned().collect();
        assert_eq!(shown, row.collect::<Vec<Value>>());
    }
}

/// A viewer of the binary frames.
struct Watcher {
    picture: Picture,
    needs_key: bool,
}

impl Watcher {
    fn watch(&mut self, bytes: &[u8], content: &Content, stamp: &Stamp) {
        let payload = websocket::payload_of(bytes).unwrap();
        assert_eq!(payload.len() % 8, 0, "sections are aligned");
        let frame = parse(payload).unwrap();
        match self.picture.apply(&frame) {
            Outcome::Applied => {
                check_picture(&self.picture.body, content, stamp);
                let header = frame.header;
                assert_eq!(
                    (header.flags, header.host_epoch),
                    (stamp.flags, stamp.host_epoch)
                );
                assert_eq!(header.time_ms, stamp.time_ms as f64);
                self.needs_key = false;
            }
            Outcome::NeedsResync => {
                assert_eq!(frame.header.frame_type, 2);
                self.needs_key = true;
            }
            Outcome::Ignored => panic!("the KEY came with the frame after the wish"),
        }
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
}

fuzz_target!(|story: Story| {
    // One of the two: reading JSON takes most of the time.
    let format = if story.text {
        Format::Json
    } else {
        Format::Binary
    };
    let view = view(story.kind, format);
    let mut encoder = Encoder::new(VIEW, &view);
    let mut fleet = Fleet {
        rows: vec![(50.0, State::Ok); 40],
        scale: (0.0, 100.0),
        names: vec!["cpu".to_owned()],
    };
    let mut reader = Reader::default();
    let mut watcher = Watcher {
        picture: Picture::new(view.kind.name(), VIEW).unwrap(),
        needs_key: true,
    };
    let (mut tick, mut cells) = (0, 0);
    for (step, seq) in story.steps.iter().take(10).zip(1..) {
        fleet.change(&step.change);
        cells += fleet.rows.len();
        if CELLS_MAX < cells {
            return;
        }
        tick += step.ticks();
        let stamp = Stamp {
            tick,
            time_ms: 1_763_918_083_000 + tick as i64,
            tick_ms: 100,
            host_epoch: tick as u32 % 3,
            flags: step.flags.into(),
        };
        let content = fleet.content(&view.kind);
        let wants_key = step.wants_key() || watcher.needs_key;
        let frame = encoder.encode(&content, &stamp, &SlotNames, wants_key);
        check_frame(&frame, seq, wants_key);
        if story.text {
            reader.read(&frame, &content, &stamp);
            watcher.needs_key = false;
            continue;
        }
        let Frame { key, delta, .. } = frame;
        let bytes = if wants_key { key } else { delta.or(key) };
        if !step.is_lost() {
            watcher.watch(&bytes.unwrap(), &content, &stamp);
        }
    }
});
