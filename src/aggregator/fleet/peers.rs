//! What other nodes heard, in the same matrix; and what this one heard, for them.

use std::sync::Arc;

use super::Fleet;
use crate::aggregator::export::Exporter;
use crate::aggregator::matrix::Put;
use crate::clock::Now;
use crate::cluster::record::{Reach, Record};
use crate::cluster::roster::Roster;
use crate::sample::Sample;

impl Fleet {
    /// This node has peers, who go by these names.
    pub fn set_roster(&mut self, roster: Arc<Roster>) {
        self.live.roster = Some(roster);
    }

    /// Takes in what peers heard. A cell that was heard before the one that is there is old news:
    /// that one came by another way.
    pub fn fold_peers(&mut self, records: &[Sample], now: Now) {
        for record in records {
            self.fold_record(Record::unpack(record), now.mono_ms);
        }
        self.settled_ms = None;
    }

    /// Goes on writing down, for a keyframe, what this node heard; true once all is there.
    pub fn export(&self, exporter: &mut Exporter) -> bool {
        exporter.go_on(&self.live)
    }

    fn fold_record(&mut self, record: Record, now_ms: u64) {
        match record {
            Record::Cell {
                peer,
                slot,
                column,
                value,
                heard_ms,
                is_arrival,
            } => {
                let (slot, heard_ms) = (self.home(slot), heard_ms.min(now_ms));
                // Of a host that only a keyframe's cell tells of, that is all there is to know.
                if is_arrival || !self.live.silence.is_heard(slot) {
                    self.live.silence.arrive_at(peer, slot, heard_ms);
                }
                let (stamp, matrix) = (heard_ms as u32, &mut self.live.matrix);
                let before = matrix.value(slot, column);
                // Of a keyframe's cells those count that are newer for sure: it may have got them
                // from here.
                let least = u32::from(!is_arrival);
                let is_old = before.is_some_and(|(_, at)| {
                    stamp.wrapping_sub(at).wrapping_sub(least) > u32::MAX / 2
                });
                if !is_old && matrix.put(slot, column, value, stamp) == Put::Full {
                    self.put_into_other(slot, value, stamp);
                }
            }
            Record::Pulse {
                peer,
                slot,
                heard_ms,
                interval_ms,
            } => {
                let slot = self.home(slot);
                let heard_ms = heard_ms.min(now_ms);
                self.live.silence.adopt(peer, slot, heard_ms, interval_ms);
            }
            Record::Reach { peer, reach } => {
                let is_reachable = reach == Reach::Reachable;
                self.live.silence.reach(peer, is_reachable);
            }
            Record::Restart { peer } => self.live.silence.vouch_for(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::rig::Rig;
    use crate::cluster::publisher::Export;
    use crate::cluster::record::Peer;
    use crate::frame::State;

    fn hear(rig: &mut Rig, peer: Peer, host: &str, value: f64, ago_ms: u64, is_arrival: bool) {
        let (slot, column) = rig.lookup(host, "cpu");
        let record = Record::Cell {
            peer,
            slot,
            column,
            value,
            heard_ms: rig.now.mono_ms - ago_ms,
            is_arrival,
        };
        rig.fleet.fold_peers(&[record.pack()], rig.now);
    }

    fn cpu(rig: &mut Rig, host: &str) -> f64 {
        rig.metrics(host)[0].1
    }

    #[test]
    fn the_value_that_was_heard_last_is_shown_whichever_way_it_came() {
        let mut rig = Rig::new();
        rig.wait(10_000);
        hear(&mut rig, 1, "a", 1.0, 500, true);
        hear(&mut rig, 2, "a", 2.0, 400, true);
        hear(&mut rig, 1, "a", 1.5, 450, true);
        assert_eq!(cpu(&mut rig, "a"), 2.0);
        rig.send("a", &[("cpu", 3.0)]);
        hear(&mut rig, 2, "a", 2.5, 0, false);
        assert_eq!(
            cpu(&mut rig, "a"),
            3.0,
            "a keyframe may have got it from here"
        );
        hear(&mut rig, 2, "a", 4.0, 0, true);
        assert_eq!(cpu(&mut rig, "a"), 4.0);
        assert_eq!(rig.fleet.totals().hosts.ok, 1);
        assert_eq!(rig.fleet.totals().samples, 1, "peers' are not this node's");
        rig.fleet.invariants();
    }

    #[test]
    fn hosts_of_a_silent_peer_are_stale_with_the_cause() {
        let mut rig = Rig::new();
        rig.wait(10_000);
        let roster = Roster::new();
        roster.set_name(1, "b");
        rig.fleet.set_roster(roster);
        hear(&mut rig, 1, "far", 1.0, 0, true);
        rig.send("near", &[("cpu", 1.0)]);
        let reach = |rig: &mut Rig, reach| {
            let record = Record::Reach { peer: 1, reach };
            rig.fleet.fold_peers(&[record.pack()], rig.now);
        };
        reach(&mut rig, Reach::Unreachable);
        let far = rig.host("far");
        assert_eq!(far.state, State::Stale);
        assert_eq!(far.node.as_deref(), Some("b"));
        assert_eq!(far.cause.as_deref(), Some("node b unreachable"));
        let near = rig.host("near");
        assert_eq!((near.state, near.node, near.cause), (State::Ok, None, None));
        reach(&mut rig, Reach::Reachable);
        let far = rig.host("far");
        assert_eq!((far.state, far.cause), (State::Ok, None));
    }

    #[test]
    fn an_export_holds_what_was_heard_here() {
        let mut rig = Rig::new();
        rig.wait(10_000);
        rig.send("mine", &[("cpu", 1.0), ("mem", 2.0)]);
        hear(&mut rig, 1, "theirs", 3.0, 0, true);
        rig.send("wanderer", &[("cpu", 4.0)]);
        rig.wait(1_000);
        hear(&mut rig, 1, "wanderer", 5.0, 0, true);
        let mut exporter = Exporter::new(rig.now.mono_ms);
        assert!(rig.fleet.export(&mut exporter));
        let Export { cells, pulses, .. } = exporter.finish();
        let cells: Vec<_> = cells.iter().map(|cell| (cell.value, cell.age_ms)).collect();
        assert_eq!(
            cells,
            [(1.0, 1_000), (2.0, 1_000)],
            "the wanderer's is the peer's to tell"
        );
        let pulses: Vec<_> = pulses
            .iter()
            .map(|pulse| (pulse.slot, pulse.age_ms))
            .collect();
        assert_eq!(
            pulses,
            [(0, 1_000)],
            "of the wanderer the peer knows better"
        );
    }
}
