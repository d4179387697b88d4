//! Heads that came before: an agent sends the same bytes with every POST, and equal bytes mean an
//! equal request. Comparing 150 B costs a tenth of finding, checking and parsing them again.

use std::ops::Range;

use crate::connection::head::{Framing, Method, Request};
use crate::limits::HEADS_KNOWN_MAX;

/// The heads of plain POSTs that one core saw last. A connection remembers the place of its own.
#[derive(Debug, Default)]
pub struct Heads {
    known: Vec<Known>,
}

/// Invariant: `head` ends in CRLF CRLF and parses into exactly what stands beside it.
#[derive(Debug, Default)]
struct Known {
    head: Vec<u8>,
    length: u64,
    path: Range<usize>,
    host: Range<usize>,
    content_type: Option<Range<usize>>,
    content_encoding: Option<Range<usize>>,
    accept_encoding: Option<Range<usize>>,
    if_none_match: Option<Range<usize>>,
    authorization: Option<Range<usize>>,
    api_key: Option<Range<usize>>,
}

/// Where [`Heads`] keeps a connection's head; only a hint, the bytes decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(u8);

impl Heads {
    /// The request that `input` begins with, if its head is the one at `place`.
    pub fn recall<'b>(&self, place: Place, input: &'b [u8]) -> Option<(Request<'b>, usize)> {
        let known = self.known.get(usize::from(place.0))?;
        if known.head.is_empty() || !begins_with(input, &known.head) {
            return None;
        }
        let part = |range: &Range<usize>| &input[range.clone()];
        let request = Request {
            method: Method::Post,
            target: str::from_utf8(part(&known.path)).ok()?,
            framing: Framing::Sized(known.length),
            keep_alive: true,
            content_type: known.content_type.as_ref().map(part),
            content_encoding: known.content_encoding.as_ref().map(part),
            accept_encoding: known.accept_encoding.as_ref().map(part),
            if_none_match: known.if_none_match.as_ref().map(part),
            authorization: known.authorization.as_ref().map(part),
            api_key: known.api_key.as_ref().map(part),
            host: part(&known.host),
            minor: 1,
            ..Request::default()
        };
        Some((request, known.head.len()))
    }

    /// Keeps the head of a POST that says nothing out of the ordinary; gives its place.
    pub fn learn(&mut self, head: &[u8], request: &Request<'_>) -> Place {
        let Framing::Sized(length) = request.framing else {
            return Place::default();
        };
        let plain = request.method == Method::Post
            && request.keep_alive
            && request.minor == 1
            && !request.expects_continue
            && !request.preflight
            && request.origin.is_none()
            && request.cookie.is_none()
            && request.upgrade.is_none();
        if !plain {
            return Place::default();
        }
        if self.known.is_empty() {
            self.known.resize_with(HEADS_KNOWN_MAX, Known::default);
        }
        // Agents of one kind differ in the length of their bodies more than in anything else.
        let place = (head.len() * 31 + usize::try_from(length).unwrap_or(0)) % HEADS_KNOWN_MAX;
        let known = &mut self.known[place];
        known.head.clear();
        known.length = length;
        known.content_type = request.content_type.and_then(|part| within(head, part));
        known.content_encoding = request.content_encoding.and_then(|part| within(head, part));
        known.accept_encoding = request.accept_encoding.and_then(|part| within(head, part));
        known.if_none_match = request.if_none_match.and_then(|part| within(head, part));
        known.authorization = request.authorization.and_then(|part| within(head, part));
        known.api_key = request.api_key.and_then(|part| within(head, part));
        // A target in absolute form may have no path of its own in the head.
        let (path, host) = (
            within(head, request.target.as_bytes()),
            within(head, request.host),
        );
        let (Some(path), Some(host)) = (path, host) else {
            return Place::default();
        };
        (known.path, known.host) = (path, host);
        known.head.extend_from_slice(head);
        Place(u8::try_from(place).unwrap_or_default())
    }
}

/// Takes as long for a wrong head as for the right one: another peer's head, kept here, may hold
/// its token. The compiler makes it as fast as a comparison that stops early.
fn begins_with(input: &[u8], head: &[u8]) -> bool {
    let differences = |input: &[u8]| input.iter().zip(head).fold(0, |all, (a, b)| all | (a ^ b));
    input
        .get(..head.len())
        .is_some_and(|input| differences(input) == 0)
}

/// Where `part`, a slice of `head`, stands in it.
fn within(head: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(head.as_ptr().addr())?;
    head.get(start..start + part.len())
        .map(|_| start..start + part.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::connection::head;

    /// Every head, learnt or not, is recalled as it parses, or not at all.
    #[test]
    fn what_is_recalled_is_what_was_parsed() {
        let mut heads = Heads::default();
        let mut recalled = 0;
        for line in [
            "POST /api/metrics HTTP/1.1",
            "POST /x?y=z HTTP/1.1",
            "POST http://a:1 HTTP/1.1",
            "GET / HTTP/1.1",
        ] {
            for fields in [
                "Content-Length: 60",
                "Content-Length: 61\r\nContent-Type: application/json",
                "Content-Length: 7\r\nContent-Encoding: gzip\r\nContent-Type: a/b",
                "Content-Length: 5\r\nConnection: close",
                "Content-Length: 5\r\nExpect: 100-continue",
                "Content-Length: 5\r\nOrigin: http://x",
                "Transfer-Encoding: chunked",
                "Content-Length: 5\r\nAuthorization: Bearer t\r\nX-API-Key: u",
                "Content-Length: 5\r\nCookie: tidewall=t",
                "Content-Length: 9\r\nAccept-Encoding: gzip\r\nIf-None-Match: *",
                "Content-Length: 5\r\nAccess-Control-Request-Method: PUT",
            ] {
                let text = format!("{line}\r\nHost: a:1\r\n{fields}\r\n\r\n");
                let parsed = head::parse(text.as_bytes()).unwrap();
                let place = heads.learn(text.as_bytes(), &parsed);
                let input = format!("{text}body");
                if let Some((request, len)) = heads.recall(place, input.as_bytes()) {
                    assert_eq!(len, text.len());
                    assert_eq!(format!("{request:?}"), format!("{parsed:?}"));
                    recalled += 1;
                }
                let other = input.replace("Host: a", "Host: b");
                assert!(heads.recall(place, other.as_bytes()).is_none());
                assert!(
                    heads
                        .recall(place, &text.as_bytes()[..text.len() - 1])
                        .is_none()
                );
            }
        }
        assert_eq!(recalled, 10, "the plain POSTs");
    }
}
