//! Questions about the present picture, put to the aggregator, which alone knows the state.

use std::sync::mpsc::TrySendError;

use tokio::sync::oneshot;

use crate::aggregator::{Answer, Question};
use crate::endpoint::{Context, Reply, Response};
use crate::frame::view::View;
use crate::reject::{Reason, Reject};

/// A question on its way.
pub struct Asked {
    answer: oneshot::Receiver<Answer>,
    if_none_match: Option<Vec<u8>>,
}

/// `GET /api/snapshot`: a view's KEY frame as JSON.
pub fn snapshot(context: &Context, query: &str) -> Result<Reply, Reject> {
    let view = View::from_query(query)
        .map_err(|error| Reject::because(Reason::BadQuery, error.to_string()))?;
    let (reply, answer) = oneshot::channel();
    ask(context, Question::View { view, reply })?;
    Ok(Reply::Later(Asked {
        answer,
        if_none_match: None,
    }))
}

/// `GET /api/hosts`: the host table, with its epoch as ETag.
pub fn hosts(context: &Context, if_none_match: Option<&[u8]>) -> Result<Reply, Reject> {
    let (reply, answer) = oneshot::channel();
    ask(context, Question::Hosts { reply })?;
    let if_none_match = if_none_match.map(<[u8]>::to_vec);
    Ok(Reply::Later(Asked {
        answer,
        if_none_match,
    }))
}

fn ask(context: &Context, question: Question) -> Result<(), Reject> {
    context
        .shared
        .questions
        .try_send(question)
        .map_err(|error| match error {
            TrySendError::Full(_) => Reason::Busy.into(),
            TrySendError::Disconnected(_) => Reason::Stopping.into(),
        })
}

impl Asked {
    pub fn poll(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Response> {
        let answer = std::pin::Pin::new(&mut self.answer);
        answer.poll(cx).map(|answer| self.respond(answer.ok()))
    }

    fn respond(&self, answer: Option<Answer>) -> Response {
        match answer {
            Some(Answer::Body(body)) => Response::json(200, body).with("Cache-Control", "no-store"),
            Some(Answer::Hosts { epoch, body }) => {
                let etag = format!("\"{epoch}\"");
                let known = self.if_none_match.as_deref() == Some(etag.as_bytes());
                let response = if known {
                    Response::empty(304)
                } else {
                    Response::json(200, body)
                };
                response
                    .with("ETag", etag)
                    .with("Cache-Control", "no-cache")
            }
            Some(Answer::UnknownHost) => Response::from(&Reject::new(Reason::UnknownHost)),
            Some(Answer::UnknownMetric) => Response::from(&Reject::new(Reason::UnknownMetric)),
            None => Response::from(&Reject::new(Reason::Stopping)),
        }
    }
}
