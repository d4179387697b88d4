//! A server for the tests of this part: it answers as told and remembers what it got.

#![allow(clippy::unwrap_used)]

pub(super) mod http2;
pub(super) mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// Status, further header lines and body for the n-th request (from 0) with a body.
pub(super) type Respond = dyn Fn(usize, &str) -> (u16, &'static str, String) + Send + Sync;
pub(super) type Live = dyn Fn(WebSocket<TcpStream>) + Send + Sync;

#[derive(Clone)]
pub(super) struct Mock {
    pub(super) address: SocketAddr,
    /// Bodies and messages in the order they came.
    pub(super) bodies: Arc<Mutex<Vec<String>>>,
    /// Requests' heads, as many as there were.
    heads: Arc<Mutex<Vec<String>>>,
    respond: Arc<Respond>,
    live: Option<Arc<Live>>,
}

impl Mock {
    pub(super) fn on(
        listener: TcpListener,
        respond: Box<Respond>,
        live: Option<Arc<Live>>,
    ) -> Self {
        let mock = Self {
            address: listener.local_addr().unwrap(),
            bodies: Arc::default(),
            heads: Arc::default(),
            respond: respond.into(),
            live,
        };
        let server = mock.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        mock
    }

    pub(super) fn start(respond: Box<Respond>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), respond, None)
    }

    /// Takes everything.
    pub(super) fn accepting() -> Self {
        Self::start(Box::new(accept))
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits for the n-th body.
    pub(super) fn wait_for(&self, n: usize) -> Vec<String> {
        for _ in 0..1_000 {
            let bodies = self.bodies();
            if bodies.len() >= n {
                return bodies;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} of {n} bodies came", self.bodies().len());
    }

    fn remember(&self, body: &str) -> usize {
        let mut bodies = self.bodies.lock().unwrap();
        bodies.push(body.to_owned());
        bodies.len() - 1
    }

    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut peeked = [0; 1024];
        let n = stream.peek(&mut peeked).unwrap_or_default();
        let text = String::from_utf8_lossy(&peeked[..n]).into_owned();
        if !text.starts_with("GET ") {
            return self.serve_http(&mut stream);
        }
        self.heads.lock().unwrap().push(text.clone());
        #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
        let protocol = |_: &Request, mut response: Response| {
            if text.contains("/api/live") {
                let name = "tidewall.v1".parse().unwrap();
                response
                    .headers_mut()
                    .insert("Sec-WebSocket-Protocol", name);
            }
            Ok(response)
        };
        let Ok(websocket) = tungstenite::accept_hdr(stream, protocol) else {
            return;
        };
        match &self.live {
            Some(live) if text.contains("/api/live") => live(websocket),
            _ => self.serve_messages(websocket),
        }
    }

    fn serve_http(&self, stream: &mut TcpStream) {
        let mut input = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let Some((head, request)) = take_request(&mut input) else {
                match stream.read(&mut chunk) {
                    Ok(n) if n > 0 => input.extend_from_slice(&chunk[..n]),
                    _ => return,
                }
                continue;
            };
            self.heads.lock().unwrap().push(head);
            let n = self.remember(&request);
            let (status, fields, body) = (self.respond)(n, &request);
            let answer = format!(
                "HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).is_err() || fields.contains("close") {
                return;
            }
        }
    }

    fn serve_messages(&self, mut websocket: WebSocket<TcpStream>) {
        while let Ok(message) = websocket.read() {
            let Message::Text(text) = message else {
                continue;
            };
            let n = self.remember(&text);
            let (status, _, body) = (self.respond)(n, &text);
            let documents: serde_json::Value = serde_json::from_str(&text).unwrap();
            let last = documents.as_array().and_then(|all| all.last());
            let seq = &last.unwrap_or(&documents)["seq"];
            let reply = match status {
                201 => format!("{{\"ack_seq\":{seq},\"ack_ts\":1,\"sent_at\":null}}"),
                _ => format!("{{\"error\":\"no\",\"reason\":\"{body}\",\"seq\":{seq}}}"),
            };
            // A ping first: a client must answer it whatever it waits for.
            let _ = websocket.send(Message::Ping(vec![1, 2].into()));
            if websocket.send(reply.into()).is_err() {
                return;
            }
        }
    }
}

/// A server that understands nothing but HTTP/1.1, and this is none.
pub(super) fn only_http1() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    address
}

pub(super) fn accept(_: usize, body: &str) -> (u16, &'static str, String) {
    (201, "", format!("{{\"accepted\":{}}}", samples(body)))
}

/// Samples in a body, as a server counts them.
pub(super) fn samples(body: &str) -> usize {
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    let one = |document: &serde_json::Value| match document.get("metrics") {
        Some(metrics) => metrics.as_object().unwrap().len(),
        None => 1,
    };
    match value.as_array() {
        Some(documents) => documents.iter().map(one).sum(),
        None => one(&value),
    }
}

/// Head and body of a whole request at the start of `input`, which they are taken from.
fn take_request(input: &mut Vec<u8>) -> Option<(String, String)> {
    let head = memchr::memmem::find(input, b"\r\n\r\n")? + 4;
    let text = String::from_utf8(input[..head].to_vec()).unwrap();
    assert!(
        text.starts_with("POST /api/metrics HTTP/1.1\r\nHost: 127.0.0.1:"),
        "{text}"
    );
    assert!(
        text.contains("Content-Type: application/json\r\n"),
        "{text}"
    );
    let length = text.split("Content-Length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    let body = input.get(head..head + length)?.to_vec();
    input.drain(..head + length);
    Some((text, String::from_utf8(body).unwrap()))
}
