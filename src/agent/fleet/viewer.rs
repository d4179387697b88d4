//! One simulated dashboard: messages in, bytes to send out; no socket, no clock.
//!
//! It follows docs/PROTOCOL.md 2.5, acknowledges, and times what the probe shows. Frames are read
//! in place; of most, only the header.

use std::time::{Duration, Instant};

use super::probe::{HOST, METRIC, ProbeLog};
use super::tally::{Tally, count};
use super::wire::{self, Frame, FrameType};
use crate::limits::FLEET_ACK_EVERY;

/// What a slow view's frames may wait for an acknowledgement that goes with others.
const ACK_AFTER: Duration = Duration::from_secs(2);

const MAP: u32 = 1;
const PROBE: u32 = 2;
const STATS: u32 = 3;

/// Everything a viewer asks for.
pub(super) fn subscriptions() -> [String; 3] {
    [
        format!(r#"{{"op":"sub","id":{MAP},"view":{{"kind":"map","metric":"cpu","hz":10}}}}"#),
        format!(r#"{{"op":"sub","id":{PROBE},"view":{{"kind":"host","host":"{HOST}","hz":10}}}}"#),
        format!(r#"{{"op":"sub","id":{STATS},"view":{{"kind":"stats","hz":1}}}}"#),
    ]
}

/// One viewer's side of the protocol: messages in, bytes to send out.
pub(super) struct Viewer {
    views: [View; 3],
    /// Where the probe's value stands in its host view.
    probe_at: Option<usize>,
    /// How long the server asked to stay away.
    pub(super) retry: Option<Duration>,
}

#[derive(Debug, Default)]
struct View {
    id: u32,
    /// The node's number for it, once a `schema` said so.
    number: Option<u32>,
    /// Greatest sequence number that came; 0: none.
    newest: u32,
    /// Deltas do not fit until a KEY comes.
    broken: bool,
    unacknowledged: u32,
    /// When the first of them came.
    since: Option<Instant>,
}

/// What a message may touch besides the viewer.
pub(super) struct Records<'a> {
    pub(super) own: usize,
    pub(super) now: Instant,
    pub(super) now_us: u64,
    pub(super) tally: &'a mut Tally,
    pub(super) probes: &'a ProbeLog,
}

#[derive(serde::Deserialize)]
struct Control<'a> {
    op: &'a str,
    id: Option<u32>,
    view: Option<u32>,
    retry_ms: Option<u64>,
    code: Option<serde_json::Value>,
}

impl Viewer {
    pub(super) fn new() -> Self {
        let view = |id| View {
            id,
            ..View::default()
        };
        Self {
            views: [view(MAP), view(PROBE), view(STATS)],
            probe_at: None,
            retry: None,
        }
    }

    pub(super) fn text(&mut self, text: &[u8], records: &mut Records<'_>) {
        records.tally.viewers[records.own].texts += 1;
        // The name table is of no use here, and by far the largest text.
        if text.starts_with(b"{\"op\":\"hosts") {
            return;
        }
        let Ok(message) = serde_json::from_slice::<Control<'_>>(text) else {
            records.tally.viewers[records.own].errors += 1;
            return;
        };
        match message.op {
            "schema" => {
                let view = self.views.iter_mut().find(|v| Some(v.id) == message.id);
                if let Some(view) = view {
                    if view.number != message.view {
                        view.newest = 0;
                        view.broken = false;
                    }
                    view.number = message.view;
                    let last = &mut records.tally.viewers[records.own].last_probe;
                    if view.id == PROBE && last.is_none() {
                        *last = Some(records.probes.scheduled());
                    }
                }
            }
            "err" => {
                let viewing = &mut records.tally.viewers[records.own];
                viewing.errors += 1;
                let code = message.code.unwrap_or_default();
                let kind = format!("err {}", code.as_str().unwrap_or("?"));
                count(&mut records.tally.viewer_closes, &kind, 1);
            }
            "bye" => self.retry = message.retry_ms.map(Duration::from_millis),
            _ => {}
        }
    }

    /// Section 2.5: a KEY always applies, a DELTA to its predecessor alone. Returns the id of a
    /// view that needs a KEY.
    pub(super) fn frame(&mut self, bytes: &[u8], records: &mut Records<'_>) -> Option<u32> {
        let Some(frame) = wire::parse(bytes) else {
            records.tally.viewers[records.own].errors += 1;
            return None;
        };
        // A view given up on a change of schema may still have frames under way.
        let view = self
            .views
            .iter_mut()
            .find(|v| v.number == Some(frame.view))?;
        let viewing = &mut records.tally.viewers[records.own];
        viewing.frames += 1;
        view.unacknowledged += 1;
        view.since.get_or_insert(records.now);
        let last = view.newest;
        if last > 0 {
            viewing.gaps += u64::from(frame.seq.saturating_sub(last + 1));
        }
        view.newest = last.max(frame.seq);
        let id = view.id;
        match frame.kind {
            FrameType::Key => {
                viewing.keys += 1;
                view.newest = frame.seq;
                view.broken = false;
                if id == PROBE {
                    self.probe_at = probe_index(&frame);
                }
            }
            FrameType::Delta => {
                viewing.deltas += 1;
                let fits = !view.broken && last > 0 && frame.seq == last + 1;
                if !fits || frame.base_seq != last {
                    viewing.unfit += 1;
                    let news = !view.broken;
                    view.broken = true;
                    viewing.resyncs += u64::from(news);
                    return news.then_some(id);
                }
            }
        }
        if id == PROBE {
            self.look(&frame, records);
        }
        None
    }

    /// Times every probe that this frame is the first to show.
    fn look(&self, frame: &Frame<'_>, records: &mut Records<'_>) {
        let values = frame.sections().filter(|section| section.column == 1);
        let number = self
            .probe_at
            .and_then(|at| values.filter_map(|section| section.f64_at(at)).last())
            .and_then(|value| records.probes.number(value));
        let last = &mut records.tally.viewers[records.own].last_probe;
        let (Some(number), Some(seen)) = (number, *last) else {
            return;
        };
        for covered in seen + 1..=number {
            if let Some(intended_us) = records.probes.intended_us(covered) {
                let us = records.now_us.saturating_sub(intended_us);
                records.tally.visible.record(us);
            }
        }
        *last = Some(seen.max(number));
    }

    /// An acknowledgement of everything, when one is due.
    pub(super) fn acknowledgement(&mut self, now: Instant) -> Option<String> {
        let due = self.views.iter().any(|view| {
            view.unacknowledged >= FLEET_ACK_EVERY
                || view.since.is_some_and(|since| now - since >= ACK_AFTER)
        });
        if !due {
            return None;
        }
        let mut text = String::from("{\"op\":\"ack\",\"frames\":[");
        for view in self.views.iter_mut().filter(|view| view.unacknowledged > 0) {
            let comma = if text.ends_with('[') { "" } else { "," };
            text += &format!("{comma}[{},{}]", view.id, view.newest);
            view.unacknowledged = 0;
            view.since = None;
        }
        text += "]}";
        Some(text)
    }
}

/// The metrics of a host view's KEY, to find the probe's column in its values.
fn probe_index(frame: &Frame<'_>) -> Option<usize> {
    #[derive(serde::Deserialize)]
    struct Metrics<'a> {
        #[serde(borrow)]
        metrics: Vec<Metric<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Metric<'a> {
        #[serde(borrow)]
        name: std::borrow::Cow<'a, str>,
    }
    let json = frame.sections().find(|section| section.column == 0)?;
    let host: Metrics<'_> = serde_json::from_slice(json.payload).ok()?;
    host.metrics.iter().position(|metric| metric.name == METRIC)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::wire::build::{Part, frame, full, json};
    use super::*;

    struct Bench {
        viewer: Viewer,
        tally: Tally,
        probes: ProbeLog,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self {
                viewer: Viewer::new(),
                tally: Tally::new(1),
                probes: ProbeLog::new(Duration::from_secs(1)),
                start: Instant::now(),
            };
            bench.text(r#"{"op":"welcome","boot":"x","now":1,"tick_ms":100}"#);
            bench.text(r#"{"op":"schema","id":1,"view":71,"hz":10,"kind":"map"}"#);
            bench.text(r#"{"op":"schema","id":2,"view":72,"hz":10,"kind":"host"}"#);
            bench
        }

        fn with<T>(&mut self, at_us: u64, f: impl FnOnce(&mut Viewer, &mut Records<'_>) -> T) -> T {
            let mut records = Records {
                own: 0,
                now: self.start,
                now_us: at_us,
                tally: &mut self.tally,
                probes: &self.probes,
            };
            f(&mut self.viewer, &mut records)
        }

        fn text(&mut self, text: &str) {
            self.with(0, |viewer, records| viewer.text(text.as_bytes(), records));
        }

        fn frame(
            &mut self,
            at_us: u64,
            kind: u8,
            view: u32,
            seqs: (u32, u32),
            parts: &[Part],
        ) -> Option<u32> {
            let bytes = frame(kind, view, seqs.0, seqs.1, parts);
            self.with(at_us, |viewer, records| viewer.frame(&bytes, records))
        }

        fn viewing(&self) -> &super::super::tally::Viewing {
            &self.tally.viewers[0]
        }
    }

    const KEY: u8 = 1;
    const DELTA: u8 = 2;

    #[test]
    fn deltas_follow_their_base_and_gaps_ask_for_a_key() {
        let mut bench = Bench::new();
        assert_eq!(bench.frame(0, KEY, 71, (5, 0), &[]), None);
        assert_eq!(bench.frame(0, DELTA, 71, (6, 5), &[]), None);
        assert_eq!(
            bench.frame(0, DELTA, 99, (1, 0), &[]),
            None,
            "no view of ours"
        );
        assert_eq!(
            bench.frame(0, DELTA, 71, (9, 8), &[]),
            Some(1),
            "7 and 8 are missing"
        );
        assert_eq!(
            bench.frame(0, DELTA, 71, (10, 9), &[]),
            None,
            "asked already"
        );
        assert_eq!(bench.frame(0, KEY, 71, (11, 0), &[]), None);
        assert_eq!(bench.frame(0, DELTA, 71, (12, 11), &[]), None);
        assert_eq!(
            bench.frame(0, DELTA, 71, (13, 11), &[]),
            Some(1),
            "another base"
        );
        let viewing = bench.viewing();
        assert_eq!((viewing.frames, viewing.keys, viewing.deltas), (7, 2, 5));
        assert_eq!((viewing.gaps, viewing.unfit, viewing.resyncs), (2, 3, 2));
        assert_eq!(viewing.errors, 0);
    }

    #[test]
    fn a_delta_before_any_key_does_not_fit() {
        let mut bench = Bench::new();
        assert_eq!(bench.frame(0, DELTA, 71, (5, 4), &[]), Some(1));
        assert_eq!(bench.viewing().gaps, 0);
    }

    #[test]
    fn a_new_schema_starts_anew_and_the_same_does_not() {
        let mut bench = Bench::new();
        bench.frame(0, KEY, 71, (5, 0), &[]);
        bench.text(r#"{"op":"schema","id":1,"view":71,"hz":10,"kind":"map"}"#);
        assert_eq!(bench.frame(0, DELTA, 71, (6, 5), &[]), None);
        bench.text(r#"{"op":"schema","id":1,"view":80,"hz":5,"kind":"map"}"#);
        assert_eq!(bench.frame(0, KEY, 80, (900, 0), &[]), None);
        assert_eq!(bench.viewing().gaps, 0);
    }

    #[test]
    fn probes_are_timed_once_by_the_first_frame_that_covers_them() {
        let mut bench = Bench::new();
        assert_eq!(bench.viewing().last_probe, Some(0));
        let value = |bench: &Bench, n: u64| full(1, &[0.5, bench.probes.value(n)]);
        let names = || json(r#"{"host":"x","metrics":[{"name":"a"},{"name":"probe"}]}"#);
        for us in [100, 200, 300] {
            bench.probes.schedule(us);
        }
        let part = value(&bench, 2);
        bench.frame(1_100, KEY, 72, (1, 0), &[names(), part]);
        assert_eq!(bench.tally.visible.count(), 2);
        assert_eq!(bench.tally.visible.max_ms(), Some(1.0));
        let part = value(&bench, 2);
        bench.frame(1_200, DELTA, 72, (2, 1), &[part]);
        assert_eq!(bench.tally.visible.count(), 2, "nothing new");
        let part = value(&bench, 3);
        bench.frame(9_000, DELTA, 72, (4, 3), &[part]);
        assert_eq!(
            bench.tally.visible.count(),
            2,
            "does not fit, so is not shown"
        );
        let part = value(&bench, 3);
        bench.frame(10_300, KEY, 72, (5, 0), &[names(), part]);
        assert_eq!(bench.tally.visible.count(), 3);
        assert_eq!(bench.viewing().last_probe, Some(3));
    }

    #[test]
    fn a_probe_host_not_seen_yet_is_waited_for() {
        let mut bench = Bench::new();
        bench.probes.schedule(5);
        bench.frame(
            9,
            KEY,
            72,
            (1, 0),
            &[json(r#"{"host":"x","slot":null,"metrics":[]}"#)],
        );
        assert_eq!(
            (bench.tally.visible.count(), bench.viewing().errors),
            (0, 0)
        );
    }

    #[test]
    fn acknowledgements_come_in_time_and_hold_every_view() {
        let mut bench = Bench::new();
        for seq in 1..=3 {
            bench.frame(0, KEY, 71, (seq, 0), &[]);
        }
        bench.frame(0, KEY, 72, (9, 0), &[]);
        let start = bench.start;
        assert_eq!(bench.viewer.acknowledgement(start), None);
        bench.frame(0, KEY, 71, (4, 0), &[]);
        let text = bench.viewer.acknowledgement(start).unwrap();
        assert_eq!(text, r#"{"op":"ack","frames":[[1,4],[2,9]]}"#);
        assert_eq!(bench.viewer.acknowledgement(start), None);
        bench.frame(0, KEY, 72, (10, 0), &[]);
        let text = bench.viewer.acknowledgement(start + ACK_AFTER).unwrap();
        assert_eq!(text, r#"{"op":"ack","frames":[[2,10]]}"#);
    }

    #[test]
    fn errors_and_goodbyes_are_kept() {
        let mut bench = Bench::new();
        bench.text(r#"{"op":"err","id":1,"code":"bad_view","message":"no"}"#);
        bench.text(r#"{"op":"bye","code":1012,"retry_ms":2300}"#);
        bench.text("not json");
        bench.text(r#"{"op":"hosts_patch","from":1,"to":2,"set":[],"del":[]}"#);
        assert_eq!(bench.viewing().errors, 2);
        assert_eq!(bench.tally.viewer_closes["err bad_view"], 1);
        assert_eq!(bench.viewer.retry, Some(Duration::from_millis(2_300)));
    }

    #[test]
    fn subscriptions_are_json() {
        for text in subscriptions() {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["op"], "sub");
        }
    }
}
