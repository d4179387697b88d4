//! The past that a viewer's lines begin with: asked of history, told in a BACKFILL.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::task::{Context as Waiting, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::broadcast::viewer::Viewer;
use crate::clock::{HEAD_START_MS, Now};
use crate::endpoint::Context;
use crate::frame::backfill::{Backfill, PastLine};
use crate::frame::view::{Expr, Kind, View};
use crate::frame::views::Watched;
use crate::history::lines::{self, Lines};
use crate::history::reader;
use crate::history::{FLEET_STEP_MS, service::Access};
use crate::limits::HOSTS_SETTLE;
use crate::reject::Reason;

const FLEET_STEP_S: u32 = (FLEET_STEP_MS / 1_000) as u32;

/// One viewer's question to history: there is never more than one, so that a thousand viewers that
/// come back at once wait in their own places and not in the reader's.
#[derive(Default)]
pub struct Past {
    asked: Option<Asked>,
}

struct Asked {
    id: u32,
    backfill_s: u32,
    watched: Arc<Watched>,
    /// When the first step ends.
    from_ms: i64,
    answer: oneshot::Receiver<Option<Vec<lines::PastLine>>>,
}

impl Past {
    /// Hands over what was answered, and asks what is wished for next. True: something was said.
    pub fn poll(
        &mut self,
        cx: &mut Waiting<'_>,
        context: &Context,
        viewer: &Viewer,
    ) -> Result<bool, Reason> {
        let Some(history) = &context.shared.history else {
            return Ok(false);
        };
        if self.asked.is_none() {
            self.asked = ask(history, context.coarse.get(), viewer);
        }
        let Some(asked) = &mut self.asked else {
            return Ok(false);
        };
        let Poll::Ready(answer) = Pin::new(&mut asked.answer).poll(cx) else {
            return Ok(false);
        };
        let (asked, answer) = (self.asked.take(), answer.ok().flatten());
        match (asked, answer) {
            (Some(asked), Some(lines)) => asked.tell(context, viewer, lines),
            _ => Ok(true),
        }
    }
}

/// Puts the next wish to the reader, if there is one and it has time.
fn ask(history: &Access, now: Now, viewer: &Viewer) -> Option<Asked> {
    let up_ms = now.mono_ms.saturating_sub(HEAD_START_MS);
    let may = |view: &View| !chooses_hosts(view) || millis(HOSTS_SETTLE) <= up_ms;
    let (id, backfill_s, watched) = viewer.take_backfill(may)?;
    let Kind::Lines { exprs, by } = &watched.view.kind else {
        return None;
    };
    // The step under way is told by the live frames.
    let to_ms = now.wall_ms.div_euclid(FLEET_STEP_MS) * FLEET_STEP_MS;
    let steps = backfill_s.div_ceil(FLEET_STEP_S);
    let question = Lines {
        exprs: exprs.clone(),
        by: by.clone(),
        filter: watched.view.filter.clone(),
        from_ms: to_ms - i64::from(steps) * FLEET_STEP_MS,
        to_ms,
    };
    let from_ms = question.from_ms + FLEET_STEP_MS;
    let (reply, answer) = oneshot::channel();
    let asked = reader::Asked::Lines { question, reply };
    match history.questions.try_send(asked) {
        Ok(()) => Some(Asked {
            id,
            backfill_s,
            watched,
            from_ms,
            answer,
        }),
        Err(TrySendError::Full(_)) => {
            viewer.wish_backfill(id, backfill_s);
            None
        }
        Err(TrySendError::Disconnected(_)) => None,
    }
}

impl Asked {
    /// Under the number of the view that feeds the subscription by now, if that shows the same.
    fn tell(
        self,
        context: &Context,
        viewer: &Viewer,
        lines: Vec<lines::PastLine>,
    ) -> Result<bool, Reason> {
        let Some(watched) = viewer.watched(self.id) else {
            return Ok(true);
        };
        let Kind::Lines { exprs, .. } = &watched.view.kind else {
            return Ok(true);
        };
        if !shows_the_same(&watched.view, &self.watched.view) || is_nothing(&lines) {
            return Ok(true);
        }
        let backfill = Backfill {
            from_ms: self.from_ms,
            step_ms: FLEET_STEP_MS as u32,
            lines: named(exprs, lines),
        };
        if let Some(message) = backfill.encode(watched.number, watched.view.format)
            && !viewer.offer(message, context.coarse.get().mono_ms)?
        {
            viewer.wish_backfill(self.id, self.backfill_s);
            return Ok(false);
        }
        Ok(true)
    }
}

/// Which hosts it shows is told by their tags, which a node that has just started does not know.
fn chooses_hosts(view: &View) -> bool {
    view.filter.is_some() || matches!(&view.kind, Kind::Lines { by: Some(_), .. })
}

/// At whatever rate.
fn shows_the_same(a: &View, b: &View) -> bool {
    (&a.kind, &a.filter) == (&b.kind, &b.filter)
}

fn is_nothing(lines: &[lines::PastLine]) -> bool {
    lines
        .iter()
        .all(|line| line.values.iter().all(|v| v.is_nan()))
}

fn named(exprs: &[Expr], lines: Vec<lines::PastLine>) -> Vec<PastLine> {
    let named = lines.into_iter().filter_map(|line| {
        Some(PastLine {
            expr: exprs.get(line.expr)?.to_string(),
            group: line.group,
            values: line.values.iter().map(|&value| value as f32).collect(),
        })
    });
    named.collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
