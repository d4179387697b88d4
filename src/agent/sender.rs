//! The agent's two loops: one measures on time, one delivers when it can.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tracing::{debug, error, info, warn};

use super::answer::{Answer, Refusal};
use super::backlog::Backlog;
use super::client::{Client, ClientError, Line};
use super::host::{self, Envelope, Identity, Machine};
use crate::backoff::Backoff;
use crate::clock;
use crate::duration::human;
use crate::limits::{AGENT_BATCH_READINGS, BACKLOG_READINGS};
use crate::rng::Rng;

/// The same complaint is logged again after this long.
const REPEAT_LOG: Duration = Duration::from_secs(60);

pub(crate) struct Sender {
    line: Line,
    identity: Identity,
    every: Duration,
    backlog: RefCell<Backlog>,
    news: Notify,
}

impl Sender {
    pub(crate) fn new(line: Line, identity: Identity, every: Duration) -> Self {
        Self {
            line,
            identity,
            every,
            backlog: RefCell::new(Backlog::new(BACKLOG_READINGS)),
            news: Notify::new(),
        }
    }

    /// Runs until `stop` is done.
    pub(crate) async fn run(&self, machine: Machine, stop: impl Future<Output = ()>) {
        let mut client = None;
        tokio::select! {
            () = self.measure(machine) => {}
            () = self.deliver(&mut client) => {}
            () = stop => {}
        }
        if let Some(client) = client {
            client.close().await;
        }
    }

    async fn measure(&self, mut machine: Machine) {
        // Processor use needs a little time behind it to be a number.
        let first = Instant::now() + self.every.min(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        let mut ticks = interval_at(first, self.every);
        // A laptop that slept owes nothing.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.backlog.borrow_mut().push(machine.read());
            self.news.notify_one();
        }
    }

    async fn deliver(&self, client: &mut Option<Client>) {
        let mut rng = Rng::random();
        let mut backoff = Backoff::default();
        let mut log = Log::default();
        // A connection's first body names the units.
        let mut fresh = true;
        let mut seq = 0;
        loop {
            if let Some(error) = self.wait_for_news(client).await {
                debug!(%error, "connection ended while idle");
                *client = None;
                // Maybe with nothing to send yet.
                continue;
            }
            let wait = match self.deliver_batch(client, &mut fresh, &mut seq).await {
                Ok(Answer::Accepted) => {
                    backoff.reset();
                    log.delivered(&self.line, self.backlog.borrow_mut().take_dropped());
                    continue;
                }
                Ok(Answer::Refused(refusal)) if refusal.temporary => {
                    log.busy(&refusal);
                    backoff.next(&mut rng, refusal.retry_after)
                }
                Ok(Answer::Refused(refusal)) => {
                    log.refused(&refusal);
                    continue;
                }
                // At once, unless the server says so to whoever comes.
                Err(error @ ClientError::GoAway) if !fresh => {
                    debug!(%error, "connecting anew");
                    *client = None;
                    continue;
                }
                Err(error) => {
                    *client = None;
                    log.away(&self.line, &error);
                    backoff.next(&mut rng, error.retry_after())
                }
            };
            debug!("trying again in {}", human(wait));
            sleep(wait).await;
        }
    }

    /// Until there is something to send; an idle connection is watched meanwhile.
    async fn wait_for_news(&self, client: &mut Option<Client>) -> Option<ClientError> {
        while self.backlog.borrow().is_empty() {
            match client {
                None => self.news.notified().await,
                Some(client) => tokio::select! {
                    () = self.news.notified() => {}
                    error = client.idle() => return Some(error),
                },
            }
        }
        None
    }

    /// Sends the oldest readings. Those accepted, and those refused for good, are forgotten.
    async fn deliver_batch(
        &self,
        client: &mut Option<Client>,
        fresh: &mut bool,
        seq: &mut u64,
    ) -> Result<Answer, ClientError> {
        let link = match client {
            Some(link) if link.is_open() => link,
            _ => {
                *fresh = true;
                client.insert(Client::connect(&self.line).await?)
            }
        };
        *seq += 1;
        let (body, last) = {
            let backlog = self.backlog.borrow();
            let (readings, last) = backlog.batch(AGENT_BATCH_READINGS);
            let envelope = Envelope {
                sent_at: clock::wall_ms(),
                seq: (self.line.via == super::Via::Websocket).then_some(*seq),
                units: *fresh,
            };
            (host::body(&self.identity, readings, envelope), last)
        };
        let answer = link.deliver(body.as_bytes(), *seq).await?;
        let done = match &answer {
            Answer::Accepted => true,
            Answer::Refused(refusal) => !refusal.temporary,
        };
        if done {
            *fresh = false;
            self.backlog.borrow_mut().forget(last);
        }
        Ok(answer)
    }
}

/// Says each change once, and what goes on at long intervals.
#[derive(Default)]
struct Log {
    away: bool,
    delivered_any: bool,
    refused: u64,
    refused_said: Option<Instant>,
    busy_said: Option<Instant>,
}

impl Log {
    fn delivered(&mut self, line: &Line, dropped: u64) {
        if dropped > 0 {
            warn!(dropped, "readings lost while the server was away");
        }
        if self.away || !self.delivered_any {
            info!("delivering to {}", line.target);
        }
        self.away = false;
        self.delivered_any = true;
        self.busy_said = None;
        self.refused_said = None;
    }

    fn away(&mut self, line: &Line, error: &ClientError) {
        if !self.away {
            warn!(%error, "{} is away: keeping readings until it is back", line.target);
        }
        self.away = true;
    }

    fn busy(&mut self, refusal: &Refusal) {
        if due(&mut self.busy_said) {
            warn!(
                code = refusal.code,
                answer = refusal.text,
                "server is busy: sending later"
            );
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.refused += 1;
        if due(&mut self.refused_said) {
            error!(
                code = refusal.code,
                answer = refusal.text,
                batches = self.refused,
                "server refused readings: dropped"
            );
        }
    }
}

fn due(said: &mut Option<Instant>) -> bool {
    let due = said.is_none_or(|then| then.elapsed() >= REPEAT_LOG);
    if due {
        *said = Some(Instant::now());
    }
    due
}
