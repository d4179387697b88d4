//! What a fleet's run says at its end: a table for people, JSON for tools.

mod machine;
mod table;

use std::io::{self, Write};

use serde::Serialize;

use super::Via;
use super::fleet::run::Measured;
use super::fleet::worker::Plan;
use super::fleet::{Counts, FleetArgs, Latency, Requests, Tally, Verdict, Viewing, total};
pub(super) use machine::Processor;
use machine::{MachineFigures, machine};
pub(super) use table::Progress;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    run: Run,
    requests: RequestFigures,
    viewers: ViewerFigures,
    probes: ProbeFigures,
    generator: GeneratorFigures,
    machine: MachineFigures,
}

#[derive(Debug, Serialize)]
struct Run {
    version: &'static str,
    command: String,
    started_ms: i64,
    to: String,
    via: Via,
    servers: usize,
    server_connections: usize,
    viewers: usize,
    frozen_viewers: usize,
    every_ms: u64,
    metrics: usize,
    seed: u64,
    threads: usize,
    asked_seconds: f64,
    seconds: f64,
    interrupted: bool,
    clean: bool,
}

#[derive(Debug, Serialize)]
struct RequestFigures {
    intended: u64,
    sent: u64,
    acknowledged: u64,
    acknowledged_per_second: f64,
    samples_acknowledged: u64,
    samples_per_second: f64,
    refused: Counts,
    lost: Counts,
    reconnects: u64,
    connect_failures: Counts,
    /// Of requests; by HTTP/2 of their bodies alone, since h2 makes the rest.
    bytes_sent: u64,
    /// From the intended time.
    answer: Quantiles,
}

#[derive(Debug, Serialize)]
struct ViewerFigures {
    connected: usize,
    frames: u64,
    frames_per_second_min: f64,
    frames_per_second_avg: f64,
    keys: u64,
    deltas: u64,
    gaps: u64,
    unfit: u64,
    resyncs: u64,
    errors: u64,
    reconnects: u64,
    closes: Counts,
    bytes: u64,
    bytes_per_second: f64,
    frozen_connected: u64,
    frozen_closed_by_server: u64,
}

#[derive(Debug, Serialize)]
struct ProbeFigures {
    sent: u64,
    accepted: u64,
    /// Pairs of a probe and a viewer.
    seen: u64,
    lost: u64,
    /// From the intended time of a probe to a frame with it, parsed.
    post_to_frame: Quantiles,
}

#[derive(Debug, Serialize)]
struct GeneratorFigures {
    cpu_seconds: f64,
    /// Viewers' share included.
    cpu_us_per_request: Option<f64>,
    /// From the intended time to the send: what the figures above owe to the generator.
    lateness: Quantiles,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    count: u64,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl Quantiles {
    fn of(latency: &Latency) -> Self {
        Self {
            count: latency.count(),
            p50_ms: latency.quantile_ms(0.5),
            p90_ms: latency.quantile_ms(0.9),
            p99_ms: latency.quantile_ms(0.99),
            p999_ms: latency.quantile_ms(0.999),
            max_ms: latency.max_ms(),
        }
    }
}

impl Report {
    pub(super) fn new(args: &FleetArgs, plan: &Plan, measured: &Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        let rate = |n: f64| if seconds > 0.0 { n / seconds } else { 0.0 };
        let requests = requests(&measured.tally, rate);
        let viewers = viewers(measured, rate);
        let probes = probes(measured);
        let cpu_seconds = measured.processor.own.as_secs_f64();
        let per_request = (requests.sent > 0).then(|| cpu_seconds * 1e6 / requests.sent as f64);
        let clean = total(&requests.refused) == 0
            && total(&requests.lost) == 0
            && requests.intended == requests.acknowledged
            && probes.lost == 0
            && probes.accepted == probes.sent
            && viewers.connected == plan.viewers;
        Self {
            run: Run {
                version: env!("CARGO_PKG_VERSION"),
                command: command(std::env::args()),
                started_ms: measured.started_ms,
                to: plan.line.target.to_string(),
                via: args.via,
                servers: plan.servers,
                server_connections: plan.server_connections(),
                viewers: plan.viewers,
                frozen_viewers: plan.frozen,
                every_ms: u64::try_from(plan.every.as_millis()).unwrap_or(u64::MAX),
                metrics: plan.metrics,
                seed: plan.seed,
                threads: plan.threads,
                asked_seconds: args.duration.as_secs_f64(),
                seconds,
                interrupted: measured.interrupted,
                clean,
            },
            generator: GeneratorFigures {
                cpu_seconds,
                cpu_us_per_request: per_request,
                lateness: Quantiles::of(&measured.tally.lateness),
            },
            requests,
            viewers,
            probes,
            machine: machine(&measured.processor),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        if self.run.clean {
            Verdict::Clean
        } else {
            Verdict::Losses
        }
    }

    pub(super) fn json(&self) -> String {
        // Maps with string keys and finite numbers cannot fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The table, on standard output.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(self.table().as_bytes())?;
        out.flush()
    }
}

fn requests(tally: &Tally, rate: impl Fn(f64) -> f64) -> RequestFigures {
    let Requests {
        intended,
        sent,
        bytes_sent,
        acknowledged,
        samples_acknowledged,
        refused,
        lost,
        reconnects,
        connect_failures,
    } = tally.requests.clone();
    RequestFigures {
        intended,
        sent,
        acknowledged,
        acknowledged_per_second: rate(acknowledged as f64),
        samples_acknowledged,
        samples_per_second: rate(samples_acknowledged as f64),
        refused,
        lost,
        reconnects,
        connect_failures,
        bytes_sent,
        answer: Quantiles::of(&tally.answer),
    }
}

fn viewers(measured: &Measured, rate: impl Fn(f64) -> f64) -> ViewerFigures {
    let tally = &measured.tally;
    let in_time = |field: fn(&Viewing) -> u64| measured.viewers.iter().map(field).sum::<u64>();
    let in_all = |field: fn(&Viewing) -> u64| tally.viewers.iter().map(field).sum::<u64>();
    let frames = in_time(|viewing| viewing.frames);
    let least = measured.viewers.iter().map(|viewing| viewing.frames).min();
    let bytes = in_time(|viewing| viewing.bytes);
    ViewerFigures {
        connected: tally
            .viewers
            .iter()
            .filter(|viewing| viewing.connected)
            .count(),
        frames,
        frames_per_second_min: rate(least.unwrap_or_default() as f64),
        frames_per_second_avg: rate(frames as f64 / measured.viewers.len().max(1) as f64),
        keys: in_time(|viewing| viewing.keys),
        deltas: in_time(|viewing| viewing.deltas),
        gaps: in_all(|viewing| viewing.gaps),
        unfit: in_all(|viewing| viewing.unfit),
        resyncs: in_all(|viewing| viewing.resyncs),
        errors: in_all(|viewing| viewing.errors),
        reconnects: in_all(|viewing| viewing.reconnects),
        closes: tally.viewer_closes.clone(),
        bytes,
        bytes_per_second: rate(bytes as f64),
        frozen_connected: tally.frozen_connected,
        frozen_closed_by_server: tally.frozen_closed,
    }
}

fn probes(measured: &Measured) -> ProbeFigures {
    // A viewer that never subscribed is missing from `connected`; it owes no probe.
    let unseen = |viewing: &Viewing| match viewing.last_probe {
        Some(seen) => measured.probes_last.saturating_sub(seen),
        None => 0,
    };
    ProbeFigures {
        sent: measured.probes_sent,
        accepted: measured.probes_accepted,
        seen: measured.tally.visible.count(),
        lost: measured.tally.viewers.iter().map(unseen).sum(),
        post_to_frame: Quantiles::of(&measured.tally.visible),
    }
}

/// The command line as given, without its secret.
fn command(args: impl Iterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut secret = false;
    for word in args {
        let word = match word.strip_prefix("--token=") {
            Some(_) => "--token=...".to_owned(),
            None if secret => "...".to_owned(),
            None => word,
        };
        secret = word == "--token";
        words.push(word);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_token_to_itself() {
        let check = |words: &[&str], expected: &str| {
            assert_eq!(command(words.iter().map(ToString::to_string)), expected);
        };
        check(
            &["t", "fleet", "--token", "s3cret", "--to", "x"],
            "t fleet --token ... --to x",
        );
        check(&["t", "--token=s3cret"], "t --token=...");
    }
}
