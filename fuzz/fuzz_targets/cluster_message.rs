//! What comes from other nodes, sealed by the right key and else of anybody's making: a message is
//! read as it was written or refused, and what it does to a node is no larger than it is.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ring::hmac;
use tidewall::catalog::Catalog;
use tidewall::clock::{HEAD_START_MS, Now};
use tidewall::cluster::peers::Peers;
use tidewall::cluster::record::Record;
use tidewall::cluster::wire::{
    self, Body, Cell, ColumnName, Fault, Head, Host, Kind, Picture, Pulse, Seal,
};
use tidewall::limits::{
    COLUMNS_MAX, HOST_BYTES_MAX, HOSTS_MAX, PEERS_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX,
    TAGS_MAX,
};
use tidewall_fuzz::bytes::Bytes;

const KEY: [u8; 32] = [7; 32];
/// This node.
const SELF: &str = "a";
const EPOCH: u64 = 1_795_680_000_000;
const KINDS: [Kind; 5] = [
    Kind::Delta,
    Kind::Keyframe,
    Kind::Stored,
    Kind::Want,
    Kind::Bye,
];

/// Head and body with their seal: `wire::encode` would write no body that is none.
fn sealed(head: &Head<'_>, body: &[u8]) -> Vec<u8> {
    let name = head.node.as_bytes();
    let mut message = [
        &b"TW"[..],
        &[wire::VERSION, head.kind as u8, name.len() as u8],
        name,
        &head.epoch.to_le_bytes(),
        &head.seq.to_le_bytes(),
        &head.mono_ms.to_le_bytes(),
        &head.wall_ms.to_le_bytes(),
        body,
    ]
    .concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), &message);
    message.extend_from_slice(&tag.as_ref()[..16]);
    message
}

/// More names than a node has peers.
fn name(number: u8) -> String {
    match number {
        0..8 => ["a", "b", "c", "d"][usize::from(number) % 4].to_owned(),
        _ => format!("node-{}", number % 80),
    }
}

fn head<'a>(input: &mut Bytes<'_>, kind: Kind, node: &'a str, now: Now) -> Head<'a> {
    let is_own_epoch = node == SELF && input.u8() < 128;
    Head {
        kind,
        node,
        epoch: if is_own_epoch { EPOCH } else { input.number() },
        seq: input.number(),
        mono_ms: input.number(),
        wall_ms: match input.u8() {
            0..200 => now.wall_ms + i64::from(input.u8()) * 500 - 60_000,
            _ => input.number() as i64,
        },
    }
}

/// What some node could say.
fn picture(input: &mut Bytes<'_>, is_keyframe: bool) -> Picture {
    let mut picture = Picture::default();
    for _ in 0..input.u8() % 6 {
        let slot = u32::from(input.u8() % 12);
        picture.hosts.push(match input.u8() % 4 {
            0 => Host::Del { slot },
            tags => Host::Set {
                slot,
                name: format!("h{}", input.u8() % 12),
                tags: (1..tags)
                    .map(|tag| (format!("k{tag}"), format!("v{}", input.u8() % 3)))
                    .collect(),
            },
        });
    }
    for _ in 0..input.u8() % 4 {
        let column = u16::from(input.u8() % 6);
        let (name, unit) = (format!("m{}", input.u8() % 6), "%".to_owned());
        picture.columns.push(ColumnName { column, name, unit });
    }
    if is_keyframe {
        for _ in 0..input.u8() % 4 {
            let slot = u32::from(input.u8() % 12);
            let (age_ms, interval_ms) = (input.number(), input.number());
            picture.pulses.push(Pulse {
                slot,
                age_ms,
                interval_ms,
            });
        }
    }
    for _ in 0..input.u8() % 20 {
        let (column, slot) = (u16::from(input.u8() % 6), u32::from(input.u8() % 12));
        let value = match input.u8() % 4 {
            0 => f64::from_bits(input.u64()),
            1 => f64::from(input.u8()),
            _ => f64::from(i16::from_le_bytes([input.u8(), input.u8()])) / 100.0,
        };
        let age_ms = match input.u8() % 4 {
            0 => input.number() as u32,
            age_ms => u32::from(age_ms),
        };
        picture.cells.push(Cell {
            column,
            slot,
            value: if value.is_finite() { value } else { -0.0 },
            age_ms,
        });
    }
    picture.cells.sort_by_key(|cell| (cell.column, cell.slot));
    picture.cells.dedup_by_key(|cell| (cell.column, cell.slot));
    picture
}

fn body(input: &mut Bytes<'_>, kind: Kind) -> Body {
    match kind {
        Kind::Delta => Body::Delta(picture(input, false)),
        Kind::Keyframe => Body::Keyframe(picture(input, true)),
        Kind::Stored => Body::Stored {
            seq: input.number(),
        },
        Kind::Want => Body::Want {
            node: name(input.u8()),
        },
        Kind::Bye => Body::Bye,
    }
}

/// A message that says who it is from, and what is in it as far as it can be read. Returns how many
/// records may come of it.
fn check(message: &[u8], head: &Head<'_>, written: Option<&Body>) -> usize {
    let seal = Seal::new(&KEY);
    let (found, bytes) = wire::open(message, &seal).unwrap();
    assert_eq!(found, *head);
    assert_eq!(
        wire::open(message, &Seal::new(&[8; 32])),
        Err(Fault::Forged)
    );
    let read = wire::read_body(head.kind, bytes);
    if let Some(written) = written {
        // By their text, which tells -0.0 from 0.0.
        assert_eq!(
            format!("{:?}", read.as_ref().unwrap()),
            format!("{written:?}")
        );
    }
    let Ok(Body::Delta(picture) | Body::Keyframe(picture)) = read else {
        return 0;
    };
    let Picture {
        hosts,
        columns,
        pulses,
        cells,
    } = &picture;
    assert!(hosts.len() + columns.len() + pulses.len() + cells.len() <= bytes.len());
    for host in hosts {
        match host {
            Host::Set { slot, name, tags } => {
                assert!(*slot as usize <= HOSTS_MAX && tags.len() <= TAGS_MAX);
                assert!((1..=HOST_BYTES_MAX).contains(&name.len()));
                assert!(tags.iter().all(|(key, value)| {
                    key.len() <= TAG_KEY_BYTES_MAX && value.len() <= TAG_VALUE_BYTES_MAX
                }));
            }
            Host::Del { slot } => assert!(*slot as usize <= HOSTS_MAX),
        }
    }
    for cell in cells {
        assert!(cell.slot as usize <= HOSTS_MAX && usize::from(cell.column) <= COLUMNS_MAX);
        assert!(cell.value.is_finite());
    }
    pulses.len() + cells.len()
}

/// What the node makes of all that, taken out of it.
struct Made {
    peers: Peers,
    /// Cells and pulses that came and did not come out again.
    owed: usize,
}

impl Made {
    fn take(&mut self, now: Now) {
        let mut reaches = 0;
        for sample in self.peers.records().drain(..) {
            match Record::unpack(&sample) {
                Record::Cell {
                    peer,
                    slot,
                    column,
                    value,
                    heard_ms,
                    ..
                } => {
                    assert!(usize::from(peer) <= PEERS_MAX && heard_ms <= now.mono_ms);
                    assert!(slot as usize <= HOSTS_MAX && usize::from(column) <= COLUMNS_MAX);
                    assert!(value.is_finite() && 0 < self.owed);
                    self.owed -= 1;
                }
                Record::Pulse {
                    peer,
                    slot,
                    heard_ms,
                    ..
                } => {
                    assert!(usize::from(peer) <= PEERS_MAX && heard_ms <= now.mono_ms);
                    assert!(slot as usize <= HOSTS_MAX && 0 < self.owed);
                    self.owed -= 1;
                }
                Record::Reach { peer, .. } | Record::Restart { peer } => {
                    assert!((1..=PEERS_MAX).contains(&usize::from(peer)));
                    reaches += 1;
                }
            }
        }
        assert!(reaches <= 2 * PEERS_MAX + 2);
        assert!(self.peers.wishes().len() <= 2 * PEERS_MAX + 4);
        let tagged = self.peers.tagged();
        assert!(tagged.iter().all(|(slot, _)| *slot as usize <= HOSTS_MAX));
        let standings = self.peers.roster().standings(now.mono_ms);
        assert!(standings.len() <= PEERS_MAX && standings.iter().all(|peer| peer.name != SELF));
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Bytes(data);
    // Fewer than the messages name: the rest is folded.
    let catalog = Catalog::with_bounds(8, 4);
    let peers = Peers::new(SELF, EPOCH, Seal::new(&KEY), catalog, Arc::default());
    let mut made = Made { peers, owed: 0 };
    let mut now = Now {
        mono_ms: HEAD_START_MS,
        wall_ms: EPOCH as i64,
    };
    while !input.0.is_empty() {
        let act = input.u8();
        if act < 32 {
            let ms = match act {
                0 => 2 * 3_600_000,
                1..8 => 2_000,
                _ => 50,
            };
            now.mono_ms += ms;
            now.wall_ms += ms as i64;
            made.peers.poll(now);
        } else if act < 40 {
            let length = input.u8();
            let message = input.take(usize::from(length));
            assert!(wire::open(message, &Seal::new(&KEY)).is_err());
            made.peers.receive(message, now);
        } else {
            let (kind, node) = (KINDS[usize::from(act) % 5], name(input.u8()));
            let head = head(&mut input, kind, &node, now);
            let mut message = Vec::new();
            let written = if act < 80 {
                let length = input.u8();
                message = sealed(&head, input.take(usize::from(length)));
                None
            } else {
                let body = body(&mut input, kind);
                wire::encode(&head, &body, &Seal::new(&KEY), &mut message);
                Some(body)
            };
            made.owed += check(&message, &head, written.as_ref());
            match (kind, act % 3) {
                (Kind::Keyframe, 0) => {
                    made.peers.restore(&message, now);
                }
                (Kind::Keyframe, 1) => made.peers.keyframe(&node, &message, now),
                _ => made.peers.receive(&message, now),
            }
        }
        made.take(now);
    }
});
