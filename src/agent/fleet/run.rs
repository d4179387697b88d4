//! One run, seen from the main thread: connect, start, watch, drain, add up.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::probe::us_since;
use super::tally::{Counts, Tally, Viewing};
use super::worker::Phase;
use super::{Fleet, FleetError};
use crate::agent::report::{Processor, Progress};
use crate::clock;

/// How often anything is looked at while waiting.
const LOOK: Duration = Duration::from_millis(50);
/// What connecting may take longer than its ramp.
const CONNECT_GRACE: Duration = Duration::from_secs(15);
/// What the last answers and frames may take.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// From the order to start to the first send: all threads have heard it.
const START_DELAY: Duration = Duration::from_millis(50);

/// A whole run's figures.
pub(crate) struct Measured {
    pub(crate) started_ms: i64,
    /// As long as it was to be, or less when interrupted.
    pub(crate) elapsed: Duration,
    pub(crate) interrupted: bool,
    /// Of all threads; once they ended.
    pub(crate) tally: Tally,
    /// Each viewer when the time was over, before the drain: what rates are made of.
    pub(crate) viewers: Vec<Viewing>,
    pub(crate) probes_sent: u64,
    pub(crate) probes_accepted: u64,
    /// Greatest probe accepted.
    pub(crate) probes_last: u64,
    pub(crate) processor: Processor,
}

impl Fleet {
    pub(super) async fn conduct(&mut self, duration: Duration) -> Result<Measured, FleetError> {
        let stop = crate::agent::interrupted()?;
        tokio::pin!(stop);
        let mut interrupted = false;
        tokio::select! {
            connected = self.connected() => connected?,
            () = &mut stop => interrupted = true,
        }
        for tally in &self.tallies {
            tally.lock().unwrap_or_else(PoisonError::into_inner).start();
        }
        let started_ms = clock::wall_ms();
        let before = Processor::now();
        // Whole microseconds, as the end is: so each server has exactly its share of intervals.
        let origin = self.shared.origin;
        let start_us = us_since(origin, Instant::now() + START_DELAY);
        let start = origin + Duration::from_micros(start_us);
        if !interrupted {
            self.end_at(start + duration);
            self.phases.send_replace(Phase::Run { start });
            tokio::select! {
                () = self.watch(start, duration) => {}
                () = &mut stop => interrupted = true,
            }
        }
        let elapsed = start.elapsed().min(duration);
        let processor = Processor::now().since(&before);
        if interrupted {
            self.end_at(Instant::now());
        }
        let at_end = merged(&self.tallies);
        self.phases.send_replace(Phase::Drain);
        tokio::select! {
            () = self.drained() => {}
            () = wait_again(interrupted, &mut stop) => interrupted = true,
        }
        self.phases.send_replace(Phase::Stop);
        let probes = &self.shared.probes;
        Ok(Measured {
            started_ms,
            elapsed,
            interrupted,
            tally: Tally::new(0),
            viewers: at_end.viewers,
            probes_sent: probes.scheduled(),
            probes_accepted: probes.accepted(),
            probes_last: probes.acknowledged(),
            processor,
        })
    }

    fn end_at(&self, end: Instant) {
        let end_us = us_since(self.shared.origin, end);
        self.shared.end_us.store(end_us, Ordering::Relaxed);
    }

    /// Until every connection has been tried.
    async fn connected(&self) -> Result<(), FleetError> {
        let shared = &self.shared;
        let all = shared.plan.connections();
        let patience = shared.plan.ramp_time() + CONNECT_GRACE;
        let mut said = Instant::now();
        loop {
            let tried = shared.tried.load(Ordering::Relaxed);
            if tried >= all || shared.origin.elapsed() > patience {
                break;
            }
            if said.elapsed() >= Duration::from_secs(1) {
                said = Instant::now();
                say(&format!("connecting: {tried} of {all}"));
            }
            sleep(LOOK).await;
        }
        let (servers, viewers, frozen) = self.up();
        if servers + viewers + frozen == 0 {
            return Err(FleetError::NoConnection {
                target: shared.plan.line.target.clone(),
                why: why(
                    &merged(&self.tallies).requests.connect_failures,
                    shared.failure.get(),
                ),
            });
        }
        let seconds = shared.origin.elapsed().as_secs_f64();
        say(&format!(
            "connected in {seconds:.1} s: {servers} of {} servers, {viewers} of {} viewers, \
             {frozen} of {} frozen",
            shared.plan.servers, shared.plan.viewers, shared.plan.frozen
        ));
        Ok(())
    }

    fn up(&self) -> (usize, usize, usize) {
        let frozen: u64 = merged(&self.tallies).frozen_connected;
        (
            self.shared.servers_up.load(Ordering::Relaxed),
            self.shared.viewers_up.load(Ordering::Relaxed),
            usize::try_from(frozen).unwrap_or_default(),
        )
    }

    /// Tells each second how it goes, until the time is over.
    async fn watch(&self, start: Instant, duration: Duration) {
        let end = start + duration;
        let mut next = start + Duration::from_secs(1);
        while next < end {
            tokio::time::sleep_until(next.into()).await;
            next += Duration::from_secs(1);
            let (servers, viewers, _) = self.up();
            let progress = Progress {
                seconds: start.elapsed().as_secs(),
                servers,
                viewers,
                tally: &merged(&self.tallies),
            };
            say(&progress.to_string());
        }
        tokio::time::sleep_until(end.into()).await;
    }

    /// Until every request is answered and every viewer saw the last probe.
    async fn drained(&self) {
        let begun = Instant::now();
        while begun.elapsed() < DRAIN_MAX {
            // At least one look's time: the last sends may still be on their way.
            sleep(LOOK).await;
            let tally = merged(&self.tallies);
            let last = self.shared.probes.acknowledged();
            let all_seen = tally
                .viewers
                .iter()
                .all(|viewing| viewing.last_probe.is_none_or(|seen| seen >= last));
            let all_sent = self.shared.scheduling.load(Ordering::Relaxed) == 0;
            if all_sent && tally.requests.waiting() == 0 && all_seen {
                return;
            }
        }
    }
}

/// A first interrupt ends the run and gives the drain its time; a second one does not.
async fn wait_again(interrupted: bool, stop: &mut (impl Future<Output = ()> + Unpin)) {
    if interrupted {
        // Its future is spent: the drain is short.
        std::future::pending::<()>().await;
    }
    stop.await;
}

pub(super) fn merged(tallies: &[Arc<Mutex<Tally>>]) -> Tally {
    let mut sum = Tally::new(0);
    for tally in tallies {
        sum.merge(&tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
    sum
}

fn why(failures: &Counts, first: Option<&String>) -> String {
    let Some(first) = first else {
        return "no answer in time".to_owned();
    };
    let kinds: Vec<String> = failures
        .iter()
        .map(|(kind, n)| format!("{kind} ({n})"))
        .collect();
    format!("{}; the first: {first}", kinds.join(", "))
}

/// One line to the person who watches; the report on standard output stays clean.
fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}
