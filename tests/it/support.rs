//! A real node in a process of its own, and the plain clients that talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Longer than any healthy answer takes, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    is_clear: bool,
    child: Child,
    /// Collects what the node writes to stderr.
    stderr: Option<JoinHandle<String>>,
}

impl Node {
    pub(crate) fn start(flags: &[&str]) -> Node {
        Node::start_by(Command::new(binary()), flags)
    }

    /// `command` runs the binary, maybe under limits that it set before.
    pub(crate) fn start_by(command: Command, flags: &[&str]) -> Node {
        let node = Node::launch(command, flags);
        if node.is_clear {
            eventually("readiness", || node.get("/readyz").status == 200);
        }
        node
    }

    /// One that will not be ready.
    pub(crate) fn start_unready(flags: &[&str]) -> Node {
        Node::launch(Command::new(binary()), flags)
    }

    fn launch(mut command: Command, flags: &[&str]) -> Node {
        let mut child = command
            // A flag says more than the variable: those who test history name a place.
            .env("TIDEWALL_HISTORY", "none")
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--cores",
                "2",
                "--no-pin",
            ])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut from = child.stderr.take().unwrap();
        let stderr = Some(std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = from.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        }));
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        let (scheme, address) = address.split_once("://").unwrap();
        let is_clear = scheme == "http";
        let address = address.trim_end_matches('/').parse().unwrap();
        Node {
            address,
            is_clear,
            child,
            stderr,
        }
    }

    pub(crate) fn connect(&self) -> Http {
        self.try_connect().unwrap()
    }

    /// For whoever must live with a refusal.
    pub(crate) fn try_connect(&self) -> std::io::Result<Http> {
        Http::connect(self.address)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.connect()
            .ask(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .unwrap()
    }

    pub(crate) fn snapshot(&self, query: &str) -> Value {
        let answer = self.get(&format!("/api/snapshot{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// One counter or gauge of `/metrics`, summed over what follows the name.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body;
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64;
        text.lines().filter(of_name).map(value).sum()
    }

    pub(crate) fn live(&self, protocol: Option<&str>) -> Live {
        self.web_socket("/api/live", protocol)
    }

    pub(crate) fn web_socket(&self, path: &str, protocol: Option<&str>) -> Live {
        let mut request = format!("ws://{}{path}", self.address)
            .into_client_request()
            .unwrap();
        if let Some(protocol) = protocol {
            let protocol = protocol.parse().unwrap();
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocol);
        }
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, response) = tungstenite::client(request, stream).unwrap();
        let chosen = response.headers().get("sec-websocket-protocol");
        assert_eq!(chosen.map(|value| value.to_str().unwrap()), protocol);
        Live { socket }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// All that an ended node wrote to stderr.
    pub(crate) fn last_words(&mut self) -> String {
        self.stderr.take().unwrap().join().unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// The program under test: what cargo built, or the one that `TIDEWALL_BIN` names.
pub(crate) fn binary() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_tidewall").into();
    std::env::var_os("TIDEWALL_BIN").map_or_else(built, PathBuf::from)
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP/1.1 connection that sends exactly what it is told to.
pub(crate) struct Http {
    reader: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Http> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let reader = BufReader::new(stream);
        Ok(Http { reader })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    pub(crate) fn ask(&mut self, request: &str) -> Option<Answer> {
        self.send(request.as_bytes()).ok()?;
        self.read()
    }

    pub(crate) fn raw(&mut self) -> &mut impl Read {
        &mut self.reader
    }

    pub(crate) fn post(&mut self, body: &str) -> Option<Answer> {
        let length = body.len();
        let head = "POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
        self.ask(&format!("{head}Content-Length: {length}\r\n\r\n{body}"))
    }

    /// The next answer; None when the connection ends before one.
    pub(crate) fn read(&mut self) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.reader.read_exact(&mut body).ok()?;
        Some(Answer {
            status,
            head,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// True when the peer closed and nothing more was to be read.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}

/// A WebSocket client.
pub(crate) struct Live {
    pub(crate) socket: WebSocket<TcpStream>,
}

impl Live {
    pub(crate) fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// The next text or binary message.
    pub(crate) fn next(&mut self) -> Message {
        loop {
            match self.socket.read().unwrap() {
                message @ (Message::Text(_) | Message::Binary(_)) => return message,
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    pub(crate) fn next_json(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.next() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    pub(crate) fn next_op(&mut self, op: &str) -> Value {
        loop {
            let message = self.next_json();
            if message["op"] == op {
                return message;
            }
        }
    }
}

pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Small, seeded and good enough to scatter test data (SplitMix64).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
