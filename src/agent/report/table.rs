//! The report and its progress as text.

use std::fmt::{self, Write};
use std::time::Duration;

use super::{Quantiles, Report};
use crate::agent::fleet::{Counts, Tally, total};
use crate::duration::human;

impl Report {
    pub(super) fn table(&self) -> String {
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
        let mut text = format!("{:.2} s", generator.cpu_seconds);
        if let Some(us) = generator.cpu_us_per_request {
            let _ = write!(text, ", {us:.1} us a request");
        }
        table.row("own processor time", text);
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

/// One line each second.
pub(in crate::agent) struct Progress<'a> {
    pub(in crate::agent) seconds: u64,
    pub(in crate::agent) servers: usize,
    pub(in crate::agent) viewers: usize,
    pub(in crate::agent) tally: &'a Tally,
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
