//! A byte stream means what RFC 9112 says, however the network cut it and whatever heads the core
//! has seen before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::connection::memo::Heads;
use tidewall_fuzz::connection::Connection;
use tidewall_fuzz::{cuts, http};

fn run(pieces: &[&[u8]], heads: &mut Heads) -> Vec<String> {
    let mut connection = Connection::default();
    for piece in pieces {
        connection.receive(piece, heads);
    }
    connection.seen
}

fuzz_target!(|data: &[u8]| {
    let Some((pieces, stream)) = cuts::cut(data, Connection::PIECES_MAX) else {
        return;
    };
    let expected = http::requests(stream);
    let mut heads = Heads::default();
    assert_eq!(run(&[stream], &mut heads), expected, "whole");
    assert_eq!(run(&pieces, &mut heads), expected, "cut, heads known");
    assert_eq!(run(&pieces, &mut Heads::default()), expected, "cut");
});
