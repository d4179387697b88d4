//! The bytes between nodes: one message a turn, and keyframes.
//!
//! A message is a head, a body and a seal. Numbers are little-endian, `varint` is LEB128 of at most
//! 64 bits, text is a varint of its bytes and UTF-8.
//!
//! ```text
//! head  "TW", u8 version, u8 kind, u8 bytes of the node's name, name,
//!       u64 epoch, u64 seq, u64 mono_ms, i64 wall_ms
//! body  by kind, see [`Body`]
//! seal  16 bytes: HMAC-SHA256 of head and body by the cluster's key, its first half
//! ```
//!
//! Touches neither sockets nor clocks. What is not exactly a message of this version, sealed by the
//! key, is refused as a whole, with what was wrong with it.

mod bytes;
mod cells;

use ring::hmac;
use thiserror::Error;

use crate::limits::{
    CLUSTER_CELLS_MAX, CLUSTER_KEYFRAME_BYTES_MAX, CLUSTER_MESSAGE_BYTES_MAX,
    CLUSTER_NODE_BYTES_MAX, COLUMNS_MAX, HOST_BYTES_MAX, HOSTS_MAX, METRIC_BYTES_MAX, SERIES_MAX,
    TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX, UNIT_BYTES_MAX,
};
use crate::sample::{Column, Slot};
use bytes::{Reader, text, varint};
pub use cells::Cell;

pub const VERSION: u8 = 1;
const MAGIC: &[u8; 2] = b"TW";
const SEAL_BYTES: usize = 16;
/// Head without the name.
const HEAD_BYTES: usize = 2 + 1 + 1 + 1 + 8 + 8 + 8 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Delta = 1,
    Keyframe = 2,
    /// A keyframe was stored; the body is the sequence number it holds all up to.
    Stored = 3,
    /// Somebody has a gap; the body is the name of the node whose keyframe it needs, or empty: all.
    Want = 4,
    /// The node stops in order: its hosts will come elsewhere.
    Bye = 5,
}

/// Who says it, and when by its own clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub kind: Kind,
    pub node: &'a str,
    /// Later starts of a node have greater ones.
    pub epoch: u64,
    /// 1 for the first message of an epoch, then without a gap. A keyframe's is that of the last
    /// message whose content it holds.
    pub seq: u64,
    pub mono_ms: u64,
    pub wall_ms: i64,
}

/// A host of the sender's, by the sender's slot.
#[derive(Clone, Debug, PartialEq)]
pub enum Host {
    Set {
        slot: Slot,
        name: String,
        tags: Vec<(String, String)>,
    },
    Del {
        slot: Slot,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnName {
    pub column: Column,
    pub name: String,
    pub unit: String,
}

/// When a host was heard last and its rhythm; 0 for one that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pulse {
    pub slot: Slot,
    pub age_ms: u64,
    pub interval_ms: u64,
}

/// Names that are new or changed, pulses (keyframes only), and cells by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    pub hosts: Vec<Host>,
    pub columns: Vec<ColumnName>,
    pub pulses: Vec<Pulse>,
    /// Sorted by column, then slot.
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Delta(Picture),
    Keyframe(Picture),
    Stored { seq: u64 },
    Want { node: String },
    Bye,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("larger than a message may be")]
    Oversized,
    #[error("of another version")]
    Version,
    #[error("not sealed by this cluster's key")]
    Forged,
    #[error("not a message")]
    Malformed,
}

/// The cluster's secret, at work.
#[derive(Clone)]
pub struct Seal(hmac::Key);

impl Seal {
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn of(&self, message: &[u8]) -> [u8; SEAL_BYTES] {
        let mut seal = [0; SEAL_BYTES];
        let tag = hmac::sign(&self.0, message);
        seal.copy_from_slice(&tag.as_ref()[..SEAL_BYTES]);
        seal
    }

    fn is_of(&self, message: &[u8], found: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        self.of(message).ct_eq(found).into()
    }
}

/// Writes a whole message into `out`, which is emptied first.
pub fn encode(head: &Head<'_>, body: &Body, seal: &Seal, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, head.kind as u8, head.node.len() as u8]);
    out.extend_from_slice(head.node.as_bytes());
    out.extend_from_slice(&head.epoch.to_le_bytes());
    out.extend_from_slice(&head.seq.to_le_bytes());
    out.extend_from_slice(&head.mono_ms.to_le_bytes());
    out.extend_from_slice(&head.wall_ms.to_le_bytes());
    match body {
        Body::Delta(picture) => put_picture(picture, false, out),
        Body::Keyframe(picture) => put_picture(picture, true, out),
        Body::Stored { seq } => varint(out, *seq),
        Body::Want { node } => text(out, node),
        Body::Bye => {}
    }
    out.extend_from_slice(&seal.of(out));
}

/// Head and body bytes of a message whose size, version and seal are right.
pub fn open<'a>(message: &'a [u8], seal: &Seal) -> Result<(Head<'a>, &'a [u8]), Fault> {
    if message.len() > CLUSTER_KEYFRAME_BYTES_MAX {
        return Err(Fault::Oversized);
    }
    if message.len() < HEAD_BYTES + SEAL_BYTES || &message[..2] != MAGIC {
        return Err(Fault::Malformed);
    }
    if message[2] != VERSION {
        return Err(Fault::Version);
    }
    let (sealed, found) = message.split_at(message.len() - SEAL_BYTES);
    if !seal.is_of(sealed, found) {
        return Err(Fault::Forged);
    }
    let (head, body) = read_head(sealed).ok_or(Fault::Malformed)?;
    if head.kind != Kind::Keyframe && message.len() > CLUSTER_MESSAGE_BYTES_MAX {
        return Err(Fault::Oversized);
    }
    Ok((head, body))
}

/// The body of a message of this kind.
pub fn read_body(kind: Kind, body: &[u8]) -> Result<Body, Fault> {
    let mut reader = Reader(body);
    let body = match kind {
        Kind::Delta => get_picture(&mut reader, false).map(Body::Delta),
        Kind::Keyframe => get_picture(&mut reader, true).map(Body::Keyframe),
        Kind::Stored => reader.varint().map(|seq| Body::Stored { seq }),
        Kind::Want => {
            let node = reader.text(CLUSTER_NODE_BYTES_MAX);
            node.map(|node| Body::Want { node: node.into() })
        }
        Kind::Bye => Some(Body::Bye),
    };
    body.filter(|_| reader.0.is_empty()).ok_or(Fault::Malformed)
}

fn read_head(message: &[u8]) -> Option<(Head<'_>, &[u8])> {
    let mut reader = Reader(&message[3..]);
    let kind = match reader.u8()? {
        1 => Kind::Delta,
        2 => Kind::Keyframe,
        3 => Kind::Stored,
        4 => Kind::Want,
        5 => Kind::Bye,
        _ => return None,
    };
    let bytes = usize::from(reader.u8()?);
    let node = std::str::from_utf8(reader.take(bytes)?).ok()?;
    if !is_node_name(node) {
        return None;
    }
    let head = Head {
        kind,
        node,
        epoch: reader.u64()?,
        seq: reader.u64()?,
        mono_ms: reader.u64()?,
        wall_ms: reader.u64()? as i64,
    };
    Some((head, reader.0))
}

/// What may stand in a key of Redis, a log and a page as it is.
pub fn is_node_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=CLUSTER_NODE_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

fn put_picture(picture: &Picture, is_keyframe: bool, out: &mut Vec<u8>) {
    varint(out, picture.hosts.len() as u64);
    for host in &picture.hosts {
        put_host(host, out);
    }
    varint(out, picture.columns.len() as u64);
    for column in &picture.columns {
        varint(out, u64::from(column.column));
        text(out, &column.name);
        text(out, &column.unit);
    }
    if is_keyframe {
        varint(out, picture.pulses.len() as u64);
        for pulse in &picture.pulses {
            varint(out, u64::from(pulse.slot));
            varint(out, pulse.age_ms);
            varint(out, pulse.interval_ms);
        }
    }
    cells::put(&picture.cells, out);
}

fn put_host(host: &Host, out: &mut Vec<u8>) {
    match host {
        Host::Set { slot, name, tags } => {
            varint(out, u64::from(*slot) << 1 | 1);
            text(out, name);
            varint(out, tags.len() as u64);
            for (key, value) in tags {
                text(out, key);
                text(out, value);
            }
        }
        Host::Del { slot } => varint(out, u64::from(*slot) << 1),
    }
}

fn get_picture(reader: &mut Reader<'_>, is_keyframe: bool) -> Option<Picture> {
    // Room is made for what comes, not for what is announced.
    let hosts = reader.count(2 * HOSTS_MAX)?;
    let hosts = (0..hosts)
        .map(|_| get_host(reader))
        .collect::<Option<_>>()?;
    let columns = reader.count(COLUMNS_MAX + 1)?;
    let columns = (0..columns).map(|_| get_column(reader));
    let columns = columns.collect::<Option<_>>()?;
    let pulses = if is_keyframe {
        reader.count(HOSTS_MAX + 1)?
    } else {
        0
    };
    let pulses = (0..pulses).map(|_| get_pulse(reader));
    let pulses = pulses.collect::<Option<_>>()?;
    let most = if is_keyframe {
        SERIES_MAX + HOSTS_MAX
    } else {
        CLUSTER_CELLS_MAX
    };
    let cells = cells::get(reader, most)?;
    Some(Picture {
        hosts,
        columns,
        pulses,
        cells,
    })
}

fn get_host(reader: &mut Reader<'_>) -> Option<Host> {
    let word = reader.varint()?;
    let slot = slot(word >> 1)?;
    if word & 1 == 0 {
        return Some(Host::Del { slot });
    }
    let name = reader.text(HOST_BYTES_MAX)?.to_owned();
    let tags = reader.count(TAGS_MAX)?;
    let tag = |_| {
        let key = reader.text(TAG_KEY_BYTES_MAX)?.to_owned();
        Some((key, reader.text(TAG_VALUE_BYTES_MAX)?.to_owned()))
    };
    let tags = (0..tags).map(tag).collect::<Option<_>>()?;
    (!name.is_empty()).then_some(Host::Set { slot, name, tags })
}

fn get_column(reader: &mut Reader<'_>) -> Option<ColumnName> {
    let column = column(reader.varint()?)?;
    let name = reader.text(METRIC_BYTES_MAX)?.to_owned();
    let unit = reader.text(UNIT_BYTES_MAX)?.to_owned();
    (!name.is_empty()).then_some(ColumnName { column, name, unit })
}

fn get_pulse(reader: &mut Reader<'_>) -> Option<Pulse> {
    Some(Pulse {
        slot: slot(reader.varint()?)?,
        age_ms: reader.varint()?,
        interval_ms: reader.varint()?,
    })
}

fn slot(number: u64) -> Option<Slot> {
    (number <= HOSTS_MAX as u64).then_some(number as Slot)
}

fn column(number: u64) -> Option<Column> {
    (number <= COLUMNS_MAX as u64).then_some(number as Column)
}

#[cfg(test)]
mod tests;
