//! HTTP/2's own timers and counts, in a time of their own.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason as Code, RecvStream};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, spawn_local};

use super::*;
use crate::limits::{BODY_GRACE, HTTP2_TURN_BYTES, READ_BUFFER_BYTES, WRITE_STALL_TIMEOUT};
use crate::server::core::tests::{Rig, calm, test};

struct Client {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

async fn client(rig: &Rig, options: &mut Builder) -> Client {
    let socket = rig.connect().await;
    let (send, connection) = options.handshake::<_, Bytes>(socket).await.unwrap();
    let connection = spawn_local(connection);
    calm().await;
    Client { send, connection }
}

impl Client {
    /// A request without a body; its answer's own task.
    async fn ask(
        &mut self,
        path: &str,
    ) -> JoinHandle<Result<http::Response<RecvStream>, h2::Error>> {
        let request = Request::get(format!("http://x{path}")).body(()).unwrap();
        let mut send = self.send.clone().ready().await.unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        calm().await;
        spawn_local(response)
    }

    async fn end(self) -> Option<Code> {
        calm().await;
        let ended = self.connection.await.unwrap();
        ended.err().and_then(|error| error.reason())
    }
}

async fn code(answer: JoinHandle<Result<http::Response<RecvStream>, h2::Error>>) -> Option<Code> {
    let (_, mut body) = answer.await.unwrap().unwrap().into_parts();
    body.data().await.unwrap().unwrap_err().reason()
}

#[test]
fn a_window_that_stays_shut_is_given_up_and_the_third_is_the_last() {
    test(async |rig| {
        let mut client = client(&rig, Builder::new().initial_window_size(0)).await;
        for _ in 1..HTTP2_STALLS_MAX {
            let asked = client.ask("/api/hosts").await;
            while !rig.answer(9) {
                calm().await;
            }
            calm().await;
            rig.wait(WRITE_STALL_TIMEOUT).await;
            calm().await;
            assert_eq!(code(asked).await, Some(Code::CANCEL));
        }
        let _last = client.ask("/api/hosts").await;
        while !rig.answer(9) {
            calm().await;
        }
        calm().await;
        rig.wait(WRITE_STALL_TIMEOUT).await;
        calm().await;
        assert_eq!(client.end().await, Some(Code::ENHANCE_YOUR_CALM));
        let counters = &rig.core.context.counters;
        assert_eq!(
            counters.refused(Reason::StalledStream),
            u64::from(HTTP2_STALLS_MAX)
        );
        assert_eq!(counters.refused(Reason::Http2Flood), 1);
    });
}

#[test]
fn requests_given_up_are_counted_to_the_bound() {
    test(async |rig| {
        let client = client(&rig, &mut Builder::new()).await;
        for at in 0..=HTTP2_RESETS_MAX {
            assert!(!client.connection.is_finished(), "after {at}");
            let request = Request::get("http://x/api/hosts").body(()).unwrap();
            let mut send = client.send.clone().ready().await.unwrap();
            let (response, mut stream) = send.send_request(request, true).unwrap();
            calm().await;
            stream.send_reset(Code::CANCEL);
            drop(response);
            calm().await;
        }
        assert_eq!(client.end().await, Some(Code::ENHANCE_YOUR_CALM));
        assert_eq!(rig.core.context.counters.refused(Reason::Http2Flood), 1);
    });
}

#[test]
fn a_window_of_streams_begins_anew() {
    let streams = Streams::default();
    for _ in 0..10 {
        for at in 0..HTTP2_RESET_WINDOW {
            if at % 2 == 0 {
                streams.given_up();
            } else {
                streams.answered();
            }
            assert!(!streams.is_flood(), "half of them is no flood");
        }
    }
    (0..=HTTP2_RESETS_MAX).for_each(|_| streams.given_up());
    assert!(streams.is_flood());
}

#[test]
fn a_body_has_its_grace_and_then_its_pace() {
    test(async |rig| {
        let client = client(&rig, &mut Builder::new()).await;
        let post = || Request::post("http://x/api/metrics").body(()).unwrap();
        let mut send = client.send.clone().ready().await.unwrap();
        let (slow, mut body) = send.send_request(post(), false).unwrap();
        let (good, mut steady) = send.send_request(post(), false).unwrap();
        calm().await;
        body.send_data(Bytes::from_static(b"["), false).unwrap();
        steady
            .send_data(vec![b' '; 6 * 1024].into(), false)
            .unwrap();
        calm().await;
        rig.wait(BODY_GRACE).await;
        calm().await;
        assert_eq!(slow.await.unwrap().status(), 408);
        let end = br#"{"host":"a","cpu":1}"#;
        steady.send_data(Bytes::from_static(end), true).unwrap();
        assert_eq!(good.await.unwrap().status(), 201);
        assert_eq!(rig.core.context.counters.refused(Reason::TooSlow), 1);
        assert_eq!(rig.core.context.counters.carry_bytes.get(), 0);
    });
}

#[test]
fn a_silent_connection_ends_and_one_that_speaks_does_not() {
    test(async |rig| {
        let mut client = client(&rig, &mut Builder::new()).await;
        for _ in 0..3 {
            rig.wait(IDLE_TIMEOUT * 2 / 3).await;
            calm().await;
            let asked = client.ask("/healthz").await;
            assert_eq!(asked.await.unwrap().unwrap().status(), 200);
        }
        rig.wait(IDLE_TIMEOUT).await;
        calm().await;
        calm().await;
        rig.wait(CLOSE_TIMEOUT).await;
        calm().await;
        assert_eq!(client.end().await, None, "an orderly end");
        assert_eq!(rig.core.connections(), 0);
    });
}

#[test]
fn a_preface_alone_has_a_deadline() {
    test(async |rig| {
        let mut client = rig.connect().await;
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        calm().await;
        rig.wait(HEAD_TIMEOUT / 2).await;
        calm().await;
        assert_eq!(rig.core.connections(), 1);
        rig.wait(HEAD_TIMEOUT).await;
        calm().await;
        rig.wait(IDLE_TIMEOUT).await;
        calm().await;
        rig.wait(CLOSE_TIMEOUT).await;
        calm().await;
        assert_eq!(rig.core.connections(), 0);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
    });
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// What came with the preface was handed to h2 in one turn: a client with a full socket buffer of
/// small frames spent the whole budget for them before a stream took any, and was sent away.
#[test]
fn small_frames_that_come_with_the_preface_are_no_flood() {
    const STREAMS: u8 = 50;
    test(async |rig| {
        let mut client = rig.connect().await;
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        let post = b"\x83\x86\x04\x0c/api/metrics\x41\x01x";
        let body = format!(
            "{:<93}",
            r#"{"server_id":1,"metric_type":"cpu","value":53.2}"#
        );
        for at in 0..STREAMS {
            all.extend(frame(1, 4, 2 * at + 1, post));
        }
        for (at, byte) in body.bytes().enumerate() {
            let last = u8::from(at + 1 == body.len());
            for stream in 0..STREAMS {
                all.extend(frame(0, last, 2 * stream + 1, &[byte]));
            }
        }
        assert!(2 * HTTP2_TURN_BYTES < all.len() && all.len() < READ_BUFFER_BYTES);
        client.write_all(&all).await.unwrap();
        calm().await;
        let mut head = [0; 9];
        let mut heads = 0;
        while heads < STREAMS {
            client.read_exact(&mut head).await.unwrap();
            let [_, _, length, kind, ..] = head;
            assert_ne!(kind, 7, "GOAWAY after {heads} answers");
            heads += u8::from(kind == 1);
            let mut payload = vec![0; length.into()];
            client.read_exact(&mut payload).await.unwrap();
        }
    });
}

#[test]
fn control_frames_without_end_end_the_connection() {
    test(async |rig| {
        let mut client = rig.connect().await;
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        client.write_all(hello).await.unwrap();
        calm().await;
        let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong".repeat(100);
        let mut answers = Vec::new();
        for _ in 0..30 {
            if client.write_all(&ping).await.is_err() {
                break;
            }
            calm().await;
            let mut some = [0; 4096];
            if let Ok(Ok(n)) =
                tokio::time::timeout(std::time::Duration::ZERO, client.read(&mut some)).await
            {
                answers.extend_from_slice(&some[..n]);
            }
        }
        let _ = client.read_to_end(&mut answers).await;
        assert_eq!(rig.core.context.counters.refused(Reason::Http2Flood), 1);
        let goaway = Code::ENHANCE_YOUR_CALM;
        let code = u32::from(goaway).to_be_bytes();
        let said = answers
            .windows(17)
            .any(|frame| frame[3] == 7 && frame[13..17] == code);
        assert!(said, "no GOAWAY");
    });
}
