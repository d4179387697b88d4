//! The same by HTTP/2, with the h2 crate's server.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, server};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Mock, Respond};

/// Takes whole requests, many at once. Of the fields that an answer brings, `Connection: close`
/// makes the connection say goodbye, and `Delay-Ms` the answer late.
#[derive(Clone)]
pub(in crate::agent) struct Http2Mock {
    pub(in crate::agent) mock: Mock,
    streams_max: u32,
    /// The first connection gets this many answers, and is then turned away.
    turn_away: Option<u32>,
    pub(in crate::agent) connections: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    pub(in crate::agent) streams_peak: Arc<AtomicUsize>,
}

impl Http2Mock {
    pub(in crate::agent) fn start(respond: Box<Respond>) -> Self {
        Self::with(respond, 100, None)
    }

    pub(in crate::agent) fn with(
        respond: Box<Respond>,
        streams_max: u32,
        turn_away: Option<u32>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            mock: Mock {
                address: listener.local_addr().unwrap(),
                bodies: Arc::default(),
                heads: Arc::default(),
                respond: respond.into(),
                live: None,
            },
            streams_max,
            turn_away,
            connections: Arc::default(),
            streams: Arc::default(),
            streams_peak: Arc::default(),
        };
        let running = server.clone();
        std::thread::spawn(move || run(running.serve(listener)));
        server
    }

    async fn serve(self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let number = self.connections.fetch_add(1, Ordering::SeqCst);
            match self.turn_away {
                Some(answers) if number == 0 => tokio::spawn(turn_away(stream, answers)),
                _ => tokio::spawn(self.clone().converse(stream)),
            };
        }
    }

    async fn converse(self, stream: TcpStream) {
        let mut builder = Builder::new();
        builder.max_concurrent_streams(self.streams_max);
        let Ok(mut connection): Result<server::Connection<_, Bytes>, _> =
            builder.handshake(stream).await
        else {
            return;
        };
        let goodbye = Arc::new(Notify::new());
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        tokio::spawn(self.clone().answer(request, respond, goodbye.clone()));
                    }
                    _ => return,
                },
                () = goodbye.notified() => connection.graceful_shutdown(),
            }
        }
    }

    async fn answer(
        self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        goodbye: Arc<Notify>,
    ) {
        let now = self.streams.fetch_add(1, Ordering::SeqCst) + 1;
        self.streams_peak.fetch_max(now, Ordering::SeqCst);
        let head = format!("{:?}", request.headers());
        self.mock.heads.lock().unwrap().push(head);
        assert_eq!(request.uri().path(), "/api/metrics");
        let length = request.headers()["content-length"].to_str().unwrap();
        let length: usize = length.parse().unwrap();
        let text = read(request.into_body()).await;
        assert_eq!(text.len(), length);
        let n = self.mock.remember(&text);
        let (status, fields, body) = (self.mock.respond)(n, &text);
        let mut answer = Response::builder().status(status);
        for (name, value) in fields.lines().filter_map(|line| line.split_once(": ")) {
            match name {
                "Connection" => goodbye.notify_one(),
                "Delay-Ms" => {
                    tokio::time::sleep(Duration::from_millis(value.parse().unwrap())).await;
                }
                _ => answer = answer.header(name, value),
            }
        }
        self.streams.fetch_sub(1, Ordering::SeqCst);
        let stream = respond.send_response(answer.body(()).unwrap(), false);
        if let Ok(mut stream) = stream {
            // Waits in h2 for the client's window.
            let _ = stream.send_data(body.into(), true);
        }
    }
}

pub(super) fn run(serving: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serving);
}

async fn read(mut body: RecvStream) -> String {
    let mut text = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        text.extend_from_slice(&data);
    }
    String::from_utf8(text).unwrap()
}

/// Speaks HTTP/2 just far enough to give some answers and then say GOAWAY (RFC 9113, section 6.8):
/// later streams were not looked at, nothing was wrong.
async fn turn_away(mut stream: TcpStream, answers: u32) {
    const PREFACE: usize = 24;
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// `:status` 200 by its index, and nothing more.
    const HEADERS: [u8; 5] = [0, 0, 1, 1, 5];
    const OK: u8 = 0x88;
    const GOAWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    const NO_ERROR: [u8; 4] = [0; 4];
    stream.write_all(&SETTINGS).await.unwrap();
    let mut preface = [0; PREFACE];
    stream.read_exact(&mut preface).await.unwrap();
    let (mut head, mut answered, mut last) = ([0; 9], 0, [0; 4]);
    while stream.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        let reply = match (head[3], head[4]) {
            (1, _) if answered < answers => {
                last.copy_from_slice(&head[5..]);
                [&HEADERS[..], &last, &[OK]].concat()
            }
            (1, _) if answered == answers => [&GOAWAY[..], &last, &NO_ERROR].concat(),
            (6, 0) => {
                head[4] = 1;
                [&head[..], &payload].concat()
            }
            _ => continue,
        };
        answered += u32::from(head[3] == 1);
        stream.write_all(&reply).await.unwrap();
    }
}
