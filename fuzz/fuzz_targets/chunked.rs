//! A chunked body is the same however it is cut, and what RFC 9112 says it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::connection::chunked::{Chunked, Progress};
use tidewall_fuzz::cuts;
use tidewall_fuzz::http::{Chunks, chunks};

/// What came before the body on the connection.
const HEAD: &[u8] = b"0\r\n";

fn decode(pieces: &[&[u8]], expected: &Chunks) -> Chunks {
    let (mut chunked, mut input) = (Chunked::default(), HEAD.to_vec());
    for piece in pieces {
        input.extend_from_slice(piece);
        let progress = chunked.receive(&input, HEAD.len());
        if let Chunks::Done { body, .. } = expected {
            assert!(body.starts_with(chunked.body()));
        }
        match progress {
            Ok(Progress::More) => {}
            Ok(Progress::Done { end }) => {
                assert!(HEAD.len() < end && end <= input.len());
                assert!(chunked.body().len() < end - HEAD.len());
                let again = chunked.receive(&input, HEAD.len());
                assert_eq!(again, Ok(Progress::Done { end }));
                let (body, end) = (chunked.body().to_vec(), end - HEAD.len());
                return Chunks::Done { body, end };
            }
            Err(reject) => {
                let status = reject.reason.answer().status;
                assert!([400, 413, 431].contains(&status), "{reject:?}");
                return Chunks::Refused;
            }
        }
    }
    Chunks::More
}

fuzz_target!(|data: &[u8]| {
    let Some((pieces, stream)) = cuts::cut(data, usize::MAX) else {
        return;
    };
    let expected = chunks(stream);
    assert_eq!(
        decode(&[stream], &expected),
        expected,
        "{}",
        stream.escape_ascii()
    );
    assert_eq!(
        decode(&pieces, &expected),
        expected,
        "{}",
        stream.escape_ascii()
    );
});
