//! Snapshot to bytes: what a view shows, encoded once for all who watch it.
//!
//! The aggregator computes a view's [`Content`]; an [`Encoder`] remembers what it sent last and turns
//! the new content into a KEY, a DELTA or both, WebSocket header included, so that every viewer
//! gets the same bytes. Touches neither sockets nor clocks.

use bytes::Bytes;

use crate::sample::Slot;

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
    /// Present when asked for, and when no delta can say it.
    pub key: Option<Bytes>,
    /// None for the first frame and for kinds whose every frame is whole.
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

// Stubs until part FRAME is merged.

pub mod filter;
pub mod json;
pub mod view;
pub mod views;
pub mod websocket;

/// The host names that JSON frames show.
pub trait Names {
    fn host(&self, slot: Slot) -> &str;
}

pub struct Encoder {
    number: u32,
    seq: u32,
}

impl Encoder {
    pub fn new(number: u32, _view: &view::View) -> Encoder {
        Encoder { number, seq: 0 }
    }

    pub fn encode(
        &mut self,
        content: &Content,
        stamp: &Stamp,
        names: &dyn Names,
        wants_key: bool,
    ) -> Frame {
        self.seq += 1;
        let text = format!("{content:?} {stamp:?} {}", names.host(0));
        Frame {
            view: self.number,
            seq: self.seq,
            base_seq: self.seq - 1,
            key: (wants_key || self.seq == 1).then(|| Bytes::from(text)),
            delta: None,
        }
    }
}
