#![allow(clippy::unwrap_used)]
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::Waker;

use serde_json::json;

use super::*;
use crate::broadcast::Hub;
use crate::broadcast::outbox::Sink;
use crate::broadcast::viewer::Dialect;
use crate::catalog::Catalog;
use crate::catalog::lookup::Lookup;
use crate::clock::{Clock, HEAD_START_MS, Now};
use crate::endpoint::ingest::Intake;
use crate::endpoint::{Shared, live};
use crate::frame::views::Views;
use crate::frame::{reader as frames, websocket};
use crate::history::durable::Durable;
use crate::limits::{BACKFILL_BYTES_MAX, BACKFILL_S_MAX, LINES_MAX};
use crate::ring::{Consumer, ring};

pub(crate) const WALL_MS: i64 = 1_763_918_087_654;
/// The step that was over then.
const STEP_MS: i64 = 1_763_918_080_000;
const NAN: f64 = f64::NAN;

/// Takes what it has room for.
#[derive(Default)]
pub(crate) struct Peer {
    pub(crate) taken: RefCell<Vec<u8>>,
    pub(crate) is_frozen: Cell<bool>,
}

impl Sink for Peer {
    fn try_write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if self.is_frozen.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for slice in slices {
            self.taken.borrow_mut().extend_from_slice(slice);
        }
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }
}

/// A viewer, and the reader that it asks.
struct Rig {
    context: Context,
    peer: Rc<Peer>,
    viewer: Viewer,
    past: Past,
    asked: Receiver<reader::Asked>,
    _ring: Consumer,
}

impl Rig {
    fn new(room: usize) -> Rig {
        let (questions, asked) = sync_channel(room);
        let (context, ring) = context(Access {
            questions,
            durable: Arc::new(Durable::new(1)),
            counters: Arc::default(),
        });
        let peer = Rc::new(Peer::default());
        let (views, counters) = (context.shared.views.clone(), context.counters.clone());
        let viewer = Viewer::new(peer.clone(), views, counters, Dialect::Binary, 0);
        Rig {
            context,
            peer,
            viewer,
            past: Past::default(),
            asked,
            _ring: ring,
        }
    }

    fn hears(&self, message: &serde_json::Value) {
        live::hear(&self.context, &self.viewer, &message.to_string()).unwrap();
    }

    fn subscribes(&self, id: u32, exprs: &[&str], backfill_s: u32) {
        let view = json!({"kind": "lines", "exprs": exprs, "backfill_s": backfill_s});
        self.hears(&json!({"op": "sub", "id": id, "view": view}));
    }

    /// As the viewer's task does, as long as there is something to do.
    fn poll(&mut self) {
        let mut cx = Waiting::from_waker(Waker::noop());
        self.viewer.flush(0).unwrap();
        while self
            .past
            .poll(&mut cx, &self.context, &self.viewer)
            .unwrap()
        {
            self.viewer.flush(0).unwrap();
        }
    }

    /// The question that waits for the reader.
    fn question(&mut self) -> Option<(Lines, lines::Reply)> {
        self.poll();
        match self.asked.try_recv().ok()? {
            reader::Asked::Lines { question, reply } => Some((question, reply)),
            _ => panic!("a viewer asks for lines"),
        }
    }

    fn answers(&mut self, values: &[&[f64]]) {
        let (_, reply) = self.question().unwrap();
        let line = |(expr, values): (usize, &&[f64])| lines::PastLine {
            expr,
            group: None,
            values: values.to_vec(),
        };
        let lines = values.iter().enumerate().map(line).collect();
        reply.send(Some(lines)).unwrap();
        self.poll();
    }

    /// The BACKFILLs that came since: the view's number and what they say.
    fn told(&self) -> Vec<(u32, Backfill)> {
        let taken = std::mem::take(&mut *self.peer.taken.borrow_mut());
        let (mut rest, mut told) = (&taken[..], Vec::new());
        while let [first, second, ..] = *rest {
            let length = match second {
                126 => usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 4,
                127 => panic!("longer than any BACKFILL"),
                short => usize::from(short) + 2,
            };
            let (message, after) = rest.split_at(length);
            if first == 0x82 {
                let frame = frames::parse(websocket::payload_of(message).unwrap()).unwrap();
                told.push((frame.header.view, Backfill::read(&frame).unwrap()));
            }
            rest = after;
        }
        told
    }
}

pub(crate) fn context(history: Access) -> (Context, Consumer) {
    let shared = Arc::new(Shared {
        clock: Clock::start(),
        catalog: Catalog::new(),
        views: Views::new(),
        questions: sync_channel(1).0,
        cores: vec![Arc::default()],
        aggregated: Arc::default(),
        history: Some(history),
        cluster: None,
        origins: crate::auth::Origins::default(),
        tokens: std::sync::RwLock::default(),
        secure: false,
        tick_ms: 100,
        boot: "boot".to_owned(),
        stopping: false.into(),
    });
    let (producer, consumer) = ring(16);
    let lookup = Lookup::new(shared.catalog.clone());
    let counters = shared.cores[0].clone();
    let now = Now {
        mono_ms: HEAD_START_MS,
        wall_ms: WALL_MS,
    };
    let context = Context {
        core: 0,
        tokens: RefCell::default(),
        hub: Hub::new(counters.clone()),
        intake: Intake::new(producer, lookup).into(),
        coarse: now.into(),
        counters,
        shared,
    };
    (context, consumer)
}

#[test]
fn a_wish_is_asked_in_whole_steps_and_told_once() {
    let mut rig = Rig::new(4);
    rig.subscribes(1, &["p50(cpu)", "max(cpu)"], 25);
    let (question, reply) = rig.question().unwrap();
    let exprs: Vec<String> = question.exprs.iter().map(ToString::to_string).collect();
    assert_eq!(exprs, ["p50(cpu)", "max(cpu)"]);
    let times = (question.from_ms, question.to_ms);
    assert_eq!(times, (STEP_MS - 30_000, STEP_MS));
    assert_eq!(question.steps(), 3);
    assert!(rig.question().is_none(), "asked once");
    let line = |expr, values: &[f64]| lines::PastLine {
        expr,
        group: Some("fra".into()),
        values: values.to_vec(),
    };
    let lines = vec![line(1, &[1.0, NAN, 3.0]), line(0, &[NAN, 0.1, 5.0])];
    reply.send(Some(lines)).unwrap();
    rig.poll();
    let told = rig.told();
    let [(1, backfill)] = &told[..] else {
        panic!("{told:?}");
    };
    // A point stands where its step ends.
    assert_eq!(
        (backfill.from_ms, backfill.step_ms),
        (STEP_MS - 20_000, 10_000)
    );
    let line = |expr: &str, values: &[f32]| PastLine {
        expr: expr.into(),
        group: Some("fra".into()),
        values: values.to_vec(),
    };
    let expected = [
        line("max(cpu)", &[1.0, f32::NAN, 3.0]),
        line("p50(cpu)", &[f32::NAN, 0.1, 5.0]),
    ];
    assert_eq!(format!("{:?}", backfill.lines), format!("{expected:?}"));
    assert!(rig.question().is_none(), "told once");
}

#[test]
fn who_asks_for_nothing_is_told_nothing() {
    let mut rig = Rig::new(4);
    rig.subscribes(1, &["p50(cpu)"], 0);
    rig.hears(&json!({"op": "sub", "id": 2, "view": {"kind": "stats", "backfill_s": 60}}));
    assert!(rig.question().is_none());
    let more = json!({"kind": "lines", "exprs": ["p50(cpu)"], "backfill_s": BACKFILL_S_MAX + 1});
    rig.hears(&json!({"op": "sub", "id": 3, "view": more}));
    assert!(rig.question().is_none());
    rig.subscribes(3, &["p50(cpu)"], BACKFILL_S_MAX);
    let (question, _) = rig.question().unwrap();
    assert_eq!(question.steps(), 360);
}

/// A node that had just started knew no tags, and told of lines without hosts.
#[test]
fn chosen_hosts_are_asked_for_once_they_said_their_tags() {
    let mut rig = Rig::new(4);
    let view = json!({"kind": "lines", "exprs": ["p50(cpu)"], "where": "dc=fra", "backfill_s": 10});
    rig.hears(&json!({"op": "sub", "id": 1, "view": view}));
    let view = json!({"kind": "lines", "exprs": ["p50(cpu)"], "by": "dc", "backfill_s": 10});
    rig.hears(&json!({"op": "sub", "id": 2, "view": view}));
    rig.subscribes(3, &["max(cpu)"], 10);
    assert!(
        rig.question().unwrap().0.is_of_all(),
        "that one waits for nobody"
    );
    rig.poll();
    assert!(rig.question().is_none());
    let settled_ms = HEAD_START_MS + millis(HOSTS_SETTLE);
    for (mono_ms, is_asked) in [(settled_ms - 1, false), (settled_ms, true)] {
        let now = rig.context.coarse.get();
        rig.context.coarse.set(Now { mono_ms, ..now });
        let asked = rig.question();
        assert_eq!(asked.is_some(), is_asked, "{mono_ms}");
    }
    assert_eq!(rig.question().unwrap().0.by.as_deref(), Some("dc"));
}

#[test]
fn a_busy_reader_is_asked_again() {
    let mut rig = Rig::new(1);
    let mut other = Past::default();
    rig.subscribes(1, &["p50(cpu)"], 10);
    let viewer = &rig.viewer;
    other.asked = ask(
        rig.context.shared.history.as_ref().unwrap(),
        rig.context.coarse.get(),
        viewer,
    );
    assert!(other.asked.is_some());
    rig.subscribes(2, &["max(cpu)"], 10);
    rig.poll();
    assert!(rig.past.asked.is_none(), "the reader has no room");
    assert!(rig.question().is_some(), "the other's");
    rig.answers(&[&[7.0]]);
    assert_eq!(rig.told()[0].1.lines[0].expr, "max(cpu)");
}

/// A past that nobody reads would be held by every viewer that was ever frozen.
#[test]
fn a_frozen_viewer_holds_one_past_at_most() {
    let mut rig = Rig::new(4);
    let exprs: Vec<String> = (0..16).map(|at| format!("p50(m{at})")).collect();
    let exprs: Vec<&str> = exprs.iter().map(String::as_str).collect();
    for id in 0..16 {
        rig.subscribes(id, &exprs, BACKFILL_S_MAX);
    }
    let (_, reply) = rig.question().unwrap();
    rig.peer.is_frozen.set(true);
    let line = |at| lines::PastLine {
        expr: at % 16,
        group: None,
        values: vec![1.0; 360],
    };
    reply
        .send(Some((0..LINES_MAX).map(line).collect()))
        .unwrap();
    assert!(rig.question().is_none(), "what waits comes first");
    rig.peer.is_frozen.set(false);
    for _ in 1..16 {
        let (_, reply) = rig.question().unwrap();
        reply
            .send(Some((0..LINES_MAX).map(line).collect()))
            .unwrap();
    }
    rig.poll();
    let told = rig.told();
    assert_eq!(told.len(), 16);
    for (_, backfill) in told {
        let cells: usize = backfill.lines.iter().map(|line| line.values.len()).sum();
        assert!(LINES_MAX < cells && 4 * cells < BACKFILL_BYTES_MAX);
    }
}

#[test]
fn a_full_queue_puts_it_off() {
    let mut rig = Rig::new(4);
    rig.subscribes(1, &["p50(cpu)"], BACKFILL_S_MAX);
    let (_, reply) = rig.question().unwrap();
    rig.peer.is_frozen.set(true);
    // Errors fill the queue: closing the viewer is for those, not for the past.
    let room = crate::limits::CONTROL_OUT_BYTES_MAX - 1_000;
    let filler = websocket::text_frame(&vec![b' '; room]);
    rig.viewer.say(filler, 0).unwrap();
    let line = lines::PastLine {
        expr: 0,
        group: None,
        values: vec![1.0; 360],
    };
    reply.send(Some(vec![line])).unwrap();
    rig.poll();
    rig.peer.is_frozen.set(false);
    rig.poll();
    assert_eq!(rig.told(), []);
    rig.answers(&[&[7.0; 360]]);
    assert_eq!(rig.told().len(), 1);
}

#[test]
fn it_follows_the_rate_and_dies_with_the_view() {
    let mut rig = Rig::new(4);
    rig.subscribes(1, &["p50(cpu)"], 10);
    let first = rig.question().unwrap().1;
    rig.hears(&json!({"op": "rate", "id": 1, "hz": 5}));
    let line = || {
        let values = vec![1.0];
        Some(vec![lines::PastLine {
            expr: 0,
            group: None,
            values,
        }])
    };
    first.send(line()).unwrap();
    rig.poll();
    let numbers = |told: Vec<(u32, Backfill)>| told.iter().map(|told| told.0).collect::<Vec<_>>();
    assert_eq!(numbers(rig.told()), [2]);

    // Another view under the same id, while the question of the first is under way.
    rig.hears(&json!({"op": "unsub", "id": 1}));
    rig.subscribes(1, &["p50(cpu)"], 10);
    let old = rig.question().unwrap().1;
    rig.hears(&json!({"op": "unsub", "id": 1}));
    rig.subscribes(1, &["max(mem)"], 10);
    old.send(line()).unwrap();
    rig.answers(&[&[2.0]]);
    let told = rig.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.lines[0].expr, "max(mem)");

    rig.subscribes(2, &["p50(cpu)"], 10);
    let gone = rig.question().unwrap().1;
    rig.hears(&json!({"op": "unsub", "id": 2}));
    gone.send(line()).unwrap();
    rig.poll();
    assert_eq!(rig.told(), []);
}

#[test]
fn a_pause_puts_it_off_and_nothing_follows_the_last_words() {
    let mut rig = Rig::new(4);
    rig.hears(&json!({"op": "pause"}));
    rig.subscribes(1, &["p50(cpu)"], 10);
    assert!(rig.question().is_none());
    rig.hears(&json!({"op": "play"}));
    let (_, reply) = rig.question().unwrap();
    rig.hears(&json!({"op": "pause"}));
    let values = vec![1.0];
    let line = lines::PastLine {
        expr: 0,
        group: None,
        values,
    };
    reply.send(Some(vec![line])).unwrap();
    rig.poll();
    assert_eq!(rig.told(), []);
    rig.hears(&json!({"op": "play"}));
    let (_, reply) = rig.question().unwrap();
    rig.viewer.say_goodbye(live::bye(1), 0);
    let values = vec![1.0];
    let line = lines::PastLine {
        expr: 0,
        group: None,
        values,
    };
    reply.send(Some(vec![line])).unwrap();
    rig.poll();
    assert_eq!(rig.told(), []);
}

#[test]
fn no_answer_and_an_empty_one_fail_nothing() {
    let mut rig = Rig::new(4);
    for id in 1..4 {
        rig.subscribes(id, &["p50(cpu)"], 10);
    }
    drop(rig.question().unwrap());
    rig.question().unwrap().1.send(None).unwrap();
    rig.answers(&[&[NAN]]);
    assert_eq!(rig.told(), []);
    assert!(rig.question().is_none());
}
