//! Simulated servers: an open loop. Each has its own fixed rhythm, and no answer moves it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::body::{Life, Template};
use super::http2::Trunk;
use super::probe;
use super::socket::Socket;
use super::tally::{Tally, count};
use super::worker::{Phase, Worker};
use crate::agent::Via;
use crate::agent::answer::Reply;
use crate::agent::channel::upgrade;
use crate::agent::client::{ClientError, INGEST};
use crate::agent::http1::post_head;
use crate::agent::response;
use crate::agent::websocket::{self, AGENT_MESSAGE_BYTES_MAX, Kind, Messages};
use crate::backoff::Backoff;
use crate::clock;
use crate::limits::{ANSWER_TIMEOUT, FLEET_INFLIGHT_MAX, FLEET_WAITING_MAX};
use crate::rng::Rng;

/// Requests sent in a row before others get their turn.
const SENDS_PER_TURN: u32 = 64;

/// All servers of one thread.
pub(super) struct Servers {
    pub(super) worker: Rc<Worker>,
    pub(super) list: Vec<RefCell<Server>>,
    /// By HTTP/2, what carries them; otherwise none.
    pub(super) trunks: Vec<Trunk>,
    /// A masked WebSocket message on its way out.
    scratch: RefCell<(Vec<u8>, Rng)>,
    inflight_max: usize,
    /// When the measured time began.
    start: Cell<Option<Instant>>,
}

pub(super) struct Server {
    /// Its number among all connections.
    number: usize,
    /// When in each interval it sends.
    offset: Duration,
    template: Template,
    life: Life,
    /// Readings sent, and each metric's sum, where somebody wants to know.
    sums: Option<(u64, Vec<u64>)>,
    moved: Instant,
    seq: u64,
    /// Its own connection; by HTTP/2 it has none.
    socket: Option<Rc<Socket>>,
    /// Sent and unanswered, oldest first.
    pub(super) inflight: VecDeque<Request>,
    /// Intended times of those that wait for an answer before them.
    pub(super) waiting: VecDeque<Instant>,
    /// By HTTP/2: waits for a free stream.
    pub(super) queued: bool,
    /// Closed by us for a late answer.
    timed_out: bool,
}

pub(super) struct Request {
    pub(super) intended: Instant,
    pub(super) sent: Instant,
    seq: u64,
}

impl Server {
    /// The next reading, as it is now.
    pub(super) fn render(&mut self, now: Instant) -> &[u8] {
        self.seq += 1;
        self.life.advance((now - self.moved).as_secs_f64());
        self.moved = now;
        self.template
            .patch(clock::wall_ms(), self.seq, &self.life.values)
    }

    /// What was rendered last is on its way.
    pub(super) fn sent(&mut self, intended: Instant, now: Instant, bytes: u64, tally: &mut Tally) {
        tally.requests.sent += 1;
        tally.requests.bytes_sent += bytes;
        tally.lateness.record(micros(now, intended));
        if let Some((count, sums)) = &mut self.sums {
            *count += 1;
            self.template.add_to(sums, &self.life.values);
        }
        self.inflight.push_back(Request {
            intended,
            sent: now,
            seq: self.seq,
        });
    }

    /// An HTTP answer to the oldest request.
    pub(super) fn settle(
        &self,
        request: &Request,
        status: u16,
        body: &[u8],
        now: Instant,
        tally: &mut Tally,
    ) {
        let samples = accepted(body).unwrap_or(self.life.values.len() as u64);
        let mut digits = itoa::Buffer::new();
        let refusal = (!(200..300).contains(&status)).then(|| digits.format(status));
        settle(request, refusal, samples, now, tally);
    }
}

impl Servers {
    pub(super) fn new(worker: &Rc<Worker>) -> Rc<Self> {
        let plan = &worker.shared.plan;
        let head = post_head(&plan.line.target, plan.line.token.as_deref());
        let hosts = plan.hosts();
        let list = worker.share(plan.servers).map(|number| {
            let host = &hosts[number];
            let seed = plan
                .seed
                .wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9));
            let template = match plan.line.via {
                Via::Websocket => Template::websocket(host, plan.metrics),
                Via::Http1 => Template::http1(&head, host, plan.metrics),
                Via::Http2 => Template::http2(host, plan.metrics),
            };
            RefCell::new(Server {
                number,
                offset: plan.every.mul_f64(Rng::seeded(!seed).unit()),
                template,
                sums: plan.sums.then(Default::default),
                life: Life::new(host, plan.metrics, seed),
                moved: worker.shared.origin,
                seq: 0,
                socket: None,
                inflight: VecDeque::new(),
                waiting: VecDeque::new(),
                queued: false,
                timed_out: false,
            })
        });
        let list: Vec<RefCell<Server>> = list.collect();
        Rc::new(Self {
            trunks: match plan.line.via {
                Via::Http1 | Via::Websocket => Vec::new(),
                Via::Http2 => Trunk::for_servers(list.len()),
            },
            list,
            worker: worker.clone(),
            scratch: RefCell::new((Vec::new(), Rng::random())),
            inflight_max: match plan.line.via {
                Via::Websocket => FLEET_INFLIGHT_MAX,
                Via::Http1 | Via::Http2 => 1,
            },
            start: Cell::new(None),
        })
    }

    /// Connects, and sends once it is time to.
    pub(super) fn spawn(self: &Rc<Self>) {
        for trunk in 0..self.trunks.len() {
            spawn_local(self.clone().keep_trunk(trunk));
        }
        if self.trunks.is_empty() {
            for own in 0..self.list.len() {
                spawn_local(self.clone().keep(own));
            }
        }
        spawn_local(self.clone().schedule());
    }

    /// Keeps one server connected and reads its answers.
    async fn keep(self: Rc<Self>, own: usize) {
        let number = self.list[own].borrow().number;
        self.worker.turn(number).await;
        let shared = self.worker.shared.clone();
        let (mut backoff, mut rng) = (Backoff::default(), Rng::random());
        let mut first = true;
        while !self.worker.is_over() {
            let connected = self.connect(own, number).await;
            if std::mem::take(&mut first) {
                shared.tried.fetch_add(1, Ordering::Relaxed);
            }
            let error = match connected {
                Ok((socket, carry)) => {
                    backoff.reset();
                    shared.servers_up.fetch_add(1, Ordering::Relaxed);
                    let error = self.answers(own, &socket, carry).await;
                    shared.servers_up.fetch_sub(1, Ordering::Relaxed);
                    self.disconnected(own, &error);
                    error
                }
                Err(error) => {
                    self.worker.count_failure(&error);
                    error
                }
            };
            sleep(backoff.next(&mut rng, error.retry_after())).await;
        }
    }

    async fn connect(
        &self,
        own: usize,
        number: usize,
    ) -> Result<(Rc<Socket>, Vec<u8>), ClientError> {
        let line = &self.worker.shared.plan.line;
        let mut stream = self.worker.dial(number, line).await?;
        let mut carry = Vec::new();
        if line.via == Via::Websocket {
            let (path, token) = (line.target.path(INGEST), line.token.as_deref());
            upgrade(&mut stream, &mut carry, &line.target, &path, token, None).await?;
        }
        let socket = Rc::new(Socket::new(stream));
        self.list[own].borrow_mut().socket = Some(socket.clone());
        Ok((socket, carry))
    }

    /// Sends on time, and what is late as soon as it can, until nothing more is due.
    async fn schedule(self: Rc<Self>) {
        let mut phases = self.worker.shared.phases.clone();
        let begun = phases.wait_for(|phase| *phase != Phase::Connect).await;
        let Ok(Phase::Run { start }) = begun.map(|phase| *phase) else {
            return;
        };
        self.start.set(Some(start));
        let scheduling = &self.worker.shared.scheduling;
        scheduling.fetch_add(1, Ordering::Relaxed);
        self.send_on_time(start).await;
        scheduling.fetch_sub(1, Ordering::Relaxed);
    }

    /// Servers in the order of their offsets are one schedule that repeats: no timer per server.
    async fn send_on_time(self: &Rc<Self>, start: Instant) {
        let offset = |(own, server): (usize, &RefCell<Server>)| (server.borrow().offset, own);
        let mut order: Vec<(Duration, usize)> = self.list.iter().enumerate().map(offset).collect();
        order.sort_unstable();
        let mut now = Instant::now();
        let mut sends = 0u32;
        let mut round_start = start;
        while !order.is_empty() {
            for &(offset, own) in &order {
                let due = round_start + offset;
                if due > now {
                    tokio::time::sleep_until(due.into()).await;
                    now = Instant::now();
                }
                // After the wait: an interrupt moves the end.
                if self.worker.end().is_some_and(|end| due >= end) {
                    return;
                }
                self.fire(own, due, now);
                sends = sends.wrapping_add(1);
                if sends.is_multiple_of(SENDS_PER_TURN) {
                    tokio::task::yield_now().await;
                    now = Instant::now();
                }
            }
            round_start += self.worker.shared.plan.every;
        }
    }

    /// A server's time to send has come.
    fn fire(self: &Rc<Self>, own: usize, due: Instant, now: Instant) {
        let server = &mut *self.list[own].borrow_mut();
        let mut tally = self.worker.tally();
        tally.requests.intended += 1;
        let oldest = server.inflight.front();
        let is_late = oldest.is_some_and(|oldest| now > oldest.sent + ANSWER_TIMEOUT);
        match (&server.socket, self.trunk(own)) {
            (Some(socket), _) if is_late => {
                server.timed_out = true;
                socket.shut();
            }
            (Some(_), _) => {}
            (None, Some(trunk)) if trunk.takes_readings() => {}
            (None, _) => {
                count(&mut tally.requests.lost, "not connected", 1);
                return;
            }
        }
        if server.waiting.len() == FLEET_WAITING_MAX {
            count(&mut tally.requests.lost, "overrun", 1);
            return;
        }
        server.waiting.push_back(due);
        match self.trunk(own) {
            Some(trunk) => self.send_streams(trunk, own, server, now, &mut tally),
            None => self.send_waiting(server, now, &mut tally),
        }
    }

    /// Sends what is due as far as answers before it allow.
    fn send_waiting(&self, server: &mut Server, now: Instant, tally: &mut Tally) {
        while server.inflight.len() < self.inflight_max
            && let Some(socket) = server.socket.clone()
            && let Some(intended) = server.waiting.pop_front()
        {
            let bytes = server.render(now);
            let (scratch, rng) = &mut *self.scratch.borrow_mut();
            let bytes = match self.worker.shared.plan.line.via {
                Via::Http1 | Via::Http2 => bytes,
                Via::Websocket => {
                    scratch.clear();
                    websocket::write(scratch, Kind::Text, bytes, rng.mask());
                    scratch
                }
            };
            socket.put(bytes);
            let length = bytes.len() as u64;
            server.sent(intended, now, length, tally);
        }
    }

    async fn answers(&self, own: usize, socket: &Socket, carry: Vec<u8>) -> ClientError {
        let mut messages = Messages::default();
        let websocket = self.worker.shared.plan.line.via == Via::Websocket;
        self.worker
            .listen(socket, carry, |bytes| {
                let now = Instant::now();
                let server = &mut *self.list[own].borrow_mut();
                let mut tally = self.worker.tally();
                let done = if websocket {
                    self.take_messages(server, &mut messages, bytes, now, &mut tally)?
                } else {
                    take_answers(server, bytes, now, &mut tally)?
                };
                self.send_waiting(server, now, &mut tally);
                Ok(done)
            })
            .await
    }

    fn take_messages(
        &self,
        server: &mut Server,
        messages: &mut Messages,
        bytes: &[u8],
        now: Instant,
        tally: &mut Tally,
    ) -> Result<usize, ClientError> {
        let mut at = 0;
        loop {
            let (message, taken) = messages.next(&bytes[at..], AGENT_MESSAGE_BYTES_MAX)?;
            at += taken;
            match message {
                None => return Ok(at),
                Some((Kind::Text, text)) => take_reply(server, text, now, tally),
                Some((Kind::Ping, payload)) => {
                    if let Some(socket) = &server.socket {
                        let (scratch, rng) = &mut *self.scratch.borrow_mut();
                        scratch.clear();
                        websocket::write(scratch, Kind::Pong, payload, rng.mask());
                        socket.put(scratch);
                    }
                }
                Some((Kind::Close, payload)) => {
                    let code = websocket::close_code(payload);
                    return Err(ClientError::WebSocketClosed(code));
                }
                Some((Kind::Binary | Kind::Pong, _)) => {}
            }
        }
    }

    fn disconnected(&self, own: usize, error: &ClientError) {
        let server = &mut *self.list[own].borrow_mut();
        let requests = &mut self.worker.tally().requests;
        let kind = match server.timed_out {
            true => "answer timeout",
            false => error.kind(),
        };
        count(&mut requests.lost, kind, server.inflight.len() as u64);
        count(
            &mut requests.lost,
            "not connected",
            server.waiting.len() as u64,
        );
        requests.reconnects += 1;
        server.inflight.clear();
        server.waiting.clear();
        server.socket = None;
        server.timed_out = false;
    }

    /// The end: what is still unanswered stays so, and what was due and not sent is owned up to.
    pub(super) fn abandon(&self) {
        let requests = &mut self.worker.tally().requests;
        let due = self.due_in_all();
        count(
            &mut requests.lost,
            "unsent",
            due.saturating_sub(requests.intended),
        );
        requests.intended = requests.intended.max(due);
        let hosts = self.worker.shared.plan.hosts();
        for server in &self.list {
            let server = &mut *server.borrow_mut();
            if let Some((count, sums)) = &server.sums {
                let said = server
                    .template
                    .say_sums(&hosts[server.number].name, *count, sums);
                self.worker.shared.say_sums(&said);
            }
            count(
                &mut requests.lost,
                "unanswered",
                server.inflight.len() as u64,
            );
            count(&mut requests.lost, "unsent", server.waiting.len() as u64);
            server.inflight.clear();
            server.waiting.clear();
        }
    }

    /// Requests whose time came between start and end.
    fn due_in_all(&self) -> u64 {
        let (Some(start), Some(end)) = (self.start.get(), self.worker.end()) else {
            return 0;
        };
        let time = end.saturating_duration_since(start);
        let every = self.worker.shared.plan.every.as_nanos().max(1);
        let due = |server: &RefCell<Server>| {
            let left = time.saturating_sub(server.borrow().offset).as_nanos();
            u64::try_from(left.div_ceil(every)).unwrap_or(u64::MAX)
        };
        self.list.iter().map(due).sum()
    }
}

/// Whole HTTP answers; the bytes they took.
fn take_answers(
    server: &mut Server,
    bytes: &[u8],
    now: Instant,
    tally: &mut Tally,
) -> Result<usize, ClientError> {
    let mut at = 0;
    while at < bytes.len() {
        let Some(response) = response::read(&bytes[at..], false)? else {
            break;
        };
        at += response.consumed;
        let Some(request) = server.inflight.pop_front() else {
            // Answered without being asked: a timeout's 408, say.
            return Err(ClientError::Closed);
        };
        server.settle(&request, response.status, &response.body, now, tally);
        if !response.keep_alive {
            return Err(ClientError::Closed);
        }
    }
    Ok(at)
}

/// One acknowledgement or refusal; answers come in the order of the requests.
fn take_reply(server: &mut Server, text: &[u8], now: Instant, tally: &mut Tally) {
    let Ok(reply) = serde_json::from_slice::<Reply>(text) else {
        return;
    };
    let refusal = match (&reply.error, &reply.reason) {
        (None, _) => None,
        (Some(_), Some(reason)) => Some(reason.as_str()),
        (Some(_), None) => Some("refused"),
    };
    let about = reply.ack_seq.or(reply.seq);
    let at = match about {
        Some(seq) => server
            .inflight
            .iter()
            .position(|request| request.seq == seq),
        None if refusal.is_some() => Some(0),
        None => None,
    };
    if let Some(request) = at.and_then(|at| server.inflight.remove(at)) {
        let samples = server.life.values.len() as u64;
        settle(&request, refusal, samples, now, tally);
    }
}

fn settle(request: &Request, refusal: Option<&str>, samples: u64, now: Instant, tally: &mut Tally) {
    tally.answer.record(micros(now, request.intended));
    match refusal {
        Some(code) => count(&mut tally.requests.refused, code, 1),
        None => {
            tally.requests.acknowledged += 1;
            tally.requests.samples_acknowledged += samples;
        }
    }
}

/// The number in `{"accepted":n}`.
fn accepted(body: &[u8]) -> Option<u64> {
    let digits = body.strip_prefix(b"{\"accepted\":")?.strip_suffix(b"}")?;
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

fn micros(now: Instant, then: Instant) -> u64 {
    probe::us_since(then, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_counts_are_read() {
        assert_eq!(accepted(b"{\"accepted\":10}"), Some(10));
        for body in [&b""[..], b"{}", b"{\"accepted\":}", b"{\"accepted\":-1}"] {
            assert_eq!(accepted(body), None);
        }
    }
}
