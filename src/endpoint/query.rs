//! Questions about the present picture, put to the aggregator, which alone knows the state.

use std::sync::mpsc::TrySendError;

use tokio::sync::oneshot;

use crate::aggregator::{Answer, Question};
use crate::endpoint::{Context, Reply, Response, history};
use crate::frame::view::View;
use crate::history::reader;
use crate::reject::{Reason, Reject};

/// A question on its way.
pub enum Asked {
    /// To the aggregator.
    Present(Present),
    /// To history's reader.
    Past(oneshot::Receiver<reader::Answer>),
    /// To the disk, whether it has the samples that were taken.
    Durable { wait: history::Wait, samples: usize },
}

pub struct Present {
    answer: oneshot::Receiver<Answer>,
    if_none_match: Option<Vec<u8>>,
    /// [`Shared::boot`](crate::endpoint::Shared::boot)
    boot: String,
}

/// `GET /api/snapshot`: a view's KEY frame as JSON.
pub fn snapshot(context: &Context, query: &str) -> Result<Reply, Reject> {
    let view = View::from_query(query)
        .map_err(|error| Reject::because(Reason::BadQuery, error.to_string()))?;
    let (reply, answer) = oneshot::channel();
    ask(context, Question::View { view, reply })?;
    Ok(Reply::Later(Asked::Present(Present {
        answer,
        if_none_match: None,
        boot: String::new(),
    })))
}

/// `GET /api/hosts`: the host table. Its ETag is its epoch and the start that epochs are counted
/// from: another start gives the same slots and epochs to other hosts.
pub fn hosts(context: &Context, if_none_match: Option<&[u8]>) -> Result<Reply, Reject> {
    let (reply, answer) = oneshot::channel();
    ask(context, Question::Hosts { reply })?;
    let if_none_match = if_none_match.map(<[u8]>::to_vec);
    Ok(Reply::Later(Asked::Present(Present {
        answer,
        if_none_match,
        boot: context.shared.boot.clone(),
    })))
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
        match self {
            Asked::Present(present) => {
                let answer = std::pin::Pin::new(&mut present.answer);
                answer.poll(cx).map(|answer| present.respond(answer.ok()))
            }
            Asked::Past(answer) => history::poll(answer, cx),
            Asked::Durable { wait, samples } => wait
                .as_mut()
                .poll(cx)
                .map(|is_durable| history::settle(is_durable, *samples)),
        }
    }
}

impl Present {
    fn respond(&self, answer: Option<Answer>) -> Response {
        match answer {
            Some(Answer::Body(body)) => Response::json(200, body).with("Cache-Control", "no-store"),
            Some(Answer::Hosts { epoch, body }) => {
                let etag = format!("\"{}-{epoch}\"", self.boot);
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
            Some(Answer::Busy) => Response::from(&Reject::new(Reason::Busy)),
            Some(Answer::UnknownMetric) => Response::from(&Reject::new(Reason::UnknownMetric)),
            None => Response::from(&Reject::new(Reason::Stopping)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A browser kept the host table of a node that has restarted since and come to the same
    /// epoch: told 304, it would show hosts under the names of others.
    #[test]
    fn a_table_of_another_start_is_not_taken_for_this_one() {
        let answer = |boot: &str, if_none_match: Option<&str>| {
            let (_, answer) = oneshot::channel();
            let asked = Present {
                answer,
                if_none_match: if_none_match.map(|tag| tag.as_bytes().to_vec()),
                boot: boot.to_owned(),
            };
            let body = bytes::Bytes::from_static(b"{}");
            asked.respond(Some(Answer::Hosts { epoch: 3, body }))
        };
        let first = answer("one", None);
        let tag = first.fields.iter().find(|(name, _)| *name == "ETag");
        let tag = tag.map(|(_, tag)| tag.as_str()).unwrap();
        assert_eq!(answer("one", Some(tag)).status, 304);
        assert_eq!(answer("two", Some(tag)).status, 200);
    }
}
