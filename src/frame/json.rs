//! The text twin and the default view (PROTOCOL.md 2.4).

use bytes::Bytes;

use super::view::{Format, Kind, View};
use super::{
    Content, Encoded, Head, Host, Line, Map, MetricStats, Names, Stamp, State, Stats, Top, Wish,
    flag, websocket,
};
use crate::sample::Slot;

/// Body of `GET /api/snapshot`.
pub fn snapshot_json(view: &View, content: &Content, stamp: &Stamp, names: &dyn Names) -> Vec<u8> {
    let mut out = Vec::new();
    match content {
        Content::Stats(stats) if view.format == Format::Default => {
            default_view(stats, stamp, &mut out);
        }
        content => {
            out.push(b'{');
            common(stamp, content.kind(), &mut out);
            whole(content, stamp, names, &mut out);
            out.push(b'}');
        }
    }
    out
}

/// What was sent last, where the kind has deltas.
pub(super) struct Coder {
    bare: bool,
    map: Option<MapMemory>,
    out: Vec<u8>,
}

#[derive(Default)]
struct MapMemory {
    scale: [u64; 2],
    /// By bits, so that NaN equals itself.
    rows: Vec<(u64, State)>,
}

impl Coder {
    pub(super) fn new(kind: &Kind, format: Format) -> Self {
        Self {
            bare: format == Format::Default,
            map: matches!(kind, Kind::Map { .. }).then(MapMemory::default),
            out: Vec::new(),
        }
    }

    pub(super) fn encode(
        &mut self,
        content: &Content,
        head: &Head,
        names: &dyn Names,
        wish: Wish,
    ) -> Encoded {
        let out = &mut self.out;
        match (content, &mut self.map) {
            (Content::Stats(stats), _) if self.bare => {
                out.clear();
                default_view(stats, &head.stamp, out);
                Encoded::key(websocket::text_frame(out))
            }
            (Content::Map(map), Some(memory)) => {
                let scale = [map.lo.to_bits(), map.hi.to_bits()];
                let wish = wish.unless(memory.scale != scale);
                let mut encoded = Encoded::default();
                if wish.delta() {
                    encoded.delta = Some(memory.delta(map, content, head, names, out));
                }
                memory.scale = scale;
                memory.rows.clear();
                memory.rows.extend(rows(map));
                if wish.key() {
                    encoded.key = Some(key(content, head, names, out));
                }
                encoded
            }
            _ => Encoded::key(key(content, head, names, out)),
        }
    }
}

impl MapMemory {
    fn delta(
        &self,
        map: &Map,
        content: &Content,
        head: &Head,
        names: &dyn Names,
        out: &mut Vec<u8>,
    ) -> Bytes {
        begin(head, content.kind(), "delta", out);
        map_fields(map, out);
        let absent = (f64::NAN.to_bits(), State::None);
        let before = |slot| self.rows.get(slot).copied().unwrap_or(absent);
        let changed = rows(map)
            .enumerate()
            .filter(|(slot, row)| row.1 != State::None && before(*slot) != *row);
        out.extend_from_slice(b",\"hosts\":");
        list(changed, out, |(slot, (value, state)), out| {
            map_row(slot as Slot, f64::from_bits(value), state, names, out);
        });
        let slots = map.states.len().max(self.rows.len());
        let gone = (0..slots).filter(|slot| {
            let state = map.states.get(*slot).copied().unwrap_or_default();
            state == State::None && before(*slot).1 != State::None
        });
        out.extend_from_slice(b",\"gone\":");
        list(gone, out, |slot, out| integer(slot as u64, out));
        out.push(b'}');
        websocket::text_frame(out)
    }
}

fn rows(map: &Map) -> impl Iterator<Item = (u64, State)> {
    let values = map.values.iter().map(|value| value.to_bits());
    values.zip(map.states.iter().copied())
}

fn key(content: &Content, head: &Head, names: &dyn Names, out: &mut Vec<u8>) -> Bytes {
    begin(head, content.kind(), "key", out);
    whole(content, &head.stamp, names, out);
    out.push(b'}');
    websocket::text_frame(out)
}

/// Up to the fields of the kind.
pub(super) fn begin(head: &Head, kind: &str, frame_type: &str, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"{\"view\":");
    integer(u64::from(head.view), out);
    out.extend_from_slice(b",\"type\":");
    text(frame_type, out);
    out.extend_from_slice(b",\"seq\":");
    integer(u64::from(head.seq), out);
    out.extend_from_slice(b",\"base_seq\":");
    let is_delta = frame_type == "delta";
    integer(u64::from(if is_delta { head.base_seq } else { 0 }), out);
    out.push(b',');
    common(&head.stamp, kind, out);
}

fn common(stamp: &Stamp, kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"time\":");
    out.extend_from_slice(itoa::Buffer::new().format(stamp.time_ms).as_bytes());
    out.extend_from_slice(b",\"epoch\":");
    integer(u64::from(stamp.host_epoch), out);
    out.extend_from_slice(b",\"flags\":");
    flags(stamp.flags, out);
    out.extend_from_slice(b",\"kind\":");
    text(kind, out);
}

fn whole(content: &Content, stamp: &Stamp, names: &dyn Names, out: &mut Vec<u8>) {
    match content {
        Content::Map(map) => {
            map_fields(map, out);
            out.extend_from_slice(b",\"hosts\":");
            let hosts = map.values.iter().zip(&map.states).enumerate();
            let hosts = hosts.filter(|(_, (_, state))| **state != State::None);
            list(hosts, out, |(slot, (value, state)), out| {
                map_row(slot as Slot, *value, *state, names, out);
            });
        }
        Content::Lines(lines) => {
            out.extend_from_slice(b",\"lines\":");
            list(lines, out, |line, out| {
                line_name(&line.expr, line.group.as_deref(), out);
                out.extend_from_slice(b",\"value\":");
                number(line.value, out);
                out.push(b'}');
            });
        }
        Content::Top(top) => top_fields(top, names, out),
        Content::Host(host) => host_field(host, out),
        Content::Stats(stats) => {
            out.extend_from_slice(b",\"stats\":");
            default_view(stats, stamp, out);
        }
    }
}

/// Column 0 of a binary `lines` KEY.
pub(super) fn lines_head(lines: &[Line], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"lines\":");
    list(lines, out, |line, out| {
        line_name(&line.expr, line.group.as_deref(), out);
        out.push(b'}');
    });
    out.push(b'}');
}

/// Column 0 of a binary `host` KEY.
pub(super) fn host_head(host: &Host, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"host\":");
    text(&host.name, out);
    slot_and_tags(host, out);
    out.extend_from_slice(b",\"metrics\":");
    list(&host.metrics, out, |metric, out| {
        out.extend_from_slice(b"{\"name\":");
        text(&metric.name, out);
        out.extend_from_slice(b",\"unit\":");
        text(&metric.unit, out);
        out.push(b'}');
    });
    out.push(b'}');
}

pub(super) fn default_view(stats: &Stats, stamp: &Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"seq\":");
    integer(stamp.tick, out);
    out.extend_from_slice(b",\"time\":");
    out.extend_from_slice(itoa::Buffer::new().format(stamp.time_ms).as_bytes());
    out.extend_from_slice(b",\"tick_ms\":");
    integer(u64::from(stamp.tick_ms), out);
    out.extend_from_slice(b",\"flags\":");
    flags(stamp.flags, out);
    out.extend_from_slice(b",\"hosts\":{\"ok\":");
    integer(u64::from(stats.ok), out);
    out.extend_from_slice(b",\"stale\":");
    integer(u64::from(stats.stale), out);
    out.extend_from_slice(b",\"down\":");
    integer(u64::from(stats.down), out);
    out.extend_from_slice(b"},\"metrics\":{");
    separated(&stats.metrics, out, metric_stats);
    out.extend_from_slice(b"},\"top\":{");
    separated(&stats.metrics, out, |metric, out| {
        text(&metric.name, out);
        out.push(b':');
        list(&metric.top, out, |(host, value), out| {
            out.push(b'[');
            text(host, out);
            out.push(b',');
            number(*value, out);
            out.push(b']');
        });
    });
    out.extend_from_slice(b"}}");
}

fn metric_stats(metric: &MetricStats, out: &mut Vec<u8>) {
    text(&metric.name, out);
    out.extend_from_slice(b":{\"hosts\":");
    integer(u64::from(metric.hosts), out);
    for (name, value) in [
        (&b",\"min\":"[..], metric.min),
        (b",\"avg\":", metric.avg),
        (b",\"p50\":", metric.p50),
        (b",\"p95\":", metric.p95),
        (b",\"p99\":", metric.p99),
        (b",\"max\":", metric.max),
    ] {
        out.extend_from_slice(name);
        number(value, out);
    }
    out.extend_from_slice(b",\"unit\":");
    text(&metric.unit, out);
    out.push(b'}');
}

fn map_fields(map: &Map, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"metric\":");
    text(&map.metric, out);
    out.extend_from_slice(b",\"unit\":");
    text(&map.unit, out);
    out.extend_from_slice(b",\"lo\":");
    number(map.lo, out);
    out.extend_from_slice(b",\"hi\":");
    number(map.hi, out);
}

fn map_row(slot: Slot, value: f64, state: State, names: &dyn Names, out: &mut Vec<u8>) {
    slot_name_value(slot, value, names, out);
    out.push(b',');
    text(state.name(), out);
    out.push(b']');
}

fn top_fields(top: &Top, names: &dyn Names, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"metric\":");
    text(&top.metric, out);
    out.extend_from_slice(b",\"unit\":");
    text(&top.unit, out);
    out.extend_from_slice(b",\"rows\":");
    list(&top.rows, out, |(slot, value), out| {
        slot_name_value(*slot, *value, names, out);
        out.push(b']');
    });
}

/// `[3,"web-1",53.2` without the closing bracket.
fn slot_name_value(slot: Slot, value: f64, names: &dyn Names, out: &mut Vec<u8>) {
    out.push(b'[');
    integer(u64::from(slot), out);
    out.push(b',');
    text(names.host(slot), out);
    out.push(b',');
    number(value, out);
}

/// `{"expr":…,"group":…` without the closing brace.
pub(super) fn line_name(expr: &str, group: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"expr\":");
    text(expr, out);
    out.extend_from_slice(b",\"group\":");
    match group {
        Some(group) => text(group, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn host_field(host: &Host, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"host\":{\"name\":");
    text(&host.name, out);
    out.extend_from_slice(b",\"state\":");
    text(host.state.name(), out);
    out.extend_from_slice(b",\"age_ms\":");
    integer(host.age_ms, out);
    out.extend_from_slice(b",\"interval_ms\":");
    integer(host.interval_ms, out);
    slot_and_tags(host, out);
    out.extend_from_slice(b",\"metrics\":{");
    separated(&host.metrics, out, |metric, out| {
        text(&metric.name, out);
        out.extend_from_slice(b":{\"value\":");
        number(metric.value, out);
        out.extend_from_slice(b",\"unit\":");
        text(&metric.unit, out);
        out.extend_from_slice(b",\"age_ms\":");
        integer(metric.age_ms, out);
        out.push(b'}');
    });
    out.extend_from_slice(b"}}");
}

fn slot_and_tags(host: &Host, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"slot\":");
    match host.slot {
        Some(slot) => integer(u64::from(slot), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"tags\":{");
    separated(&host.tags, out, |(key, value), out| {
        text(key, out);
        out.push(b':');
        text(value, out);
    });
    out.push(b'}');
    let more = [("node", &host.node), ("cause", &host.cause)];
    for (key, value) in more {
        if let Some(value) = value {
            out.push(b',');
            text(key, out);
            out.push(b':');
            text(value, out);
        }
    }
}

fn flags(flags: u16, out: &mut Vec<u8>) {
    let names = [
        (flag::DEGRADED, "degraded"),
        (flag::PARTIAL, "partial"),
        (flag::REPLAY, "replay"),
        (flag::RATE_LOWERED, "rate_lowered"),
    ];
    let set = names.into_iter().filter(|(bit, _)| flags & bit != 0);
    list(set, out, |(_, name), out| text(name, out));
}

pub(super) fn list<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    separated(items, out, write);
    out.push(b']');
}

fn separated<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, text);
    assert!(written.is_ok(), "a Vec takes every byte");
}

pub(super) fn integer(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// JSON has no NaN: null.
fn number(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}
