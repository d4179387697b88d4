//! HTTP/2 over real sockets, in clear; TLS has its own file.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::h2::{Http2, run};
use crate::support::{Node, eventually};

const DOC: &str = r#"{"server_id":1,"metric_type":"cpu","value":53.2,"unit":"%"}"#;

#[test]
fn the_same_routes_answer_the_same() {
    let node = Node::start(&[]);
    run(async {
        let mut http = Http2::clear(node.address).await;
        let posted = http.post(DOC).await;
        assert_eq!(posted.status, 201);
        assert_eq!(posted.body, r#"{"accepted":1}"#);
        assert_eq!(posted.headers["content-length"], "14");
        eventually("the sample", || {
            node.snapshot("")["metrics"]["cpu"]["max"] == 53.2
        });
        for target in [
            "/",
            "/healthz",
            "/readyz",
            "/api/hosts",
            "/api/snapshot?kind=host&host=1",
            "/api/snapshot?kind=host&host=2",
            "/api/snapshot?kind=pie",
            "/api/none",
            "/nothing.js",
            "/api/metrics",
        ] {
            let (two, one) = (http.get(target).await, node.get(target));
            assert_eq!(two.status, one.status, "{target}");
            if !target.contains("host=1") {
                assert_eq!(two.body, one.body, "{target}");
            }
        }
        let head = http.ask(Method::HEAD, "/healthz", &[], "").await.unwrap();
        assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
        assert_eq!(head.headers["content-length"], "3");
        // The table's epoch moves once more at the tick that shows the new host.
        loop {
            let etag = http.get("/api/hosts").await.headers["etag"].clone();
            let fields = [("if-none-match", etag.to_str().unwrap())];
            let again = http.ask(Method::GET, "/api/hosts", &fields, "").await;
            if again.unwrap().status == 304 {
                break;
            }
        }
    });
    assert_eq!(node.metric("tidewall_samples_accepted_total"), 1);
}

#[test]
fn refusals_have_their_status_and_the_connection_lives_on() {
    let node = Node::start(&[]);
    run(async {
        let mut http = Http2::clear(node.address).await;
        let post = Method::POST;
        let long = "x".repeat(5_000);
        let long = format!("/{long}");
        let big = format!("[{}]", " ".repeat(8 << 20));
        for (method, target, fields, body, status, reason) in [
            (&post, "/api/metrics", ("a", "b"), "{", 400, "json_syntax"),
            (&post, "/api/metrics", ("a", "b"), "[1]", 422, "shape"),
            (
                &post,
                "/api/metrics",
                ("content-type", "text/css"),
                DOC,
                415,
                "media_type",
            ),
            (
                &post,
                "/api/metrics",
                ("origin", "http://foe"),
                DOC,
                403,
                "foreign_origin",
            ),
            (&post, "/metrics", ("a", "b"), "x", 405, "method"),
            (&Method::DELETE, "/", ("a", "b"), "", 405, "method"),
            (&Method::GET, &long, ("a", "b"), "", 414, "target_too_long"),
            (
                &post,
                "/api/metrics",
                ("a", "b"),
                &big,
                413,
                "body_too_large",
            ),
        ] {
            let asked = http.ask(method.clone(), target, &[fields], body).await;
            match asked {
                Ok(answer) => {
                    assert_eq!(answer.status, status, "{target} {}", answer.body);
                    assert!(answer.body.contains(reason), "{target} {}", answer.body);
                }
                // A body is no longer wanted: RST_STREAM NO_ERROR may pass the answer.
                Err(error) => assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR), "{target}"),
            }
        }
        assert_eq!(http.post(DOC).await.status, 201);
    });
    for reason in ["json_syntax", "shape", "media_type", "body_too_large"] {
        let line = format!("tidewall_refusals_total{{reason=\"{reason}\"}} 1");
        assert!(node.get("/metrics").body.contains(&line), "{line}");
    }
}

#[test]
fn a_body_may_come_in_pieces_and_out_of_step_with_others() {
    let node = Node::start(&[]);
    run(async {
        let http = Http2::clear(node.address).await;
        let mut streams = Vec::new();
        for _ in 0..50 {
            let mut send = http.send.clone().ready().await.unwrap();
            let request = http::Request::post("http://node.test/api/metrics");
            let sent = send.send_request(request.body(()).unwrap(), false);
            streams.push(sent.unwrap());
        }
        for at in 0..DOC.len() {
            for (_, body) in &mut streams {
                let last = at + 1 == DOC.len();
                let byte = Bytes::copy_from_slice(&DOC.as_bytes()[at..=at]);
                body.send_data(byte, last).unwrap();
            }
            tokio::task::yield_now().await;
        }
        for (response, _) in streams {
            assert_eq!(response.await.unwrap().status(), 201);
        }
    });
    assert_eq!(node.metric("tidewall_samples_accepted_total"), 50);
}

/// The answer was followed by a reset: clients that were still sending lost it.
#[test]
fn an_answer_before_its_body_resets_nothing() {
    let node = Node::start(&[]);
    run(async {
        let mut http = Http2::clear(node.address).await;
        let request = http::Request::post("http://node.test/healthz");
        let mut send = http.send.clone().ready().await.unwrap();
        let (response, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
        let mut answer = response.await.unwrap();
        assert_eq!(answer.status(), 405);
        while answer.body_mut().data().await.is_some() {}
        // The next answer comes after all that was said of the stream.
        assert_eq!(http.get("/healthz").await.status, 200);
        for last in [false, true] {
            let piece = Bytes::from_static(&[b'x'; 16_000]);
            stream.send_data(piece, last).unwrap();
        }
        assert_eq!(http.get("/healthz").await.status, 200);
    });
}

#[test]
fn more_than_the_window_passes_in_both_directions() {
    let node = Node::start(&[]);
    run(async {
        let mut http = Http2::clear(node.address).await;
        // 3 MB of documents, twelve times the stream's window; then an answer of the same kind.
        let doc = |at: usize| format!(r#"{{"host":"host-{at:06}","metrics":{{"cpu":{at}}}}}"#);
        let body = format!("[{}]", (0..60_000).map(doc).collect::<Vec<_>>().join(","));
        let posted = http.post(&body).await;
        assert_eq!(posted.status, 201, "{}", posted.body);
        let mut hosts = http.get("/api/hosts").await;
        while !hosts.body.contains("host-059999") {
            tokio::time::sleep(Duration::from_millis(20)).await;
            hosts = http.get("/api/hosts").await;
        }
        assert_eq!(hosts.body.matches("host-").count(), 60_000);
    });
}

#[test]
fn web_sockets_over_http2() {
    let node = Node::start(&[]);
    run(async {
        let mut http = Http2::clear(node.address).await;
        for (protocol, target, status) in [
            ("connect-udp", "/api/live", 501),
            ("websocket", "/api/snapshot", 404),
            ("websocket", "/api/none", 404),
        ] {
            let refused = http.open(protocol, target, &[]).await.err();
            assert_eq!(refused.map(|s| s.as_u16()), Some(status), "{target}");
        }
        let foe = [("origin", "http://foe")];
        let refused = http.open("websocket", "/api/live", &foe).await.err();
        assert_eq!(refused.map(|status| status.as_u16()), Some(403));

        let mut ingest = http.open("WebSocket", "/api/metrics", &[]).await.unwrap();
        ingest.say(r#"{"server_name":"web-1","cpu_usage":41,"seq":7}"#);
        let ack = ingest.read(2).await;
        assert!(String::from_utf8_lossy(&ack).contains(r#"{"ack_seq":7,"#));

        let fields = [("sec-websocket-protocol", "tidewall.v1+json")];
        let opened = http.open("websocket", "/api/live", &fields).await;
        let mut viewer = opened.unwrap();
        assert_eq!(viewer.protocol.as_deref(), Some("tidewall.v1+json"));
        viewer.say(r#"{"op":"sub","id":1,"view":{"kind":"map","metric":"cpu_usage"}}"#);
        let mut heard = String::new();
        while !heard.contains(r#""op":"schema""#) {
            let bytes = viewer.read(1).await;
            assert!(!bytes.is_empty(), "ended after {heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(heard.contains(r#""op":"welcome""#), "{heard}");
        assert_eq!(node.metric("tidewall_viewers"), 1);
        // An unmasked frame ends the stream with 1002, and only the stream.
        viewer
            .send
            .send_data(Bytes::from_static(b"\x81\x01a"), false)
            .unwrap();
        let mut rest = Vec::new();
        loop {
            let bytes = viewer.read(1).await;
            if bytes.is_empty() {
                break;
            }
            rest.extend(bytes);
        }
        let close = rest
            .windows(4)
            .any(|window| window[0] == 0x88 && window[2..] == 1002_u16.to_be_bytes());
        assert!(close, "no close 1002 in {rest:?}");
        ingest.say(r#"{"server_name":"web-1","cpu_usage":42,"seq":8}"#);
        assert!(!ingest.read(2).await.is_empty());
    });
    eventually("the viewer's end", || node.metric("tidewall_viewers") == 0);
}

#[test]
fn a_stop_says_goaway_and_loses_nothing() {
    let mut node = Node::start(&[]);
    let accepted = run(async {
        let mut http = Http2::clear(node.address).await;
        let opened = http.open("websocket", "/api/live", &[]).await;
        let mut viewer = opened.unwrap();
        viewer.read(1).await;
        for _ in 0..100 {
            assert_eq!(http.post(DOC).await.status, 201);
        }
        node.signal("-TERM");
        let mut accepted = 100;
        // What is still answered is either taken or refused as a whole.
        while let Ok(answer) = http.ask(Method::POST, "/api/metrics", &[], DOC).await {
            match answer.status.as_u16() {
                201 => accepted += 1,
                503 => {}
                other => panic!("{other}: {}", answer.body),
            }
        }
        let mut last = Vec::new();
        loop {
            let bytes = viewer.read(1).await;
            if bytes.is_empty() {
                break;
            }
            last = bytes;
        }
        let close = last.windows(2).any(|pair| pair == 1012_u16.to_be_bytes());
        assert!(
            close,
            "no close 1012 in {:?}",
            String::from_utf8_lossy(&last)
        );
        accepted
    });
    assert!(node.wait().success());
    assert!(100 <= accepted);
}
