//! What this node heard itself, written down for a keyframe, a bounded piece at a time.

use super::content::Live;
use crate::cluster::publisher::Export;
use crate::cluster::wire::{Cell, Pulse};
use crate::limits::{ARRIVAL_GAP_MIN, EXPORT_CELLS_PER_STEP, FORGET_AFTER};
use crate::sample::Column;

/// Arrivals as close as this are one, and have the time of the first.
const GAP_MS: u32 = ARRIVAL_GAP_MIN.as_millis() as u32;

/// Each column is written down as of some moment after the start, the pulses last: a host that was
/// heard meanwhile is told of as older than it is, never as younger.
pub struct Exporter {
    column: usize,
    export: Export,
}

impl Exporter {
    pub fn new(now_ms: u64) -> Self {
        Self {
            column: 0,
            export: Export {
                mono_ms: now_ms,
                ..Export::default()
            },
        }
    }

    pub fn finish(self) -> Export {
        self.export
    }

    pub(super) fn go_on(&mut self, live: &Live) -> bool {
        let Export {
            mono_ms,
            cells,
            pulses,
        } = &mut self.export;
        let mut visited = 0;
        while self.column < live.matrix.columns() {
            if EXPORT_CELLS_PER_STEP <= visited {
                return false;
            }
            let column = self.column as Column;
            visited += live.matrix.hosts(column);
            let start = cells.len();
            live.matrix.each_stamped(column, |slot, value, stamp| {
                // What came later than this node heard the host is another's to tell.
                let here = live.silence.here(slot);
                if here.is_some_and(|here| {
                    stamp.wrapping_sub(here.wrapping_add(GAP_MS)) > u32::MAX / 2
                }) {
                    // A stamp later than the start is as old as the start.
                    let age_ms = (*mono_ms as u32).wrapping_sub(stamp);
                    let age_ms = if age_ms > u32::MAX / 2 { 0 } else { age_ms };
                    cells.push(Cell {
                        column,
                        slot,
                        value,
                        age_ms,
                    });
                }
            });
            cells[start..].sort_unstable_by_key(|cell| cell.slot);
            self.column += 1;
        }
        let pulse = |(slot, last_ms, interval_ms): (_, u64, u32)| Pulse {
            slot,
            age_ms: mono_ms.saturating_sub(last_ms),
            interval_ms: u64::from(interval_ms),
        };
        pulses.extend(live.silence.own().map(pulse));
        pulses.retain(|pulse| pulse.age_ms <= FORGET_AFTER.as_millis() as u64);
        true
    }
}
