//! This machine: what it measures of itself, and the documents that say so.

use std::time::Instant;

use sysinfo::{Disks, MemoryRefreshKind, Networks, System};

use crate::clock;
use crate::limits::{HOST_BYTES_MAX, METRIC_BYTES_MAX, TAG_VALUE_BYTES_MAX};

/// Mounts reported; a container host has hundreds of bind mounts.
const MOUNTS_MAX: usize = 16;
/// Disks fill slowly, and asking a hung one costs more than asking a processor.
const DISKS_EVERY_SECONDS: u64 = 10;

#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// With its labels, as sent.
    pub name: String,
    /// Empty: a plain number.
    pub unit: &'static str,
    pub value: f64,
}

/// Everything measured at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    pub metrics: Vec<Metric>,
}

/// Who is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub host: String,
    pub tags: Vec<(String, String)>,
}

impl Identity {
    /// This machine's name and kind.
    pub fn of_this_machine() -> Self {
        let host = System::host_name().unwrap_or_default();
        let host = match cut(host.trim(), HOST_BYTES_MAX) {
            "" => "localhost",
            host => host,
        };
        let mut tags = vec![
            ("os".to_owned(), System::distribution_id()),
            ("arch".to_owned(), System::cpu_arch()),
        ];
        if let Ok(version) = System::os_version() {
            tags.push(("os_version".to_owned(), version));
        }
        if let Ok(kernel) = System::kernel_version() {
            tags.push(("kernel".to_owned(), kernel));
        }
        tags.retain_mut(|(_, value)| {
            *value = cut(value.trim(), TAG_VALUE_BYTES_MAX).to_owned();
            !value.is_empty()
        });
        Self {
            host: host.to_owned(),
            tags,
        }
    }
}

/// The counters of this machine and their last state: rates are differences.
pub struct Machine {
    system: System,
    networks: Option<Networks>,
    disks: Option<Disks>,
    /// Bytes received and sent since boot, when last read.
    traffic: (Instant, u64, u64),
    disks_read: Instant,
}

impl Machine {
    /// Processor use and rates are measured from here on. `None`: the system shows nothing.
    pub fn new() -> Option<Self> {
        let mut system = System::new().ok()?;
        system.refresh_cpu_usage();
        let networks = Networks::new_with_refreshed_list().ok();
        let (received, sent) = traffic(networks.as_ref());
        Some(Self {
            system,
            networks,
            disks: Disks::new_with_refreshed_list().ok(),
            traffic: (Instant::now(), received, sent),
            disks_read: Instant::now(),
        })
    }

    pub fn read(&mut self) -> Reading {
        let mut metrics = Vec::with_capacity(16);
        let mut put = |name: &str, unit, value: f64| {
            if value.is_finite() {
                metrics.push(Metric {
                    name: name.to_owned(),
                    unit,
                    value,
                });
            }
        };
        self.system.refresh_cpu_usage();
        let memory = MemoryRefreshKind::everything();
        self.system.refresh_memory_specifics(memory);
        let system = &self.system;
        put("cpu", "%", f64::from(system.global_cpu_usage()));
        let used = system
            .total_memory()
            .saturating_sub(system.available_memory());
        put("mem", "%", percent(used, system.total_memory()));
        if system.total_swap() > 0 {
            put(
                "swap",
                "%",
                percent(system.used_swap(), system.total_swap()),
            );
        }
        if let Ok(load) = System::load_average() {
            put("load1", "", load.one);
            put("load5", "", load.five);
            put("load15", "", load.fifteen);
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
        }
        let (then, received_then, sent_then) = self.traffic;
        let (received, sent) = traffic(self.networks.as_ref());
        self.traffic = (Instant::now(), received, sent);
        let seconds = then.elapsed().as_secs_f64().max(0.001);
        // A counter that went back belongs to an interface that left.
        put(
            "net.rx",
            "B/s",
            received.saturating_sub(received_then) as f64 / seconds,
        );
        put(
            "net.tx",
            "B/s",
            sent.saturating_sub(sent_then) as f64 / seconds,
        );
        if let Ok(uptime) = System::uptime() {
            put("uptime", "s", uptime as f64);
        }
        for (mount, used) in self.disks_used() {
            put(&labelled("disk.used", "mount", &mount), "%", used);
        }
        Reading {
            time_ms: clock::wall_ms(),
            metrics,
        }
    }

    /// Mount points and percent used.
    fn disks_used(&mut self) -> Vec<(String, f64)> {
        let Some(disks) = &mut self.disks else {
            return Vec::new();
        };
        if self.disks_read.elapsed().as_secs() >= DISKS_EVERY_SECONDS {
            self.disks_read = Instant::now();
            disks.refresh(true);
        }
        let mut seen: Vec<(String, f64)> = Vec::new();
        for disk in disks.iter() {
            let mount = disk.mount_point().to_string_lossy().into_owned();
            let file_system = disk.file_system().to_string_lossy();
            let used = disk.total_space().saturating_sub(disk.available_space());
            if is_disk(&mount, &file_system, disk.total_space())
                && seen.len() < MOUNTS_MAX
                && seen.iter().all(|(other, _)| *other != mount)
            {
                seen.push((mount, percent(used, disk.total_space())));
            }
        }
        seen
    }
}

/// Bytes received and sent by all interfaces that lead out of this machine.
fn traffic(networks: Option<&Networks>) -> (u64, u64) {
    networks
        .into_iter()
        .flat_map(|networks| networks.iter())
        .filter(|(name, _)| leads_out(&name.to_string_lossy()))
        .fold((0, 0), |(received, sent), (_, data)| {
            (
                received.saturating_add(data.total_received()),
                sent.saturating_add(data.total_transmitted()),
            )
        })
}

/// False for loopback and for virtual interfaces, whose bytes pass a real one too.
fn leads_out(name: &str) -> bool {
    const INSIDE: [&str; 8] = [
        "veth", "docker", "br-", "virbr", "cni", "flannel", "cali", "tap",
    ];
    name != "lo" && !name.starts_with("lo0") && !INSIDE.iter().any(|p| name.starts_with(p))
}

/// False for what has no blocks of its own, or is always full.
fn is_disk(mount: &str, file_system: &str, total: u64) -> bool {
    const NOT_DISKS: [&str; 6] = [
        "squashfs", "tmpfs", "devtmpfs", "ramfs", "iso9660", "autofs",
    ];
    let layered = file_system == "overlay" && mount != "/";
    total > 0 && !layered && !NOT_DISKS.contains(&file_system)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}

/// A metric name with one label; letters that mean something in a name become `_`.
fn labelled(name: &str, label: &str, value: &str) -> String {
    let value: String = value
        .chars()
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' | '.' | '/' | ':' | '@' => c,
            _ => '_',
        })
        .collect();
    let room = METRIC_BYTES_MAX - name.len() - label.len() - "{=}".len();
    format!("{name}{{{label}={}}}", cut(&value, room))
}

/// The longest start of `text` within `bytes_max`, on a character's edge.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// What a body says besides the readings.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// The sender's clock, milliseconds since the epoch.
    pub sent_at: i64,
    /// Number of the last document, by which a WebSocket acknowledges.
    pub seq: Option<u64>,
    /// Names the metrics' units too: once a connection, since only single-metric documents can.
    pub units: bool,
}

/// The JSON of some readings: one document, or an array of them.
pub fn body<'a>(
    identity: &Identity,
    readings: impl ExactSizeIterator<Item = &'a Reading>,
    envelope: Envelope,
) -> String {
    let last = readings.len().saturating_sub(1);
    let mut documents = Vec::with_capacity(readings.len());
    for (i, reading) in readings.enumerate() {
        let units = envelope.units && i == last;
        let plain = reading
            .metrics
            .iter()
            .filter(|m| !units || m.unit.is_empty());
        documents.push(full(identity, reading, plain, envelope.sent_at));
        if units {
            let with_unit = reading.metrics.iter().filter(|m| !m.unit.is_empty());
            documents.extend(with_unit.map(|m| single(identity, reading, m, envelope.sent_at)));
        }
    }
    if let (Some(seq), Some(document)) = (envelope.seq, documents.last_mut()) {
        document.insert_str(1, &format!("\"seq\":{seq},"));
    }
    match documents.as_slice() {
        [document] => document.clone(),
        documents => format!("[{}]", documents.join(",\n")),
    }
}

fn full<'a>(
    identity: &Identity,
    reading: &Reading,
    metrics: impl Iterator<Item = &'a Metric>,
    sent_at: i64,
) -> String {
    let tags: Vec<String> = identity
        .tags
        .iter()
        .map(|(key, value)| format!("{}:{}", quoted(key), quoted(value)))
        .collect();
    let metrics: Vec<String> = metrics
        .map(|m| format!("{}:{}", quoted(&m.name), number(m.value)))
        .collect();
    format!(
        "{{\"host\":{},\"time\":{},\"sent_at\":{sent_at},\"tags\":{{{}}},\"metrics\":{{{}}}}}",
        quoted(&identity.host),
        reading.time_ms,
        tags.join(","),
        metrics.join(",")
    )
}

fn single(identity: &Identity, reading: &Reading, metric: &Metric, sent_at: i64) -> String {
    format!(
        "{{\"host\":{},\"time\":{},\"sent_at\":{sent_at},\"metric_type\":{},\"value\":{},\
         \"unit\":{}}}",
        quoted(&identity.host),
        reading.time_ms,
        quoted(&metric.name),
        number(metric.value),
        quoted(metric.unit)
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Two decimals are more than any of these gauges knows; no exponent below 1e15.
fn number(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    zmij::Buffer::new().format_finite(rounded).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reading(time_ms: i64) -> Reading {
        let metric = |name: &str, unit, value| Metric {
            name: name.to_owned(),
            unit,
            value,
        };
        Reading {
            time_ms,
            metrics: vec![
                metric("cpu", "%", 53.249),
                metric("load1", "", 0.5),
                metric("disk.used{mount=/}", "%", 71.0),
            ],
        }
    }

    fn identity() -> Identity {
        Identity {
            host: "web \"1\"".to_owned(),
            tags: vec![("os".to_owned(), "debian".to_owned())],
        }
    }

    fn check(times: &[i64], envelope: Envelope, expected: &str) {
        let readings: Vec<Reading> = times.iter().map(|t| reading(*t)).collect();
        let body = body(&identity(), readings.iter(), envelope);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(body, expected);
    }

    #[test]
    fn documents_say_what_was_read() {
        let plain = Envelope {
            sent_at: 9,
            seq: None,
            units: false,
        };
        check(
            &[5],
            plain,
            r#"{"host":"web \"1\"","time":5,"sent_at":9,"tags":{"os":"debian"},
                "metrics":{"cpu":53.25,"load1":0.5,"disk.used{mount=/}":71.0}}"#,
        );
        check(
            &[5, 6],
            Envelope {
                seq: Some(3),
                ..plain
            },
            r#"[{"host":"web \"1\"","time":5,"sent_at":9,"tags":{"os":"debian"},
                "metrics":{"cpu":53.25,"load1":0.5,"disk.used{mount=/}":71.0}},
                {"seq":3,"host":"web \"1\"","time":6,"sent_at":9,"tags":{"os":"debian"},
                "metrics":{"cpu":53.25,"load1":0.5,"disk.used{mount=/}":71.0}}]"#,
        );
    }

    #[test]
    fn units_go_in_single_documents_and_no_sample_goes_twice() {
        check(
            &[5],
            Envelope {
                sent_at: 9,
                seq: Some(3),
                units: true,
            },
            r#"[{"host":"web \"1\"","time":5,"sent_at":9,"tags":{"os":"debian"},
                "metrics":{"load1":0.5}},
                {"host":"web \"1\"","time":5,"sent_at":9,"metric_type":"cpu",
                 "value":53.25,"unit":"%"},
                {"seq":3,"host":"web \"1\"","time":5,"sent_at":9,
                 "metric_type":"disk.used{mount=/}","value":71.0,"unit":"%"}]"#,
        );
    }

    #[test]
    fn this_machine_has_the_usual_gauges() {
        let mut machine = Machine::new().unwrap();
        std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        let reading = machine.read();
        for name in ["cpu", "mem", "net.rx", "net.tx", "load1", "uptime"] {
            let metric = reading.metrics.iter().find(|m| m.name == name);
            let value = metric.map(|m| m.value).unwrap();
            assert!(value >= 0.0, "{name} {value}");
            if matches!(name, "cpu" | "mem") {
                assert!(value <= 100.0, "{name} {value}");
            }
        }
        let identity = Identity::of_this_machine();
        assert!(!identity.host.is_empty());
        assert!(identity.tags.iter().any(|(key, _)| key == "arch"));
    }

    #[test]
    fn names_stay_names() {
        assert_eq!(labelled("disk.used", "mount", "/"), "disk.used{mount=/}");
        assert_eq!(
            labelled("d", "mount", "/a b,{c}=\"ü"),
            "d{mount=/a_b__c____}"
        );
        assert_eq!(labelled("d", "m", &"x".repeat(999)).len(), METRIC_BYTES_MAX);
        assert_eq!(cut("äöü", 3), "ä");
    }

    #[test]
    fn only_real_interfaces_and_disks_count() {
        for (name, expected) in [
            ("eth0", true),
            ("ens3", true),
            ("lo", false),
            ("veth1", false),
        ] {
            assert_eq!(leads_out(name), expected, "{name}");
        }
        assert!(is_disk("/", "overlay", 1) && is_disk("/data", "ext4", 1));
        assert!(!is_disk("/x", "overlay", 1) && !is_disk("/run", "tmpfs", 1));
        assert!(!is_disk("/", "ext4", 0));
    }

    #[test]
    fn numbers_are_short_and_valid() {
        for (value, expected) in [(53.249, "53.25"), (0.0, "0.0"), (1e9, "1000000000.0")] {
            assert_eq!(number(value), expected);
        }
    }
}
