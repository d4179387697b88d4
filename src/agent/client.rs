//! One keep-alive connection to a server: documents out, answers in.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::Via;
use super::response::{self, ResponseError};
use super::rng::Rng;
use super::target::Target;
use super::websocket::{self, Kind, Messages, Upgrade, WebSocketError};
use crate::limits::{ANSWER_TIMEOUT, CONNECT_TIMEOUT};

/// The endpoint that documents go to.
pub(crate) const INGEST: &str = "/api/metrics";

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot resolve {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("cannot connect to {address}: {source}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    AnswerTimeout,
    #[error("the server closed the connection")]
    Closed,
    #[error("the server closed the WebSocket, code {0}")]
    WebSocketClosed(u16),
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0}")]
    Response(#[from] ResponseError),
    #[error("{0}")]
    WebSocket(#[from] WebSocketError),
}

impl ClientError {
    /// A short name to count by.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => "connection refused",
                io::ErrorKind::AddrNotAvailable => "no local port left",
                _ => "connect",
            },
            Self::ConnectTimeout => "connect timeout",
            Self::AnswerTimeout => "answer timeout",
            Self::Closed => "closed by server",
            Self::WebSocketClosed(_) => "websocket closed by server",
            Self::Lost(_) => "connection lost",
            Self::Response(_) => "bad answer",
            Self::WebSocket(WebSocketError::NotSwitched { .. }) => "websocket refused",
            Self::WebSocket(_) => "bad websocket",
        }
    }

    /// What a server that refused the handshake asked for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::WebSocket(WebSocketError::NotSwitched { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status, or the `reason` of a WebSocket answer.
    pub(crate) code: String,
    /// The same bytes may be taken later.
    pub(crate) temporary: bool,
    pub(crate) retry_after: Option<Duration>,
    /// The server's words, cut short.
    pub(crate) text: String,
}

/// Where and how to send, the same for every connection of one sender.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) target: Target,
    pub(crate) via: Via,
    pub(crate) token: Option<String>,
}

pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    speech: Speech,
    open: bool,
    /// A request is under way: a delivery that was dropped may have left half a frame behind.
    busy: bool,
}

enum Speech {
    /// Request line and fields up to the number of Content-Length.
    Http {
        head: String,
    },
    WebSocket {
        messages: Messages,
        rng: Rng,
    },
}

impl Client {
    pub(crate) async fn connect(line: &Line) -> Result<Self, ClientError> {
        let mut stream = dial(&line.target).await?;
        let mut input = Vec::new();
        let speech = match line.via {
            Via::Websocket => {
                let (path, token) = (line.target.path(INGEST), line.token.as_deref());
                upgrade(&mut stream, &mut input, &line.target, &path, token, None).await?;
                Speech::WebSocket {
                    messages: Messages::default(),
                    rng: Rng::random(),
                }
            }
            Via::Http1 | Via::Http2 => Speech::Http {
                head: post_head(&line.target, line.token.as_deref()),
            },
        };
        Ok(Self {
            stream,
            input,
            output: Vec::new(),
            speech,
            open: true,
            busy: false,
        })
    }

    /// False once the server announced that it would close: the next delivery needs a new client.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Sends one body and waits for its answer. `seq` is the number in the body's last document,
    /// by which a WebSocket answers. After an error the client is of no further use.
    pub(crate) async fn deliver(&mut self, body: &[u8], seq: u64) -> Result<Answer, ClientError> {
        self.busy = true;
        self.output.clear();
        match &mut self.speech {
            Speech::Http { head } => {
                self.output.extend_from_slice(head.as_bytes());
                let length = itoa::Buffer::new().format(body.len()).to_owned();
                self.output.extend_from_slice(length.as_bytes());
                self.output.extend_from_slice(b"\r\n\r\n");
                self.output.extend_from_slice(body);
            }
            Speech::WebSocket { rng, .. } => {
                websocket::write(&mut self.output, Kind::Text, body, rng.mask());
            }
        }
        let exchange = async {
            self.stream.write_all(&self.output).await?;
            match self.speech {
                Speech::Http { .. } => self.read_answer().await,
                Speech::WebSocket { .. } => self.read_ack(seq).await,
            }
        };
        let answer = timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or(Err(ClientError::AnswerTimeout))?;
        self.busy = false;
        Ok(answer)
    }

    /// Waits, answering pings, until the connection ends; may be dropped at any time.
    pub(crate) async fn idle(&mut self) -> ClientError {
        loop {
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return ClientError::Closed,
                Ok(_) => {}
                Err(error) => return ClientError::Lost(error),
            }
            match self.speech {
                // Nobody asked anything.
                Speech::Http { .. } => return ClientError::Closed,
                Speech::WebSocket { .. } => {
                    if let Err(error) = self.drain_messages(None) {
                        return error;
                    }
                    // A pong that does not fit at once comes too late anyway: dropped whole or
                    // not at all, so that a cancelled write cannot tear a frame.
                    if !self.output.is_empty() {
                        match self.stream.try_write(&self.output) {
                            Ok(n) if n < self.output.len() => return ClientError::Closed,
                            Ok(_) => {}
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            Err(error) => return ClientError::Lost(error),
                        }
                        self.output.clear();
                    }
                }
            }
        }
    }

    /// An orderly end: a WebSocket says so.
    pub(crate) async fn close(mut self) {
        if let Speech::WebSocket { rng, .. } = &mut self.speech
            && !self.busy
        {
            self.output.clear();
            let normal = 1000u16.to_be_bytes();
            websocket::write(&mut self.output, Kind::Close, &normal, rng.mask());
            // The server learns of it from the end of the stream as well.
            let _ = timeout(Duration::from_secs(1), self.stream.write_all(&self.output)).await;
        }
        let _ = self.stream.shutdown().await;
    }

    async fn read_answer(&mut self) -> Result<Answer, ClientError> {
        let mut ended = false;
        loop {
            if let Some(response) = response::read(&self.input, ended)? {
                let answer = judge(response.status, response.retry_after, &response.body);
                self.open = response.keep_alive;
                let consumed = response.consumed;
                self.input.drain(..consumed);
                return Ok(answer);
            }
            if ended {
                return Err(ClientError::Closed);
            }
            ended = self.stream.read_buf(&mut self.input).await? == 0;
            if ended && self.input.is_empty() {
                return Err(ClientError::Closed);
            }
        }
    }

    async fn read_ack(&mut self, seq: u64) -> Result<Answer, ClientError> {
        loop {
            self.output.clear();
            let answer = self.drain_messages(Some(seq))?;
            self.stream.write_all(&self.output).await?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }

    /// Handles what has come: pongs go to `output`; the answer to `seq` is returned.
    fn drain_messages(&mut self, seq: Option<u64>) -> Result<Option<Answer>, ClientError> {
        let Speech::WebSocket { messages, rng } = &mut self.speech else {
            return Ok(None);
        };
        let (mut at, mut answer) = (0, None);
        loop {
            let max = websocket::AGENT_MESSAGE_BYTES_MAX;
            let (message, taken) = messages.next(&self.input[at..], max)?;
            at += taken;
            match message {
                None => break,
                Some((Kind::Text, text)) => answer = answer.or(judge_message(text, seq)),
                Some((Kind::Ping, payload)) => {
                    websocket::write(&mut self.output, Kind::Pong, payload, rng.mask());
                }
                Some((Kind::Close, payload)) => {
                    return Err(ClientError::WebSocketClosed(websocket::close_code(payload)));
                }
                Some((Kind::Binary | Kind::Pong, _)) => {}
            }
        }
        self.input.drain(..at);
        Ok(answer)
    }
}

/// Resolves and connects, trying each address.
pub(crate) async fn dial(target: &Target) -> Result<TcpStream, ClientError> {
    let (host, port) = target.address();
    let resolve = |source| ClientError::Resolve {
        host: host.to_owned(),
        source,
    };
    let addresses = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| ClientError::ConnectTimeout)?
        .map_err(resolve)?;
    let mut last = resolve(io::ErrorKind::NotFound.into());
    for address in addresses {
        match dial_address(address, None).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects from a given local address; `None` leaves the choice to the kernel.
pub(crate) async fn dial_address(
    address: SocketAddr,
    source: Option<IpAddr>,
) -> Result<TcpStream, ClientError> {
    let connect = async {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    match timeout(CONNECT_TIMEOUT, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(ClientError::Connect { address, source }),
        Err(_) => Err(ClientError::ConnectTimeout),
    }
}

/// The opening handshake; what came behind it is left in `input`.
pub(crate) async fn upgrade(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
    target: &Target,
    path: &str,
    token: Option<&str>,
    protocol: Option<&'static str>,
) -> Result<(), ClientError> {
    let upgrade = Upgrade {
        path,
        host_field: &target.host_field(),
        token,
        protocol,
        key: &tungstenite::handshake::client::generate_key(),
    };
    let exchange = async {
        stream.write_all(upgrade.request().as_bytes()).await?;
        let mut ended = false;
        loop {
            if let Some(consumed) = upgrade.answer(input, ended)? {
                input.drain(..consumed);
                return Ok(());
            }
            if ended {
                return Err(ClientError::Closed);
            }
            ended = stream.read_buf(input).await? == 0;
        }
    };
    timeout(ANSWER_TIMEOUT, exchange)
        .await
        .unwrap_or(Err(ClientError::AnswerTimeout))
}

/// A POST's head up to the digits of Content-Length.
pub(crate) fn post_head(target: &Target, token: Option<&str>) -> String {
    let authorization = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: ",
        target.path(INGEST),
        target.host_field()
    )
}

fn judge(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    if (200..300).contains(&status) {
        return Answer::Accepted;
    }
    Answer::Refused(Refusal {
        code: status.to_string(),
        temporary: !(400..500).contains(&status) || matches!(status, 408 | 425 | 429),
        retry_after,
        text: excerpt(body),
    })
}

/// A server's message on an ingest WebSocket; keys it does not have stay `None`.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Reply {
    pub(crate) ack_seq: Option<u64>,
    pub(crate) error: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) seq: Option<u64>,
}

/// The answer to `seq`; an error without a number is about what was sent last.
fn judge_message(text: &[u8], seq: Option<u64>) -> Option<Answer> {
    let reply: Reply = serde_json::from_slice(text).ok()?;
    let seq = seq?;
    if reply.ack_seq == Some(seq) {
        return Some(Answer::Accepted);
    }
    let error = reply.error?;
    if reply.seq.is_some_and(|about| about != seq) {
        return None;
    }
    let code = reply.reason.unwrap_or_else(|| "refused".to_owned());
    let words = [
        "full",
        "overload",
        "busy",
        "rate",
        "unavailable",
        "stopping",
    ];
    Some(Answer::Refused(Refusal {
        temporary: words.iter().any(|word| code.contains(word)),
        code,
        retry_after: None,
        text: excerpt(error.as_bytes()),
    }))
}

/// A server's words for a log line: one line, bounded.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, temporary: bool) {
        match judge(status, None, b"why\n\x1b[31m") {
            Answer::Refused(refusal) => {
                assert_eq!(refusal.temporary, temporary, "{status}");
                assert_eq!(refusal.text, "why[31m");
            }
            Answer::Accepted => assert!((200..300).contains(&status)),
        }
    }

    #[test]
    fn statuses_are_judged() {
        for status in [200, 201, 204, 400, 401, 403, 404, 413, 415, 422] {
            check(status, false);
        }
        for status in [301, 408, 425, 429, 500, 502, 503, 504] {
            check(status, true);
        }
    }

    #[test]
    fn messages_are_judged() {
        let code = |text: &str, seq| match judge_message(text.as_bytes(), seq) {
            None => "none".to_owned(),
            Some(Answer::Accepted) => "accepted".to_owned(),
            Some(Answer::Refused(refusal)) => format!("{} {}", refusal.code, refusal.temporary),
        };
        assert_eq!(
            code(r#"{"ack_seq":7,"ack_ts":1,"sent_at":null}"#, Some(7)),
            "accepted"
        );
        assert_eq!(
            code(r#"{"ack_seq":6,"ack_ts":1,"sent_at":null}"#, Some(7)),
            "none"
        );
        let bad = r#"{"error":"no host","reason":"missing_host","seq":7}"#;
        assert_eq!(code(bad, Some(7)), "missing_host false");
        assert_eq!(code(bad, Some(8)), "none");
        assert_eq!(code(bad, None), "none");
        let full = r#"{"error":"x","reason":"ring_full","seq":null}"#;
        assert_eq!(code(full, Some(7)), "ring_full true");
        assert_eq!(code("not json", Some(7)), "none");
    }
}
