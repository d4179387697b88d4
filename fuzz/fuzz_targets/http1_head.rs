//! A head means what RFC 9112 says and nothing else, and one that is recognised means what it meant
//! when it was parsed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::connection::head::{Framing, Method, Request, parse};
use tidewall::connection::memo::Heads;
use tidewall_fuzz::http;

/// The head if it is one, parsed and judged by the model.
fn check(head: &[u8]) -> Option<Request<'_>> {
    let parsed = parse(head);
    if head.starts_with(b"\r\n") {
        // A connection drops the empty line before it looks for a head.
        return None;
    }
    let expected = http::head(head);
    let shown = head.escape_ascii();
    match (parsed, expected) {
        (Ok(request), Some(expected)) => {
            assert_eq!(format!("{request:?}"), format!("{expected:?}"), "{shown}");
            Some(request)
        }
        (Err(reject), None) => {
            let status = reject.reason.answer().status;
            assert!(
                [400, 414, 417, 431, 505].contains(&status),
                "{shown}: {reject:?}"
            );
            None
        }
        (parsed, expected) => panic!("{shown}: {parsed:?}, expected {expected:?}"),
    }
}

/// What an agent sends all day.
fn is_plain(head: &[u8], request: &Request<'_>) -> bool {
    request.method == Method::Post
        && request.minor == 1
        && request.keep_alive
        && matches!(request.framing, Framing::Sized(_))
        && !request.expects_continue
        && !request.preflight
        && request.upgrade.is_none()
        && request.cookie.is_none()
        && request.origin.is_none()
        // One in absolute form has no path of its own.
        && head.starts_with(b"POST /")
}

fn recall(heads: &mut Heads, head: &[u8], request: &Request<'_>, other: &[u8]) {
    let place = heads.learn(head, request);
    let input = [head, other].concat();
    let recalled = heads.recall(place, &input);
    assert!(recalled.is_some() || !is_plain(head, request));
    let same = |recalled: Option<(Request<'_>, usize)>| {
        if let Some((known, len)) = recalled {
            assert_eq!(
                (format!("{known:?}"), len),
                (format!("{request:?}"), head.len())
            );
        }
    };
    same(recalled);
    // One bit off is another head.
    let mut wrong = input.clone();
    let at = input.len() % head.len();
    wrong[at] ^= 1 << (input.len() % 8);
    assert!(heads.recall(place, &wrong).is_none());
    assert!(heads.recall(place, &head[..head.len() - 1]).is_none());
    // Whatever is learnt later, a place gives this head or none.
    if let Ok(later) = parse(other) {
        heads.learn(other, &later);
        same(heads.recall(place, &input));
    }
}

fuzz_target!(|data: &[u8]| {
    let end = data.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, other) = data.split_at(end.map_or(data.len(), |at| at + 4));
    let closed = [head, b"\r\n\r\n"].concat();
    let head = if end.is_none() { &closed } else { head };
    check(data);
    if let Some(request) = check(head) {
        recall(&mut Heads::default(), head, &request, other);
    }
});
