//! Readings by HTTP/2 (RFC 9113): one POST each, a stream of a connection that h2 keeps.

use std::time::Duration;

use bytes::Bytes;
use h2::Ping;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderValue, Method, Request, Version, header};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::answer::{Answer, Refusal, judge};
use super::client::{ClientError, GOODBYE_TIMEOUT, INGEST, Line};
use super::response::{ResponseError, seconds};
use super::stream::Stream;
use crate::limits::{
    ANSWER_BODY_BYTES_MAX, ANSWER_HEAD_BYTES_MAX, ANSWER_TIMEOUT, FLEET_SERVERS_PER_CONNECTION,
};

pub(crate) type Requests = SendRequest<Bytes>;
/// Reads and writes for all streams; nothing moves unless it is polled.
pub(crate) type Connection = h2::client::Connection<Stream, Bytes>;

pub(crate) struct Http2 {
    requests: Requests,
    head: Request<()>,
    /// The connection, which also answers PINGs while nobody waits. It ends with this.
    tasks: JoinSet<Result<(), h2::Error>>,
    connection: AbortHandle,
}

impl Http2 {
    pub(crate) async fn open(line: &Line, stream: Stream) -> Result<Self, ClientError> {
        let head = post_head(line)?;
        let (requests, connection) = handshake(stream).await?;
        let mut tasks = JoinSet::new();
        let connection = tasks.spawn(connection);
        Ok(Self {
            requests,
            head,
            tasks,
            connection,
        })
    }

    /// False once the connection ended.
    pub(crate) fn is_open(&self) -> bool {
        !self.connection.is_finished()
    }

    pub(crate) async fn deliver(&mut self, body: &[u8]) -> Result<Answer, ClientError> {
        match self.exchange(body).await {
            Ok(heard) => Ok(judge(heard.status, heard.retry_after, &heard.body)),
            Err(ClientError::StreamRefused) => Ok(Answer::Refused(Refusal {
                code: "refused_stream".to_owned(),
                temporary: true,
                retry_after: None,
                text: String::new(),
            })),
            Err(error) => Err(error),
        }
    }

    async fn exchange(&mut self, body: &[u8]) -> Result<Heard, ClientError> {
        std::future::poll_fn(|cx| self.requests.poll_ready(cx)).await?;
        let response = send(&mut self.requests, &self.head, body)?;
        hear(response).await
    }

    /// Waits for the connection's end.
    pub(crate) async fn idle(&mut self) -> ClientError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error.into(),
            Some(Ok(Ok(())) | Err(_)) | None => ClientError::Closed,
        }
    }

    pub(crate) async fn close(self) {
        let Self {
            requests,
            mut tasks,
            ..
        } = self;
        // Nobody left to send: h2 says GOAWAY.
        drop(requests);
        let _ = timeout(GOODBYE_TIMEOUT, tasks.join_next()).await;
    }
}

/// Prefaces, and a PING: once it is answered the server does speak HTTP/2, and its SETTINGS, which
/// come first, are known.
pub(crate) async fn handshake(stream: Stream) -> Result<(Requests, Connection), ClientError> {
    let shake = async {
        let (requests, mut connection) = Builder::new()
            .enable_push(false)
            .max_header_list_size(ANSWER_HEAD_BYTES_MAX as u32)
            .initial_max_send_streams(FLEET_SERVERS_PER_CONNECTION)
            .handshake(stream)
            .await?;
        // There is one to take, once.
        if let Some(mut pings) = connection.ping_pong() {
            tokio::select! {
                biased;
                ended = &mut connection => {
                    ended?;
                    return Err(ClientError::Closed);
                }
                pong = pings.ping(Ping::opaque()) => {
                    pong?;
                }
            }
        }
        Ok((requests, connection))
    };
    let shaken: Result<_, ClientError> = timeout(ANSWER_TIMEOUT, shake)
        .await
        .unwrap_or(Err(ClientError::AnswerTimeout));
    shaken.map_err(|error| match error {
        // What came was no frame of HTTP/2.
        ClientError::Http2(error) if error.is_go_away() && error.is_library() => {
            ClientError::NotHttp2
        }
        other => other,
    })
}

/// The same for every reading, except for its length.
pub(crate) fn post_head(line: &Line) -> Result<Request<()>, ClientError> {
    let target = &line.target;
    let url = format!(
        "{}://{}{}",
        target.scheme(),
        target.host_field(),
        target.path(INGEST)
    );
    let mut head = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = &line.token {
        head = head.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    Ok(head.body(())?)
}

/// Hands a request to the connection. A body that the server's window does not take yet waits
/// inside h2.
pub(crate) fn send(
    requests: &mut Requests,
    head: &Request<()>,
    body: &[u8],
) -> Result<ResponseFuture, h2::Error> {
    let mut head = head.clone();
    let length = HeaderValue::from(body.len());
    head.headers_mut().insert(header::CONTENT_LENGTH, length);
    let (response, mut stream) = requests.send_request(head, false)?;
    stream.send_data(Bytes::copy_from_slice(body), true)?;
    Ok(response)
}

pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// A whole answer, of bounded length.
pub(crate) async fn hear(response: ResponseFuture) -> Result<Heard, ClientError> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = match data {
            Ok(data) => data,
            // RFC 9113, section 8.1: answered, and the rest of the request is not wanted.
            Err(error) if error.reason() == Some(h2::Reason::NO_ERROR) && error.is_reset() => break,
            Err(error) => return Err(error.into()),
        };
        // Given back at once, or the connection's window runs dry. An error: the stream is over.
        let _ = stream.flow_control().release_capacity(data.len());
        if data.len() > ANSWER_BODY_BYTES_MAX - body.len() {
            return Err(ResponseError::BodyTooLarge.into());
        }
        body.extend_from_slice(&data);
    }
    let retry_after = head.headers.get(header::RETRY_AFTER);
    Ok(Heard {
        status: head.status.as_u16(),
        retry_after: retry_after.and_then(|value| seconds(value.as_bytes())),
        body,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::agent::client::Client;
    use crate::agent::mock::http2::Http2Mock;
    use crate::agent::mock::{accept, only_http1};
    use crate::agent::{Target, Via};

    fn line(url: &str) -> Line {
        Line {
            target: Target::parse(url).unwrap(),
            via: Via::Http2,
            token: Some("secret".to_owned()),
            tls: None,
        }
    }

    fn run<T>(body: impl Future<Output = T>) -> T {
        crate::agent::runtime().unwrap().block_on(body)
    }

    fn refusal(answer: Answer) -> Refusal {
        match answer {
            Answer::Refused(refusal) => refusal,
            Answer::Accepted => panic!("accepted"),
        }
    }

    #[test]
    fn one_connection_takes_readings_one_after_another() {
        let server = Http2Mock::start(Box::new(|n, body| match n {
            1 => (503, "Retry-After: 7\r\n", "later".to_owned()),
            2 => (422, "", "never".to_owned()),
            _ => accept(n, body),
        }));
        run(async {
            let mut client = Client::connect(&line(&server.mock.url())).await.unwrap();
            let body = br#"{"metrics":{"cpu":1}}"#;
            assert_eq!(client.deliver(body, 0).await.unwrap(), Answer::Accepted);
            let busy = refusal(client.deliver(body, 0).await.unwrap());
            assert_eq!((busy.code.as_str(), busy.temporary), ("503", true));
            assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
            let bad = refusal(client.deliver(body, 0).await.unwrap());
            assert_eq!((bad.temporary, bad.text.as_str()), (false, "never"));
            assert!(client.is_open());
            client.close().await;
        });
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
        for head in server.mock.heads() {
            assert!(
                head.contains(r#""authorization": "Bearer secret""#),
                "{head}"
            );
            assert!(
                head.contains(r#""content-type": "application/json""#),
                "{head}"
            );
        }
    }

    /// Two such answers are more than the connection's window of 65,535 bytes.
    #[test]
    fn windows_are_given_back_and_answers_are_bounded() {
        let server = Http2Mock::start(Box::new(|n, _| {
            let over = usize::from(n == 4);
            (503, "", "x".repeat(ANSWER_BODY_BYTES_MAX + over))
        }));
        run(async {
            let mut client = Client::connect(&line(&server.mock.url())).await.unwrap();
            for _ in 0..4 {
                refusal(client.deliver(b"{}", 0).await.unwrap());
            }
            let error = client.deliver(b"{}", 0).await.unwrap_err();
            assert_eq!(error.kind(), "bad answer");
        });
    }

    /// More than the server's window of 65,535 bytes.
    #[test]
    fn a_long_body_waits_for_the_window() {
        let server = Http2Mock::start(Box::new(|_, _| (201, "", String::new())));
        run(async {
            let mut client = Client::connect(&line(&server.mock.url())).await.unwrap();
            let body = vec![b'x'; 300_000];
            assert_eq!(client.deliver(&body, 0).await.unwrap(), Answer::Accepted);
        });
        assert_eq!(server.mock.bodies()[0].len(), 300_000);
    }

    #[test]
    fn a_goodbye_is_told_from_an_error() {
        let close = |n: usize, body: &str| {
            let (status, _, text) = accept(n, body);
            (status, "Connection: close\r\n", text)
        };
        let server = Http2Mock::start(Box::new(close));
        run(async {
            let mut client = Client::connect(&line(&server.mock.url())).await.unwrap();
            let answer = client.deliver(br#"{"metrics":{}}"#, 0).await.unwrap();
            assert_eq!(answer, Answer::Accepted);
            assert!(matches!(client.idle().await, ClientError::Closed));
            assert!(!client.is_open());
        });
        let server = Http2Mock::with(Box::new(accept), 100, Some(0));
        run(async {
            let mut client = Client::connect(&line(&server.mock.url())).await.unwrap();
            let error = client.deliver(b"{}", 0).await.unwrap_err();
            assert!(matches!(error, ClientError::GoAway), "{error}");
        });
    }

    #[test]
    fn a_server_without_http2_is_named() {
        let url = format!("http://{}", only_http1());
        let error = run(Client::connect(&line(&url))).err().unwrap();
        assert!(error.to_string().contains("--via http1"), "{error}");
    }
}
