//! The probe: one host whose value counts up, to time the way from a POST to every viewer.
//!
//! Its times are random (Poisson), so that they cannot lock to the server's tick. A viewer that
//! sees value k has seen everything up to k: the wall shows the latest, and each probe counts from
//! when it was meant to be sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::worker::{Phase, Worker};
use crate::agent::Via;
use crate::agent::answer::Answer;
use crate::agent::client::{Client, Line};
use crate::clock;
use crate::rng::Rng;

pub(super) const HOST: &str = "fleet-probe";
pub(super) const METRIC: &str = "probe";
/// Mean time between two probes.
const EVERY: Duration = Duration::from_millis(100);

/// Numbers 1, 2, 3… and their intended times, written by the probe, read by every viewer.
pub(super) struct ProbeLog {
    /// Added to a number to make the value sent: later runs against the same server count on.
    offset: u64,
    /// Microseconds since the run's origin, by number - 1.
    intended_us: Vec<AtomicU64>,
    /// Greatest number whose time is written. Release by the probe, acquire by viewers.
    scheduled: AtomicU64,
    /// Greatest number the server accepted, and how many it did.
    acknowledged: AtomicU64,
    accepted: AtomicU64,
}

impl ProbeLog {
    pub(super) fn new(run: Duration) -> Self {
        // Half as many again as expected: the count of a Poisson process strays by its root.
        let expected = run.as_secs_f64() / EVERY.as_secs_f64();
        let capacity = (expected * 1.5) as usize + 100;
        Self {
            offset: u64::try_from(clock::wall_ms()).unwrap_or_default(),
            intended_us: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            scheduled: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        }
    }

    /// Takes the next number; `None` when the log is full.
    pub(super) fn schedule(&self, intended_us: u64) -> Option<u64> {
        let number = self.scheduled() + 1;
        let place = self.intended_us.get(usize::try_from(number - 1).ok()?)?;
        place.store(intended_us, Ordering::Relaxed);
        self.scheduled.store(number, Ordering::Release);
        Some(number)
    }

    /// What is sent for a number; exact as a double, since both parts together stay under 2^53.
    pub(super) fn value(&self, number: u64) -> f64 {
        (self.offset + number) as f64
    }

    fn accept(&self, number: u64) {
        self.acknowledged.store(number, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn scheduled(&self) -> u64 {
        self.scheduled.load(Ordering::Acquire)
    }

    /// Greatest number accepted: what every viewer must come to see.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The number behind a value; `None` for values of an earlier run.
    pub(super) fn number(&self, value: f64) -> Option<u64> {
        // Of no number (NaN) the integer is 0.
        let number = (value as u64).checked_sub(self.offset)?;
        (number <= self.scheduled()).then_some(number)
    }

    /// When `number` was meant to be sent.
    pub(super) fn intended_us(&self, number: u64) -> Option<u64> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        Some(self.intended_us.get(at)?.load(Ordering::Relaxed))
    }
}

/// Sends probes for as long as the fleet runs.
pub(super) async fn run(worker: &Worker) {
    let shared = &worker.shared;
    let mut phases = shared.phases.clone();
    let Ok(phase) = phases
        .wait_for(|phase| *phase != Phase::Connect)
        .await
        .map(|p| *p)
    else {
        return;
    };
    let Phase::Run { start } = phase else {
        return;
    };
    let mut line = shared.plan.line.clone();
    // A POST, as its figure says.
    if line.via == Via::Websocket {
        line.via = Via::Http1;
    }
    let mut rng = Rng::seeded(shared.plan.seed ^ 0x7072_6f62);
    let mut client = None;
    let mut next = start;
    loop {
        next += EVERY.mul_f64(rng.exponential());
        if worker.end().is_some_and(|end| next >= end) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            _ = phases.wait_for(|phase| !matches!(phase, Phase::Run { .. })) => return,
        }
        let Some(number) = shared.probes.schedule(worker.us(next)) else {
            return;
        };
        if send(&mut client, &line, shared.probes.value(number)).await {
            shared.probes.accept(number);
        }
    }
}

/// One probe; a failed one is not repeated, the next says more.
async fn send(client: &mut Option<Client>, line: &Line, value: f64) -> bool {
    let link = match client {
        Some(link) if link.is_open() => link,
        _ => match Client::connect(line).await {
            Ok(link) => client.insert(link),
            Err(_) => return false,
        },
    };
    let body = format!("{{\"host\":\"{HOST}\",\"metrics\":{{\"{METRIC}\":{value}}}}}");
    match link.deliver(body.as_bytes(), 0).await {
        Ok(Answer::Accepted) => true,
        Ok(Answer::Refused(_)) => false,
        Err(_) => {
            *client = None;
            false
        }
    }
}

/// Since a run's origin.
pub(super) fn us_since(origin: Instant, then: Instant) -> u64 {
    let since = then.saturating_duration_since(origin).as_micros();
    u64::try_from(since).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_values_match() {
        let log = ProbeLog::new(Duration::from_secs(1));
        assert_eq!(log.schedule(50), Some(1));
        assert_eq!(log.schedule(70), Some(2));
        let value = log.value(2);
        assert_eq!(log.number(value), Some(2));
        assert_eq!(log.number(value + 1.0), None, "never sent");
        assert_eq!(
            log.number(log.offset as f64 - 5.0),
            None,
            "an earlier run's"
        );
        assert_eq!(log.number(f64::NAN), None);
        assert_eq!(log.intended_us(2), Some(70));
        assert_eq!(log.intended_us(0), None);
        log.accept(2);
        assert_eq!((log.acknowledged(), log.accepted()), (2, 1));
    }

    #[test]
    fn the_log_is_bounded() {
        let log = ProbeLog::new(Duration::from_secs(1));
        let taken = (0..1_000).filter(|_| log.schedule(0).is_some()).count();
        assert_eq!(taken, 115);
    }
}
