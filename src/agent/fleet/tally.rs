//! What one thread of the fleet counted, merged by the main one.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Microseconds, up to a minute, three digits: 140 KB of counters.
#[derive(Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    const MAX_US: u64 = 60_000_000;

    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, Self::MAX_US, 3);
        #[expect(clippy::expect_used, reason = "constant bounds, tried by every test")]
        Self(histogram.expect("valid bounds"))
    }

    /// Longer than a minute counts as a minute.
    pub(crate) fn record(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    fn merge(&mut self, other: &Self) {
        // Same bounds, so there is nothing to lose.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds; `None` when nothing was recorded.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64 / 1_000.0)
    }

    pub(crate) fn max_ms(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max() as f64 / 1_000.0)
    }
}

pub(crate) type Counts = BTreeMap<String, u64>;

pub(crate) fn count(counts: &mut Counts, kind: &str, n: u64) {
    if n == 0 {
        return;
    }
    match counts.get_mut(kind) {
        Some(counted) => *counted += n,
        None => {
            counts.insert(kind.to_owned(), n);
        }
    }
}

pub(crate) fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// `intended = acknowledged + refused + lost + still waiting`, and nothing waits at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) intended: u64,
    pub(crate) sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) acknowledged: u64,
    /// By the server's own count where it gives one.
    pub(crate) samples_acknowledged: u64,
    /// By status or reason.
    pub(crate) refused: Counts,
    /// By what became of them.
    pub(crate) lost: Counts,
    pub(crate) reconnects: u64,
    pub(crate) connect_failures: Counts,
}

impl Requests {
    pub(crate) fn waiting(&self) -> u64 {
        let settled = self.acknowledged + total(&self.refused) + total(&self.lost);
        self.intended.saturating_sub(settled)
    }
}

/// One viewer's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Viewing {
    pub(crate) connected: bool,
    pub(crate) frames: u64,
    pub(crate) keys: u64,
    pub(crate) deltas: u64,
    pub(crate) texts: u64,
    pub(crate) bytes: u64,
    /// Frames that were made and did not come.
    pub(crate) gaps: u64,
    /// Deltas that came and did not fit.
    pub(crate) unfit: u64,
    pub(crate) resyncs: u64,
    pub(crate) errors: u64,
    pub(crate) reconnects: u64,
    /// The last probe seen; probes up to the first subscription count as seen. `None`: never
    /// subscribed.
    pub(crate) last_probe: Option<u64>,
}

#[derive(Clone)]
pub(crate) struct Tally {
    pub(crate) requests: Requests,
    /// From the intended time of a request to its answer.
    pub(crate) answer: Latency,
    /// From the intended time of a request to its send: what this program adds by itself.
    pub(crate) lateness: Latency,
    pub(crate) viewers: Vec<Viewing>,
    /// From the intended time of a probe to the first frame that shows it, parsed.
    pub(crate) visible: Latency,
    pub(crate) viewer_closes: Counts,
    pub(crate) frozen_connected: u64,
    pub(crate) frozen_closed: u64,
}

impl Tally {
    pub(crate) fn new(viewers: usize) -> Self {
        Self {
            requests: Requests::default(),
            answer: Latency::new(),
            lateness: Latency::new(),
            viewers: vec![Viewing::default(); viewers],
            visible: Latency::new(),
            viewer_closes: Counts::new(),
            frozen_connected: 0,
            frozen_closed: 0,
        }
    }

    /// The measured time begins: what happened while connecting is forgotten, except failures.
    pub(crate) fn start(&mut self) {
        let mut fresh = Self::new(self.viewers.len());
        fresh.requests.connect_failures = std::mem::take(&mut self.requests.connect_failures);
        fresh.frozen_connected = self.frozen_connected;
        for (fresh, old) in fresh.viewers.iter_mut().zip(&self.viewers) {
            fresh.connected = old.connected;
            fresh.last_probe = old.last_probe;
        }
        *self = fresh;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (&mut self.requests, &other.requests);
        mine.intended += theirs.intended;
        mine.sent += theirs.sent;
        mine.bytes_sent += theirs.bytes_sent;
        mine.acknowledged += theirs.acknowledged;
        mine.samples_acknowledged += theirs.samples_acknowledged;
        mine.reconnects += theirs.reconnects;
        for (mine, theirs) in [
            (&mut mine.refused, &theirs.refused),
            (&mut mine.lost, &theirs.lost),
            (&mut mine.connect_failures, &theirs.connect_failures),
            (&mut self.viewer_closes, &other.viewer_closes),
        ] {
            for (kind, n) in theirs {
                count(mine, kind, *n);
            }
        }
        self.answer.merge(&other.answer);
        self.lateness.merge(&other.lateness);
        self.visible.merge(&other.visible);
        self.viewers.extend_from_slice(&other.viewers);
        self.frozen_connected += other.frozen_connected;
        self.frozen_closed += other.frozen_closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_and_the_sum_holds() {
        let (mut a, mut b) = (Tally::new(1), Tally::new(2));
        a.requests.intended = 5;
        a.requests.acknowledged = 3;
        count(&mut a.requests.refused, "503", 1);
        count(&mut b.requests.refused, "503", 2);
        count(&mut b.requests.lost, "closed by server", 1);
        b.requests.intended = 3;
        a.answer.record(1_000);
        b.answer.record(3_000);
        b.answer.record(90_000_000);
        a.merge(&b);
        assert_eq!(a.requests.waiting(), 1);
        assert_eq!(a.requests.refused["503"], 3);
        assert_eq!(a.viewers.len(), 3);
        assert_eq!(a.answer.count(), 3);
        let median = a.answer.quantile_ms(0.5).unwrap_or_default();
        assert!((2.99..3.01).contains(&median), "{median}");
        assert!(a.answer.max_ms().unwrap_or_default() < 60_100.0);
        assert_eq!(a.visible.max_ms(), None);
    }

    #[test]
    fn a_start_keeps_only_what_lasts() {
        let mut tally = Tally::new(1);
        tally.requests.sent = 9;
        count(&mut tally.requests.connect_failures, "connect", 1);
        tally.viewers[0].last_probe = Some(4);
        tally.viewers[0].frames = 7;
        tally.start();
        assert_eq!((tally.requests.sent, tally.viewers[0].frames), (0, 0));
        assert_eq!(tally.viewers[0].last_probe, Some(4));
        assert_eq!(total(&tally.requests.connect_failures), 1);
    }
}
