//! Simulated servers: who they are, how their values move, and the bytes that say so.
//!
//! A body is rendered once per server. Each send only overwrites numbers, padded with blanks to a
//! fixed width, so that neither length nor anything else of the request changes.

use std::f64::consts::TAU;

use crate::rng::Rng;

pub(super) const METRICS_MAX: usize = 256;

/// Digits before a decimal point, and after it.
struct Shape {
    name: &'static str,
    width: usize,
    decimals: usize,
}

const fn shape(name: &'static str, width: usize, decimals: usize) -> Shape {
    Shape {
        name,
        width,
        decimals,
    }
}

const NAMED: [Shape; 10] = [
    shape("cpu", 5, 1),
    shape("mem", 5, 1),
    shape("load1", 6, 2),
    shape("disk.used{device=sda}", 5, 1),
    shape("net.rx", 10, 0),
    shape("net.tx", 10, 0),
    shape("disk.read", 10, 0),
    shape("disk.write", 10, 0),
    shape("tcp.connections", 6, 0),
    shape("processes", 5, 0),
];

/// Every metric past the named ones.
const MORE: Shape = shape("app.m", 6, 1);

/// A simulated server's name and tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    role: &'static str,
    dc: &'static str,
    rack: usize,
}

/// The same hosts for the same number and seed, in whatever thread asks.
pub(super) fn roster(servers: usize, seed: u64, prefix: &str) -> Vec<Host> {
    const ROLES: [(&str, usize); 4] = [("web", 50), ("db", 20), ("cache", 15), ("worker", 15)];
    const DCS: [&str; 4] = ["fra", "iad", "sin", "gru"];
    let mut rng = Rng::seeded(seed);
    let mut numbers = [0usize; ROLES.len()];
    (0..servers)
        .map(|_| {
            let mut at = rng.below(100);
            let mut which = 0;
            while at >= ROLES[which].1 {
                at -= ROLES[which].1;
                which += 1;
            }
            let role = ROLES[which].0;
            numbers[which] += 1;
            Host {
                name: format!("{prefix}{role}-{:04}", numbers[which]),
                role,
                dc: DCS[rng.below(DCS.len())],
                rack: 1 + rng.below(40),
            }
        })
        .collect()
}

/// One server's moving values. Slow waves that a data centre shares, a walk of its own, and now and
/// then a spike: what a wall of real servers looks like.
pub(super) struct Life {
    rng: Rng,
    pub(super) values: Vec<f64>,
    base: f64,
    swing: f64,
    period: f64,
    phase: f64,
    walk: f64,
    /// Steps a spike still lasts.
    spike: u32,
    cores: f64,
    clock: f64,
}

impl Life {
    pub(super) fn new(host: &Host, metrics: usize, seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let base = match host.role {
            "web" => 38.0,
            "db" => 55.0,
            "cache" => 18.0,
            _ => 30.0,
        };
        let shared = host.dc.bytes().map(f64::from).sum::<f64>() * 0.37;
        let mut life = Self {
            base: base + 12.0 * rng.sway(),
            swing: 6.0 + 14.0 * rng.unit(),
            period: 90.0 + 60.0 * rng.unit(),
            phase: shared + 0.08 * rng.sway(),
            walk: 0.0,
            spike: 0,
            cores: f64::from(4u32 << rng.below(4)),
            clock: 0.0,
            values: (0..metrics).map(|_| 20.0 + 60.0 * rng.unit()).collect(),
            rng,
        };
        life.advance(0.0);
        life
    }

    /// Moves every value on by some seconds.
    pub(super) fn advance(&mut self, seconds: f64) {
        self.clock += seconds;
        let rng = &mut self.rng;
        self.walk = self.walk * 0.96 + 1.5 * rng.sway();
        if self.spike > 0 {
            self.spike -= 1;
        } else if rng.below(400) == 0 {
            self.spike = 5 + rng.below(20) as u32;
        }
        let spike = if self.spike > 0 { 45.0 } else { 0.0 };
        let wave = (TAU * (self.clock / self.period + self.phase)).sin();
        let cpu = self.base + self.swing * wave + self.walk + spike + 1.5 * rng.sway();
        let cpu = cpu.clamp(0.1, 100.0);
        let traffic = (0.4 + cpu / 100.0) * self.cores * 1.0e6;
        for (i, value) in self.values.iter_mut().enumerate() {
            *value = match i {
                0 => cpu,
                1 => (*value + 0.3 * rng.sway()).clamp(5.0, 98.0),
                2 => *value + (cpu / 100.0 * self.cores - *value) * 0.08,
                3 => (*value + 0.02 * (rng.unit() - 0.45)).clamp(3.0, 97.0),
                4 => traffic * (1.0 + 0.15 * rng.sway()),
                5 => traffic * 2.2 * (1.0 + 0.15 * rng.sway()),
                6 | 7 => traffic * 0.3 * (1.0 + 0.5 * rng.sway()),
                8 => (cpu * self.cores * 3.0).round(),
                9 => 120.0 + (cpu * 1.5).round(),
                _ => (*value + 2.0 * rng.sway()).clamp(0.0, 1_000.0),
            };
        }
    }
}

/// A whole request, or for HTTP/2 and WebSocket a body alone; its numbers are overwritten in place.
pub(super) struct Template {
    bytes: Vec<u8>,
    time_at: usize,
    seq_at: Option<usize>,
    values: Vec<Field>,
}

struct Field {
    at: usize,
    width: usize,
    decimals: usize,
}

const TIME_WIDTH: usize = 13;
const SEQ_WIDTH: usize = 10;

impl Template {
    /// `head` is an HTTP/1.1 POST's up to the digits of Content-Length.
    pub(super) fn http1(head: &str, host: &Host, metrics: usize) -> Self {
        // Without `seq`: nobody acknowledges by it here.
        let mut template = Self::body(host, metrics, false);
        let mut bytes = format!("{head}{}\r\n\r\n", template.bytes.len()).into_bytes();
        template.shift(bytes.len());
        bytes.append(&mut template.bytes);
        template.bytes = bytes;
        template
    }

    /// A body alone; length and all else are fields.
    pub(super) fn http2(host: &Host, metrics: usize) -> Self {
        Self::body(host, metrics, false)
    }

    pub(super) fn websocket(host: &Host, metrics: usize) -> Self {
        Self::body(host, metrics, true)
    }

    fn body(host: &Host, metrics: usize, with_seq: bool) -> Self {
        let mut text = String::from("{");
        let blank = |n: usize| " ".repeat(n);
        let mut seq_at = None;
        if with_seq {
            text += "\"seq\":";
            seq_at = Some(text.len());
            text += &blank(SEQ_WIDTH);
            text += ",";
        }
        text += &format!("\"host\":\"{}\",\"time\":", host.name);
        let time_at = text.len();
        text += &blank(TIME_WIDTH);
        text += &format!(
            ",\"tags\":{{\"dc\":\"{}\",\"role\":\"{}\",\"rack\":\"r{:02}\"}},\"metrics\":{{",
            host.dc, host.role, host.rack
        );
        let mut values = Vec::with_capacity(metrics);
        for i in 0..metrics {
            let (name, shape) = (name(i), NAMED.get(i).unwrap_or(&MORE));
            let comma = if i == 0 { "" } else { "," };
            text += &format!("{comma}\"{name}\":");
            values.push(Field {
                at: text.len(),
                width: shape.width,
                decimals: shape.decimals,
            });
            text += &blank(shape.width);
        }
        text += "}}";
        Self {
            bytes: text.into_bytes(),
            time_at,
            seq_at,
            values,
        }
    }

    /// Adds to each metric's sum what its place shows, times its scale.
    pub(super) fn add_to(&self, sums: &mut Vec<u64>, values: &[f64]) {
        sums.resize(self.values.len(), 0);
        for ((field, value), sum) in self.values.iter().zip(values).zip(sums) {
            *sum += scaled(field.width, field.decimals, *value);
        }
    }

    /// A line for each metric: host, metric, count, sum.
    pub(super) fn say_sums(&self, host: &str, count: u64, sums: &[u64]) -> String {
        let mut lines = String::new();
        for (at, (field, sum)) in self.values.iter().zip(sums).enumerate() {
            let (name, scale) = (name(at), SCALES[field.decimals] as f64);
            lines += &format!("{host}\t{name}\t{count}\t{}\n", *sum as f64 / scale);
        }
        lines
    }

    fn shift(&mut self, by: usize) {
        self.time_at += by;
        self.seq_at = self.seq_at.map(|at| at + by);
        for field in &mut self.values {
            field.at += by;
        }
    }

    pub(super) fn patch(&mut self, time_ms: i64, seq: u64, values: &[f64]) -> &[u8] {
        let time = &mut self.bytes[self.time_at..self.time_at + TIME_WIDTH];
        put_digits(time, u64::try_from(time_ms).unwrap_or_default());
        if let Some(at) = self.seq_at {
            put_digits(&mut self.bytes[at..at + SEQ_WIDTH], seq);
        }
        for (field, value) in self.values.iter().zip(values) {
            let place = &mut self.bytes[field.at..field.at + field.width];
            put_fixed(place, field.decimals, *value);
        }
        &self.bytes
    }
}

fn name(metric: usize) -> String {
    let named = NAMED.get(metric).map(|shape| shape.name.to_owned());
    named.unwrap_or_else(|| format!("{}{}", MORE.name, metric + 1))
}

/// Right-aligned digits in front of blanks, which JSON allows around a value. Digits that do not
/// fit are cut off on the left: callers keep their values in range.
fn put_digits(place: &mut [u8], mut number: u64) {
    let mut first = true;
    for byte in place.iter_mut().rev() {
        if number == 0 && !first {
            *byte = b' ';
            continue;
        }
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
        first = false;
    }
}

const SCALES: [u64; 3] = [1, 10, 100];

/// What a place of so many bytes shows of a value, times its scale.
fn scaled(width: usize, decimals: usize, value: f64) -> u64 {
    let digits = width - usize::from(decimals > 0);
    let greatest = 10f64.powi(digits as i32) - 1.0;
    (value * SCALES[decimals] as f64)
        .round()
        .clamp(0.0, greatest) as u64
}

fn put_fixed(place: &mut [u8], decimals: usize, value: f64) {
    let scale = SCALES[decimals];
    let scaled = scaled(place.len(), decimals, value);
    if decimals == 0 {
        put_digits(place, scaled);
        return;
    }
    let point = place.len() - decimals - 1;
    put_digits(&mut place[..point], scaled / scale);
    place[point] = b'.';
    let mut fraction = scaled % scale;
    for byte in place[point + 1..].iter_mut().rev() {
        *byte = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(width: usize, decimals: usize, value: f64, expected: &str) {
        let mut place = vec![b'x'; width];
        put_fixed(&mut place, decimals, value);
        assert_eq!(std::str::from_utf8(&place).unwrap(), expected);
    }

    #[test]
    fn numbers_fill_their_place() {
        check(5, 1, 53.24, " 53.2");
        check(5, 1, 100.0, "100.0");
        check(5, 1, 0.04, "  0.0");
        check(6, 2, 1.056, "  1.06");
        check(5, 1, 123_456.0, "999.9");
        check(5, 1, -3.0, "  0.0");
        check(10, 0, 0.0, "         0");
        check(4, 0, 98_765.0, "9999");
    }

    #[test]
    fn bodies_stay_valid_json_of_one_length() {
        let hosts = roster(50, 3, "");
        for (i, host) in hosts.iter().enumerate() {
            let metrics = 1 + i % 14;
            let mut life = Life::new(host, metrics, i as u64);
            let mut http = Template::http1("POST / HTTP/1.1\r\nContent-Length: ", host, metrics);
            let mut websocket = Template::websocket(host, metrics);
            for step in 0..100 {
                life.advance(1.0);
                let request = http
                    .patch(1_763_918_083_000 + step, 0, &life.values)
                    .to_vec();
                let text = String::from_utf8(request).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
                let document: serde_json::Value = serde_json::from_str(body).unwrap();
                assert_eq!(document["host"], host.name);
                assert_eq!(document["time"], 1_763_918_083_000 + step);
                let cpu = document["metrics"]["cpu"].as_f64().unwrap();
                assert!((0.0..=100.0).contains(&cpu));
                assert_eq!(document["metrics"].as_object().unwrap().len(), metrics);
                let message = websocket.patch(1, 77, &life.values);
                let document: serde_json::Value = serde_json::from_slice(message).unwrap();
                assert_eq!(document["seq"], 77);
            }
        }
    }

    #[test]
    fn the_roster_repeats_and_names_are_unique() {
        let hosts = roster(2_000, 1, "");
        assert_eq!(hosts, roster(2_000, 1, ""));
        assert_ne!(hosts, roster(2_000, 2, ""));
        let others = roster(2_000, 1, "b-");
        let names: std::collections::HashSet<_> =
            hosts.iter().chain(&others).map(|h| &h.name).collect();
        assert_eq!(names.len(), hosts.len() + others.len());
    }

    #[test]
    fn values_move() {
        let host = &roster(1, 1, "")[0];
        let mut life = Life::new(host, 10, 1);
        let before = life.values.clone();
        life.advance(1.0);
        assert!(
            life.values
                .iter()
                .zip(&before)
                .filter(|(a, b)| a != b)
                .count()
                >= 6
        );
    }
}
