//! Snapshot to bytes: what a view shows, encoded once for all who watch it.
//!
//! The aggregator computes a view's [`Content`]; an [`Encoder`] remembers what it sent last and
//! turns the new content into a KEY, a DELTA or both, WebSocket header included, so that every
//! viewer gets the same bytes. Touches neither sockets nor clocks.

pub mod backfill;
pub mod binary;
mod column;
pub mod filter;
pub mod json;
pub mod query;
pub mod reader;
pub mod replay;
pub mod view;
pub mod views;
pub mod websocket;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use bytes::Bytes;

use crate::limits::KEY_INTERVAL;
use crate::sample::Slot;
use view::{Format, View};

/// What one view shows at one tick. Computed by the aggregator, borrowed by the encoder.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Map(Map),
    Lines(Vec<Line>),
    Top(Top),
    Host(Host),
    Stats(Stats),
}

/// One metric over all slots. `values[slot]` is NaN where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    pub metric: String,
    pub unit: String,
    pub lo: f64,
    pub hi: f64,
    pub values: Vec<f64>,
    pub states: Vec<State>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub expr: String,
    pub group: Option<String>,
    /// NaN: a gap.
    pub value: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Top {
    pub metric: String,
    pub unit: String,
    pub rows: Vec<(Slot, f64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    pub name: String,
    /// None: never seen.
    pub slot: Option<Slot>,
    pub state: State,
    pub age_ms: u64,
    pub interval_ms: u64,
    pub tags: Vec<(String, String)>,
    /// The node that heard it last; None: this one.
    pub node: Option<String>,
    /// Why nobody knows its state.
    pub cause: Option<String>,
    /// Sorted by name.
    pub metrics: Vec<HostMetric>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HostMetric {
    pub name: String,
    pub unit: String,
    pub value: f64,
    pub age_ms: u64,
}

/// The default view: the whole fleet in one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub ok: u32,
    pub stale: u32,
    pub down: u32,
    /// The metrics that most hosts have, most first.
    pub metrics: Vec<MetricStats>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricStats {
    pub name: String,
    pub unit: String,
    pub hosts: u32,
    pub min: f64,
    pub avg: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    /// Host name and value, greatest first.
    pub top: Vec<(String, f64)>,
}

/// A host's state as the wire's byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    #[default]
    None = 0,
    Ok = 1,
    Stale = 2,
    Down = 3,
    Muted = 4,
    Warn = 5,
    Crit = 6,
}

impl State {
    /// As in the text twin.
    pub fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Ok => "ok",
            State::Stale => "stale",
            State::Down => "down",
            State::Muted => "muted",
            State::Warn => "warn",
            State::Crit => "crit",
        }
    }
}

impl Content {
    /// As in `schema`.
    pub fn kind(&self) -> &'static str {
        match self {
            Content::Map(_) => "map",
            Content::Lines(_) => "lines",
            Content::Top(_) => "top",
            Content::Host(_) => "host",
            Content::Stats(_) => "stats",
        }
    }
}

/// What every frame of one tick has in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// Number of the tick since start; the default view's `seq`.
    pub tick: u64,
    pub time_ms: i64,
    pub tick_ms: u32,
    pub host_epoch: u32,
    pub flags: u16,
}

pub mod flag {
    pub const DEGRADED: u16 = 1;
    pub const PARTIAL: u16 = 2;
    pub const REPLAY: u16 = 4;
    pub const RATE_LOWERED: u16 = 8;
}

/// One view's bytes of one tick: complete WebSocket frames, shared by every viewer on every core.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The view's number on this node.
    pub view: u32,
    pub seq: u32,
    /// The sequence number the delta applies to.
    pub base_seq: u32,
    /// Present when asked for, and whenever there is no delta.
    pub key: Option<Bytes>,
    /// What a viewer that has `base_seq` gets, if present. None when all shall get the KEY: the
    /// first frame, a new scale or set of names, a KEY that is due, kinds whose every frame is
    /// whole.
    pub delta: Option<Bytes>,
}

/// Everything the aggregator publishes at one tick, to every core.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    pub tick: u64,
    pub host_epoch: u32,
    pub frames: Vec<Frame>,
    /// A `hosts_patch` text message, WebSocket header included, when hosts changed.
    pub hosts_patch: Option<Bytes>,
    /// The last tick before an ordered stop.
    pub last: bool,
}

/// Names of slots, for the text twin.
pub trait Names {
    fn host(&self, slot: Slot) -> &str;
}

/// One view's memory of what it sent last. Buffers are kept: a frame allocates its bytes only.
///
/// Invariant: `seq` is the number of the last frame, and every viewer that applied that frame has
/// what `coder` remembers.
pub struct Encoder {
    view: u32,
    flags: u16,
    seq: u32,
    /// Tick of the last frame that everybody got as a KEY; None before the first.
    key_tick: Option<u64>,
    coder: Coder,
}

/// One per view and behind a pointer in every use, so the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
enum Coder {
    Binary(binary::Coder),
    Json(json::Coder),
}

impl Encoder {
    /// `number` is the view's number on this node.
    pub fn new(number: u32, view: &View) -> Encoder {
        Encoder {
            view: number,
            flags: if view.lowered { flag::RATE_LOWERED } else { 0 },
            seq: 0,
            key_tick: None,
            coder: match view.format {
                Format::Binary => Coder::Binary(binary::Coder::new(&view.kind)),
                format => Coder::Json(json::Coder::new(&view.kind, format)),
            },
        }
    }

    /// The view's next frame. `content` must be of the view's kind. The KEY is made only if
    /// `wants_key` or when it is due.
    pub fn encode(
        &mut self,
        content: &Content,
        stamp: &Stamp,
        names: &dyn Names,
        wants_key: bool,
    ) -> Frame {
        let base_seq = self.seq;
        self.seq = base_seq.wrapping_add(1);
        let head = Head {
            view: self.view,
            seq: self.seq,
            base_seq,
            stamp: Stamp {
                flags: stamp.flags | self.flags,
                ..*stamp
            },
        };
        let wish = if self.key_is_due(stamp) {
            Wish::Key
        } else if wants_key {
            Wish::Both
        } else {
            Wish::Delta
        };
        let Encoded { key, delta } = match &mut self.coder {
            Coder::Binary(coder) => coder.encode(content, &head, names, wish),
            Coder::Json(coder) => coder.encode(content, &head, names, wish),
        };
        if delta.is_none() {
            self.key_tick = Some(stamp.tick);
        }
        Frame {
            view: self.view,
            seq: self.seq,
            base_seq: if delta.is_some() { base_seq } else { 0 },
            key,
            delta,
        }
    }

    /// Ticks are counted instead of `time_ms` read: the wall clock may step.
    fn key_is_due(&self, stamp: &Stamp) -> bool {
        self.key_tick.is_none_or(|tick| {
            let ticks = stamp.tick.saturating_sub(tick);
            let age_ms = u128::from(ticks) * u128::from(stamp.tick_ms);
            age_ms >= KEY_INTERVAL.as_millis()
        })
    }
}

/// What the header of a frame says.
struct Head {
    view: u32,
    seq: u32,
    /// Of a DELTA; a KEY has none.
    base_seq: u32,
    stamp: Stamp,
}

/// Which frames a coder shall make of a content.
#[derive(Clone, Copy, PartialEq)]
enum Wish {
    Delta,
    Both,
    /// No delta: what was sent before is no base.
    Key,
}

impl Wish {
    fn unless(self, no_base: bool) -> Wish {
        if no_base { Wish::Key } else { self }
    }

    fn delta(self) -> bool {
        self != Wish::Key
    }

    fn key(self) -> bool {
        self != Wish::Delta
    }
}

#[derive(Default)]
struct Encoded {
    key: Option<Bytes>,
    delta: Option<Bytes>,
}

impl Encoded {
    fn key(key: Bytes) -> Encoded {
        Encoded {
            key: Some(key),
            delta: None,
        }
    }
}
