//! The one thread that writes the live state: drain the rings, fold, and at each tick publish what
//! every watched view shows.
//!
//! The state itself ([`fleet`]) is pure. This file is the loop around it, and the only place here
//! that knows clocks and threads.

pub mod columns;
pub mod content;
pub mod export;
pub mod fleet;
pub mod hosts;
pub mod matrix;
pub mod pace;
pub mod selection;
pub mod silence;

#[cfg(test)]
mod rig;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::broadcast::Mailbox;
use crate::catalog::Catalog;
use crate::clock::{Clock, Now};
use crate::cluster::service as cluster;
use crate::frame::flag;
use crate::frame::view::View;
use crate::frame::views::Views;
use crate::history::service::Feed;
use crate::limits::{
    CLUSTER_RING_CAPACITY, DRAIN_BATCH, DRAIN_INTERVAL, QUESTION_BUDGET, QUESTIONS_MAX,
    RING_CAPACITY, RINGS_TIMEOUT,
};
use crate::observe::Aggregated;
use crate::ring::Consumer;
use crate::sample::Sample;
use export::Exporter;
use fleet::Fleet;
use pace::Pace;

/// What the thread owns and shares.
pub struct Inputs {
    /// One per producer.
    pub rings: Vec<Consumer>,
    pub catalog: Arc<Catalog>,
    pub views: Arc<Views>,
    /// One per core.
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub questions: Receiver<Question>,
    pub clock: Clock,
    pub tick: Duration,
    pub aggregated: Arc<Aggregated>,
    /// Set once, for an ordered stop.
    pub stop: Arc<AtomicBool>,
    /// None: what was is not kept.
    pub history: Option<Feed>,
    /// None: this node is alone.
    pub cluster: Option<cluster::Feed>,
}

/// A query that waits for its answer. Whoever asked may go away: the answer is dropped then.
pub enum Question {
    View {
        view: View,
        reply: oneshot::Sender<Answer>,
    },
    Hosts {
        reply: oneshot::Sender<Answer>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Body(Bytes),
    Hosts { epoch: u32, body: Bytes },
    UnknownHost,
    UnknownMetric,
    Busy,
}

/// The thread's whole life. Once `stop` is set it goes on until every producer has gone, or did not
/// go in time, takes what they left and publishes one last tick.
pub fn run(inputs: Inputs) {
    let clock = inputs.clock;
    let mut desk = Desk::new(inputs);
    let mut drain = Pace::new(clock.mono_ms(), millis(DRAIN_INTERVAL));
    let mut stop_ms = None;
    loop {
        let now = clock.now();
        // Producers that are gone by now have committed all they will: draining finds all of it.
        let is_over = desk.is_over(now, &mut stop_ms);
        desk.collect();
        desk.drain(now);
        desk.meet_peers(now);
        if is_over {
            desk.finish(now);
            desk.answer(now);
            desk.publish(clock.now(), true);
            return;
        }
        desk.answer(now);
        desk.tick(clock.now());
        drain.take(clock.mono_ms(), 0);
        let next_ms = drain.due_ms().min(desk.pace.due_ms());
        let rest_ms = next_ms.saturating_sub(clock.mono_ms());
        std::thread::sleep(Duration::from_millis(rest_ms));
    }
}

struct Desk {
    inputs: Inputs,
    fleet: Fleet,
    /// The ticks.
    pace: Pace,
    /// Bounded by [`QUESTIONS_MAX`]; as many may wait in the channel.
    asked: VecDeque<Question>,
    /// A keyframe in the making.
    exporter: Option<Exporter>,
}

impl Desk {
    fn new(inputs: Inputs) -> Self {
        let tick_ms = millis(inputs.tick).max(1);
        let (catalog, views) = (Arc::clone(&inputs.catalog), Arc::clone(&inputs.views));
        let mut fleet = Fleet::new(catalog, views, tick_ms as u32);
        if let Some(cluster) = &inputs.cluster {
            fleet.set_roster(Arc::clone(&cluster.roster));
        }
        Self {
            fleet,
            exporter: None,
            pace: Pace::new(inputs.clock.mono_ms() + tick_ms, tick_ms),
            asked: VecDeque::with_capacity(QUESTIONS_MAX),
            inputs,
        }
    }

    fn is_over(&self, now: Now, stop_ms: &mut Option<u64>) -> bool {
        // Pairs with the release store of whoever asks for the stop.
        if !self.inputs.stop.load(Ordering::Acquire) {
            return false;
        }
        let since_ms = *stop_ms.get_or_insert(now.mono_ms);
        let waited_ms = now.mono_ms.saturating_sub(since_ms);
        millis(RINGS_TIMEOUT) <= waited_ms || self.inputs.rings.iter().all(Consumer::is_abandoned)
    }

    /// Before draining: whoever asks after its sample was accepted finds it in the answer.
    fn collect(&mut self) {
        while self.asked.len() < QUESTIONS_MAX
            && let Ok(question) = self.inputs.questions.try_recv()
        {
            self.asked.push_back(question);
        }
    }

    /// Empties the rings in turns, so that a full one does not keep the others waiting; at most one
    /// ring's capacity from each, so that a fast producer does not keep the tick waiting.
    fn drain(&mut self, now: Now) -> u64 {
        let before = self.fleet.totals().samples;
        let Inputs {
            rings,
            history,
            cluster,
            ..
        } = &mut self.inputs;
        for _ in 0..RING_CAPACITY / DRAIN_BATCH {
            let mut drained = 0;
            for ring in rings.iter_mut() {
                drained += ring.drain(DRAIN_BATCH, |samples| {
                    self.fleet.fold(samples, now);
                    if let Some(history) = history {
                        history.forward(samples, now.wall_ms);
                    }
                    if let Some(cluster) = cluster {
                        cluster.forward(samples, now.mono_ms);
                    }
                });
            }
            if drained == 0 {
                break;
            }
        }
        if let Some(history) = history {
            history.mark(rings.iter().map(Consumer::position));
        }
        let samples = self.fleet.totals().samples;
        self.inputs.aggregated.samples.set(samples);
        samples - before
    }

    /// What peers heard, and what they shall know of what this node did.
    fn meet_peers(&mut self, now: Now) {
        let Some(cluster) = &mut self.inputs.cluster else {
            return;
        };
        for _ in 0..CLUSTER_RING_CAPACITY / DRAIN_BATCH {
            let fleet = &mut self.fleet;
            let fold = |records: &[Sample]| fleet.fold_peers(records, now);
            if cluster.records.drain(DRAIN_BATCH, fold) == 0 {
                break;
            }
        }
        if cluster.takes_export() {
            self.exporter = Some(Exporter::new(now.mono_ms));
        }
        if let Some(mut exporter) = self.exporter.take() {
            if self.fleet.export(&mut exporter) {
                cluster.export(exporter.finish());
            } else {
                self.exporter = Some(exporter);
            }
        }
    }

    /// Nothing that was accepted is lost, however large a ring is. A producer that did not go in
    /// time could go on for ever: it had its one round.
    fn finish(&mut self, now: Now) {
        let is_all = self.inputs.rings.iter().all(Consumer::is_abandoned);
        while is_all && self.drain(now) > 0 {}
    }

    fn answer(&mut self, now: Now) {
        let until_ms = now.mono_ms + millis(QUESTION_BUDGET);
        while let Some(question) = self.asked.pop_front() {
            match question {
                Question::View { reply, .. } | Question::Hosts { reply } if reply.is_closed() => {}
                Question::View { view, reply } => {
                    let _ = reply.send(self.fleet.snapshot(&view, now));
                }
                Question::Hosts { reply } => {
                    let (epoch, body) = self.fleet.hosts(now);
                    let answer = body.map(|body| Answer::Hosts { epoch, body });
                    let _ = reply.send(answer.unwrap_or(Answer::Busy));
                }
            }
            if self.inputs.clock.mono_ms() >= until_ms {
                return;
            }
        }
    }

    fn tick(&mut self, now: Now) {
        let Some(late_ms) = self.pace.take(now.mono_ms, 0) else {
            return;
        };
        let counters = &self.inputs.aggregated;
        counters.tick_lateness_us_max.raise_to(late_ms * 1_000);
        counters.tick_lateness.record(late_ms);
        counters
            .ticks_skipped
            .add(late_ms / millis(self.inputs.tick).max(1));
        self.publish(now, false);
    }

    fn publish(&mut self, now: Now, last: bool) {
        let Inputs {
            history, cluster, ..
        } = &self.inputs;
        let is_degraded = history.as_ref().is_some_and(Feed::is_degraded);
        let is_partial = cluster.as_ref().is_some_and(cluster::Feed::is_partial);
        let degraded = u16::from(is_degraded) * flag::DEGRADED;
        let partial = u16::from(is_partial) * flag::PARTIAL;
        self.fleet.set_flags(degraded | partial);
        let tick = Arc::new(self.fleet.tick(now, last));
        for mailbox in &self.inputs.mailboxes {
            mailbox.post(Arc::clone(&tick));
        }
        let (totals, counters) = (self.fleet.totals(), &self.inputs.aggregated);
        let stores = [
            (&counters.ticks, tick.tick),
            (&counters.hosts_ok, u64::from(totals.hosts.ok)),
            (&counters.hosts_stale, u64::from(totals.hosts.stale)),
            (&counters.hosts_down, u64::from(totals.hosts.down)),
            (&counters.series, totals.series as u64),
            (&counters.series_folded, totals.folded),
        ];
        for (counter, value) in stores {
            counter.set(value);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::thread::JoinHandle;

    use super::*;
    use crate::catalog::lookup::Lookup;
    use crate::ring::{Producer, ring};

    struct Running {
        producers: Vec<Producer>,
        lookup: Lookup,
        questions: SyncSender<Question>,
        aggregated: Arc<Aggregated>,
        stop: Arc<AtomicBool>,
        thread: JoinHandle<()>,
    }

    fn start(rings: usize) -> Running {
        let (producers, consumers) = (0..rings).map(|_| ring(1 << 14)).unzip();
        let catalog = Catalog::new();
        let (questions, receiver) = sync_channel(QUESTIONS_MAX);
        let aggregated = Arc::new(Aggregated::default());
        let stop = Arc::new(AtomicBool::new(false));
        let inputs = Inputs {
            rings: consumers,
            catalog: Arc::clone(&catalog),
            views: Views::new(),
            mailboxes: vec![Arc::new(Mailbox::new())],
            questions: receiver,
            clock: Clock::start(),
            tick: Duration::from_millis(20),
            aggregated: Arc::clone(&aggregated),
            stop: Arc::clone(&stop),
            history: None,
            cluster: None,
        };
        Running {
            producers,
            lookup: Lookup::new(catalog),
            questions,
            aggregated,
            stop,
            thread: std::thread::spawn(|| run(inputs)),
        }
    }

    impl Running {
        fn send(&mut self, ring: usize, host: &str, values: &[f64]) {
            let slot = self.lookup.host(host);
            let column = self.lookup.column("cpu", "%");
            let mut room = self.producers[ring].reserve(values.len()).unwrap();
            for &value in values {
                room.push(Sample {
                    value,
                    time_ms: Sample::NO_TIME,
                    slot,
                    column,
                    flags: 0,
                });
            }
            room.commit();
        }
    }

    #[test]
    fn an_answer_holds_every_sample_accepted_before_it_was_asked_for() {
        let mut running = start(2);
        for i in 0..20 {
            running.send(i % 2, &format!("web-{i}"), &[1.0]);
            let (reply, answer) = oneshot::channel();
            running.questions.send(Question::Hosts { reply }).unwrap();
            let Answer::Hosts { body, .. } = answer.blocking_recv().unwrap() else {
                panic!("hosts were asked for");
            };
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(body.contains(&format!("[{i},\"web-{i}\",{{}}]")), "{body}");
            let (reply, answer) = oneshot::channel();
            let view = View::default_view();
            running
                .questions
                .send(Question::View { view, reply })
                .unwrap();
            assert!(matches!(answer.blocking_recv().unwrap(), Answer::Body(_)));
        }
        running.stop.store(true, Ordering::Release);
        running.producers.clear();
        running.thread.join().unwrap();
        assert_eq!(running.aggregated.samples.get(), 20);
        assert!(running.aggregated.ticks.get() > 0);
    }

    #[test]
    fn an_ordered_stop_takes_what_producers_left() {
        let mut running = start(3);
        running.stop.store(true, Ordering::Release);
        for i in 0..300 {
            running.send(i % 3, &format!("web-{i}"), &[1.0; 100]);
        }
        running.producers.clear();
        running.thread.join().unwrap();
        let aggregated = &running.aggregated;
        let totals = [
            &aggregated.samples,
            &aggregated.series,
            &aggregated.hosts_ok,
        ];
        assert_eq!(totals.map(|total| total.get()), [30_000, 300, 300]);
    }

    #[test]
    fn a_producer_that_stays_does_not_hold_the_stop_up() {
        let mut running = start(1);
        running.send(0, "a", &[1.0]);
        running.stop.store(true, Ordering::Release);
        running.thread.join().unwrap();
        assert_eq!(running.aggregated.samples.get(), 1);
    }
}
