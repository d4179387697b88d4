//! What a client counts is what the node counts, to the last sample.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde_json::Value;

use crate::support::{Live, Node, eventually};

const CLIENTS: u64 = 64;

#[derive(Default)]
struct Count {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

/// Posts until told to stop or cut off; every hundredth body is bad.
fn client(node: &Node, number: u64, stop: &AtomicBool, count: &Count) {
    let mut http = node.connect();
    for round in 0.. {
        if stop.load(Relaxed) {
            return;
        }
        let value = if round % 100 == 7 { "\"bad\"" } else { "1.5" };
        let doc = |at: u64| format!(r#"{{"server_id":{number},"metric_type":"m{at}","value":1}}"#);
        let bad = format!(r#"{{"server_id":{number},"metric_type":"m","value":{value}}}"#);
        let docs: Vec<String> = (0..9).map(doc).chain([bad]).collect();
        match http.post(&format!("[{}]", docs.join(","))) {
            Some(answer) if answer.status == 201 => {
                count.acknowledged.fetch_add(10, Relaxed);
            }
            Some(answer) if answer.status == 422 => {
                count.refused.fetch_add(10, Relaxed);
            }
            Some(answer) => panic!("{answer:?}"),
            None => {
                count.unanswered.fetch_add(10, Relaxed);
                return;
            }
        }
    }
}

#[test]
fn the_books_balance_once_traffic_stops() {
    let node = Node::start(&[]);
    let (stop, count) = (AtomicBool::new(false), Count::default());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (node, stop, count) = (&node, &stop, &count);
            scope.spawn(move || client(node, number, stop, count));
        }
        eventually("traffic", || 200_000 < count.acknowledged.load(Relaxed));
        stop.store(true, Relaxed);
    });
    let acknowledged = count.acknowledged.load(Relaxed);
    assert_eq!(node.metric("tidewall_samples_accepted_total"), acknowledged);
    let refused = count.refused.load(Relaxed);
    assert_eq!(node.metric("tidewall_samples_rejected_total"), refused);
    let received = node.metric("tidewall_samples_received_total");
    assert_eq!(received, acknowledged + refused);
    eventually("the rings to drain", || {
        node.metric("tidewall_samples_aggregated_total") == acknowledged
    });
}

/// SIGTERM under full load: every batch is either acknowledged and counted, or neither.
#[test]
fn a_stop_mid_flight_loses_and_doubles_nothing() {
    let mut node = Node::start(&["--log", "info", "--log-json"]);
    let (stop, count) = (AtomicBool::new(false), Count::default());
    let mut live = node.live(None);
    // It reads all the while: a viewer that does not is sent away in half a minute.
    let last = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (node, stop, count) = (&node, &stop, &count);
            scope.spawn(move || client(node, number, stop, count));
        }
        let watching = scope.spawn(|| last_text(&mut live));
        eventually("traffic", || 1_000_000 < count.acknowledged.load(Relaxed));
        node.signal("-TERM");
        watching.join().unwrap()
    });
    assert_eq!(node.wait().code(), Some(0));
    let books = node.last_words();
    let find = |name: &str| -> u64 {
        let (_, rest) = books
            .split_once(&format!("\"{name}\":"))
            .unwrap_or_else(|| panic!("{books}"));
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let acknowledged = count.acknowledged.load(Relaxed);
    assert_eq!(find("accepted"), acknowledged, "{books}");
    assert_eq!(find("aggregated"), acknowledged, "{books}");
    assert_eq!(last["op"], "bye", "{last}");
}

/// Viewers see the end: whole frames to the last, then a close that says come back.
fn last_text(live: &mut Live) -> Value {
    let mut last = Value::Null;
    loop {
        match live.socket.read() {
            Ok(tungstenite::Message::Text(text)) => last = serde_json::from_str(&text).unwrap(),
            Ok(tungstenite::Message::Close(frame)) => {
                assert_eq!(u16::from(frame.unwrap().code), 1012);
                return last;
            }
            Ok(_) => {}
            Err(error) => panic!("no close frame: {error}"),
        }
    }
}
