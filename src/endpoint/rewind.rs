//! A viewer that rewound: pictures asked of history step by step, told in REPLAY frames.

use std::pin::Pin;
use std::task::{Context as Waiting, Poll};

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::broadcast::viewer::replay::Owed;
use crate::broadcast::viewer::{Dialect, Viewer};
use crate::endpoint::Context;
use crate::endpoint::live::{self, Told};
use crate::frame::view::Kind;
use crate::frame::views::Watched;
use crate::frame::{self, Content, Line, State, Top, replay};
use crate::history::lines::{Lines, PastLine};
use crate::history::picture::{Picture, Shown};
use crate::history::{FLEET_STEP_MS, reader};
use crate::limits::{REPLAY_BACK, REPLAY_SPEED_MAX};
use crate::reject::Reason;
use crate::sample::Slot;

/// One viewer's question to history; there is never more than one.
#[derive(Default)]
pub struct Rewind {
    asked: Option<(Owed, Answer)>,
}

enum Answer {
    Picture(oneshot::Receiver<Option<Shown>>),
    Lines(oneshot::Receiver<Option<Vec<PastLine>>>),
}

enum Past {
    Picture(Shown),
    Lines(Vec<PastLine>),
}

impl Answer {
    /// None: there is none.
    fn poll(&mut self, cx: &mut Waiting<'_>) -> Poll<Option<Past>> {
        match self {
            Answer::Picture(answer) => Pin::new(answer)
                .poll(cx)
                .map(|shown| shown.ok().flatten().map(Past::Picture)),
            Answer::Lines(answer) => Pin::new(answer)
                .poll(cx)
                .map(|lines| lines.ok().flatten().map(Past::Lines)),
        }
    }
}

/// `{"op":"replay","from":ms,"speed":n}`, answered by the same.
pub fn begin(
    context: &Context,
    viewer: &Viewer,
    message: &Map<String, Value>,
) -> Result<Told, Reason> {
    let now = context.coarse.get();
    let (from_ms, speed) = match wish(context, viewer, message) {
        Ok(wish) => wish,
        Err(text) => return Ok(Err(("bad_message", text))),
    };
    match viewer.rewind(from_ms, speed, now.mono_ms) {
        Ok(()) => {
            let answer = json!({ "op": "replay", "from": from_ms, "speed": speed });
            live::say(context, viewer, &answer).map(Ok)
        }
        Err(refusal) => Ok(Err(live::explain(refusal))),
    }
}

fn wish(
    context: &Context,
    viewer: &Viewer,
    message: &Map<String, Value>,
) -> Result<(i64, u32), String> {
    if context.shared.history.is_none() {
        return Err("this node keeps no history".to_owned());
    }
    if viewer.dialect != Dialect::Binary {
        return Err("a replay needs the subprotocol tidewall.v1".to_owned());
    }
    let now_ms = context.coarse.get().wall_ms;
    let back_ms = REPLAY_BACK.as_millis() as i64;
    let from = message.get("from").and_then(Value::as_i64);
    let from = from.filter(|from| (now_ms - back_ms..=now_ms).contains(from));
    let from = from.ok_or("`from` must be a time of the last 48 hours, in ms")?;
    let speed = message.get("speed").and_then(Value::as_u64);
    let speed = speed.and_then(|speed| u32::try_from(speed).ok());
    let speed = speed.filter(|speed| (1..=REPLAY_SPEED_MAX).contains(speed));
    let speed =
        speed.ok_or_else(|| format!("`speed` must be an integer from 1 to {REPLAY_SPEED_MAX}"))?;
    Ok((from, speed))
}

/// `{"op":"live"}`, and the end of a replay: answered by the same.
pub fn end(context: &Context, viewer: &Viewer) -> Result<(), Reason> {
    viewer.go_live(context.coarse.get().mono_ms);
    live::say(context, viewer, &json!({ "op": "live" }))
}

impl Rewind {
    /// Hands over what was answered, and asks for what is owed next. True: something was said.
    pub fn poll(
        &mut self,
        cx: &mut Waiting<'_>,
        context: &Context,
        viewer: &Viewer,
    ) -> Result<bool, Reason> {
        let Some(history) = &context.shared.history else {
            return Ok(false);
        };
        let now = context.coarse.get();
        let time_ms = viewer.replay_ms(now.mono_ms);
        // The step under way is the present's.
        if time_ms.is_some_and(|time_ms| now.wall_ms - FLEET_STEP_MS < time_ms) {
            return end(context, viewer).map(|()| true);
        }
        if self.asked.is_none()
            && let Some(owed) = viewer.take_owed(now.mono_ms)
            && let Some((asked, answer)) = question(&owed, now.wall_ms)
        {
            // Where the reader has no time, the next step is asked for.
            if history.questions.try_send(asked).is_ok() {
                self.asked = Some((owed, answer));
            }
        }
        let Some((_, answer)) = &mut self.asked else {
            return Ok(false);
        };
        let Poll::Ready(past) = answer.poll(cx) else {
            return Ok(false);
        };
        if let Some((owed, _)) = self.asked.take()
            && let Some(past) = past
        {
            let epoch = context.hub.host_epoch();
            let frame = |watched: &Watched| {
                let content = content(watched, past)?;
                replay::encode(watched.number, owed.at_ms, epoch, &content)
            };
            viewer.show(&owed, frame, now.mono_ms)?;
        }
        Ok(true)
    }
}

fn question(owed: &Owed, now_ms: i64) -> Option<(reader::Asked, Answer)> {
    let view = &owed.watched.view;
    let filter = view.filter.clone();
    match &view.kind {
        Kind::Map { metric } | Kind::Top { metric, .. } => {
            let (reply, answer) = oneshot::channel();
            let question = Picture {
                metric: metric.clone(),
                filter,
                at_ms: owed.at_ms,
                now_ms,
            };
            let asked = reader::Asked::Picture { question, reply };
            Some((asked, Answer::Picture(answer)))
        }
        Kind::Lines { exprs, by } => {
            let (reply, answer) = oneshot::channel();
            let question = Lines {
                exprs: exprs.clone(),
                by: by.clone(),
                filter,
                from_ms: owed.at_ms - FLEET_STEP_MS,
                to_ms: owed.at_ms,
            };
            let asked = reader::Asked::Lines { question, reply };
            Some((asked, Answer::Lines(answer)))
        }
        Kind::Host { .. } | Kind::Stats => None,
    }
}

fn content(watched: &Watched, past: Past) -> Option<Content> {
    match (&watched.view.kind, past) {
        (Kind::Map { metric }, Past::Picture(shown)) => {
            let [lo, hi] = watched.scale()?;
            Some(Content::Map(frame::Map {
                metric: metric.clone(),
                unit: String::new(),
                lo,
                hi,
                values: shown.values,
                states: shown.states,
            }))
        }
        (Kind::Top { metric, n }, Past::Picture(shown)) => Some(Content::Top(Top {
            metric: metric.clone(),
            unit: String::new(),
            rows: greatest(*n, &shown),
        })),
        (Kind::Lines { exprs, .. }, Past::Lines(lines)) => {
            let line = |line: PastLine| {
                Some(Line {
                    expr: exprs.get(line.expr)?.to_string(),
                    group: line.group,
                    value: line.values.first().copied()?,
                })
            };
            Some(Content::Lines(lines.into_iter().filter_map(line).collect()))
        }
        _ => None,
    }
}

/// Greatest first, ties by slot.
fn greatest(n: usize, shown: &Shown) -> Vec<(Slot, f64)> {
    let rows = shown.values.iter().zip(&shown.states).enumerate();
    let rows = rows.filter(|(_, (value, state))| !value.is_nan() && **state != State::None);
    let mut rows: Vec<(Slot, f64)> = rows.map(|(at, (value, _))| (at as Slot, *value)).collect();
    let order = |a: &(Slot, f64), b: &(Slot, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if n < rows.len() {
        rows.select_nth_unstable_by(n, order);
        rows.truncate(n);
    }
    rows.sort_unstable_by(order);
    rows
}

#[cfg(test)]
mod tests;
