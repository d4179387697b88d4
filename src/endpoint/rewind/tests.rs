#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::Waker;

use super::*;
use crate::clock::Now;
use crate::endpoint::past::tests::{Peer, WALL_MS, context};
use crate::frame::{Frame, Tick, reader as frames, websocket};
use crate::history::durable::Durable;
use crate::history::picture;
use crate::history::service::Access;
use crate::limits::REPLAYS_MAX;
use crate::ring::Consumer;

/// A viewer, and the reader that it asks.
struct Rig {
    context: Context,
    peer: Rc<Peer>,
    viewer: Viewer,
    rewind: Rewind,
    asked: Receiver<reader::Asked>,
    _ring: Consumer,
}

impl Rig {
    fn new(dialect: Dialect) -> Rig {
        let (questions, asked) = sync_channel(4);
        let (context, ring) = context(Access {
            questions,
            durable: Arc::new(Durable::new(1)),
            counters: Arc::default(),
        });
        let peer = Rc::new(Peer::default());
        let viewer = Rig::viewer(&context, peer.clone(), dialect);
        Rig {
            context,
            peer,
            viewer,
            rewind: Rewind::default(),
            asked,
            _ring: ring,
        }
    }

    fn viewer(context: &Context, peer: Rc<Peer>, dialect: Dialect) -> Viewer {
        let (views, counters) = (context.shared.views.clone(), context.counters.clone());
        Viewer::new(peer, views, counters, dialect, 0)
    }

    /// A map of cpu as 1, a ranking of it as 2, rewound by so much.
    fn rewound(back_ms: i64, speed: u32) -> Rig {
        let mut rig = Rig::new(Dialect::Binary);
        let map = json!({"kind": "map", "metric": "cpu"});
        rig.hears(&json!({"op": "sub", "id": 1, "view": map}));
        rig.viewer.watched(1).unwrap().set_scale([0.0, 100.0]);
        let top = json!({"kind": "top", "metric": "cpu", "n": 2, "where": "host~web*"});
        rig.hears(&json!({"op": "sub", "id": 2, "view": top}));
        rig.hears(&json!({"op": "replay", "from": WALL_MS - back_ms, "speed": speed}));
        let told = rig.told();
        assert_eq!(told.last().unwrap()["op"], "replay");
        rig.tick(0);
        rig
    }

    fn hears(&self, message: &Value) {
        live::hear(&self.context, &self.viewer, &message.to_string()).unwrap();
    }

    /// What is said to a message.
    fn answer(&mut self, message: &Value) -> Value {
        self.told();
        self.hears(message);
        self.told().remove(0)
    }

    /// Time passes, and a live frame comes of either view.
    fn tick(&mut self, by_ms: u64) {
        let before = self.context.coarse.get();
        self.context.coarse.set(Now {
            mono_ms: before.mono_ms + by_ms,
            wall_ms: before.wall_ms + by_ms.cast_signed(),
        });
        let frame = |view| Frame {
            view,
            seq: 1,
            base_seq: 0,
            key: Some(websocket::text_frame(b"{\"live\":1}")),
            delta: None,
        };
        let tick = Tick {
            frames: vec![frame(1), frame(2)],
            ..Tick::default()
        };
        let now_ms = self.context.coarse.get().mono_ms;
        self.viewer
            .deliver(&tick, &HashMap::from([(1, 0), (2, 1)]), now_ms);
        self.poll();
    }

    fn poll(&mut self) {
        let mut cx = Waiting::from_waker(Waker::noop());
        self.viewer.flush(0).unwrap();
        while self
            .rewind
            .poll(&mut cx, &self.context, &self.viewer)
            .unwrap()
        {
            self.viewer.flush(0).unwrap();
        }
    }

    fn question(&mut self) -> Option<(Picture, picture::Reply)> {
        self.poll();
        match self.asked.try_recv().ok()? {
            reader::Asked::Picture { question, reply } => Some((question, reply)),
            _ => panic!("a viewer in the past asks for pictures"),
        }
    }

    /// Answers one question; gives how long before the present its step ended, in whole ones.
    fn answers(&mut self) -> i64 {
        let (question, reply) = self.question().unwrap();
        assert_eq!(question.at_ms % FLEET_STEP_MS, 0);
        let shown = Shown {
            values: vec![50.0, f64::NAN, 70.0, 60.0],
            states: vec![State::Ok, State::Ok, State::Ok, State::Ok],
        };
        reply.send(Some(shown)).unwrap();
        self.poll();
        (question.now_ms - question.at_ms).div_euclid(FLEET_STEP_MS)
    }

    /// What came: text as it is, of a frame the view, the time and the type.
    fn told(&self) -> Vec<Value> {
        let taken = std::mem::take(&mut *self.peer.taken.borrow_mut());
        let (mut rest, mut told) = (&taken[..], Vec::new());
        while let [first, second, ..] = *rest {
            let length = match second {
                126 => usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 4,
                short => usize::from(short) + 2,
            };
            let (message, after) = rest.split_at(length);
            let payload = websocket::payload_of(message).unwrap();
            told.push(if first == 0x82 {
                let header = frames::parse(payload).unwrap().header;
                json!([header.view, header.frame_type, header.time_ms as i64])
            } else {
                serde_json::from_slice(payload).unwrap()
            });
            rest = after;
        }
        told
    }
}

fn is_live(message: &Value) -> bool {
    message["live"] == 1
}

#[test]
fn each_step_comes_once_for_each_view_and_live_frames_rest() {
    let mut rig = Rig::rewound(300_000, 1);
    let mut steps = Vec::new();
    for _ in 0..30 {
        while !rig.asked_nothing() {
            rig.answers_last(&mut steps);
        }
        rig.tick(1_000);
    }
    let told = rig.told();
    assert!(!told.iter().any(is_live), "{told:?}");
    // Three ends of steps in thirty seconds, and where it began.
    assert_eq!(told.len(), 2 * 4, "{told:?}");
    let begin = (WALL_MS - 300_000).div_euclid(10_000) * 10_000;
    for (at, frame) in told.iter().enumerate() {
        let step = begin + 10_000 * (at as i64 / 2);
        assert_eq!(*frame, json!([at % 2 + 1, 4, step]));
    }
    assert_eq!(steps.len(), 8);
}

impl Rig {
    fn asked_nothing(&mut self) -> bool {
        self.poll();
        self.rewind.asked.is_none()
    }

    fn answers_last(&mut self, steps: &mut Vec<i64>) {
        steps.push(self.answers());
    }
}

#[test]
fn it_goes_live_by_itself_once_it_has_caught_up() {
    let mut rig = Rig::rewound(60_000, 60);
    let mut told = Vec::new();
    for _ in 0..12 {
        while !rig.asked_nothing() {
            rig.answers();
        }
        rig.tick(100);
        told.extend(rig.told());
    }
    let live = told.iter().position(|message| message["op"] == "live");
    let (past, present) = told.split_at(live.unwrap());
    assert!(!past.iter().any(is_live));
    assert!((10..=12).contains(&past.len()), "{past:?}");
    assert!(
        present.len() > 2 && present[1..].iter().all(is_live),
        "{present:?}"
    );
}

/// It would have been sent every step it missed, one after another.
#[test]
fn who_reads_slowly_misses_steps_and_holds_one_frame() {
    let mut rig = Rig::rewound(3_600_000, 60);
    rig.answers();
    let before = rig.answers();
    rig.told();
    rig.tick(200);
    rig.peer.is_frozen.set(true);
    rig.answers();
    for _ in 0..20 {
        rig.tick(100);
        assert!(rig.asked_nothing(), "one frame waits");
    }
    rig.peer.is_frozen.set(false);
    let second = rig.answers();
    assert_eq!(rig.told().len(), 2);
    assert!(before - second >= 10, "{before} then {second} steps ago");
}

#[test]
fn rankings_have_their_greatest_and_their_filter() {
    let mut rig = Rig::rewound(60_000, 10);
    rig.answers();
    let (question, reply) = rig.question().unwrap();
    assert_eq!(question.filter.unwrap().to_string(), "host~web*");
    drop(reply);
    let shown = Shown {
        values: vec![1.0, f64::NAN, 9.0, 9.0, 3.0],
        states: vec![State::Ok, State::Ok, State::Ok, State::Ok, State::None],
    };
    assert_eq!(greatest(2, &shown), [(2, 9.0), (3, 9.0)]);
    assert_eq!(greatest(9, &shown), [(2, 9.0), (3, 9.0), (0, 1.0)]);
    assert_eq!(greatest(0, &shown), []);
}

#[test]
fn lines_are_those_of_the_step() {
    let mut rig = Rig::rewound(20_000, 1);
    for id in [1, 2] {
        rig.hears(&json!({"op": "unsub", "id": id}));
    }
    let exprs = ["p50(cpu)", "max(cpu)"];
    let view = json!({"kind": "lines", "exprs": exprs, "by": "dc", "where": "role=web"});
    rig.hears(&json!({"op": "sub", "id": 3, "view": view}));
    let host = json!({"kind": "host", "host": "web-1"});
    rig.hears(&json!({"op": "sub", "id": 4, "view": host}));
    // One for a view that is no more.
    drop(rig.asked.try_recv());
    rig.told();
    rig.tick(10_000);
    let asked = rig.asked.try_recv().unwrap();
    let reader::Asked::Lines { question, reply } = asked else {
        panic!("lines are asked for, a host is not replayed");
    };
    assert_eq!((question.steps(), question.is_of_all()), (1, false));
    let line = |expr, value| PastLine {
        expr,
        group: Some("fra".into()),
        values: vec![value],
    };
    reply.send(Some(vec![line(0, 1.5), line(1, 9.0)])).unwrap();
    rig.poll();
    let number = rig.viewer.watched(3).unwrap().number;
    let told = rig.told();
    let frame = told.iter().find(|told| told[1] == 4).unwrap();
    assert_eq!(*frame, json!([number, 4, question.to_ms]));
    assert!(rig.asked.try_recv().is_err());
}

#[test]
fn live_ends_it_and_an_answer_on_its_way_is_for_nobody() {
    let mut rig = Rig::rewound(3_600_000, 10);
    let (_, reply) = rig.question().unwrap();
    assert_eq!(rig.answer(&json!({"op": "live"})), json!({"op": "live"}));
    reply.send(Some(Shown::default())).unwrap();
    rig.tick(100);
    let told = rig.told();
    assert!(told.len() == 2 && told.iter().all(is_live), "{told:?}");
    assert!(rig.question().is_none());
    // Another time takes the place of the one before.
    for back_ms in [600_000, 300_000] {
        let from = WALL_MS - back_ms;
        rig.hears(&json!({"op": "replay", "from": from, "speed": 1}));
    }
    let back = rig.answers();
    assert!((29..=31).contains(&back), "{back}");
}

#[test]
fn its_clock_stands_still_while_paused() {
    let mut rig = Rig::rewound(600_000, 60);
    rig.answers();
    let before = rig.answers();
    rig.hears(&json!({"op": "pause"}));
    rig.hears(&json!({"op": "pause"}));
    for _ in 0..50 {
        rig.tick(100);
        assert!(rig.question().is_none());
    }
    rig.hears(&json!({"op": "play"}));
    rig.tick(200);
    let after = rig.answers();
    assert!((0..=2).contains(&(before - after)), "{before}, {after}");
}

/// The first pictures had the colours of a scale that was not theirs.
#[test]
fn a_map_without_a_scale_waits_for_it() {
    let mut rig = Rig::new(Dialect::Binary);
    rig.hears(&json!({"op": "replay", "from": WALL_MS - 60_000, "speed": 1}));
    let map = json!({"kind": "map", "metric": "cpu"});
    rig.hears(&json!({"op": "sub", "id": 1, "view": map}));
    rig.tick(100);
    assert!(rig.question().is_none());
    rig.viewer.watched(1).unwrap().set_scale([0.0, 1.0]);
    rig.tick(100);
    assert!(rig.question().is_some());
}

#[test]
fn what_is_no_wish_is_refused_by_name() {
    let mut rig = Rig::new(Dialect::Binary);
    let from = WALL_MS - 1_000;
    let oldest = WALL_MS - REPLAY_BACK.as_millis() as i64;
    for (from, speed) in [(oldest, json!(60)), (WALL_MS, json!(1))] {
        let answer = rig.answer(&json!({"op": "replay", "from": from, "speed": speed}));
        assert_eq!(
            answer,
            json!({"op": "replay", "from": from, "speed": speed})
        );
    }
    for (from, speed, field) in [
        (json!(oldest - 1), json!(60), "`from`"),
        (json!(WALL_MS + 1), json!(60), "`from`"),
        (json!(null), json!(60), "`from`"),
        (json!(from), json!(0), "`speed`"),
        (json!(from), json!(61), "`speed`"),
        (json!(from), json!(1.5), "`speed`"),
    ] {
        let answer = rig.answer(&json!({"op": "replay", "from": from, "speed": speed}));
        assert_eq!(answer["code"], "bad_message");
        assert!(answer["message"].as_str().unwrap().starts_with(field));
    }
    let mut twin = Rig::new(Dialect::Json);
    let answer = twin.answer(&json!({"op": "replay", "from": from, "speed": 1}));
    assert_eq!(answer["code"], "bad_message");
}

#[test]
fn one_more_than_there_are_seats_is_refused() {
    let mut rig = Rig::new(Dialect::Binary);
    let seated = |context: &Context| {
        let viewer = Rig::viewer(context, Rc::default(), Dialect::Binary);
        viewer.rewind(0, 1, 0).map(|()| viewer)
    };
    let mut others: Vec<Viewer> = (0..REPLAYS_MAX)
        .map(|_| seated(&rig.context).ok().unwrap())
        .collect();
    let wish = json!({"op": "replay", "from": WALL_MS - 60_000, "speed": 1});
    assert_eq!(rig.answer(&wish)["code"], "limit");
    others[0].rewind(5, 2, 0).unwrap();
    others.pop();
    assert_eq!(rig.answer(&wish)["op"], "replay");
    assert!(seated(&rig.context).is_err());
    rig.hears(&json!({"op": "live"}));
    assert!(seated(&rig.context).is_ok());
}
