//! What a server's answer means for the readings it is about.

use std::time::Duration;

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status, or the `reason` of a WebSocket answer.
    pub(crate) code: String,
    /// The same bytes may be taken later.
    pub(crate) temporary: bool,
    pub(crate) retry_after: Option<Duration>,
    /// The server's words, cut short.
    pub(crate) text: String,
}

/// What an HTTP answer means.
pub(crate) fn judge(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    if (200..300).contains(&status) {
        return Answer::Accepted;
    }
    Answer::Refused(Refusal {
        code: status.to_string(),
        temporary: !(400..500).contains(&status) || matches!(status, 408 | 425 | 429),
        retry_after,
        text: excerpt(body),
    })
}

/// A server's message on an ingest WebSocket; keys it does not have stay `None`.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Reply {
    pub(crate) ack_seq: Option<u64>,
    pub(crate) error: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) seq: Option<u64>,
}

/// The answer to `seq`; an error without a number is about what was sent last.
pub(crate) fn judge_message(text: &[u8], seq: Option<u64>) -> Option<Answer> {
    let reply: Reply = serde_json::from_slice(text).ok()?;
    let seq = seq?;
    if reply.ack_seq == Some(seq) {
        return Some(Answer::Accepted);
    }
    let error = reply.error?;
    if reply.seq.is_some_and(|about| about != seq) {
        return None;
    }
    let code = reply.reason.unwrap_or_else(|| "refused".to_owned());
    let words = [
        "full",
        "overload",
        "busy",
        "rate",
        "unavailable",
        "stopping",
    ];
    Some(Answer::Refused(Refusal {
        temporary: words.iter().any(|word| code.contains(word)),
        code,
        retry_after: None,
        text: excerpt(error.as_bytes()),
    }))
}

/// A server's words for a log line: one line, bounded.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, temporary: bool) {
        match judge(status, None, b"why\n\x1b[31m") {
            Answer::Refused(refusal) => {
                assert_eq!(refusal.temporary, temporary, "{status}");
                assert_eq!(refusal.text, "why[31m");
            }
            Answer::Accepted => assert!((200..300).contains(&status)),
        }
    }

    #[test]
    fn statuses_are_judged() {
        for status in [200, 201, 204, 400, 401, 403, 404, 413, 415, 422] {
            check(status, false);
        }
        for status in [301, 408, 425, 429, 500, 502, 503, 504] {
            check(status, true);
        }
    }

    #[test]
    fn messages_are_judged() {
        let code = |text: &str, seq| match judge_message(text.as_bytes(), seq) {
            None => "none".to_owned(),
            Some(Answer::Accepted) => "accepted".to_owned(),
            Some(Answer::Refused(refusal)) => format!("{} {}", refusal.code, refusal.temporary),
        };
        assert_eq!(
            code(r#"{"ack_seq":7,"ack_ts":1,"sent_at":null}"#, Some(7)),
            "accepted"
        );
        assert_eq!(
            code(r#"{"ack_seq":6,"ack_ts":1,"sent_at":null}"#, Some(7)),
            "none"
        );
        let bad = r#"{"error":"no host","reason":"missing_host","seq":7}"#;
        assert_eq!(code(bad, Some(7)), "missing_host false");
        assert_eq!(code(bad, Some(8)), "none");
        assert_eq!(code(bad, None), "none");
        let full = r#"{"error":"x","reason":"ring_full","seq":null}"#;
        assert_eq!(code(full, Some(7)), "ring_full true");
        assert_eq!(code("not json", Some(7)), "none");
    }
}
