//! One connection to a server: documents out, answers in, whatever the protocol.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::Via;
use super::answer::Answer;
use super::channel::Channel;
use super::http1::Http1;
use super::http2::Http2;
use super::response::ResponseError;
use super::stream::Stream;
use super::target::Target;
use super::tls::{Tls, TlsError};
use super::websocket::WebSocketError;
use crate::limits::{ANSWER_TIMEOUT, CONNECT_TIMEOUT};

/// The endpoint that documents go to.
pub(crate) const INGEST: &str = "/api/metrics";
/// What an orderly end may take.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

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
    Lost(io::Error),
    #[error("{0}")]
    Response(#[from] ResponseError),
    #[error("{0}")]
    WebSocket(#[from] WebSocketError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("no request can be made of this URL: {0}")]
    Request(#[from] http::Error),
    /// GOAWAY with NO_ERROR: nothing was wrong, and nothing of the request was looked at.
    #[error("the server asked to connect anew")]
    GoAway,
    /// RST_STREAM with REFUSED_STREAM: the same request may be sent again.
    #[error("the server refused a stream")]
    StreamRefused,
    #[error("the server does not answer in HTTP/2: give --via http1, or https:// if it has TLS")]
    NotHttp2,
    #[error("HTTP/2: {0}")]
    Http2(h2::Error),
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
            Self::Tls(error) => error.kind(),
            Self::Request(_) => "bad url",
            Self::GoAway => "goaway",
            Self::StreamRefused => "stream refused",
            Self::NotHttp2 => "not http2",
            Self::Http2(error) if error.is_reset() => "stream reset",
            Self::Http2(_) => "http2",
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

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS that ends without saying so.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Lost(error),
        }
    }
}

impl From<h2::Error> for ClientError {
    fn from(error: h2::Error) -> Self {
        if error.is_io() {
            return match error.into_io() {
                Some(error) if error.kind() != io::ErrorKind::BrokenPipe => error.into(),
                // What h2 calls the connection's end.
                _ => Self::Closed,
            };
        }
        match error.reason() {
            Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Self::GoAway,
            Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => Self::StreamRefused,
            _ => Self::Http2(error),
        }
    }
}

/// Where and how to send, the same for every connection of one sender.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) target: Target,
    pub(crate) via: Via,
    pub(crate) token: Option<String>,
    /// `None`: in clear text.
    pub(crate) tls: Option<Tls>,
}

pub(crate) enum Client {
    Http1(Http1),
    Http2(Box<Http2>),
    Websocket(Channel),
}

impl Client {
    pub(crate) async fn connect(line: &Line) -> Result<Self, ClientError> {
        let stream = Stream::open(line).await?;
        Ok(match line.via {
            Via::Http1 => Self::Http1(Http1::new(line, stream)),
            Via::Http2 => Self::Http2(Box::new(Http2::open(line, stream).await?)),
            Via::Websocket => Self::Websocket(Channel::open(line, stream).await?),
        })
    }

    /// False once it is known that the next delivery needs a new client.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.is_open(),
            Self::Http2(http2) => http2.is_open(),
            Self::Websocket(_) => true,
        }
    }

    /// Sends one body and waits for its answer. `seq` is the number in the body's last document,
    /// by which a WebSocket answers. After an error the client is of no further use.
    pub(crate) async fn deliver(&mut self, body: &[u8], seq: u64) -> Result<Answer, ClientError> {
        let delivery = async {
            match self {
                Self::Http1(http1) => http1.deliver(body).await,
                Self::Http2(http2) => http2.deliver(body).await,
                Self::Websocket(channel) => channel.deliver(body, seq).await,
            }
        };
        timeout(ANSWER_TIMEOUT, delivery)
            .await
            .unwrap_or(Err(ClientError::AnswerTimeout))
    }

    /// Waits until the connection ends; may be dropped at any time.
    pub(crate) async fn idle(&mut self) -> ClientError {
        match self {
            Self::Http1(http1) => http1.idle().await,
            Self::Http2(http2) => http2.idle().await,
            Self::Websocket(channel) => channel.idle().await,
        }
    }

    /// An orderly end: WebSocket, HTTP/2 and TLS say so.
    pub(crate) async fn close(self) {
        match self {
            Self::Http1(http1) => http1.close().await,
            Self::Http2(http2) => http2.close().await,
            Self::Websocket(channel) => channel.close().await,
        }
    }
}
