//! What a byte stream means may not depend on how the network cut it: the model is the same stream
//! in one piece.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::connection::http1::{Http1, Step};
use tidewall::connection::memo::Heads;

/// One line per request, and the refusal if there is one.
fn run(pieces: &[&[u8]], heads: &mut Heads) -> Vec<String> {
    let (mut http, mut carry, mut seen) = (Http1::default(), Vec::new(), Vec::new());
    for piece in pieces {
        carry.extend_from_slice(piece);
        loop {
            let consumed = match http.receive(&carry, heads, |_| Ok(())) {
                Ok(Step::More | Step::Continue) => break,
                Ok(Step::Skip { consumed }) => consumed,
                Ok(Step::Request {
                    request,
                    body,
                    consumed,
                }) => {
                    seen.push(format!("{request:?} {:?}", body.bytes()));
                    consumed
                }
                Err(_) => {
                    seen.push("refused".to_owned());
                    return seen;
                }
            };
            assert!(0 < consumed && consumed <= carry.len());
            carry.drain(..consumed);
        }
    }
    seen
}

fuzz_target!(|data: (Vec<u8>, u16, u16)| {
    let (stream, one, two) = data;
    let cut = |at: u16| usize::from(at).min(stream.len());
    let (first, second) = (cut(one).min(cut(two)), cut(one).max(cut(two)));
    let mut heads = Heads::default();
    let whole = run(&[&stream], &mut heads);
    let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
    // The second time over the heads are known ones.
    assert_eq!(run(&pieces, &mut heads), whole);
});
