//! What viewers see of the time before they came, across a restart of the node.

use std::fmt::Write;

use serde_json::{Value, json};
use tidewall::frame::backfill::Backfill;
use tidewall::frame::reader::{self, Body, Outcome, Picture};
use tungstenite::Message;

use crate::history::{Scratch, now_ms};
use crate::support::{Live, Node, eventually};

const STEP_MS: i64 = 10_000;
const HOSTS: i64 = 3;

/// A sample a host in each of these steps, counted back from the present one: host `h` has `h`
/// times what the step's number says.
fn send(node: &Node, steps: impl Iterator<Item = i64>) {
    let now = now_ms().div_euclid(STEP_MS);
    let mut text = String::from("[");
    for back in steps {
        let step = now - back;
        for host in 1..=HOSTS {
            let (time, value) = (step * STEP_MS + 2_000, host * (step % 60));
            let comma = if text.len() == 1 { "" } else { "," };
            let dc = if host % 2 == 1 { "fra" } else { "ber" };
            let who = format!(r#""host":"web-{host}","tags":{{"dc":"{dc}"}}"#);
            let what = format!(r#""time":{time},"metrics":{{"cpu":{value}}}"#);
            write!(text, "{comma}{{{who},{what}}}").unwrap();
        }
    }
    text.push(']');
    let known = |node: &Node| {
        let range = format!("from={}&to={}", (now - 60) * STEP_MS, now * STEP_MS);
        let answer = node.get(&format!(
            "/api/history?metric=cpu&stat=count&{range}&step={STEP_MS}"
        ));
        answer.body.matches(&format!(",{HOSTS}.0]")).count()
    };
    let before = known(node);
    assert_eq!(node.connect().post(&text).unwrap().status, 201);
    eventually("history to have it", || before < known(node));
}

fn subscribe(node: &Node, protocol: &str) -> Live {
    let mut live = node.live(Some(protocol));
    let exprs = ["max(cpu)", "count(cpu)", "min(nothing)"];
    let view = json!({"kind": "lines", "exprs": exprs, "backfill_s": 600});
    live.say(&json!({"op": "sub", "id": 1, "view": view}).to_string());
    live
}

/// What the viewer is told, and how many live frames came before it.
fn backfill(live: &mut Live) -> Backfill {
    let schema = live.next_op("schema");
    loop {
        let Message::Binary(bytes) = live.next() else {
            continue;
        };
        let frame = reader::parse(&bytes).unwrap();
        let Some(backfill) = Backfill::read(&frame) else {
            continue;
        };
        assert_eq!(json!(frame.header.view), schema["view"]);
        assert_eq!((frame.header.seq, frame.header.base_seq), (0, 0));
        return backfill;
    }
}

/// The steps of which nothing is known lie where nothing was sent.
fn check(backfill: &Backfill, sent: impl Fn(i64) -> bool) {
    assert_eq!(backfill.step_ms, 10_000);
    let exprs: Vec<&str> = backfill.lines.iter().map(|line| &*line.expr).collect();
    assert_eq!(exprs, ["max(cpu)", "count(cpu)", "min(nothing)"]);
    let now = now_ms().div_euclid(STEP_MS);
    for at in 0..60 {
        let step = backfill.from_ms / STEP_MS - 1 + at as i64;
        let [max, count, nothing] = [0, 1, 2].map(|line| backfill.lines[line].values[at]);
        let back = now - step;
        assert!(nothing.is_nan());
        if sent(back) {
            let expected = (HOSTS * (step % 60)) as f32;
            assert_eq!((max, count), (expected, HOSTS as f32), "{back} steps ago");
        } else {
            assert!(max.is_nan(), "{back} steps ago: {max}");
        }
    }
}

/// The story of the wall: the node was away for minutes, and the page is loaded again.
#[test]
fn lines_begin_with_the_time_before_a_restart_and_the_gap() {
    let scratch = Scratch::new("past");
    let node = scratch.start();
    // So that no step ends between what is sent and what is asked.
    eventually("the begin of a step", || {
        (1_000..7_000).contains(&now_ms().rem_euclid(STEP_MS))
    });
    send(&node, 20..70);
    let is_there = |back| (20..70).contains(&back);
    check(&backfill(&mut subscribe(&node, "tidewall.v1")), is_there);
    drop(node);
    let node = scratch.start();
    send(&node, 1..4);
    let is_there = |back| (20..70).contains(&back) || (1..4).contains(&back);
    let mut live = subscribe(&node, "tidewall.v1");
    let told = backfill(&mut live);
    check(&told, is_there);
    // The frames of the view go on as ever, and owe nothing to the one outside their sequence.
    loop {
        if let Message::Binary(bytes) = live.next() {
            let frame = reader::parse(&bytes).unwrap();
            assert_eq!(frame.header.frame_type, 1);
            break;
        }
    }
    let mut twin = subscribe(&node, "tidewall.v1+json");
    let told = loop {
        let message = twin.next_json();
        if message["type"] == "backfill" {
            break message;
        }
    };
    assert_eq!(told["step_ms"], STEP_MS);
    assert_eq!(told["lines"][1]["values"][57], HOSTS as f64);
    assert_eq!(told["lines"][1]["values"][45], Value::Null);
}

#[test]
fn a_node_without_history_has_lines_all_the_same() {
    let node = Node::start(&[]);
    let mut live = subscribe(&node, "tidewall.v1+json");
    assert_eq!(live.next_op("schema")["id"], 1);
    let mut frames = 0;
    while frames < 3 {
        let frame = live.next_json();
        if frame["op"].is_null() {
            assert_eq!(frame["type"], "key");
            frames += 1;
        }
    }
    live.say(r#"{"op":"sub","id":2,"view":{"kind":"lines","exprs":["p50(a)"],"backfill_s":3601}}"#);
    let error = live.next_op("err");
    assert_eq!(error["code"], "bad_view");
    assert_eq!(
        error["message"],
        "`backfill_s` must be a whole number from 0 to 3600"
    );
}

/// The wall rewound: each step of history once, no live map among them, and then the present.
#[test]
fn a_replay_shows_each_step_and_ends_in_the_present() {
    let scratch = Scratch::new("replay");
    let node = scratch.start();
    eventually("the begin of a step", || {
        (1_000..7_000).contains(&now_ms().rem_euclid(STEP_MS))
    });
    send(&node, 0..40);
    let mut live = node.live(Some("tidewall.v1"));
    live.say(r#"{"op":"sub","id":1,"view":{"kind":"map","metric":"cpu"}}"#);
    let number = live.next_op("schema")["view"].clone();
    let from = now_ms() - 120_000;
    live.say(&json!({"op": "replay", "from": from, "speed": 60}).to_string());
    live.next_op("replay");
    let mut picture =
        Picture::new("map", u32::try_from(number.as_u64().unwrap()).unwrap()).unwrap();
    let mut steps = Vec::new();
    loop {
        match live.next() {
            Message::Binary(bytes) => {
                let frame = reader::parse(&bytes).unwrap();
                assert!(picture.rewind(&frame), "{:?}", frame.header);
                steps.push(frame.header.time_ms as i64 / STEP_MS);
                let Body::Map { values, states, .. } = &picture.body else {
                    panic!("not a map");
                };
                assert_eq!((values.len(), &states[..]), (3, &[1, 1, 1][..]));
                // 0 to 59, 118 and 177 in steps of 252 from 0 to 200.
                let step = (frame.header.time_ms as i64 / STEP_MS - 1) % 60;
                let [lo, hi] = [0.0, 200.0];
                for (host, byte) in (1..=HOSTS).zip(values) {
                    let place = ((host * step) as f64 - lo) * 252.0 / (hi - lo);
                    assert_eq!(f64::from(*byte), (place + 0.5).floor(), "{host} at {step}");
                }
            }
            Message::Text(text) if text.contains(r#""op":"live""#) => break,
            _ => {}
        }
    }
    assert!((9..=13).contains(&steps.len()), "{steps:?}");
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    loop {
        if let Message::Binary(bytes) = live.next() {
            let frame = reader::parse(&bytes).unwrap();
            assert_eq!(picture.apply(&frame), Outcome::Applied);
            assert_eq!(frame.header.frame_type, 1);
            break;
        }
    }
    let nobody = Node::start(&[]);
    let mut live = nobody.live(Some("tidewall.v1"));
    live.say(&json!({"op": "replay", "from": from, "speed": 60}).to_string());
    assert_eq!(live.next_op("err")["message"], "this node keeps no history");
}

/// Of chosen hosts, for which a reload of the page had begun with nothing.
#[test]
fn lines_of_chosen_hosts_begin_with_the_time_before_a_restart() {
    let scratch = Scratch::new("past-chosen");
    let node = scratch.start();
    eventually("the begin of a step", || {
        (1_000..7_000).contains(&now_ms().rem_euclid(STEP_MS))
    });
    send(&node, 20..50);
    drop(node);
    let node = scratch.start();
    let came = now_ms().div_euclid(STEP_MS);
    send(&node, 5..8);
    let was_sent = |step: i64| {
        let back = came - step;
        (20..50).contains(&back) || (5..8).contains(&back)
    };
    let mut live = node.live(Some("tidewall.v1"));
    let exprs = ["max(cpu)", "count(cpu)"];
    for view in [
        json!({"kind": "lines", "exprs": exprs, "where": "dc=fra", "backfill_s": 600}),
        json!({"kind": "lines", "exprs": exprs, "by": "dc", "backfill_s": 600}),
    ] {
        let id = if view["by"].is_null() { 1 } else { 2 };
        live.say(&json!({"op": "sub", "id": id, "view": view}).to_string());
        let told = backfill(&mut live);
        let names = told.lines.iter().map(|l| (&*l.expr, l.group.as_deref()));
        let expected: &[(&str, Option<&str>)] = match id {
            1 => &[("max(cpu)", None), ("count(cpu)", None)],
            _ => &[
                ("max(cpu)", Some("fra")),
                ("max(cpu)", Some("ber")),
                ("count(cpu)", Some("fra")),
                ("count(cpu)", Some("ber")),
            ],
        };
        assert_eq!(names.collect::<Vec<_>>(), expected);
        let mut checked = 0;
        for at in 0..told.lines[0].values.len() {
            let step = told.from_ms / STEP_MS - 1 + at as i64;
            let values: Vec<f32> = told.lines.iter().map(|line| line.values[at]).collect();
            let of = |host: i64| (host * (step % 60)) as f32;
            if came <= step {
                // What stands since the last of them.
                continue;
            }
            checked += 1;
            match id {
                _ if !was_sent(step) => assert!(values.iter().all(|v| v.is_nan()), "{step}"),
                1 => assert_eq!(values, [of(3), 2.0], "{step}"),
                _ => assert_eq!(values, [of(3), of(2), 2.0, 1.0], "{step}"),
            }
        }
        assert!(50 < checked, "{checked} steps");
    }
}

/// A host that sends seldom was missing from most steps, and one that is gone must be.
#[test]
fn who_sends_seldom_counts_in_every_step_and_through_a_kill() {
    let scratch = Scratch::new("past-seldom");
    let mut node = scratch.start();
    let begun = now_ms();
    let post = |node: &Node, host: &str| {
        let body = format!(r#"{{"host":"{host}","metrics":{{"cpu":1}}}}"#);
        assert_eq!(node.connect().post(&body).unwrap().status, 201);
    };
    post(&node, "seldom");
    for second in 0..34 {
        if second == 17 {
            eventually("the journal to have it", || {
                let counted = node.get("/api/history?metric=cpu&stat=count").body;
                counted.contains(".0]")
            });
            std::thread::sleep(std::time::Duration::from_millis(300));
            node.signal("-KILL");
            node.wait();
            node = scratch.start();
        }
        post(&node, "often");
        if second < 5 {
            post(&node, "brief");
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let first = begun.div_euclid(STEP_MS) * STEP_MS;
    let range = format!("from={first}&to={}&step={STEP_MS}", now_ms());
    let answer = node.get(&format!("/api/history?metric=cpu&stat=count&{range}"));
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    let counts = answer["points"].as_array().unwrap().iter();
    let counts: Vec<f64> = counts
        .map(|point| point[1].as_f64().unwrap_or(0.0))
        .collect();
    assert!(4 <= counts.len(), "{counts:?}");
    assert_eq!(counts[0], 3.0, "{counts:?}");
    // `brief` stands ten seconds after its last, which is at most two steps further.
    assert!(counts.iter().all(|&count| 2.0 <= count), "{counts:?}");
    assert_eq!(counts.last(), Some(&2.0), "{counts:?}");
}

#[test]
fn a_replay_shows_the_lines_of_each_step() {
    let scratch = Scratch::new("replay-lines");
    let node = scratch.start();
    eventually("the begin of a step", || {
        (1_000..7_000).contains(&now_ms().rem_euclid(STEP_MS))
    });
    send(&node, 0..40);
    let mut live = node.live(Some("tidewall.v1"));
    let exprs = ["max(cpu)", "count(cpu)"];
    let (mut pictures, mut numbers) = (Vec::new(), Vec::new());
    for (id, filter) in [(1, ""), (2, "dc=fra")] {
        let view = json!({"kind": "lines", "exprs": exprs, "where": filter});
        live.say(&json!({"op": "sub", "id": id, "view": view}).to_string());
        let number = live.next_op("schema")["view"].as_u64().unwrap();
        numbers.push(u32::try_from(number).unwrap());
        pictures.push(Picture::new("lines", numbers[numbers.len() - 1]).unwrap());
    }
    let from = now_ms() - 120_000;
    live.say(&json!({"op": "replay", "from": from, "speed": 60}).to_string());
    live.next_op("replay");
    let mut steps = [0, 0];
    loop {
        let message = live.next();
        if message
            .to_text()
            .is_ok_and(|text| text.contains(r#""op":"live""#))
        {
            break;
        }
        let Message::Binary(bytes) = message else {
            continue;
        };
        let frame = reader::parse(&bytes).unwrap();
        let at = usize::from(frame.header.view == numbers[1]);
        assert!(pictures[at].rewind(&frame), "{:?}", frame.header);
        let Body::Lines { points, .. } = &pictures[at].body else {
            panic!("not lines");
        };
        let step = (frame.header.time_ms as i64 / STEP_MS - 1) % 60;
        let hosts = [HOSTS, 2][at];
        assert_eq!(
            *points,
            [(HOSTS * step) as f32, hosts as f32],
            "{at} at {step}"
        );
        steps[at] += 1;
    }
    assert!(
        steps.iter().all(|steps| (6..=13).contains(steps)),
        "{steps:?}"
    );
}
