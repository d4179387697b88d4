//! Readings by HTTP/1.1: one POST each on a keep-alive connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::answer::{Answer, judge};
use super::client::{ClientError, GOODBYE_TIMEOUT, INGEST, Line};
use super::response;
use super::stream::Stream;
use super::target::Target;

pub(crate) struct Http1 {
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Request line and fields up to the digits of Content-Length.
    head: String,
    open: bool,
}

impl Http1 {
    pub(crate) fn new(line: &Line, stream: Stream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            head: post_head(&line.target, line.token.as_deref()),
            open: true,
        }
    }

    /// False once the server announced that it would close.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) async fn deliver(&mut self, body: &[u8]) -> Result<Answer, ClientError> {
        self.output.clear();
        self.output.extend_from_slice(self.head.as_bytes());
        let mut digits = itoa::Buffer::new();
        self.output
            .extend_from_slice(digits.format(body.len()).as_bytes());
        self.output.extend_from_slice(b"\r\n\r\n");
        self.output.extend_from_slice(body);
        self.stream.write_all(&self.output).await?;
        self.stream.flush().await?;
        self.read_answer().await
    }

    /// Waits for the connection's end: nobody asked anything.
    pub(crate) async fn idle(&mut self) -> ClientError {
        match self.stream.read_buf(&mut self.input).await {
            Ok(_) => ClientError::Closed,
            Err(error) => error.into(),
        }
    }

    pub(crate) async fn close(mut self) {
        let _ = timeout(GOODBYE_TIMEOUT, self.stream.shutdown()).await;
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
