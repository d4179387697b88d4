//! Readings by WebSocket: one text message each, acknowledged by its number.

use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::answer::{Answer, judge_message};
use super::client::{ClientError, GOODBYE_TIMEOUT, INGEST, Line};
use super::stream::Stream;
use super::target::Target;
use super::websocket::{self, AGENT_MESSAGE_BYTES_MAX, Kind, Messages, Upgrade};
use crate::limits::ANSWER_TIMEOUT;
use crate::rng::Rng;

pub(crate) struct Channel {
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    messages: Messages,
    rng: Rng,
    /// A message is on its way: a delivery that was dropped may have left half a frame behind.
    busy: bool,
}

impl Channel {
    pub(crate) async fn open(line: &Line, mut stream: Stream) -> Result<Self, ClientError> {
        let mut input = Vec::new();
        let (path, token) = (line.target.path(INGEST), line.token.as_deref());
        upgrade(&mut stream, &mut input, &line.target, &path, token, None).await?;
        Ok(Self {
            stream,
            input,
            output: Vec::new(),
            messages: Messages::default(),
            rng: Rng::random(),
            busy: false,
        })
    }

    /// Sends one message and waits for the answer to `seq`, the number in its last document.
    pub(crate) async fn deliver(&mut self, body: &[u8], seq: u64) -> Result<Answer, ClientError> {
        self.busy = true;
        self.output.clear();
        websocket::write(&mut self.output, Kind::Text, body, self.rng.mask());
        self.stream.write_all(&self.output).await?;
        self.stream.flush().await?;
        let answer = self.read_ack(seq).await?;
        self.busy = false;
        Ok(answer)
    }

    /// Answers pings until the connection ends.
    pub(crate) async fn idle(&mut self) -> ClientError {
        loop {
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return ClientError::Closed,
                Ok(_) => {}
                Err(error) => return error.into(),
            }
            if let Err(error) = self.take_messages(None) {
                return error;
            }
            if let Err(error) = self.pong().await {
                return error;
            }
        }
    }

    pub(crate) async fn close(mut self) {
        let goodbye = async {
            if !self.busy {
                self.output.clear();
                let normal = 1000u16.to_be_bytes();
                websocket::write(&mut self.output, Kind::Close, &normal, self.rng.mask());
                self.stream.write_all(&self.output).await?;
            }
            self.stream.shutdown().await
        };
        // The server learns of it from the end of the stream as well.
        let _ = timeout(GOODBYE_TIMEOUT, goodbye).await;
    }

    /// A pong that does not fit at once comes too late anyway: sent whole or not at all, so that a
    /// cancelled write cannot tear a frame.
    async fn pong(&mut self) -> Result<(), ClientError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let (stream, output) = (&mut self.stream, &self.output);
        let at_once = std::future::poll_fn(|cx| {
            let taken = Pin::new(&mut *stream).poll_write(cx, output);
            // What TLS took and the socket did not goes out with the next message.
            let _ = Pin::new(&mut *stream).poll_flush(cx);
            Poll::Ready(taken)
        });
        match at_once.await {
            Poll::Ready(Ok(n)) if n < self.output.len() => return Err(ClientError::Closed),
            Poll::Ready(Err(error)) => return Err(error.into()),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        self.output.clear();
        Ok(())
    }

    async fn read_ack(&mut self, seq: u64) -> Result<Answer, ClientError> {
        loop {
            self.output.clear();
            let answer = self.take_messages(Some(seq))?;
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }

    /// Handles what has come: pongs go to `output`; the answer to `seq` is returned.
    fn take_messages(&mut self, seq: Option<u64>) -> Result<Option<Answer>, ClientError> {
        let (mut at, mut answer) = (0, None);
        loop {
            let rest = &self.input[at..];
            let (message, taken) = self.messages.next(rest, AGENT_MESSAGE_BYTES_MAX)?;
            at += taken;
            match message {
                None => break,
                Some((Kind::Text, text)) => answer = answer.or(judge_message(text, seq)),
                Some((Kind::Ping, payload)) => {
                    websocket::write(&mut self.output, Kind::Pong, payload, self.rng.mask());
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

/// The opening handshake; what came behind it is left in `input`.
pub(crate) async fn upgrade(
    stream: &mut Stream,
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
        stream.flush().await?;
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
