//! What history counts.

use super::{Aggregated, Counter, Text};
use crate::limits::SHIP_LAG_DEGRADED;

/// Why history has not what was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Dropped {
    /// `--history none`.
    Off,
    /// Its ring: the journal's disk could not keep up.
    RingFull,
    MemoryFull,
    /// Waited so long that its host's name was given away.
    Stalled,
    TooOld,
    /// No directory to keep anything in.
    Unavailable,
    /// The store's disk is full, and there was nothing older to remove.
    DiskFull,
}

impl Dropped {
    pub const ALL: [Dropped; 7] = [
        Dropped::Off,
        Dropped::RingFull,
        Dropped::MemoryFull,
        Dropped::Stalled,
        Dropped::TooOld,
        Dropped::Unavailable,
        Dropped::DiskFull,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Dropped::Off => "off",
            Dropped::RingFull => "ring_full",
            Dropped::MemoryFull => "memory_full",
            Dropped::Stalled => "stalled",
            Dropped::TooOld => "too_old",
            Dropped::Unavailable => "unavailable",
            Dropped::DiskFull => "disk_full",
        }
    }
}

/// History's counters. Each has one writer: the aggregator those of the ring, the writer those of
/// the store, the keeper all others.
#[derive(Debug, Default)]
pub struct History {
    pub forwarded: Counter,
    pub taken: Counter,
    /// Of those forwarded, the ones that found the ring full.
    pub taken_never: Counter,
    /// Samples in the recent minutes.
    pub held: Counter,
    pub dropped: [Counter; Dropped::ALL.len()],
    /// Samples that no journal took: in memory alone until their minute is stored.
    pub unjournaled: Counter,
    pub journal_ok: Counter,
    pub journal_bytes: Counter,
    pub replayed: Counter,
    pub damaged_records: Counter,
    pub cut_bytes: Counter,
    pub persisted: Counter,
    pub rows: Counter,
    pub late: Counter,
    pub thinned: Counter,
    pub store_ok: Counter,
    pub store_bytes: Counter,
    pub store_errors: Counter,
    /// Samples of days that were removed for want of space.
    pub evicted: Counter,
    /// 1 while the database takes what is stored; the writer copies all five from the shipper.
    pub ship_ok: Counter,
    pub ship_lag_ms: Counter,
    pub shipped_rows: Counter,
    pub shipped_bytes: Counter,
    pub ship_errors: Counter,
    pub queries: Counter,
    pub queries_refused: Counter,
}

impl History {
    pub fn drop_samples(&self, reason: Dropped, samples: u64) {
        self.dropped[reason as usize].add(samples);
    }

    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().map(Counter::get).sum()
    }

    /// What a durable answer can't be given for.
    pub fn lost_by_keeper(&self) -> u64 {
        let lost = [Dropped::MemoryFull, Dropped::Stalled, Dropped::Unavailable];
        let dropped: u64 = lost
            .map(|reason| self.dropped[reason as usize].get())
            .iter()
            .sum();
        dropped + self.unjournaled.get()
    }

    /// History is not kept as it should be: a viewer is told so.
    pub fn is_degraded(&self) -> bool {
        let is_kept = 0 < self.journal_ok.get() && 0 < self.store_ok.get();
        !is_kept || SHIP_LAG_DEGRADED.as_millis() < u128::from(self.ship_lag_ms.get())
    }

    /// Merged, and neither stored nor given up.
    pub fn pending(&self) -> u64 {
        let gone = self.taken.get() + self.taken_never.get();
        self.forwarded.get().saturating_sub(gone) + self.held.get()
    }
}

type Pick = fn(&History) -> &Counter;

const COUNTERS: [(&str, &str, Pick); 15] = [
    (
        "samples_persisted",
        "Samples merged that are in the store.",
        |h| &h.persisted,
    ),
    (
        "history_rows",
        "Rows stored, one a series and minute.",
        |h| &h.rows,
    ),
    (
        "history_late_samples",
        "Samples stored after their minute was: corrections.",
        |h| &h.late,
    ),
    (
        "history_thinned",
        "Points kept in their row's sums alone.",
        |h| &h.thinned,
    ),
    (
        "history_evicted_samples",
        "Samples of days removed for want of disk space.",
        |h| &h.evicted,
    ),
    (
        "history_unjournaled",
        "Samples that no journal took; in memory until stored.",
        |h| &h.unjournaled,
    ),
    (
        "history_replayed",
        "Samples taken back from the journal at the start.",
        |h| &h.replayed,
    ),
    (
        "history_damaged_records",
        "Damaged records in the journal at the start.",
        |h| &h.damaged_records,
    ),
    (
        "history_cut_bytes",
        "Bytes of the journal given up at the start.",
        |h| &h.cut_bytes,
    ),
    ("history_store_errors", "Failed writes of the store.", |h| {
        &h.store_errors
    }),
    ("history_shipped_rows", "Rows that MySQL took.", |h| {
        &h.shipped_rows
    }),
    ("history_shipped_bytes", "Bytes of points in them.", |h| {
        &h.shipped_bytes
    }),
    (
        "history_ship_errors",
        "Sessions with MySQL that ended in an error.",
        |h| &h.ship_errors,
    ),
    ("history_queries", "Questions about the past.", |h| {
        &h.queries
    }),
    (
        "history_queries_refused",
        "Those of them without an answer.",
        |h| &h.queries_refused,
    ),
];

const GAUGES: [(&str, &str, Pick); 6] = [
    (
        "history_ship_ok",
        "1 while MySQL takes what is stored; 0 also where none is named.",
        |h| &h.ship_ok,
    ),
    (
        "history_ship_lag_milliseconds",
        "Age of the oldest write that MySQL lacks.",
        |h| &h.ship_lag_ms,
    ),
    (
        "history_journal_ok",
        "1 while the journal can be written.",
        |h| &h.journal_ok,
    ),
    (
        "history_store_ok",
        "1 while the store can be written.",
        |h| &h.store_ok,
    ),
    ("history_journal_bytes", "Size of the journal.", |h| {
        &h.journal_bytes
    }),
    ("history_store_bytes", "Size of the store.", |h| {
        &h.store_bytes
    }),
];

/// History's line of the ledger, aggregated = persisted + pending + dropped, and what else it
/// counts.
pub(super) fn write(text: &mut Text, aggregated: &Aggregated, history: Option<&History>) {
    let name = "tidewall_history_dropped";
    let help = "Samples merged that history does not have.";
    text.family(name, "counter", help);
    for reason in Dropped::ALL {
        let n = match history {
            Some(history) => history.dropped[reason as usize].get(),
            None if reason == Dropped::Off => aggregated.samples.get(),
            None => 0,
        };
        if 0 < n {
            text.total(name, &format!("reason=\"{}\"", reason.label()), n);
        }
    }
    let none = History::default();
    let history = history.unwrap_or(&none);
    for (name, help, pick) in COUNTERS {
        let name = format!("tidewall_{name}");
        text.family(&name, "counter", help);
        text.total(&name, "", pick(history).get());
    }
    let pending = "tidewall_history_pending";
    text.family(pending, "gauge", "Samples merged and not stored yet.");
    text.line(pending, "", history.pending());
    for (name, help, pick) in GAUGES {
        let name = format!("tidewall_{name}");
        text.family(&name, "gauge", help);
        text.line(&name, "", pick(history).get());
    }
}
