//! What the cluster's thread tells the aggregator, as records of the ring they share: a cell of a
//! peer's, a host's pulse, a peer that came or went.

use crate::sample::{Column, Sample, Slot};

/// A peer's number on this node; 0 is this node itself.
pub type Peer = u8;

pub const SELF: Peer = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is heard, or it left in order: its hosts go by their own silence.
    Reachable,
    /// It fell silent: what its hosts do now, nobody here knows.
    Unreachable,
}

/// Slots and columns are this node's own; times are of this node's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Record {
    Cell {
        peer: Peer,
        slot: Slot,
        column: Column,
        value: f64,
        heard_ms: u64,
        /// The host was heard there just then. A keyframe's cells say nothing of it: they may have
        /// come from elsewhere.
        is_arrival: bool,
    },
    /// The host was heard there last.
    Pulse {
        peer: Peer,
        slot: Slot,
        heard_ms: u64,
        /// Its rhythm; 0: not known yet.
        interval_ms: u32,
    },
    Reach {
        peer: Peer,
        reach: Reach,
    },
    /// It was started anew: what was heard of its hosts before, it may not know itself.
    Restart {
        peer: Peer,
    },
}

const CELL: u8 = 0;
const ARRIVAL: u8 = 1;
const PULSE: u8 = 2;
const REACHABLE: u8 = 3;
const UNREACHABLE: u8 = 4;
const RESTART: u8 = 5;

impl Record {
    pub fn pack(self) -> Sample {
        let sample = |kind: u8, peer: Peer, slot, column, value, heard_ms: u64| Sample {
            value,
            time_ms: heard_ms as i64,
            slot,
            column,
            flags: u16::from_le_bytes([peer, kind]),
        };
        match self {
            Record::Cell {
                peer,
                slot,
                column,
                value,
                heard_ms,
                is_arrival,
            } => {
                let kind = if is_arrival { ARRIVAL } else { CELL };
                sample(kind, peer, slot, column, value, heard_ms)
            }
            Record::Pulse {
                peer,
                slot,
                heard_ms,
                interval_ms,
            } => sample(PULSE, peer, slot, 0, f64::from(interval_ms), heard_ms),
            Record::Reach { peer, reach } => {
                let kind = match reach {
                    Reach::Reachable => REACHABLE,
                    Reach::Unreachable => UNREACHABLE,
                };
                sample(kind, peer, 0, 0, 0.0, 0)
            }
            Record::Restart { peer } => sample(RESTART, peer, 0, 0, 0.0, 0),
        }
    }

    pub fn unpack(sample: &Sample) -> Self {
        let [peer, kind] = sample.flags.to_le_bytes();
        let (slot, heard_ms) = (sample.slot, sample.time_ms as u64);
        match kind {
            PULSE => Record::Pulse {
                peer,
                slot,
                heard_ms,
                interval_ms: sample.value as u32,
            },
            REACHABLE | UNREACHABLE => Record::Reach {
                peer,
                reach: if kind == REACHABLE {
                    Reach::Reachable
                } else {
                    Reach::Unreachable
                },
            },
            RESTART => Record::Restart { peer },
            _ => Record::Cell {
                peer,
                slot,
                column: sample.column,
                value: sample.value,
                heard_ms,
                is_arrival: kind == ARRIVAL,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let cell = |is_arrival| Record::Cell {
            peer: 64,
            slot: 65_536,
            column: 4_096,
            value: -0.5,
            heard_ms: 1 << 40,
            is_arrival,
        };
        let pulse = Record::Pulse {
            peer: 1,
            slot: 7,
            heard_ms: 9,
            interval_ms: 300_000,
        };
        let reach = |reach| Record::Reach { peer: 3, reach };
        let records = [
            cell(true),
            cell(false),
            pulse,
            reach(Reach::Reachable),
            reach(Reach::Unreachable),
            Record::Restart { peer: 64 },
        ];
        for record in records {
            assert_eq!(Record::unpack(&record.pack()), record);
        }
    }
}
