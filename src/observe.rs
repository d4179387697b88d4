//! The ledger and the node's own counters.
//!
//! One set per core, written by that core alone with plain relaxed stores and summed when
//! `/metrics` asks, so counting costs no bus traffic. `received = accepted + rejected` and `frames
//! due = sent + coalesced + closed` hold by construction once traffic stops; a test compares them
//! with a client's own count.

mod cluster;
mod history;

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use cluster::{Cluster, Refused};
pub use history::{Dropped, History};

use crate::reject::{self, REASONS, Reason};

/// How samples come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    Http1,
    Http2,
    WebSocket,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Http1, Protocol::Http2, Protocol::WebSocket];

    pub const fn label(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::WebSocket => "websocket",
        }
    }
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn raise_to(&self, n: u64) {
        self.set(n.max(self.get()));
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Refused samples, or refusals, by reason.
#[derive(Debug)]
pub struct Refusals([Counter; REASONS]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// One core's counters.
#[derive(Debug, Default)]
pub struct Counters {
    pub accepted: [Counter; Protocol::ALL.len()],
    pub rejected: [Refusals; Protocol::ALL.len()],
    pub requests: Counter,
    pub refusals: Refusals,
    pub connections: Counter,
    pub connections_opened: Counter,
    pub connections_handed: Counter,
    pub http2_connections: Counter,
    pub tls_handshakes: Counter,
    pub accept_errors: Counter,
    pub viewers: Counter,
    pub frames_due: Counter,
    pub frames_sent: Counter,
    pub frames_coalesced: Counter,
    pub frames_closed: Counter,
    pub ticks_missed: Counter,
    pub carry_bytes: Counter,
    pub ring_high_water: Counter,
}

impl Counters {
    pub fn accept(&self, protocol: Protocol, samples: usize) {
        self.accepted[protocol as usize].add(samples as u64);
    }

    /// A request, a message or a connection was refused.
    pub fn refuse(&self, reason: Reason) {
        self.refusals.0[reason as usize].add(1);
    }

    pub fn refused(&self, reason: Reason) -> u64 {
        self.refusals.0[reason as usize].get()
    }

    pub fn accepted_in_all(&self) -> u64 {
        self.accepted.iter().map(Counter::get).sum()
    }

    /// A batch is refused whole: all samples read up to the fault count, the faulty one too.
    pub fn reject(&self, protocol: Protocol, reason: Reason, samples: usize) {
        self.rejected[protocol as usize].0[reason as usize].add(samples as u64);
    }
}

/// Upper bounds of what counts as one, in milliseconds.
const LATENESS_MS: [u64; 10] = [0, 1, 2, 5, 10, 20, 50, 100, 500, 2_000];

/// How late ticks were; the last count is of those later than any bound.
#[derive(Debug, Default)]
pub struct Lateness {
    counts: [Counter; LATENESS_MS.len() + 1],
    sum_ms: Counter,
}

impl Lateness {
    pub fn record(&self, late_ms: u64) {
        let at = LATENESS_MS.partition_point(|&bound| bound < late_ms);
        self.counts[at].add(1);
        self.sum_ms.add(late_ms);
    }
}

/// The aggregator's counters; it is their only writer.
#[derive(Debug, Default)]
pub struct Aggregated {
    pub samples: Counter,
    pub ticks: Counter,
    pub ticks_skipped: Counter,
    pub tick_lateness_us_max: Counter,
    pub tick_lateness: Lateness,
    pub hosts_ok: Counter,
    pub hosts_stale: Counter,
    pub hosts_down: Counter,
    pub series: Counter,
    pub series_folded: Counter,
}

/// What `/metrics` shows beside the counters.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub hosts: usize,
    pub columns: usize,
    pub hosts_folded: u64,
    pub columns_folded: u64,
    pub uptime_s: u64,
    pub resident_bytes: u64,
}

/// The whole exposition in OpenMetrics text (version 1.0.0).
pub fn exposition(
    cores: &[&Counters],
    aggregated: &Aggregated,
    history: Option<&History>,
    cluster: Option<&Cluster>,
    gauges: &Gauges,
) -> String {
    let mut text = Text {
        out: String::with_capacity(8 * 1024),
    };
    samples(&mut text, cores, aggregated);
    refusals(&mut text, cores);
    totals(&mut text, cores, aggregated, gauges);
    per_core(&mut text, cores);
    state(&mut text, aggregated, gauges);
    lateness(&mut text, &aggregated.tick_lateness);
    history::write(&mut text, aggregated, history);
    cluster::write(&mut text, cluster);
    text.out.push_str("# EOF\n");
    text.out
}

fn samples(text: &mut Text, cores: &[&Counters], aggregated: &Aggregated) {
    let rejected = |p: Protocol, r: Reason| sum(cores, |c| &c.rejected[p as usize].0[r as usize]);
    let accepted = |p: Protocol| sum(cores, |c| &c.accepted[p as usize]);
    let labelled = |p: Protocol| format!("protocol=\"{}\"", p.label());
    let name = "tidewall_samples_received";
    text.family(
        name,
        "counter",
        "Samples that came in: accepted + rejected.",
    );
    for protocol in Protocol::ALL {
        let refused: u64 = reject::all().map(|reason| rejected(protocol, reason)).sum();
        text.total(name, &labelled(protocol), accepted(protocol) + refused);
    }
    let name = "tidewall_samples_accepted";
    text.family(
        name,
        "counter",
        "Samples acknowledged: aggregated + in the rings.",
    );
    for protocol in Protocol::ALL {
        text.total(name, &labelled(protocol), accepted(protocol));
    }
    let name = "tidewall_samples_rejected";
    text.family(
        name,
        "counter",
        "Samples of refused batches, up to the fault.",
    );
    for (protocol, reason) in Protocol::ALL
        .into_iter()
        .flat_map(|p| reject::all().map(move |r| (p, r)))
    {
        let n = rejected(protocol, reason);
        if 0 < n {
            let labels = format!(
                "{},reason=\"{}\"",
                labelled(protocol),
                reason.answer().label
            );
            text.total(name, &labels, n);
        }
    }
    let name = "tidewall_samples_aggregated";
    text.family(name, "counter", "Samples merged into the live state.");
    text.total(name, "", aggregated.samples.get());
}

fn refusals(text: &mut Text, cores: &[&Counters]) {
    let name = "tidewall_refusals";
    let help = "Requests, messages and connections refused.";
    text.family(name, "counter", help);
    for reason in reject::all() {
        let n = cores.iter().map(|core| core.refused(reason)).sum::<u64>();
        if 0 < n {
            text.total(name, &format!("reason=\"{}\"", reason.answer().label), n);
        }
    }
}

fn totals(text: &mut Text, cores: &[&Counters], aggregated: &Aggregated, gauges: &Gauges) {
    let sum = |pick: Pick| sum(cores, pick);
    for (name, help, value) in [
        (
            "frames_due",
            "Frames owed: sent + coalesced + closed.",
            sum(|c| &c.frames_due),
        ),
        (
            "frames_sent",
            "Frames handed to the kernel whole.",
            sum(|c| &c.frames_sent),
        ),
        (
            "frames_coalesced",
            "Frames replaced by newer ones.",
            sum(|c| &c.frames_coalesced),
        ),
        (
            "frames_closed",
            "Frames whose viewer left first.",
            sum(|c| &c.frames_closed),
        ),
        (
            "http2_connections",
            "Connections that spoke HTTP/2.",
            sum(|c| &c.http2_connections),
        ),
        (
            "tls_handshakes",
            "TLS handshakes done.",
            sum(|c| &c.tls_handshakes),
        ),
        ("requests", "HTTP requests answered.", sum(|c| &c.requests)),
        ("ticks", "Ticks published.", aggregated.ticks.get()),
        (
            "ticks_skipped",
            "Ticks given up: the one before ran over.",
            aggregated.ticks_skipped.get(),
        ),
        (
            "hosts_folded",
            "Sights of hosts past the bound.",
            gauges.hosts_folded,
        ),
        (
            "columns_folded",
            "Sights of columns past the bound.",
            gauges.columns_folded,
        ),
        (
            "series_folded",
            "Samples of series past the bound.",
            aggregated.series_folded.get(),
        ),
    ] {
        let name = format!("tidewall_{name}");
        text.family(&name, "counter", help);
        text.total(&name, "", value);
    }
}

fn state(text: &mut Text, aggregated: &Aggregated, gauges: &Gauges) {
    for (name, help, value) in [
        (
            "hosts_ok",
            "Hosts heard within their rhythm.",
            aggregated.hosts_ok.get(),
        ),
        (
            "hosts_stale",
            "Hosts silent for 3 of their intervals.",
            aggregated.hosts_stale.get(),
        ),
        (
            "hosts_down",
            "Hosts silent for 10 of their intervals.",
            aggregated.hosts_down.get(),
        ),
        ("series", "Live series.", aggregated.series.get()),
        ("hosts", "Host names in the catalog.", gauges.hosts as u64),
        ("columns", "Columns in the catalog.", gauges.columns as u64),
        ("uptime_seconds", "Seconds since start.", gauges.uptime_s),
        (
            "resident_bytes",
            "Resident memory of this process.",
            gauges.resident_bytes,
        ),
        (
            "tick_lateness_microseconds_max",
            "Latest tick against its schedule since start.",
            aggregated.tick_lateness_us_max.get(),
        ),
    ] {
        let name = format!("tidewall_{name}");
        text.family(&name, "gauge", help);
        text.line(&name, "", value);
    }
}

/// A histogram in seconds, as OpenMetrics wants it: each bucket counts what is in those before.
fn lateness(text: &mut Text, lateness: &Lateness) {
    let name = "tidewall_tick_lateness_seconds";
    text.family(name, "histogram", "Ticks against their schedule.");
    let mut count = 0;
    for (at, counter) in lateness.counts.iter().enumerate() {
        count += counter.get();
        let le = match LATENESS_MS.get(at) {
            Some(&bound_ms) => format!("le=\"{:?}\"", bound_ms as f64 / 1e3),
            None => "le=\"+Inf\"".to_owned(),
        };
        text.line(&format!("{name}_bucket"), &le, count);
    }
    text.line(&format!("{name}_count"), "", count);
    let sum = lateness.sum_ms.get() as f64 / 1e3;
    let _ = writeln!(text.out, "{name}_sum {sum}");
}

type Pick = fn(&Counters) -> &Counter;

fn per_core(text: &mut Text, cores: &[&Counters]) {
    let families: [(&str, &str, &str, Pick); 8] = [
        ("connections", "gauge", "Open connections.", |c| {
            &c.connections
        }),
        ("viewers", "gauge", "Open live viewers.", |c| &c.viewers),
        (
            "connections_opened",
            "counter",
            "Connections accepted.",
            |c| &c.connections_opened,
        ),
        (
            "connections_handed",
            "counter",
            "Connections given to another core.",
            |c| &c.connections_handed,
        ),
        ("accept_errors", "counter", "Failed accepts.", |c| {
            &c.accept_errors
        }),
        (
            "ticks_missed",
            "counter",
            "Ticks a late core did not broadcast.",
            |c| &c.ticks_missed,
        ),
        (
            "carry_bytes",
            "gauge",
            "Bytes of unfinished requests held.",
            |c| &c.carry_bytes,
        ),
        (
            "ring_high_water",
            "gauge",
            "Most samples ever waiting in the ring.",
            |c| &c.ring_high_water,
        ),
    ];
    for (name, kind, help, pick) in families {
        text.family(&format!("tidewall_{name}"), kind, help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (core, counters) in cores.iter().enumerate() {
            let labels = format!("core=\"{core}\"");
            text.line(
                &format!("tidewall_{name}{suffix}"),
                &labels,
                pick(counters).get(),
            );
        }
    }
}

fn sum(cores: &[&Counters], pick: impl Fn(&Counters) -> &Counter) -> u64 {
    cores.iter().map(|counters| pick(counters).get()).sum()
}

/// Writing into a String cannot fail.
struct Text {
    out: String,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = match labels {
            "" => writeln!(self.out, "{name} {value}"),
            labels => writeln!(self.out, "{name}{{{labels}}} {value}"),
        };
    }

    /// A counter's sample, whose name ends in `_total`.
    fn total(&mut self, name: &str, labels: &str, value: u64) {
        self.line(&format!("{name}_total"), labels, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_to_its_bound() {
        let aggregated = Aggregated::default();
        for late_ms in [0, 1, 2, 3, 5, 6, 2_000, 2_001] {
            aggregated.tick_lateness.record(late_ms);
        }
        let text = exposition(&[], &aggregated, None, None, &Gauges::default());
        for line in [
            "bucket{le=\"0.0\"} 1",
            "bucket{le=\"0.001\"} 2",
            "bucket{le=\"0.005\"} 5",
            "bucket{le=\"0.01\"} 6",
            "bucket{le=\"2.0\"} 7",
            "bucket{le=\"+Inf\"} 8",
            "count 8",
            "sum 4.018",
        ] {
            let line = format!("tidewall_tick_lateness_seconds_{line}\n");
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_ledger_adds_up_over_cores() {
        let (one, two) = (Counters::default(), Counters::default());
        one.accept(Protocol::Http1, 5);
        two.accept(Protocol::Http1, 7);
        two.reject(Protocol::Http1, Reason::Shape, 2);
        let text = exposition(
            &[&one, &two],
            &Aggregated::default(),
            None,
            None,
            &Gauges::default(),
        );
        for line in [
            "tidewall_samples_received_total{protocol=\"http1\"} 14",
            "tidewall_samples_accepted_total{protocol=\"http1\"} 12",
            "tidewall_samples_rejected_total{protocol=\"http1\",reason=\"shape\"} 2",
            "tidewall_samples_aggregated_total 0",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
