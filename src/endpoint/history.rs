//! Questions about the past, put to the thread that reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::task::{Context as Waiting, Poll};

use tokio::sync::oneshot;

use crate::endpoint::query::Asked;
use crate::endpoint::{Context, Reply, Response};
use crate::history::durable::Durable;
use crate::history::question::Question;
use crate::history::reader::{self, Answer};
use crate::reject::{Reason, Reject};

/// `GET /api/history`.
pub fn history(context: &Context, query: &str) -> Result<Reply, Reject> {
    let Some(history) = &context.shared.history else {
        return Err(Reject::because(
            Reason::NoHistory,
            "this node keeps no history: it was started with --history none",
        ));
    };
    let now_ms = context.shared.clock.now().wall_ms;
    let question = Question::parse(query, now_ms)
        .map_err(|error| Reject::because(Reason::BadQuery, error.to_string()))?;
    let (reply, answer) = oneshot::channel();
    let asked = reader::Asked::Query { question, reply };
    history
        .questions
        .try_send(asked)
        .map_err(|error| match error {
            TrySendError::Full(_) => Reject::from(Reason::Busy),
            TrySendError::Disconnected(_) => Reason::Stopping.into(),
        })?;
    Ok(Reply::Later(Asked::Past(answer)))
}

/// Waits for the disk; false: the samples may not be there.
pub type Wait = Pin<Box<dyn Future<Output = bool>>>;

/// Whether a POST asks to be answered only once its samples are on the disk, `?ack=durable`. What
/// can't be promised is refused before anything is taken.
pub fn wants_durable(context: &Context, query: &str) -> Result<bool, Reject> {
    match query {
        "" => Ok(false),
        "ack=durable" => durable(context).map(|_| true),
        _ => Err(Reject::because(
            Reason::BadQuery,
            "the one thing to be asked for here is ack=durable",
        )),
    }
}

pub fn durable(context: &Context) -> Result<Arc<Durable>, Reject> {
    let Some(history) = &context.shared.history else {
        let detail = "this node keeps no history, so nothing is durable here";
        return Err(Reject::because(Reason::NotDurable, detail));
    };
    if history.counters.journal_ok.get() == 0 {
        let detail = "the journal cannot be written; nothing was taken";
        return Err(Reject::because(Reason::NotDurable, detail));
    }
    Ok(Arc::clone(&history.durable))
}

/// Waits until the disk has this core's ring up to `position`.
pub fn wait(context: &Context, position: usize) -> Result<Wait, Reject> {
    let (durable, core) = (durable(context)?, context.core);
    Ok(Box::pin(async move { durable.wait(core, position).await }))
}

pub(super) fn settle(is_durable: bool, samples: usize) -> Response {
    if is_durable {
        let body = format!("{{\"accepted\":{samples},\"durable\":true}}");
        return Response::json(201, body);
    }
    let detail = "the samples were taken, but the disk did not take them";
    Response::from(&Reject::because(Reason::NotDurable, detail))
}

/// The answer, once the reader has spoken.
pub(super) fn poll(answer: &mut oneshot::Receiver<Answer>, cx: &mut Waiting<'_>) -> Poll<Response> {
    let answer = std::pin::Pin::new(answer);
    answer.poll(cx).map(|answer| match answer {
        Ok(Answer::Body(body)) => Response::json(200, body).with("Cache-Control", "no-store"),
        Ok(Answer::UnknownHost) => Response::from(&Reject::new(Reason::UnknownHost)),
        Ok(Answer::UnknownMetric) => Response::from(&Reject::new(Reason::UnknownMetric)),
        Ok(Answer::TooMany) => Response::from(&Reject::because(
            Reason::BadQuery,
            "the range has too many points: shorten it, or ask for steps",
        )),
        Ok(Answer::Busy) => Response::from(&Reject::new(Reason::Busy)),
        Err(_) => Response::from(&Reject::new(Reason::Stopping)),
    })
}
