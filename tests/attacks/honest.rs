//! The honest: servers that post at a modest rate and dashboards that watch, while others attack.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::Message;

use crate::h2::{self, H2};
use crate::siege::Plan;
use crate::support::{Http, Live, Node, Random};

/// What part of a siege a request belongs to.
#[derive(Clone, Copy)]
pub(crate) enum Phase {
    Baseline,
    Attack,
    After,
}

/// What all honest clients of one siege went through.
#[derive(Default)]
pub(crate) struct Honest {
    phase: AtomicUsize,
    over: AtomicBool,
    latencies_us: [Mutex<Vec<u64>>; 3],
    failures: Mutex<Vec<String>>,
    pub(crate) frames: AtomicU64,
}

/// Posts of one phase.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) posts: usize,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

impl Honest {
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as usize, Relaxed);
    }

    pub(crate) fn dismiss(&self) {
        self.over.store(true, Relaxed);
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    pub(crate) fn latency(&self, phase: Phase) -> Latency {
        let mut sorted = self.latencies_us[phase as usize].lock().unwrap().clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied();
        Latency {
            posts: sorted.len(),
            p50_us: at(50).unwrap_or(0),
            p99_us: at(99).unwrap_or(0),
        }
    }

    fn fail(&self, who: &str, what: &str) {
        self.failures.lock().unwrap().push(format!("{who}: {what}"));
    }

    /// A server that posts about ten times a second. Odd ones send a head and its body apart; of
    /// each four, the third speaks HTTP/2, and the last opens a connection for each request if it
    /// may.
    pub(crate) fn post(&self, node: &Node, plan: &Plan, number: usize) {
        let mut random = Random(number as u64);
        let mut way = None;
        while !self.over.load(Relaxed) {
            thread::sleep(Duration::from_millis(50 + random.below(100)));
            if plan.reconnect && number % 4 == 3 {
                way = None;
            }
            let phase = self.phase.load(Relaxed);
            let began = Instant::now();
            let value = random.below(100);
            let body = format!(r#"{{"host":"honest-{number}","metrics":{{"honest":{value}}}}}"#);
            match post_once(way.take(), node, plan, number, &body) {
                Ok(kept) => way = Some(kept),
                Err(what) => {
                    self.fail(&format!("server {number}"), &what);
                    continue;
                }
            }
            let took = u64::try_from(began.elapsed().as_micros()).unwrap();
            self.latencies_us[phase].lock().unwrap().push(took);
        }
    }

    /// A dashboard: frames must keep coming. 0 speaks no subprotocol, 1 the text twin, 2 binary.
    pub(crate) fn watch(&self, node: &Node, plan: &Plan, dialect: usize) {
        let protocol = [None, Some("tidewall.v1+json"), Some("tidewall.v1")][dialect];
        let key = plan.token.map(|token| format!("?key={token}"));
        let path = format!("/api/live{}", key.unwrap_or_default());
        let mut live = node.web_socket(&path, protocol);
        if protocol.is_some() {
            live.say(r#"{"op":"sub","id":1,"view":{"kind":"map","metric":"honest","hz":10}}"#);
            live.say(r#"{"op":"sub","id":2,"view":{"kind":"stats","hz":1}}"#);
        }
        let mut ids = HashMap::new();
        while !self.over.load(Relaxed) {
            if let Err(what) = self.watch_once(&mut live, &mut ids) {
                return self.fail(&format!("viewer {dialect}"), &what);
            }
        }
    }

    fn watch_once(&self, live: &mut Live, ids: &mut HashMap<u32, u64>) -> Result<(), String> {
        match live.socket.read().map_err(|error| error.to_string())? {
            Message::Binary(frame) => {
                self.frames.fetch_add(1, Relaxed);
                // Header: the view's number at byte 4, the frame's at byte 8.
                let word = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
                let (id, seq) = (ids[&word(4)], word(8));
                let ack = format!(r#"{{"op":"ack","frames":[[{id},{seq}]]}}"#);
                let sent = live.socket.send(Message::text(ack));
                sent.map_err(|error| error.to_string())
            }
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                if message["op"] == "schema" {
                    let view = u32::try_from(message["view"].as_u64().unwrap()).unwrap();
                    ids.insert(view, message["id"].as_u64().unwrap());
                }
                let is_frame = message["seq"].is_u64();
                self.frames.fetch_add(u64::from(is_frame), Relaxed);
                Ok(())
            }
            Message::Close(frame) => Err(format!("closed: {frame:?}")),
            _ => Ok(()),
        }
    }
}

/// A connection that is kept.
enum Way {
    Http1(Http),
    Http2(Box<H2>, u32),
}

fn post_once(
    kept: Option<Way>,
    node: &Node,
    plan: &Plan,
    number: usize,
    body: &str,
) -> Result<Way, String> {
    match kept {
        Some(Way::Http1(http)) => post_http1(http, plan, number, body),
        Some(Way::Http2(h2, stream)) => post_http2(h2, stream, plan, body),
        None if number % 4 == 2 => post_http2(Box::new(H2::open(node, &[])), 1, plan, body),
        None => {
            let http = node.try_connect().map_err(|error| error.to_string())?;
            post_http1(http, plan, number, body)
        }
    }
}

fn post_http1(mut http: Http, plan: &Plan, number: usize, body: &str) -> Result<Way, String> {
    let field = authorization(plan).map(|value| format!("Authorization: {value}\r\n"));
    let head = format!(
        "POST /api/metrics HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n",
        field.unwrap_or_default(),
        body.len()
    );
    let sent = if number % 2 == 1 {
        http.send(head.as_bytes()).and_then(|()| {
            thread::sleep(Duration::from_millis(2));
            http.send(body.as_bytes())
        })
    } else {
        http.send((head + body).as_bytes())
    };
    sent.map_err(|error| error.to_string())?;
    match http.read() {
        Some(answer) if answer.status == 201 => Ok(Way::Http1(http)),
        Some(answer) => Err(format!("{} {}", answer.status, answer.body)),
        None => Err("the connection ended without an answer".to_owned()),
    }
}

fn post_http2(mut h2: Box<H2>, stream: u32, plan: &Plan, body: &str) -> Result<Way, String> {
    let value = authorization(plan);
    let field = value
        .as_ref()
        .map(|value| ("authorization", value.as_str()));
    let fields = h2::request("POST", "/api/metrics", field.as_slice());
    h2.ask(stream, &fields, false);
    h2.say(&h2::frame(
        h2::DATA,
        h2::END_STREAM,
        stream,
        body.as_bytes(),
    ));
    match h2.fate_of(stream).as_str() {
        "201" => {
            h2.acknowledge();
            h2.forget();
            Ok(Way::Http2(h2, stream + 2))
        }
        fate => Err(format!("over HTTP/2: {fate}")),
    }
}

/// The value of the field `Authorization`.
fn authorization(plan: &Plan) -> Option<String> {
    plan.token.map(|token| format!("Bearer {token}"))
}
