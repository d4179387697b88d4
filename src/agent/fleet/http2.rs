//! Simulated servers by HTTP/2: [`FLEET_SERVERS_PER_CONNECTION`] share a connection, and each has,
//! as by HTTP/1.1, one request on its way.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use h2::client::ResponseFuture;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::servers::{Server, Servers};
use super::tally::{Tally, count};
use crate::agent::client::ClientError;
use crate::agent::http2::{self, Connection, Requests};
use crate::backoff::Backoff;
use crate::limits::{ANSWER_TIMEOUT, FLEET_SERVERS_PER_CONNECTION};
use crate::rng::Rng;

/// A connection and the servers that share it.
pub(super) struct Trunk {
    /// Servers by their place in the thread's list.
    servers: Range<usize>,
    link: RefCell<Option<Link>>,
    /// Requests sent, their answers not yet heard, on the last connection too.
    streams: Cell<usize>,
    /// Servers with something to send and no stream to send it on, each once.
    queue: RefCell<VecDeque<usize>>,
    /// The last connection ended in good order and another is being made.
    is_moving: Cell<bool>,
    /// Given up by us: nothing was heard for too long.
    timed_out: Cell<bool>,
    /// When the connection was made or an answer heard.
    heard: Cell<Option<Instant>>,
    answered: Cell<bool>,
}

struct Link {
    /// `None`: no more is to be sent, and the connection ends once all is answered.
    requests: Option<Requests>,
    head: http::Request<()>,
    give_up: Rc<Notify>,
}

impl Trunk {
    pub(super) fn for_servers(n: usize) -> Vec<Self> {
        let starts = (0..n).step_by(FLEET_SERVERS_PER_CONNECTION);
        let trunk = |start: usize| Self {
            servers: start..n.min(start + FLEET_SERVERS_PER_CONNECTION),
            link: RefCell::default(),
            streams: Cell::default(),
            queue: RefCell::default(),
            is_moving: Cell::default(),
            timed_out: Cell::default(),
            heard: Cell::default(),
            answered: Cell::default(),
        };
        starts.map(trunk).collect()
    }

    /// Whether what is due will be sent, now or after a short while.
    pub(super) fn takes_readings(&self) -> bool {
        self.is_moving.get() || self.link.borrow().is_some()
    }

    fn connected(&self, requests: Requests, head: http::Request<()>) -> Rc<Notify> {
        let give_up = Rc::new(Notify::new());
        *self.link.borrow_mut() = Some(Link {
            requests: Some(requests),
            head,
            give_up: give_up.clone(),
        });
        self.is_moving.set(false);
        self.timed_out.set(false);
        self.heard.set(Some(Instant::now()));
        self.answered.set(false);
        give_up
    }

    /// `None`: there is no stream to be had now.
    fn send(&self, body: &[u8]) -> Option<ResponseFuture> {
        let mut link = self.link.borrow_mut();
        let link = link.as_mut()?;
        let requests = link.requests.as_mut()?;
        let streams_max = requests
            .current_max_send_streams()
            .min(FLEET_SERVERS_PER_CONNECTION);
        if self.streams.get() >= streams_max {
            return None;
        }
        // Nobody to wake: whoever waits is queued, and asked again after the next answer.
        let sent = match requests.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => http2::send(requests, &link.head, body),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => return None,
        };
        match sent {
            Ok(response) => {
                self.streams.update(|streams| streams + 1);
                Some(response)
            }
            // GOAWAY, say.
            Err(_) => {
                link.requests = None;
                None
            }
        }
    }

    /// What a request's end says about the connection.
    fn note(&self, sent: Instant, now: Instant, error: Option<&ClientError>) {
        self.streams.update(|streams| streams - 1);
        let mut link = self.link.borrow_mut();
        match (error, link.as_mut()) {
            (None, _) => {
                self.heard.set(Some(now));
                self.answered.set(true);
            }
            (Some(ClientError::GoAway), Some(link)) => link.requests = None,
            // One stream can be stuck; when all have been silent since, the connection is dead.
            (Some(ClientError::AnswerTimeout), Some(link)) if self.heard.get() < Some(sent) => {
                self.timed_out.set(true);
                link.requests = None;
                link.give_up.notify_one();
            }
            (Some(_), _) => {}
        }
    }
}

impl Servers {
    /// What carries a server, if that is shared.
    pub(super) fn trunk(&self, own: usize) -> Option<&Trunk> {
        self.trunks.get(own / FLEET_SERVERS_PER_CONNECTION)
    }

    /// Keeps a connection up for the servers that share it.
    pub(super) async fn keep_trunk(self: Rc<Self>, index: usize) {
        let (trunk, shared) = (&self.trunks[index], self.worker.shared.clone());
        let number = self.worker.index + index * shared.plan.threads;
        self.worker.turn(number).await;
        let (mut backoff, mut rng) = (Backoff::default(), Rng::random());
        let mut first = true;
        while !self.worker.is_over() {
            let connected = self.connect_trunk(trunk, number).await;
            if std::mem::take(&mut first) {
                shared.tried.fetch_add(1, Ordering::Relaxed);
            }
            match connected {
                Ok((connection, give_up)) => {
                    backoff.reset();
                    let servers = trunk.servers.len();
                    shared.servers_up.fetch_add(servers, Ordering::Relaxed);
                    self.send_all(trunk);
                    let ended = tokio::select! {
                        ended = connection => ended.map_err(ClientError::from),
                        () = give_up.notified() => Err(ClientError::AnswerTimeout),
                    };
                    shared.servers_up.fetch_sub(servers, Ordering::Relaxed);
                    trunk.link.replace(None);
                    self.worker.tally().requests.reconnects += 1;
                    // A server that says goodbye before it answered anything may say it again.
                    if ended.is_ok() && trunk.answered.get() {
                        trunk.is_moving.set(true);
                        continue;
                    }
                }
                Err(error) => self.worker.count_failure(&error),
            }
            self.strand(trunk);
            sleep(backoff.next(&mut rng, None)).await;
        }
    }

    async fn connect_trunk(
        &self,
        trunk: &Trunk,
        number: usize,
    ) -> Result<(Connection, Rc<Notify>), ClientError> {
        let line = &self.worker.shared.plan.line;
        let head = http2::post_head(line)?;
        let stream = self.worker.dial(number, line).await?;
        let (requests, connection) = http2::handshake(stream).await?;
        Ok((connection, trunk.connected(requests, head)))
    }

    /// There is no connection: what waited for one is lost.
    fn strand(&self, trunk: &Trunk) {
        trunk.is_moving.set(false);
        trunk.queue.borrow_mut().clear();
        let lost = &mut self.worker.tally().requests.lost;
        for own in trunk.servers.clone() {
            let server = &mut *self.list[own].borrow_mut();
            count(lost, "not connected", server.waiting.len() as u64);
            server.waiting.clear();
            server.queued = false;
        }
    }

    /// What waited for a connection.
    fn send_all(self: &Rc<Self>, trunk: &Trunk) {
        let now = Instant::now();
        let mut tally = self.worker.tally();
        for own in trunk.servers.clone() {
            let server = &mut *self.list[own].borrow_mut();
            self.send_streams(trunk, own, server, now, &mut tally);
        }
    }

    /// Sends a server's oldest reading, if none is on its way and there is a stream for it.
    pub(super) fn send_streams(
        self: &Rc<Self>,
        trunk: &Trunk,
        own: usize,
        server: &mut Server,
        now: Instant,
        tally: &mut Tally,
    ) {
        if !server.inflight.is_empty() {
            return;
        }
        let Some(intended) = server.waiting.pop_front() else {
            return;
        };
        let body = server.render(now);
        let (response, length) = (trunk.send(body), body.len() as u64);
        let Some(response) = response else {
            server.waiting.push_front(intended);
            if !std::mem::replace(&mut server.queued, true) {
                trunk.queue.borrow_mut().push_back(own);
            }
            return;
        };
        server.sent(intended, now, length, tally);
        spawn_local(self.clone().hear(own, response));
    }

    /// Waits for one answer, which makes room for another request.
    async fn hear(self: Rc<Self>, own: usize, response: ResponseFuture) {
        let heard = timeout(ANSWER_TIMEOUT, http2::hear(response)).await;
        let heard = heard.unwrap_or(Err(ClientError::AnswerTimeout));
        let now = Instant::now();
        let Some(trunk) = self.trunk(own) else {
            return;
        };
        let mut tally = self.worker.tally();
        {
            let server = &mut *self.list[own].borrow_mut();
            // None: the run is over, and has counted it.
            let Some(request) = server.inflight.pop_front() else {
                return;
            };
            trunk.note(request.sent, now, heard.as_ref().err());
            match &heard {
                Ok(heard) => server.settle(&request, heard.status, &heard.body, now, &mut tally),
                // Not looked at: it goes out again, by the next connection.
                Err(ClientError::GoAway) if trunk.takes_readings() => {
                    server.waiting.push_front(request.intended);
                }
                Err(ClientError::StreamRefused) => {
                    count(&mut tally.requests.refused, "refused_stream", 1);
                }
                Err(_) if trunk.timed_out.get() => {
                    count(&mut tally.requests.lost, "answer timeout", 1);
                }
                Err(error) => count(&mut tally.requests.lost, error.kind(), 1),
            }
        }
        self.send_queued(trunk, now, &mut tally);
        let server = &mut *self.list[own].borrow_mut();
        self.send_streams(trunk, own, server, now, &mut tally);
    }

    fn send_queued(self: &Rc<Self>, trunk: &Trunk, now: Instant, tally: &mut Tally) {
        // One that finds no stream queues up again.
        let waiting = trunk.queue.borrow().len();
        for _ in 0..waiting {
            let Some(own) = trunk.queue.borrow_mut().pop_front() else {
                return;
            };
            let server = &mut *self.list[own].borrow_mut();
            server.queued = false;
            self.send_streams(trunk, own, server, now, tally);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_shared_out_at_the_bound_and_past_it() {
        let check = |n: usize, expected: &[usize]| {
            let trunks = Trunk::for_servers(n);
            let lengths: Vec<usize> = trunks.iter().map(|trunk| trunk.servers.len()).collect();
            assert_eq!(lengths, expected);
            assert_eq!(trunks.last().map_or(0, |last| last.servers.end), n);
        };
        let max = FLEET_SERVERS_PER_CONNECTION;
        check(0, &[]);
        check(max, &[max]);
        check(max + 1, &[max, 1]);
    }

    #[test]
    fn a_connection_is_given_up_when_nothing_at_all_is_heard() {
        let start = Instant::now();
        let later = |seconds| start + std::time::Duration::from_secs(seconds);
        let check = |heard: Instant, expected: bool| {
            let trunk = &Trunk::for_servers(1)[0];
            *trunk.link.borrow_mut() = Some(Link {
                requests: None,
                head: http::Request::new(()),
                give_up: Rc::default(),
            });
            trunk.heard.set(Some(heard));
            trunk.streams.set(1);
            trunk.note(later(1), later(11), Some(&ClientError::AnswerTimeout));
            assert_eq!((trunk.timed_out.get(), trunk.streams.get()), (expected, 0));
        };
        check(start, true);
        check(later(2), false);
    }
}
