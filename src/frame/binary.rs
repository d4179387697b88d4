//! The binary frames of `tidewall.v1` (PROTOCOL.md 2.3).

use bytes::Bytes;

use super::column::Column;
use super::view::Kind;
use super::{Content, Encoded, Head, Host, Line, Map, Names, Top, Wish, json, websocket};

pub(super) const MAGIC: u16 = 0x5754;
pub(super) const VERSION: u8 = 1;
pub(super) const HEADER_BYTES: usize = 32;
pub(super) const SECTION_BYTES: usize = 16;

pub mod frame_type {
    pub const KEY: u8 = 1;
    pub const DELTA: u8 = 2;
    pub const BACKFILL: u8 = 3;
    pub const REPLAY: u8 = 4;
}

pub mod encoding {
    pub const FULL: u8 = 0;
    pub const BITMAP: u8 = 1;
    pub const LIST16: u8 = 2;
    pub const LIST32: u8 = 3;
    pub const APPEND: u8 = 4;
    pub const TOP: u8 = 6;
    pub const JSON: u8 = 7;
    pub const STATS: u8 = 8;
}

pub mod dtype {
    pub const U8: u8 = 0;
    pub const F32: u8 = 2;
    pub const F64: u8 = 3;
    pub const STATE: u8 = 5;
}

/// A map's byte: the value's place between `lo` and `hi`, or why there is none.
pub mod quantum {
    pub const MAX: u8 = 252;
    pub const BELOW: u8 = 253;
    pub const ABOVE: u8 = 254;
    pub const NONE: u8 = 255;
}

/// A frame in the making. One buffer for all frames of a view; only the result is allocated.
#[derive(Default)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    sections: u16,
}

impl Payload {
    pub(super) fn begin(&mut self, head: &Head, kind: u8) {
        let base_seq = if kind == frame_type::DELTA {
            head.base_seq
        } else {
            0
        };
        self.sections = 0;
        self.bytes.clear();
        self.bytes.extend_from_slice(&MAGIC.to_le_bytes());
        self.bytes.extend_from_slice(&[VERSION, kind]);
        self.bytes.extend_from_slice(&head.view.to_le_bytes());
        self.bytes.extend_from_slice(&head.seq.to_le_bytes());
        self.bytes.extend_from_slice(&base_seq.to_le_bytes());
        let time_ms = head.stamp.time_ms as f64;
        self.bytes.extend_from_slice(&time_ms.to_le_bytes());
        self.bytes
            .extend_from_slice(&head.stamp.host_epoch.to_le_bytes());
        self.bytes
            .extend_from_slice(&head.stamp.flags.to_le_bytes());
        self.bytes.extend_from_slice(&[0, 0]);
    }

    pub(super) fn section(
        &mut self,
        encoding: u8,
        dtype: u8,
        column: u16,
        count: u32,
        aux: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.bytes.extend_from_slice(&[encoding, dtype]);
        self.bytes.extend_from_slice(&column.to_le_bytes());
        self.bytes.extend_from_slice(&count.to_le_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&aux.to_le_bytes());
        let start = self.bytes.len();
        write(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        let padded = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(padded, 0);
        self.sections += 1;
    }

    pub(super) fn json(&mut self, column: u16, text: &[u8]) {
        self.section(encoding::JSON, dtype::U8, column, 1, 0, |out| {
            out.extend_from_slice(text);
        });
    }

    pub(super) fn stats(&mut self, column: u16, values: &[f64]) {
        let count = values.len() as u32;
        self.section(encoding::STATS, dtype::F64, column, count, 0, |out| {
            for value in values {
                out.extend_from_slice(&canonical(*value).to_le_bytes());
            }
        });
    }

    pub(super) fn finish(&mut self) -> Bytes {
        self.bytes[30..32].copy_from_slice(&self.sections.to_le_bytes());
        websocket::binary_frame(&self.bytes)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What was sent last, by kind.
pub(super) struct Coder {
    payload: Payload,
    memory: Memory,
}

/// One per view, so the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
enum Memory {
    Map(MapMemory),
    Lines { head: Vec<u8>, next: Vec<u8> },
    Host(HostMemory),
    Whole,
}

struct MapMemory {
    scale: [f64; 2],
    values: Column<u8>,
    states: Column<u8>,
    next: Vec<u8>,
}

struct HostMemory {
    head: Vec<u8>,
    values: Column<f64>,
    next_head: Vec<u8>,
    next: Vec<f64>,
}

impl Coder {
    pub(super) fn new(kind: &Kind) -> Self {
        let memory = match kind {
            Kind::Map { .. } => Memory::Map(MapMemory {
                scale: [f64::NAN; 2],
                values: Column::new(0, dtype::U8, quantum::NONE),
                states: Column::new(1, dtype::STATE, 0),
                next: Vec::new(),
            }),
            Kind::Lines { .. } => Memory::Lines {
                head: Vec::new(),
                next: Vec::new(),
            },
            Kind::Host { .. } => Memory::Host(HostMemory {
                head: Vec::new(),
                values: Column::new(1, dtype::F64, f64::NAN),
                next_head: Vec::new(),
                next: Vec::new(),
            }),
            Kind::Top { .. } | Kind::Stats => Memory::Whole,
        };
        Self {
            payload: Payload::default(),
            memory,
        }
    }

    pub(super) fn encode(
        &mut self,
        content: &Content,
        head: &Head,
        _names: &dyn Names,
        wish: Wish,
    ) -> Encoded {
        let out = &mut self.payload;
        match (&mut self.memory, content) {
            (Memory::Map(memory), Content::Map(map)) => memory.encode(map, head, wish, out),
            (Memory::Lines { head: before, next }, Content::Lines(lines)) => {
                next.clear();
                json::lines_head(lines, next);
                let wish = wish.unless(before != next);
                std::mem::swap(before, next);
                encode_lines(lines, before, head, wish, out)
            }
            (Memory::Host(memory), Content::Host(host)) => memory.encode(host, head, wish, out),
            (Memory::Whole, Content::Top(top)) => {
                out.begin(head, frame_type::KEY);
                write_top(top, out);
                Encoded::key(out.finish())
            }
            (Memory::Whole, Content::Stats(stats)) => {
                let mut text = Vec::new();
                json::default_view(stats, &head.stamp, &mut text);
                out.begin(head, frame_type::KEY);
                out.json(0, &text);
                Encoded::key(out.finish())
            }
            _ => unreachable!("the content is of the view's kind"),
        }
    }
}

impl MapMemory {
    fn encode(&mut self, map: &Map, head: &Head, wish: Wish, out: &mut Payload) -> Encoded {
        let scale = [canonical(map.lo), canonical(map.hi)];
        let wish = wish.unless(scale.map(f64::to_bits) != self.scale.map(f64::to_bits));
        self.scale = scale;
        let mut encoded = Encoded::default();
        if wish.delta() {
            out.begin(head, frame_type::DELTA);
            quantise(&map.values, scale, &mut self.next);
            self.values.write_delta(&mut self.next, out);
            take_states(map, &mut self.next);
            self.states.write_delta(&mut self.next, out);
            encoded.delta = Some(out.finish());
        } else {
            quantise(&map.values, scale, &mut self.next);
            self.values.replace(&mut self.next);
            take_states(map, &mut self.next);
            self.states.replace(&mut self.next);
        }
        if wish.key() {
            out.begin(head, frame_type::KEY);
            self.values.write_full(out);
            self.states.write_full(out);
            out.stats(2, &scale);
            encoded.key = Some(out.finish());
        }
        encoded
    }
}

impl HostMemory {
    fn encode(&mut self, host: &Host, head: &Head, wish: Wish, out: &mut Payload) -> Encoded {
        self.next_head.clear();
        json::host_head(host, &mut self.next_head);
        let wish = wish.unless(self.head != self.next_head);
        std::mem::swap(&mut self.head, &mut self.next_head);
        self.next.clear();
        let values = host.metrics.iter().map(|metric| canonical(metric.value));
        self.next.extend(values);
        let state = f64::from(host.state as u8);
        let stats = [state, host.age_ms as f64, host.interval_ms as f64];
        let mut encoded = Encoded::default();
        if wish.delta() {
            out.begin(head, frame_type::DELTA);
            self.values.write_delta(&mut self.next, out);
            out.stats(2, &stats);
            encoded.delta = Some(out.finish());
        } else {
            self.values.replace(&mut self.next);
        }
        if wish.key() {
            out.begin(head, frame_type::KEY);
            out.json(0, &self.head);
            self.values.write_full(out);
            out.stats(2, &stats);
            encoded.key = Some(out.finish());
        }
        encoded
    }
}

fn encode_lines(
    lines: &[Line],
    names: &[u8],
    head: &Head,
    wish: Wish,
    out: &mut Payload,
) -> Encoded {
    let points = |out: &mut Payload| {
        let count = lines.len() as u32;
        out.section(encoding::APPEND, dtype::F32, 1, count, 1, |out| {
            for line in lines {
                out.extend_from_slice(&(canonical(line.value) as f32).to_le_bytes());
            }
        });
        out.finish()
    };
    let mut encoded = Encoded::default();
    if wish.delta() {
        out.begin(head, frame_type::DELTA);
        encoded.delta = Some(points(out));
    }
    if wish.key() {
        out.begin(head, frame_type::KEY);
        out.json(0, names);
        encoded.key = Some(points(out));
    }
    encoded
}

pub(super) fn write_top(top: &Top, out: &mut Payload) {
    let count = top.rows.len() as u32;
    out.section(encoding::TOP, dtype::F64, 0, count, 0, |out| {
        for (slot, _) in &top.rows {
            out.extend_from_slice(&slot.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(8), 0);
        for (_, value) in &top.rows {
            out.extend_from_slice(&canonical(*value).to_le_bytes());
        }
    });
}

pub(super) fn take_states(map: &Map, out: &mut Vec<u8>) {
    out.clear();
    out.extend(map.states.iter().map(|state| *state as u8));
}

/// `floor((v - lo) * 252 / (hi - lo) + 0.5)` of each value, without a branch or a call, so that the
/// loop becomes vector code on any x86-64: there is no `floor` below SSE 4.1, and a checked
/// conversion to an integer is scalar. Adding 2^52 leaves a sum's whole part in its lowest bits,
/// rounded to nearest, which is corrected to downwards.
pub(super) fn quantise(values: &[f64], [lo, hi]: [f64; 2], out: &mut Vec<u8>) {
    const SHIFT: f64 = (1_u64 << 52) as f64;
    let span = if hi > lo { hi - lo } else { 1.0 };
    out.clear();
    out.extend(values.iter().map(|&value| {
        let exact = (value - lo) * f64::from(quantum::MAX) / span + 0.5;
        let nearest = (exact + SHIFT) - SHIFT;
        let floor = if nearest > exact {
            nearest - 1.0
        } else {
            nearest
        };
        let place = (floor + SHIFT).to_bits();
        let place = if value < lo {
            u64::from(quantum::BELOW)
        } else {
            place
        };
        let place = if value > hi {
            u64::from(quantum::ABOVE)
        } else {
            place
        };
        let place = if value.is_nan() {
            u64::from(quantum::NONE)
        } else {
            place
        };
        place as u8
    }));
}

/// One NaN for all, so that equal contents are equal bytes.
pub(super) fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}
