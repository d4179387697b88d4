//! Frames from anybody: a reader takes only what keeps the rules of PROTOCOL.md 2.3, stays small,
//! and shows the same when it is shown the same KEY again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::frame::backfill::Backfill;
use tidewall::frame::reader::{Body, FrameView, Outcome, Picture, parse};
use tidewall::frame::view::Format;
use tidewall::frame::websocket;
use tidewall::limits::{BACKFILL_BYTES_MAX, READER_CELLS_MAX};

const KINDS: [&str; 5] = ["map", "lines", "top", "host", "stats"];
/// The vectors'.
const VIEW: u32 = 7;

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// The sections as they lie in the bytes: encoding, dtype, n, aux, payload. None: not a frame.
fn sections(frame: &[u8]) -> Option<Vec<[&[u8]; 5]>> {
    if !frame.starts_with(b"TW\x01") || frame.len() < 32 {
        return None;
    }
    let mut sections = Vec::new();
    let mut at = 32;
    for _ in 0..number(&frame[30..32]) {
        let head = frame.get(at..at + 16)?;
        let length = number(&head[8..12]);
        let payload = frame.get(at + 16..at + 16 + length)?;
        at += 16 + length.div_ceil(8) * 8;
        sections.push([&head[..1], &head[1..2], &head[4..8], &head[12..], payload]);
    }
    (at == frame.len()).then_some(sections)
}

/// Whether a section keeps its rules; None for an encoding nobody knows.
fn is_good([encoding, dtype, n, aux, payload]: [&[u8]; 5]) -> Option<bool> {
    let (encoding, dtype, n, aux) = (encoding[0], dtype[0], number(n), number(aux));
    let width = match dtype {
        0 | 5 => Some(1),
        2 => Some(4),
        3 => Some(8),
        _ => None,
    };
    let pad = |bytes: usize| bytes.div_ceil(8) * 8;
    let listed = |step: usize| {
        let places = payload.get(..step * n)?.chunks(step).map(number);
        Some((places.collect::<Vec<_>>(), pad(step * n)))
    };
    let places = match encoding {
        0..=3 if width.is_none() => return Some(false),
        0 => Some((Vec::new(), 0)),
        1 => payload.get(..aux.div_ceil(8)).map(|bits| {
            let set = |at: &usize| bits[at / 8] >> (at % 8) & 1 == 1;
            ((0..8 * bits.len()).filter(set).collect(), pad(bits.len()))
        }),
        2 => listed(2),
        3 => listed(4),
        4 => {
            let cells = n * aux;
            let is_small = cells <= READER_CELLS_MAX;
            return Some(is_small && dtype == 2 && payload.len() == 4 * cells);
        }
        6 => return Some(dtype == 3 && payload.len() == pad(4 * n) + 8 * n),
        7 => return Some(str::from_utf8(payload).is_ok()),
        8 => return Some(dtype == 3 && payload.len() == 8 * n),
        _ => return None,
    };
    let Some((places, bytes)) = places else {
        return Some(false);
    };
    let ascend = places.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = places.last().is_none_or(|last| *last < aux);
    let counted = encoding == 0 || places.len() == n;
    Some(ascend && inside && counted && payload.len() == bytes + n * width.unwrap_or(0))
}

fn check(bytes: &[u8], parsed: Option<&FrameView<'_>>) {
    let small = |s: &[&[u8]; 5]| number(s[2]).max(number(s[3])) <= READER_CELLS_MAX;
    let expected = sections(bytes).and_then(|all| {
        let good = all.iter().all(|s| small(s) && is_good(*s) != Some(false));
        good.then(|| {
            all.into_iter()
                .filter(|s| is_good(*s).is_some())
                .collect::<Vec<_>>()
        })
    });
    let payloads = parsed.map(|frame| frame.sections.iter().map(|s| s.payload).collect());
    let expected: Option<Vec<&[u8]>> = expected.map(|all| all.iter().map(|s| s[4]).collect());
    assert_eq!(payloads, expected);
    if let Some(FrameView { header, .. }) = parsed {
        let numbers = [header.view, header.seq, header.base_seq, header.host_epoch];
        let at = [4, 8, 12, 24].map(|at| number(&bytes[at..at + 4]) as u32);
        assert_eq!(
            (numbers, usize::from(header.flags)),
            (at, number(&bytes[28..30]))
        );
    }
}

fn cells(body: &Body) -> usize {
    match body {
        Body::Map { values, states, .. } => values.len().max(states.len()),
        Body::Lines { points, .. } => points.len(),
        Body::Top { rows } => rows.len(),
        Body::Host { values, .. } => values.len(),
        Body::Stats { .. } => 0,
    }
}

fn show(picture: &mut Picture, frame: &FrameView<'_>) {
    let before = format!("{picture:?}");
    let (was_stale, header) = (picture.stale, frame.header);
    let outcome = picture.apply(frame);
    assert!(cells(&picture.body) <= READER_CELLS_MAX);
    match outcome {
        Outcome::Ignored => assert_eq!(format!("{picture:?}"), before),
        Outcome::NeedsResync => assert!(picture.stale),
        Outcome::Applied => {
            assert!(!picture.stale && picture.header.map(|h| h.seq) == Some(header.seq));
            assert!(header.frame_type == 1 || !was_stale);
            // A KEY says everything, whatever was shown before.
            let mut again = Picture::new(kind(&picture.body), VIEW).unwrap();
            if header.frame_type == 1 {
                assert_eq!(again.apply(frame), Outcome::Applied);
                assert_eq!(format!("{again:?}"), format!("{picture:?}"));
            }
        }
    }
}

/// What is read of a past is what the encoder writes of it, if it is no more than may be sent.
fn look_back(frame: &FrameView<'_>) {
    let Some(past) = Backfill::read(frame) else {
        return;
    };
    assert_eq!(frame.header.frame_type, 3);
    let cells: usize = past.lines.iter().map(|line| line.values.len()).sum();
    assert!(cells <= READER_CELLS_MAX && past.step_ms != 0);
    let Some(bytes) = past.encode(VIEW, Format::Binary) else {
        return;
    };
    assert!(bytes.len() <= BACKFILL_BYTES_MAX);
    let again = Backfill::read(&parse(websocket::payload_of(&bytes).unwrap()).unwrap());
    let again = again.unwrap();
    if again.step_ms == past.step_ms {
        // NaN is no number's equal.
        assert_eq!(format!("{again:?}"), format!("{past:?}"));
    }
}

/// What is read of a replay fits its kind, and is no base for any DELTA.
fn rewind(kind: &str, frame: &FrameView<'_>) {
    let mut picture = Picture::new(kind, VIEW).unwrap();
    let before = format!("{picture:?}");
    if picture.rewind(frame) {
        assert!(frame.header.frame_type == 4 && picture.stale);
    } else if frame.header.frame_type != 4 {
        assert_eq!(format!("{picture:?}"), before);
    }
    assert!(cells(&picture.body) <= READER_CELLS_MAX);
}

fn kind(body: &Body) -> &'static str {
    KINDS[match body {
        Body::Map { .. } => 0,
        Body::Lines { .. } => 1,
        Body::Top { .. } => 2,
        Body::Host { .. } => 3,
        Body::Stats { .. } => 4,
    }]
}

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else {
        return;
    };
    let kind = KINDS[usize::from(*first) % KINDS.len()];
    let mut picture = Picture::new(kind, VIEW).unwrap();
    // Two bytes of length, then the frame.
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let bytes = &after[..length];
        let parsed = parse(bytes).ok();
        check(bytes, parsed.as_ref());
        if let Some(frame) = &parsed {
            show(&mut picture, frame);
            look_back(frame);
            rewind(kind, frame);
        }
        rest = &after[length..];
    }
});
