//! Connections of a core that has no thread: nothing sweeps, so the tests move its clock.

#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::yield_now;

use super::*;
use crate::aggregator::{Answer, Question};
use crate::catalog::Catalog;
use crate::catalog::lookup::Lookup;
use crate::clock::{Clock, Now};
use crate::endpoint::Shared;
use crate::endpoint::ingest::Intake;
use crate::limits::{
    HEAD_TIMEOUT, IDLE_TIMEOUT, MESSAGE_TIMEOUT, PING_INTERVAL, PIPELINE_OUT_BYTES_MAX,
    QUESTIONS_MAX, RING_CAPACITY, VIEWER_MESSAGES_PER_TEN_SECONDS_MAX, WRITE_BYTES_PER_STALL_MIN,
    WRITE_STALL_TIMEOUT,
};
use crate::ring::{Consumer, ring};

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
const HOSTS: &str = "GET /api/hosts HTTP/1.1\r\nHost: x\r\n\r\n";
const DOC: &str = r#"{"server_id":1,"metric_type":"cpu","value":53.2}"#;
const UPGRADE: &str = "GET /api/metrics HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Small, so that answers of a few KiB wait on our side.
const SOCKET_BYTES: usize = 4 * 1024;

pub(in crate::server) struct Rig {
    pub(in crate::server) core: Rc<Core>,
    questions: Receiver<Question>,
    _ring: Consumer,
}

pub(in crate::server) fn test(life: impl AsyncFnOnce(Rig)) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(life(Rig::new()));
}

/// Gives tasks and sockets of this thread their turns until nothing is left to do.
pub(in crate::server) async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

impl Rig {
    fn new() -> Rig {
        let (sender, questions) = sync_channel(QUESTIONS_MAX);
        let shared = Arc::new(Shared {
            clock: Clock::start(),
            catalog: Catalog::new(),
            views: crate::frame::views::Views::new(),
            questions: sender,
            cores: vec![Arc::default()],
            aggregated: Arc::default(),
            history: None,
            cluster: None,
            origins: crate::auth::Origins::default(),
            tokens: std::sync::RwLock::default(),
            secure: false,
            tick_ms: 100,
            boot: "boot".to_owned(),
            stopping: false.into(),
        });
        let (producer, ring) = ring(RING_CAPACITY);
        let lookup = Lookup::new(shared.catalog.clone());
        let counters = shared.cores[0].clone();
        let now = Now {
            mono_ms: 0,
            wall_ms: 0,
        };
        let context = Context {
            core: 0,
            tokens: RefCell::default(),
            hub: crate::broadcast::Hub::new(counters.clone()),
            intake: Intake::new(producer, lookup).into(),
            coarse: now.into(),
            counters,
            shared,
        };
        Rig {
            core: Rc::new(Core::new(context, None)),
            questions,
            _ring: ring,
        }
    }

    /// A client of a connection that this core serves.
    pub(in crate::server) async fn connect(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(SOCKET_BYTES as u32).unwrap();
        let connecting = socket.connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let served = accepted.unwrap().0;
        let small = socket2::SockRef::from(&served).set_send_buffer_size(SOCKET_BYTES);
        small.unwrap();
        spawn_local(driver::drive(self.core.clone(), served));
        settle().await;
        client.unwrap()
    }

    /// Time passes, and the sweep sees who is late.
    pub(in crate::server) async fn wait(&self, time: Duration) {
        let mut now = self.core.context.coarse.get();
        now.mono_ms += crate::server::answer::millis(time);
        self.core.context.coarse.set(now);
        for (_, dog) in self.core.dogs.borrow().iter() {
            if dog.is_due(now.mono_ms) {
                dog.bark();
            }
        }
        settle().await;
    }

    pub(in crate::server) fn stop(&self) {
        self.core.draining.set(true);
        self.core.wake_all();
    }

    /// Answers the next question with `bytes` bytes; false when there is none.
    pub(in crate::server) fn answer(&self, bytes: usize) -> bool {
        let body = Bytes::from(vec![b'x'; bytes]);
        match self.questions.try_recv() {
            Ok(Question::Hosts { reply }) => reply.send(Answer::Hosts { epoch: 1, body }).is_ok(),
            Ok(Question::View { reply, .. }) => reply.send(Answer::Body(body)).is_ok(),
            Err(_) => false,
        }
    }
}

async fn send(client: &mut TcpStream, text: impl AsRef<[u8]>) {
    client.write_all(text.as_ref()).await.unwrap();
    settle().await;
}

/// For more than the small sockets hold at once: the thread parks, so that they are looked at.
pub(in crate::server) async fn calm() {
    for _ in 0..10 {
        settle().await;
        sleep(Duration::from_millis(1)).await;
    }
}

/// All there is to read until the peer closes.
pub(in crate::server) async fn rest(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Answers that are whole: their Content-Length is there.
fn whole(mut text: &str) -> usize {
    let mut answers = 0;
    while let Some((head, body)) = text.split_once("\r\n\r\n") {
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.unwrap().parse().unwrap();
        let Some(after) = body.get(length..) else {
            break;
        };
        (text, answers) = (after, answers + 1);
    }
    answers
}

/// Small requests with large answers, sent at once by a peer that does not read: all were answered
/// into memory, hundreds of times what came in.
#[test]
fn a_pipeline_is_answered_as_far_as_it_is_read() {
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, GET.repeat(1_000)).await;
        let room = rig.core.out.borrow().capacity();
        assert!(room < 4 * PIPELINE_OUT_BYTES_MAX, "{room} bytes of answers");
        let last = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        send(&mut client, last).await;
        assert_eq!(whole(&rest(&mut client).await), 1_001);
    });
}

/// The same with answers that the aggregator gives: each writable moment asked one more question.
#[test]
fn a_slow_reader_s_questions_wait() {
    test(async |rig| {
        let (mut client, size, mut asked) = (rig.connect().await, 1 << 20, 0);
        let last = HOSTS.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        send(&mut client, HOSTS.repeat(5) + &last).await;
        let (mut text, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            asked += usize::from(rig.answer(size));
            settle().await;
            let ahead = asked - text.len() / size;
            assert!(ahead <= 2, "{ahead} answers wait");
            let n = client.read(&mut buffer).await.unwrap();
            if n == 0 {
                break;
            }
            text.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(whole(&String::from_utf8_lossy(&text)), 6);
    });
}

/// A deadline once set was kept from request to request: who pipelined without a pause was cut off.
#[test]
fn every_pipelined_request_has_its_own_deadline() {
    let length = DOC.len();
    let head = format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let post = format!("{head}{DOC}");
    for cut in [20, head.len() + 20] {
        test(async |rig| {
            let mut client = rig.connect().await;
            let (start, end) = post.split_at(cut);
            send(&mut client, start).await;
            for _ in 0..6 {
                rig.wait(HEAD_TIMEOUT * 2 / 5).await;
                send(&mut client, format!("{end}{start}")).await;
            }
            client.shutdown().await.unwrap();
            let text = rest(&mut client).await;
            assert_eq!(text.matches("HTTP/1.1 201").count(), 6, "{cut}: {text}");
            assert_eq!(whole(&text), 6);
        });
    }
}

/// `nc` and its like say that they are done and then read.
#[test]
fn a_half_closed_peer_gets_all_its_answers() {
    test(async |rig| {
        let mut client = rig.connect().await;
        client.write_all(GET.repeat(5).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        settle().await;
        assert_eq!(whole(&rest(&mut client).await), 5);
    });
}

/// Acknowledgements that the peer had not read yet were dropped by a stop, and by the idle timeout.
#[test]
fn answers_that_wait_are_sent_before_the_end() {
    for stops in [true, false] {
        test(async |rig| {
            let mut client = rig.connect().await;
            send(&mut client, GET.repeat(5)).await;
            if stops {
                rig.stop();
            } else {
                rig.wait(IDLE_TIMEOUT).await;
            }
            settle().await;
            assert_eq!(whole(&rest(&mut client).await), 5, "stops: {stops}");
        });
    }
}

#[test]
fn a_question_under_way_is_answered_in_spite_of_a_stop() {
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, HOSTS.repeat(2)).await;
        rig.stop();
        settle().await;
        assert!(rig.answer(9));
        let text = rest(&mut client).await;
        assert_eq!(whole(&text), 1, "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    });
}

#[test]
fn a_question_without_an_answer_has_a_deadline() {
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, HOSTS).await;
        rig.wait(WRITE_STALL_TIMEOUT).await;
        settle().await;
        assert_eq!(rig.core.connections(), 0);
        assert_eq!(rest(&mut client).await, "");
    });
}

#[test]
fn an_http_1_0_client_is_told_that_the_connection_stays() {
    test(async |rig| {
        let mut client = rig.connect().await;
        let length = DOC.len();
        for start in ["GET /healthz", "POST /api/metrics"] {
            let fields = format!("Connection: keep-alive\r\nContent-Length: {length}");
            send(
                &mut client,
                format!("{start} HTTP/1.0\r\n{fields}\r\n\r\n{DOC}"),
            )
            .await;
        }
        send(&mut client, "GET /healthz HTTP/1.0\r\n\r\n").await;
        let text = rest(&mut client).await;
        assert_eq!(whole(&text), 3, "{text}");
        assert_eq!(text.matches("\r\nConnection: keep-alive\r\n").count(), 2);
        assert!(text.contains("{\"accepted\":1}"), "{text}");
    });
}

#[test]
fn what_a_path_takes_is_told_before_the_body_comes() {
    test(async |rig| {
        let mut client = rig.connect().await;
        let head = "PUT /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
        send(&mut client, head).await;
        let text = rest(&mut client).await;
        assert!(text.contains("\r\nAllow: POST, OPTIONS\r\n"), "{text}");
    });
}

/// A stream that was silent from its start was closed after two minutes, without a ping.
#[test]
fn a_silent_stream_is_pinged() {
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, UPGRADE).await;
        rig.wait(PING_INTERVAL).await;
        let mut bytes = vec![0; 1024];
        let n = client.read(&mut bytes).await.unwrap();
        assert!(bytes[..n].ends_with(b"\r\n\r\n\x89\x00"), "no ping");
    });
}

/// A masked frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// Any byte counted as a sign of life, so a message could be held in the making for ever.
#[test]
fn a_message_that_does_not_end_has_a_deadline() {
    for path in ["metrics", "live"] {
        test(async |rig| {
            let mut client = rig.connect().await;
            send(&mut client, UPGRADE.replace("metrics", path)).await;
            let message = frame(0x81, b"[1,2,3,4]");
            send(&mut client, &message[..8]).await;
            rig.wait(MESSAGE_TIMEOUT / 2).await;
            send(&mut client, &message[8..9]).await;
            rig.wait(MESSAGE_TIMEOUT / 2).await;
            assert_eq!(rig.core.context.counters.refused(Reason::TooSlow), 1);
            rig.wait(crate::limits::CLOSE_TIMEOUT).await;
            rig.wait(crate::limits::LINGER_TIMEOUT).await;
            assert_eq!(rig.core.connections(), 0, "{path}");
        });
    }
}

#[test]
fn a_viewer_s_messages_are_bounded() {
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, UPGRADE.replace("metrics", "live")).await;
        // The dialect without a subprotocol hears nothing, so nothing is answered.
        let message = frame(0x81, b"{}");
        let most = usize::try_from(VIEWER_MESSAGES_PER_TEN_SECONDS_MAX).unwrap();
        for _ in 0..4 {
            send(&mut client, message.repeat(most / 4)).await;
            calm().await;
        }
        let flooded = || rig.core.context.counters.refused(Reason::MessageFlood);
        assert_eq!(flooded(), 0);
        send(&mut client, &message).await;
        calm().await;
        assert_eq!(flooded(), 1);
    });
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, UPGRADE.replace("metrics", "live")).await;
        let most = usize::try_from(VIEWER_MESSAGES_PER_TEN_SECONDS_MAX).unwrap();
        for _ in 0..3 {
            send(&mut client, frame(0x81, b"{}").repeat(most / 2)).await;
            calm().await;
            rig.wait(Duration::from_millis(5_001)).await;
        }
        assert_eq!(rig.core.context.counters.refused(Reason::MessageFlood), 0);
    });
}

/// Reading a byte now and then put the deadline off each time.
#[test]
fn a_reader_keeps_pace_or_is_closed() {
    let least = usize::try_from(WRITE_BYTES_PER_STALL_MIN).unwrap();
    for (each, good) in [(4 * least, true), (least / 20, false)] {
        test(async |rig| {
            let mut client = rig.connect().await;
            send(&mut client, HOSTS).await;
            let size = 20 * least;
            assert!(rig.answer(size));
            let (mut got, mut buffer) = (0, vec![0; each]);
            for _ in 0..20 {
                let mut now = 0;
                while now < each {
                    calm().await;
                    match client.try_read(&mut buffer[now..]) {
                        Ok(n) if 0 < n => now += n,
                        _ => break,
                    }
                }
                got += now;
                rig.wait(WRITE_STALL_TIMEOUT).await;
            }
            assert_eq!(size < got, good, "{each} bytes at a time: {got}");
        });
    }
}

/// Those who hold all that a core may hold must not shut out agents, whose bodies are small.
#[test]
fn small_bodies_pass_where_large_ones_wait() {
    test(async |rig| {
        let counters = &rig.core.context.counters;
        let mut large = Held::new(counters);
        let all = usize::try_from(CARRY_BYTES_MAX).unwrap();
        assert!(large.hold(all));
        let (mut small, mut other) = (Held::new(counters), Held::new(counters));
        assert!(small.hold(CARRY_SMALL_BODY_BYTES));
        assert!(!other.hold(CARRY_SMALL_BODY_BYTES + 1) && !large.hold(all));
        drop(other);
        let more = usize::try_from(CARRY_SMALL_BYTES_MAX).unwrap();
        assert!(large.hold(all - CARRY_SMALL_BODY_BYTES), "the bound itself");
        let _full = {
            let mut full = Held::new(counters);
            full.hold(more);
            full
        };
        assert!(small.hold(CARRY_SMALL_BODY_BYTES), "at its bound");
        assert!(!small.hold(CARRY_SMALL_BODY_BYTES + 1));
        drop((large, small));
        assert_eq!(counters.carry_bytes.get(), CARRY_SMALL_BYTES_MAX);
    });
}

/// The peer is in the middle of its message when it is refused: a reset would be all it sees.
#[test]
fn a_refused_stream_is_closed_and_not_reset() {
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, UPGRADE).await;
        let two_mib = [0x81, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4];
        send(&mut client, two_mib).await;
        send(&mut client, [0; 32 * 1024]).await;
        send(&mut client, [0; 32 * 1024]).await;
        let text = rest(&mut client).await;
        assert!(text.contains("message too big"), "{text:?}");
    });
}

/// Each thing said after a viewer's close put off its end.
#[test]
fn a_refused_viewer_cannot_stay() {
    test(async |rig| {
        let mut client = rig.connect().await;
        send(&mut client, UPGRADE.replace("metrics", "live")).await;
        for _ in 0..4 {
            let unmasked = [0x81, 0x01, b'a'];
            let _ = client.write_all(&unmasked).await;
            settle().await;
            rig.wait(crate::limits::CLOSE_TIMEOUT * 3 / 5).await;
        }
        assert_eq!(rig.core.connections(), 0);
        assert_eq!(
            rig.core.context.counters.refused(Reason::WebSocketProtocol),
            1
        );
    });
}
