//! HTTP/1.1 over real sockets: what a client, a proxy or an attacker sees.

use std::time::{Duration, Instant};

use crate::support::{Node, eventually};

const DOC: &str = r#"{"server_id":1,"metric_type":"cpu","value":53.2,"unit":"%"}"#;

#[test]
fn a_post_is_on_the_wall_within_two_ticks() {
    let node = Node::start(&[]);
    let answer = node.connect().post(DOC).unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (201, r#"{"accepted":1}"#)
    );
    assert!(
        answer
            .head
            .contains("\r\nContent-Type: application/json\r\n"),
        "{}",
        answer.head
    );
    let posted = Instant::now();
    eventually("the sample", || {
        node.snapshot("")["metrics"]["cpu"]["max"] == 53.2
    });
    // Seen, not asserted: machines are shared.
    eprintln!("on the wall after {:?}", posted.elapsed());
    let host = node.snapshot("?kind=host&host=1");
    assert_eq!(host["host"]["metrics"]["cpu"]["value"], 53.2);
    assert_eq!(host["host"]["metrics"]["cpu"]["unit"], "%");
    assert_eq!(node.get("/api/snapshot?kind=host&host=2").status, 404);
    assert_eq!(node.get("/api/snapshot?kind=map&metric=none").status, 404);
    assert_eq!(node.get("/api/snapshot?kind=pie").status, 400);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::start(&[]);
    let mut http = node.connect();
    let length = DOC.len();
    let post = format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let get = "GET /api/snapshot HTTP/1.1\r\nHost: x\r\n\r\n";
    let missing = "GET /api/none HTTP/1.1\r\nHost: x\r\n\r\n";
    http.send(
        format!("{post}{DOC}{get}{missing}{post}{DOC}")
            .repeat(20)
            .as_bytes(),
    )
    .unwrap();
    for _ in 0..20 {
        let statuses: Vec<u16> = (0..4).map(|_| http.read().unwrap().status).collect();
        assert_eq!(statuses, [201, 200, 404, 201]);
    }
}

#[test]
fn ends_of_connections() {
    let node = Node::start(&[]);
    let mut http = node.connect();
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = http.ask(request).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert!(answer.head.contains("\r\nConnection: close\r\n"));
    assert!(http.is_closed());

    let mut http = node.connect();
    let refused = http.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\n");
    let refused = refused.unwrap();
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("\"reason\":\"bad_host\""),
        "{}",
        refused.body
    );
    assert!(
        http.is_closed(),
        "what follows a refused head is never read as a request"
    );

    // The answer must arrive although the peer is still sending.
    let mut http = node.connect();
    let length = 9 << 20;
    let head = format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    http.send(head.as_bytes()).unwrap();
    let _ = http.send(&[b' '; 100_000]);
    assert_eq!(http.read().unwrap().status, 413);
}

#[test]
fn head_options_continue_and_conditional() {
    let node = Node::start(&["--allow-origin", "http://friend.example"]);
    let mut http = node.connect();
    http.send(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut raw = String::new();
    while raw.matches("HTTP/1.1 200").count() < 2 || !raw.ends_with("ok\n") {
        let mut byte = [0];
        std::io::Read::read_exact(http.raw(), &mut byte).unwrap();
        raw.push(char::from(byte[0]));
    }
    assert_eq!(raw.matches("Content-Length: 3").count(), 2);
    assert_eq!(raw.matches("ok\n").count(), 1, "HEAD has no body");

    let mut http = node.connect();
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /api/metrics HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\n\r\n"
        )
    };
    let friend = http.ask(&preflight("http://friend.example")).unwrap();
    assert_eq!(friend.status, 204);
    assert!(
        friend
            .head
            .contains("Access-Control-Allow-Origin: http://friend.example\r\n")
    );
    assert!(
        friend
            .head
            .contains("Access-Control-Allow-Methods: POST, OPTIONS\r\n")
    );
    let foe = http.ask(&preflight("http://foe.example")).unwrap();
    assert!(
        !foe.head.contains("Access-Control"),
        "CORS is off by default: {}",
        foe.head
    );

    let asks = |target: &str, origin: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n")
    };
    for target in ["/api/hosts", "/api/snapshot", "/api/snapshot?kind=pie"] {
        let answer = |origin: &str| node.connect().ask(&asks(target, origin)).unwrap();
        let friend = "Access-Control-Allow-Origin: http://friend.example\r\n";
        let heads = ["http://friend.example", "http://foe.example"].map(|from| answer(from).head);
        assert!(heads[0].contains(friend), "{target}: {}", heads[0]);
        assert!(!heads[1].contains("Access-Control"), "{target}");
    }

    let from = |origin: &str| {
        let length = DOC.len();
        let head = format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n");
        let answer = node
            .connect()
            .ask(&format!("{head}Content-Length: {length}\r\n\r\n{DOC}"));
        answer.unwrap().status
    };
    assert_eq!(from("http://friend.example"), 201);
    assert_eq!(from("http://x"), 201);
    assert_eq!(from("http://foe.example"), 403);

    let mut http = node.connect();
    let length = DOC.len();
    let head = format!(
        "POST /api/metrics HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    assert_eq!(http.ask(&head).unwrap().status, 100);
    assert_eq!(http.ask(DOC).unwrap().status, 201);
    let refused = http
        .ask(&head.replace("/api/metrics", "/api/none"))
        .unwrap();
    assert_eq!(refused.status, 404, "refused by its head alone");
    assert!(http.is_closed());

    let hosts = node.get("/api/hosts");
    let etag = hosts
        .head
        .lines()
        .find_map(|line| line.strip_prefix("ETag: "))
        .unwrap();
    let again = format!("GET /api/hosts HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n");
    assert_eq!(node.connect().ask(&again).unwrap().status, 304);
}

#[test]
fn a_slow_head_and_a_dribbled_body_are_timed_out() {
    let node = Node::start(&[]);
    let mut head = node.connect();
    head.send(b"GET / HTTP/1.1\r\n").unwrap();
    let mut body = node.connect();
    let began = Instant::now();
    body.send(b"POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{")
        .unwrap();
    assert_eq!(body.read().unwrap().status, 408);
    assert!(
        Duration::from_secs(5) <= began.elapsed(),
        "the grace was kept"
    );
    assert_eq!(head.read().unwrap().status, 408);
    assert!(head.is_closed() && body.is_closed());
}

#[test]
fn own_metrics_are_open_metrics() {
    let node = Node::start(&[]);
    node.connect().post(DOC).unwrap();
    let answer = node.get("/metrics");
    assert!(
        answer
            .head
            .contains("application/openmetrics-text; version=1.0.0")
    );
    assert!(answer.body.ends_with("# EOF\n"));
    assert_eq!(node.metric("tidewall_samples_accepted_total"), 1);
    eventually("the fold", || {
        node.metric("tidewall_samples_aggregated_total") == 1
    });
}
