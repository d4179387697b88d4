//! Frames mean what RFC 6455 says however they are cut; what is said back is exactly the pongs and
//! one close.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::connection::websocket::{Bounds, Socket, Status};
use tidewall::limits::VIEWER_MESSAGE_BYTES_MAX;
use tidewall::reject::Reason;
use tidewall_fuzz::cuts;
use tidewall_fuzz::websocket::{End, Heard, Parting, floods, listen};

const GOODBYE: (u16, &str) = (1012, "restart");
const SORRY: (u16, &str) = (1002, "");

fn close_payload((code, reason): (u16, &str)) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Says close once it has seen as many bytes as `parting` has it.
fn run(pieces: &[&[u8]], bounds: Bounds, parting: Parting<'_>) -> Heard {
    let (mut socket, mut heard, mut taken) = (Socket::new(bounds), Heard::default(), 0);
    let mut pieces = pieces.iter();
    let part = |socket: &mut Socket, out: &mut Vec<u8>, taken| {
        if parting.is_some_and(|(at, _)| at <= taken) && !socket.is_closing() {
            socket.close(GOODBYE.0, GOODBYE.1, out);
        }
    };
    part(&mut socket, &mut heard.out, 0);
    for piece in pieces.by_ref() {
        let messages = &mut heard.messages;
        let status = socket.receive(piece, 0, &mut heard.out, |message, _| {
            messages.push(format!("{message:?}"));
            Ok(())
        });
        taken += piece.len();
        heard.end = match status {
            Ok(Status::Open) => End::Open,
            Ok(Status::Closed) => End::Closed,
            Err(reject) => End::Refused(reject.reason),
        };
        if heard.end != End::Open {
            break;
        }
        part(&mut socket, &mut heard.out, taken);
    }
    let unfinished = socket.unfinished().filter(|_| heard.end == End::Open);
    heard.held = unfinished.map(|message| message.bytes);
    let left: Vec<&[u8]> = pieces.copied().collect();
    afterwards(&mut socket, &heard, &left);
    heard
}

/// A driver may go on reading while its last bytes are on their way.
fn afterwards(socket: &mut Socket, heard: &Heard, left: &[&[u8]]) {
    let mut out = Vec::new();
    let owed = match heard.end {
        End::Open => return,
        End::Refused(_) if !socket.is_closing() => [&[0x88, 2][..], &close_payload(SORRY)].concat(),
        _ => Vec::new(),
    };
    socket.close(SORRY.0, SORRY.1, &mut out);
    for piece in left {
        let _ = socket.receive(piece, 0, &mut out, |_, _| {
            panic!("a message after the close")
        });
    }
    assert_eq!(out, owed);
}

fuzz_target!(|data: &[u8]| {
    let [size, parts, data @ ..] = data else {
        return;
    };
    let mut bounds = Bounds::new(VIEWER_MESSAGE_BYTES_MAX);
    if size % 2 == 1 {
        // In reach of short inputs. Its own frames must fit too.
        bounds.message_bytes_max = 130;
        bounds.fragments_max = 4;
        bounds.pings_per_ten_seconds_max = 5;
    }
    let Some((pieces, stream)) = cuts::cut(data, usize::MAX) else {
        return;
    };
    // After the piece of this number.
    let last = usize::from(*parts).checked_sub(1);
    let seen = last.map(|last| pieces.iter().take(last).map(|piece| piece.len()).sum());
    let goodbye = close_payload(GOODBYE);
    let parting = seen.map(|seen| (seen, &goodbye[..]));

    let expected = listen(stream, bounds, parting);
    let shown = stream.escape_ascii();
    let floods = floods(stream, bounds);
    for pieces in [&pieces[..], &[stream]] {
        if parting.is_some() && pieces.len() == 1 {
            continue;
        }
        let heard = run(pieces, bounds, parting);
        let flooded = [Reason::PingFlood, Reason::TooManyFragments]
            .iter()
            .any(|reason| heard.end == End::Refused(*reason));
        if floods && flooded {
            // Headers are counted before the frames of the same read are understood.
            assert!(expected.messages.starts_with(&heard.messages), "{shown}");
            assert!(expected.out.starts_with(&heard.out), "{shown}");
            assert_ne!(expected.end, End::Open);
        } else {
            assert_eq!(heard, expected, "{shown}");
        }
    }
});
