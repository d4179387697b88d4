//! HTTP/1.1 requests (RFC 9112), bytes in, requests out. Touches neither sockets nor clocks.
//!
//! httparse reads the head; around it stand the checks it leaves out, each of which closes a known
//! way to smuggle a request past a proxy: line ends, one Host, one length.

use crate::connection::chunked::{Chunked, Progress};
use crate::connection::head::{self, Framing, Request};
use crate::connection::memo::{Heads, Place};
use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, HEAD_READS_MAX};
use crate::reject::{Reason, Reject};

/// One connection's place in its byte stream.
///
/// Invariant: the caller shows the same unconsumed bytes again at each call, longer than before,
/// and drops `consumed` bytes after a [`Step::Request`]. So a head that came whole is parsed in
/// place and nothing is kept; `scanned` only spares a dribbled head from being searched twice.
#[derive(Debug, Default)]
pub struct Http1 {
    scanned: usize,
    reads: u32,
    /// The one empty line that may stand before a request has been.
    skipped: bool,
    place: Place,
    pending: Option<Box<Pending>>,
}

/// A head that came before its body.
#[derive(Debug)]
struct Pending {
    head_len: usize,
    body: Awaited,
}

#[derive(Debug)]
enum Awaited {
    /// Head and body together.
    Sized {
        total: usize,
    },
    Chunked(Chunked),
}

/// What the bytes so far amount to.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart where it is made, never stored"
)]
pub enum Step<'b> {
    /// No whole request yet.
    More,
    /// The peer waits for `100 Continue` before it sends the body.
    Continue,
    /// Leading bytes that mean nothing: drop them and call again.
    Skip { consumed: usize },
    Request {
        request: Request<'b>,
        body: Body<'b>,
        consumed: usize,
    },
}

#[derive(Debug)]
pub enum Body<'b> {
    Borrowed(&'b [u8]),
    Chunked(Box<Chunked>),
}

impl Body<'_> {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::Borrowed(bytes) => bytes,
            Body::Chunked(chunked) => chunked.body(),
        }
    }
}

impl Http1 {
    /// A head is whole and its body is awaited.
    pub fn awaits_body(&self) -> bool {
        self.pending.is_some()
    }

    /// Bytes that head and body will have together, where the head said so.
    pub fn wants(&self) -> usize {
        match &self.pending {
            Some(pending) => match &pending.body {
                Awaited::Sized { total } => *total,
                Awaited::Chunked(_) => 0,
            },
            None => 0,
        }
    }

    /// Of `have` unconsumed bytes, those of the body; what a chunked one says of its chunks apart.
    pub fn body_bytes(&self, have: usize) -> usize {
        match self.pending.as_deref() {
            Some(Pending {
                body: Awaited::Chunked(chunked),
                ..
            }) => chunked.body().len(),
            Some(pending) => have.saturating_sub(pending.head_len),
            None => 0,
        }
    }

    /// Bytes of a chunked body that were taken apart already, and are held beside the raw ones.
    pub fn decoded_bytes(&self) -> usize {
        match self.pending.as_deref() {
            Some(Pending {
                body: Awaited::Chunked(chunked),
                ..
            }) => chunked.held_bytes(),
            _ => 0,
        }
    }

    /// Looks at all unconsumed bytes. `judge` is asked once per request whose body has not come
    /// with its head, so that a refusal needs no body and `100 Continue` is a promise.
    ///
    /// An error is final: answer it and close, since where the next request starts is unknown.
    pub fn receive<'b>(
        &mut self,
        input: &'b [u8],
        heads: &mut Heads,
        judge: impl FnOnce(&Request<'_>) -> Result<(), Reject>,
    ) -> Result<Step<'b>, Reject> {
        if let Some(pending) = self.pending.take() {
            return self.go_on(pending, input);
        }
        if let Some((request, head_len)) = heads.recall(self.place, input) {
            self.forget_search();
            return self.begin(input, request, head_len, judge);
        }
        if input.starts_with(b"\r") && self.skipped {
            let refused = Reject::because(Reason::BadRequestLine, "empty lines before a request");
            return Err(refused);
        }
        if input.starts_with(b"\r\n") {
            // RFC 9112 section 2.2: at least one empty line before a request line is to be ignored.
            self.skipped = true;
            return Ok(Step::Skip { consumed: 2 });
        }
        let Some(head_len) = self.head_end(input)? else {
            return Ok(Step::More);
        };
        let request = head::parse(&input[..head_len])?;
        self.forget_search();
        self.place = heads.learn(&input[..head_len], &request);
        self.begin(input, request, head_len, judge)
    }

    /// A head is found: the next one is searched for from its own first byte.
    fn forget_search(&mut self) {
        (self.scanned, self.reads, self.skipped) = (0, 0, false);
    }

    /// The head is known; what of the body is there?
    fn begin<'b>(
        &mut self,
        input: &'b [u8],
        request: Request<'b>,
        head_len: usize,
        judge: impl FnOnce(&Request<'_>) -> Result<(), Reject>,
    ) -> Result<Step<'b>, Reject> {
        match request.framing {
            Framing::Sized(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if BODY_BYTES_MAX < length {
                    return Err(Reject::new(Reason::BodyTooLarge));
                }
                let total = head_len + length;
                if let Some(body) = input.get(head_len..total) {
                    let body = Body::Borrowed(body);
                    return Ok(Step::Request {
                        request,
                        body,
                        consumed: total,
                    });
                }
                judge(&request)?;
                let body = Awaited::Sized { total };
                self.pending = Some(Box::new(Pending { head_len, body }));
            }
            Framing::Chunked => {
                judge(&request)?;
                let body = Awaited::Chunked(Chunked::default());
                let pending = Box::new(Pending { head_len, body });
                if head_len < input.len() || !request.expects_continue {
                    return self.go_on(pending, input);
                }
                self.pending = Some(pending);
            }
        }
        let waits = request.expects_continue && input.len() == head_len;
        Ok(if waits { Step::Continue } else { Step::More })
    }

    fn go_on<'b>(
        &mut self,
        mut pending: Box<Pending>,
        input: &'b [u8],
    ) -> Result<Step<'b>, Reject> {
        let head_len = pending.head_len;
        let (body, consumed) = match &mut pending.body {
            Awaited::Sized { total } => match input.get(head_len..*total) {
                Some(body) => (Body::Borrowed(body), *total),
                None => {
                    self.pending = Some(pending);
                    return Ok(Step::More);
                }
            },
            Awaited::Chunked(chunked) => match chunked.receive(input, head_len)? {
                Progress::More => {
                    self.pending = Some(pending);
                    return Ok(Step::More);
                }
                Progress::Done { end } => (Body::Chunked(Box::new(std::mem::take(chunked))), end),
            },
        };
        // Parsed a second time rather than kept: a head that waits for its body costs nothing.
        let request = head::parse(&input[..head_len])?;
        Ok(Step::Request {
            request,
            body,
            consumed,
        })
    }

    /// Where the head ends, if it does. Each byte is searched once however it is cut up.
    fn head_end(&mut self, input: &[u8]) -> Result<Option<usize>, Reject> {
        if input.is_empty() {
            return Ok(None);
        }
        let from = self.scanned.saturating_sub(3);
        let window = &input[from..input.len().min(HEAD_BYTES_MAX)];
        if let Some(found) = memchr::memmem::find(window, b"\r\n\r\n") {
            return Ok(Some(from + found + 4));
        }
        self.scanned = input.len().min(HEAD_BYTES_MAX);
        self.reads += 1;
        if HEAD_BYTES_MAX <= input.len() {
            return Err(head::too_large(input));
        }
        if HEAD_READS_MAX < self.reads {
            return Err(Reject::because(
                Reason::TooSlow,
                "the head came in too many pieces",
            ));
        }
        // A bare LF can never become part of a good head: say so now, not after a timeout.
        head::check_line_ends(input, from)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Feeds `input` in pieces of `step` bytes, as a connection does; lists what came out.
    fn run(input: &[u8], step: usize) -> Vec<String> {
        run_pieces(input.chunks(step))
    }

    fn run_pieces<P: AsRef<[u8]>>(pieces: impl IntoIterator<Item = P>) -> Vec<String> {
        let (mut http, mut heads) = (Http1::default(), Heads::default());
        let (mut seen, mut carry) = (Vec::new(), Vec::new());
        for piece in pieces {
            carry.extend_from_slice(piece.as_ref());
            loop {
                let consumed = match http.receive(&carry, &mut heads, |_| Ok(())) {
                    Ok(Step::More) => break,
                    Ok(Step::Continue) => {
                        seen.push("continue".to_owned());
                        break;
                    }
                    Ok(Step::Skip { consumed }) => consumed,
                    Ok(Step::Request {
                        request,
                        body,
                        consumed,
                    }) => {
                        let body = String::from_utf8_lossy(body.bytes()).into_owned();
                        seen.push(format!("{:?} {} {body}", request.method, request.target));
                        consumed
                    }
                    Err(reject) => {
                        seen.push(reject.reason.answer().label.to_owned());
                        return seen;
                    }
                };
                carry.drain(..consumed);
            }
        }
        seen
    }

    /// The meaning of a byte stream may not depend on how it was cut.
    fn check(input: &str, expected: &[&str]) {
        for step in [input.len().max(1), 256, 64] {
            assert_eq!(
                run(input.as_bytes(), step),
                expected,
                "{input:?} in pieces of {step}"
            );
        }
    }

    #[test]
    fn requests_in_a_row() {
        let post = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
        let get = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        check(
            &format!("{post}{get}{post}"),
            &["Post /a hi", "Get /b ", "Post /a hi"],
        );
        check(&format!("\r\n{get}\r\n{get}"), &["Get /b ", "Get /b "]);
        let chunked = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n0\r\n\r\n";
        check(&format!("{chunked}{get}"), &["Post /c abc", "Get /b "]);
    }

    #[test]
    fn every_cut_of_a_pipelined_pair_means_the_same() {
        let input = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi\
                     PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                     3\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let whole = run(input.as_bytes(), input.len());
        assert_eq!(whole, ["Post /a hi", "Other /c abc", "Get / "]);
        for step in 2..input.len() {
            assert_eq!(run(input.as_bytes(), step), whole, "pieces of {step}");
        }
    }

    #[test]
    fn continue_is_asked_for_once() {
        let head =
            "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let mut http = Http1::default();
        assert!(matches!(
            http.receive(head.as_bytes(), &mut Heads::default(), |_| Ok(())),
            Ok(Step::Continue)
        ));
        let all = format!("{head}hi");
        let step = http
            .receive(all.as_bytes(), &mut Heads::default(), |_| {
                panic!("judged twice")
            })
            .unwrap();
        assert!(matches!(step, Step::Request { .. }));
        let old = head.replace("HTTP/1.1", "HTTP/1.0");
        let step = Http1::default().receive(old.as_bytes(), &mut Heads::default(), |_| Ok(()));
        assert!(matches!(step, Ok(Step::More)), "HTTP/1.0 knows no 100");
        let mut http = Http1::default();
        let refused = http.receive(head.as_bytes(), &mut Heads::default(), |_| {
            Err(Reason::NotFound.into())
        });
        assert_eq!(refused.unwrap_err().reason, Reason::NotFound);
    }

    /// Found by the fuzzer: a second empty line was refused when it came with the first, and
    /// awaited when it came alone.
    #[test]
    fn a_second_empty_line_is_refused_however_it_comes() {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for input in ["\r\n\r", "\r\n\r\n", &format!("{get}\r\n\r\n{get}")] {
            let whole = run(input.as_bytes(), input.len());
            assert_eq!(
                whole.last().map(String::as_str),
                Some("bad_request_line"),
                "{input:?}"
            );
            for step in 1..4 {
                assert_eq!(
                    run(input.as_bytes(), step),
                    whole,
                    "{input:?} in pieces of {step}"
                );
            }
        }
    }

    /// Seen while its fuzz target was written: a known head that came in pieces left its searched
    /// length behind, and the next head was searched from there on, to be overlooked or, where it
    /// was shorter, to end the process.
    #[test]
    fn a_known_head_in_pieces_leaves_nothing_behind() {
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let expected = ["Post /metrics hi", "Post /metrics hi", "Get / "];
        for cut in 1..post.len() {
            let (begun, rest) = post.split_at(cut);
            assert_eq!(run_pieces([post, begun, rest, get]), expected, "cut {cut}");
        }
    }

    #[test]
    fn a_refusal_is_final() {
        check("GET / HTTP/1.1\nHost: x\n\n", &["bad_header"]);
        check(
            "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            &["bad_request_line"],
        );
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n",
            "a".repeat(HEAD_BYTES_MAX)
        );
        assert_eq!(run(long.as_bytes(), 4096), ["target_too_long"]);
        let fields = "A: b\r\n".repeat(HEAD_BYTES_MAX / 6);
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        assert_eq!(run(long.as_bytes(), 4096), ["head_too_large"]);
        let slow = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "b".repeat(200));
        assert_eq!(run(slow.as_bytes(), 2), ["too_slow"]);
        let big = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            9 << 20
        );
        check(&big, &["body_too_large"]);
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_taken() {
        let start = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
        let fill = HEAD_BYTES_MAX - start.len() - 4;
        let fits = format!("{start}{}\r\n\r\n", "b".repeat(fill));
        assert_eq!(run(fits.as_bytes(), fits.len()), ["Get / "]);
        let past = format!("{start}{}\r\n\r\n", "b".repeat(fill + 1));
        assert_eq!(run(past.as_bytes(), past.len()), ["head_too_large"]);
    }
}
