//! The machine a run ran on, and what its processors did meanwhile.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct MachineFigures {
    pub(super) processor: String,
    pub(super) processors: usize,
    pub(super) memory_bytes: u64,
    pub(super) system: String,
    pub(super) kernel: String,
    /// Of the whole machine while measuring; none where the system does not tell.
    pub(super) busy_percent: Option<f64>,
    pub(super) steal_percent: Option<f64>,
}

pub(super) fn machine(processor: &Processor) -> MachineFigures {
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
pub(in crate::agent) struct Processor {
    pub(super) own: Duration,
    total: u64,
    busy: u64,
    steal: u64,
}

impl Processor {
    pub(in crate::agent) fn now() -> Self {
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

    pub(in crate::agent) fn since(&self, before: &Self) -> Self {
        Self {
            own: self.own.saturating_sub(before.own),
            total: self.total.saturating_sub(before.total),
            busy: self.busy.saturating_sub(before.busy),
            steal: self.steal.saturating_sub(before.steal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
