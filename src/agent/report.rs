//! What a fleet's run says at its end: a table for people, JSON for tools.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::Via;
use super::fleet::run::Measured;
use super::fleet::worker::Plan;
use super::fleet::{Counts, FleetArgs, Latency, Requests, Tally, Verdict, Viewing, total};
use crate::duration::human;

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
    cpu_us_per_request: f64,
    /// From the intended time to the send: what the figures above owe to the generator.
    lateness: Quantiles,
}

#[derive(Debug, Serialize)]
struct MachineFigures {
    processor: String,
    processors: usize,
    memory_bytes: u64,
    system: String,
    kernel: String,
    /// Of the whole machine while measuring; none where the system does not tell.
    busy_percent: Option<f64>,
    steal_percent: Option<f64>,
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
        let per_request = cpu_seconds * 1e6 / (requests.sent.max(1) as f64);
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

    fn table(&self) -> String {
        let mut table = Table::default();
        self.request_rows(&mut table);
        if self.run.viewers + self.run.frozen_viewers > 0 {
            self.viewer_rows(&mut table);
        }
        self.machine_rows(&mut table);
        table.render()
    }

    fn request_rows(&self, table: &mut Table) {
        let (run, requests) = (&self.run, &self.requests);
        table.row(
            "target",
            format!("{} via {:?}, version {}", run.to, run.via, run.version),
        );
        let every = human(Duration::from_millis(run.every_ms));
        table.row(
            "load",
            format!(
                "{} servers every {every}, {} metrics each, {} viewers, seed {}",
                grouped(run.servers as u64),
                run.metrics,
                grouped(run.viewers as u64),
                run.seed
            ),
        );
        let note = if run.interrupted { ", interrupted" } else { "" };
        table.row("time", format!("{:.1} s{note}", run.seconds));
        table.section("requests");
        table.row("intended", grouped(requests.intended));
        table.row("sent", grouped(requests.sent));
        let rate = format!(
            "{} ({:.0}/s)",
            grouped(requests.acknowledged),
            requests.acknowledged_per_second
        );
        table.row("acknowledged", rate);
        let samples = grouped(requests.samples_acknowledged);
        table.row(
            "samples acknowledged",
            format!("{samples} ({:.0}/s)", requests.samples_per_second),
        );
        table.row("refused", kinds(&requests.refused));
        table.row("lost", kinds(&requests.lost));
        table.row("reconnects", grouped(requests.reconnects));
        table.row("failed connects", kinds(&requests.connect_failures));
        table.row("answer, from intended time", requests.answer.to_string());
    }

    fn viewer_rows(&self, table: &mut Table) {
        let (viewers, probes) = (&self.viewers, &self.probes);
        table.section("viewers");
        table.row("connected", grouped(viewers.connected as u64));
        table.row(
            "frames",
            format!(
                "{} ({} keys, {} deltas)",
                grouped(viewers.frames),
                grouped(viewers.keys),
                grouped(viewers.deltas)
            ),
        );
        table.row(
            "frames/s per viewer",
            format!(
                "min {:.1}, average {:.1}",
                viewers.frames_per_second_min, viewers.frames_per_second_avg
            ),
        );
        table.row(
            "gaps, resyncs, errors",
            format!(
                "{}, {}, {}",
                grouped(viewers.gaps),
                grouped(viewers.resyncs),
                grouped(viewers.errors)
            ),
        );
        table.row(
            "reconnects",
            format!(
                "{}; {}",
                grouped(viewers.reconnects),
                kinds(&viewers.closes)
            ),
        );
        table.row(
            "read",
            format!("{:.1} MB/s", viewers.bytes_per_second / 1e6),
        );
        if self.run.frozen_viewers > 0 {
            table.row(
                "frozen",
                format!(
                    "{} connected, {} closed by the server",
                    grouped(viewers.frozen_connected),
                    grouped(viewers.frozen_closed_by_server)
                ),
            );
        }
        table.row(
            "probes",
            format!(
                "{} sent, {} accepted; with each viewer: {} seen, {} lost",
                grouped(probes.sent),
                grouped(probes.accepted),
                grouped(probes.seen),
                grouped(probes.lost)
            ),
        );
        table.row("POST to frame parsed", probes.post_to_frame.to_string());
    }

    fn machine_rows(&self, table: &mut Table) {
        let (generator, machine) = (&self.generator, &self.machine);
        table.section("generator");
        table.row(
            "own processor time",
            format!(
                "{:.2} s, {:.1} us a request",
                generator.cpu_seconds, generator.cpu_us_per_request
            ),
        );
        table.row("send, from intended time", generator.lateness.to_string());
        let mut text = format!("{} x {}", machine.processors, machine.processor);
        if let (Some(busy), Some(steal)) = (machine.busy_percent, machine.steal_percent) {
            let _ = write!(text, ", {busy:.0} % busy, {steal:.1} % steal");
        }
        table.row("machine", text);
        table.row(
            "system",
            format!("{}, kernel {}", machine.system, machine.kernel),
        );
        table.row("command", self.run.command.clone());
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
    let sum = |field: fn(&Viewing) -> u64| tally.viewers.iter().map(field).sum::<u64>();
    let frames: u64 = measured.frames.iter().sum();
    let least = measured.frames.iter().copied().min().unwrap_or_default();
    ViewerFigures {
        connected: tally
            .viewers
            .iter()
            .filter(|viewing| viewing.connected)
            .count(),
        frames,
        frames_per_second_min: rate(least as f64),
        frames_per_second_avg: rate(frames as f64 / measured.frames.len().max(1) as f64),
        keys: sum(|viewing| viewing.keys),
        deltas: sum(|viewing| viewing.deltas),
        gaps: sum(|viewing| viewing.gaps),
        unfit: sum(|viewing| viewing.unfit),
        resyncs: sum(|viewing| viewing.resyncs),
        errors: sum(|viewing| viewing.errors),
        reconnects: sum(|viewing| viewing.reconnects),
        closes: tally.viewer_closes.clone(),
        bytes: measured.viewer_bytes,
        bytes_per_second: rate(measured.viewer_bytes as f64),
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

fn machine(processor: &Processor) -> MachineFigures {
    let mut brand = String::new();
    let (mut processors, mut memory_bytes) = (0, 0);
    if let Ok(system) = sysinfo::System::new_all() {
        brand = system
            .cpus()
            .first()
            .map(|cpu| cpu.brand().to_owned())
            .unwrap_or_default();
        processors = system.cpus().len();
        memory_bytes = system.total_memory();
    }
    let share =
        |part: u64| (processor.total > 0).then(|| part as f64 * 100.0 / processor.total as f64);
    MachineFigures {
        processor: brand,
        processors,
        memory_bytes,
        system: sysinfo::System::long_os_version().unwrap_or_default(),
        kernel: sysinfo::System::kernel_version().unwrap_or_default(),
        busy_percent: share(processor.busy),
        steal_percent: share(processor.steal),
    }
}

/// Processor time of this process, and of the whole machine in clock ticks.
#[derive(Clone, Debug, Default)]
pub(super) struct Processor {
    own: Duration,
    total: u64,
    busy: u64,
    steal: u64,
}

impl Processor {
    pub(super) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let mut now = Self::machine(stat.lines().next().unwrap_or_default());
        #[cfg(unix)]
        {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
            now.own = Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default());
        }
        now
    }

    /// `cpu user nice system idle iowait irq softirq steal …`
    fn machine(line: &str) -> Self {
        let mut ticks = [0u64; 8];
        for (tick, field) in ticks.iter_mut().zip(line.split_ascii_whitespace().skip(1)) {
            *tick = field.parse().unwrap_or_default();
        }
        let total: u64 = ticks.iter().sum();
        Self {
            own: Duration::ZERO,
            total,
            busy: total - ticks[3] - ticks[4] - ticks[7],
            steal: ticks[7],
        }
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            own: self.own.saturating_sub(before.own),
            total: self.total.saturating_sub(before.total),
            busy: self.busy.saturating_sub(before.busy),
            steal: self.steal.saturating_sub(before.steal),
        }
    }
}

/// One line each second.
pub(super) struct Progress<'a> {
    pub(super) seconds: u64,
    pub(super) servers: usize,
    pub(super) viewers: usize,
    pub(super) tally: &'a Tally,
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            requests,
            answer,
            visible,
            viewers,
            ..
        } = self.tally;
        write!(
            f,
            "{:4} s  up {}+{}  sent {}  acked {}  refused {}  lost {}  ack p50 {} p99 {} ms",
            self.seconds,
            self.servers,
            self.viewers,
            requests.sent,
            requests.acknowledged,
            total(&requests.refused),
            total(&requests.lost),
            ms(answer.quantile_ms(0.5)),
            ms(answer.quantile_ms(0.99)),
        )?;
        if viewers.is_empty() {
            return Ok(());
        }
        let frames: u64 = viewers.iter().map(|viewing| viewing.frames).sum();
        let (p50, p99) = (ms(visible.quantile_ms(0.5)), ms(visible.quantile_ms(0.99)));
        write!(f, "  frames {frames}  wall p50 {p50} p99 {p99} ms")
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        write!(
            f,
            "p50 {}  p90 {}  p99 {}  p99.9 {}  max {} ms  ({})",
            ms(self.p50_ms),
            ms(self.p90_ms),
            ms(self.p99_ms),
            ms(self.p999_ms),
            ms(self.max_ms),
            grouped(self.count)
        )
    }
}

/// Three digits that matter.
fn ms(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn kinds(counts: &Counts) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    let kinds: Vec<String> = counts
        .iter()
        .map(|(kind, n)| format!("{kind}: {}", grouped(*n)))
        .collect();
    kinds.join(", ")
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

/// Two columns, the first as wide as its widest cell.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<(String, String)>,
}

impl Table {
    fn row(&mut self, name: &str, value: String) {
        self.rows.push((format!("  {name}"), value));
    }

    fn section(&mut self, name: &str) {
        self.rows.push((name.to_owned(), String::new()));
    }

    fn render(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or_default();
        let mut text = String::new();
        for (name, value) in &self.rows {
            let line = format!("{name:width$}  {value}");
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!(ms(Some(0.1234)), "0.12");
        assert_eq!(ms(Some(52.34)), "52.3");
        assert_eq!(ms(Some(1234.5)), "1234");
        assert_eq!(ms(None), "-");
    }

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

    #[test]
    fn a_processor_line_is_read() {
        let before = Processor::machine("cpu  100 0 50 800 10 0 5 35 0 0");
        let after = Processor::machine("cpu  200 0 50 1600 10 0 5 135 0 0");
        let between = after.since(&before);
        assert_eq!(
            (between.total, between.busy, between.steal),
            (1_000, 100, 100)
        );
        assert_eq!(Processor::machine("").total, 0);
    }

    #[test]
    fn tables_align() {
        let mut table = Table::default();
        table.section("requests");
        table.row("sent", "1".to_owned());
        table.row("acknowledged", "2".to_owned());
        assert_eq!(
            table.render(),
            "requests\n  sent          1\n  acknowledged  2\n"
        );
    }
}
