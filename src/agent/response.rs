//! A client's reader of HTTP/1.1 answers: bytes in, answer out, all of it bounded.

use std::borrow::Cow;
use std::time::Duration;

use crate::limits::{ANSWER_BODY_BYTES_MAX, ANSWER_HEAD_BYTES_MAX};

/// Header fields of an answer; proxies add a dozen.
const FIELDS_MAX: usize = 48;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    #[error("not an HTTP/1.1 answer: {0}")]
    Head(httparse::Error),
    #[error("answer head over {ANSWER_HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    #[error("answer body over {ANSWER_BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
    #[error("answer with a wrong length or chunk")]
    Framing,
    #[error("the connection ended inside an answer")]
    CutOff,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// False when this connection ends with this answer.
    pub(crate) keep_alive: bool,
    /// `Sec-WebSocket-Accept` and `Sec-WebSocket-Protocol` of a 101.
    pub(crate) accept: Option<&'a [u8]>,
    pub(crate) protocol: Option<&'a [u8]>,
    pub(crate) body: Cow<'a, [u8]>,
    /// Bytes of the buffer that this answer, and interim ones before it, took.
    pub(crate) consumed: usize,
}

enum Length {
    Known(usize),
    Chunked,
    ToTheEnd,
}

/// Reads one whole answer; `None` when more bytes are needed. `ended` says that none will come.
pub(crate) fn read(buf: &[u8], ended: bool) -> Result<Option<Response<'_>>, ResponseError> {
    let mut start = 0;
    loop {
        let Some((mut response, length)) = read_head(&buf[start..])? else {
            return incomplete(ended);
        };
        // Interim answers (RFC 9110, section 15.2) come before the one meant; 101 is final.
        if (100..200).contains(&response.status) && response.status != 101 {
            start += response.consumed;
            continue;
        }
        let rest = &buf[start + response.consumed..];
        let taken = match length {
            Length::Known(length) if length > ANSWER_BODY_BYTES_MAX => {
                return Err(ResponseError::BodyTooLarge);
            }
            Length::Known(length) => match rest.get(..length) {
                Some(body) => {
                    response.body = Cow::Borrowed(body);
                    length
                }
                None => return incomplete(ended),
            },
            Length::Chunked => match read_chunks(rest)? {
                Some((body, taken)) => {
                    response.body = Cow::Owned(body);
                    taken
                }
                None => return incomplete(ended),
            },
            Length::ToTheEnd if rest.len() > ANSWER_BODY_BYTES_MAX => {
                return Err(ResponseError::BodyTooLarge);
            }
            Length::ToTheEnd if !ended => return Ok(None),
            Length::ToTheEnd => {
                response.keep_alive = false;
                response.body = Cow::Borrowed(rest);
                rest.len()
            }
        };
        response.consumed += start + taken;
        return Ok(Some(response));
    }
}

fn incomplete<T>(ended: bool) -> Result<Option<T>, ResponseError> {
    if ended {
        Err(ResponseError::CutOff)
    } else {
        Ok(None)
    }
}

/// Status line and fields; `consumed` is the head alone, the body empty.
fn read_head(buf: &[u8]) -> Result<Option<(Response<'_>, Length)>, ResponseError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let head = match parsed.parse(buf) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if buf.len() > ANSWER_HEAD_BYTES_MAX => {
            return Err(ResponseError::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(ResponseError::Head(error)),
    };
    let status = parsed.code.unwrap_or_default();
    let mut response = Response {
        status,
        retry_after: None,
        keep_alive: parsed.version == Some(1),
        accept: None,
        protocol: None,
        body: Cow::Borrowed(&[]),
        consumed: head,
    };
    let mut length = None;
    for field in parsed.headers.iter() {
        let (name, value) = (field.name, field.value);
        if name.eq_ignore_ascii_case("content-length") {
            let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            match (number, &length) {
                (Some(number), None) => length = Some(Length::Known(number)),
                (Some(number), Some(Length::Known(other))) if *other == number => {}
                // Chunked wins (RFC 9112, section 6.3).
                (Some(_), Some(Length::Chunked)) => {}
                _ => return Err(ResponseError::Framing),
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(ResponseError::Framing);
            }
            length = Some(Length::Chunked);
        } else if name.eq_ignore_ascii_case("connection") {
            let close = value
                .split(|&b| b == b',')
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            response.keep_alive &= !close;
        } else if name.eq_ignore_ascii_case("retry-after") {
            response.retry_after = seconds(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-accept") {
            response.accept = Some(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            response.protocol = Some(value);
        }
    }
    let length = match status {
        100..=199 | 204 | 304 => Length::Known(0),
        _ => length.unwrap_or(Length::ToTheEnd),
    };
    Ok(Some((response, length)))
}

/// The value of Retry-After. Its HTTP-date form is passed over: our own jitter serves as well.
pub(crate) fn seconds(value: &[u8]) -> Option<Duration> {
    let seconds = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A chunked body (RFC 9112, section 7.1) and the bytes it took, trailers included.
fn read_chunks(buf: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ResponseError> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line(&buf[at..])? else {
            return Ok(None);
        };
        at += line.len() + 2;
        let digits = line.split(|&b| b == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits.trim_ascii())
            .ok()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| usize::from_str_radix(digits, 16).ok())
            .ok_or(ResponseError::Framing)?;
        if size == 0 {
            break;
        }
        if size > ANSWER_BODY_BYTES_MAX - body.len() {
            return Err(ResponseError::BodyTooLarge);
        }
        let Some(chunk) = buf.get(at..at + size + 2) else {
            return Ok(None);
        };
        let Some(data) = chunk.strip_suffix(b"\r\n") else {
            return Err(ResponseError::Framing);
        };
        body.extend_from_slice(data);
        at += chunk.len();
    }
    loop {
        let Some(trailer) = line(&buf[at..])? else {
            return Ok(None);
        };
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Ok(Some((body, at)));
        }
    }
}

/// Up to the next CRLF, without it.
fn line(buf: &[u8]) -> Result<Option<&[u8]>, ResponseError> {
    match memchr::memmem::find(buf, b"\r\n") {
        Some(end) => Ok(Some(&buf[..end])),
        None if buf.len() > ANSWER_HEAD_BYTES_MAX => Err(ResponseError::Framing),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(answer: &str, status: u16, body: &str, keep_alive: bool) {
        let with_more = format!("{answer}HTTP/1.1 200");
        let to_the_end = !answer.contains("ength:") && !answer.contains("chunked");
        if !to_the_end || status == 204 || status == 101 {
            let response = read(with_more.as_bytes(), false).unwrap().unwrap();
            assert_eq!(response.consumed, answer.len(), "{answer:?}");
            for cut in 0..answer.len() {
                assert_eq!(read(&answer.as_bytes()[..cut], false), Ok(None), "{cut}");
                assert_eq!(
                    read(&answer.as_bytes()[..cut], true),
                    Err(ResponseError::CutOff)
                );
            }
        }
        let response = read(answer.as_bytes(), true).unwrap().unwrap();
        assert_eq!(response.status, status);
        assert_eq!(&*response.body, body.as_bytes());
        assert_eq!(response.keep_alive, keep_alive, "{answer:?}");
    }

    #[test]
    fn answers_are_read_whole() {
        let accepted = "HTTP/1.1 201 Created\r\nContent-Length: 14\r\n\r\n{\"accepted\":3}";
        check(accepted, 201, "{\"accepted\":3}", true);
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
            "",
            true,
        );
        check(
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
            false,
        );
        check(
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
            false,
        );
        check(
            "HTTP/1.1 502 Bad Gateway\r\n\r\nuntil the end",
            502,
            "until the end",
            false,
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
        check(chunked, 200, "abc0123456789", true);
    }

    #[test]
    fn retry_after_and_upgrade_fields_are_seen() {
        let busy = b"HTTP/1.1 503 Full\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        let response = read(busy, false).unwrap().unwrap();
        assert_eq!(response.retry_after, Some(Duration::from_secs(7)));
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: abc=\r\nSec-WebSocket-Protocol: tidewall.v1\r\n\r\n\x82";
        let response = read(switch, false).unwrap().unwrap();
        assert_eq!(response.accept, Some(&b"abc="[..]));
        assert_eq!(response.protocol, Some(&b"tidewall.v1"[..]));
        assert_eq!(response.consumed, switch.len() - 1);
    }

    #[test]
    fn hostile_answers_are_bounded() {
        let fail = |answer: &[u8]| read(answer, false).unwrap_err();
        assert!(matches!(fail(b"SSH-2.0-x\r\n"), ResponseError::Head(_)));
        let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'a'; 20_000]].concat();
        assert_eq!(fail(&endless), ResponseError::HeadTooLarge);
        let at = |n: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n").into_bytes();
        assert_eq!(read(&at(ANSWER_BODY_BYTES_MAX), false), Ok(None));
        assert_eq!(
            fail(&at(ANSWER_BODY_BYTES_MAX + 1)),
            ResponseError::BodyTooLarge
        );
        let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert_eq!(fail(chunk), ResponseError::BodyTooLarge);
        let sign = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n";
        assert_eq!(fail(sign), ResponseError::Framing);
        let two = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(fail(two), ResponseError::Framing);
        let long = [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            &[b'a'; ANSWER_BODY_BYTES_MAX + 1],
        ]
        .concat();
        assert_eq!(fail(&long), ResponseError::BodyTooLarge);
    }
}
