//! REPLAY: what a map, a ranking or lines showed, for the one viewer who rewound (PROTOCOL.md 2.7).

use bytes::Bytes;

use super::binary::{
    Payload, canonical, dtype, encoding, frame_type, quantise, take_states, write_top,
};
use super::{Content, Head, Line, Stamp, flag, json};

/// A KEY's sections under a header of its own: it is no frame of the view's sequence. None for a
/// kind that is not replayed.
pub fn encode(view: u32, time_ms: i64, host_epoch: u32, content: &Content) -> Option<Bytes> {
    let head = Head {
        view,
        seq: 0,
        base_seq: 0,
        stamp: Stamp {
            tick: 0,
            time_ms,
            tick_ms: 0,
            host_epoch,
            flags: flag::REPLAY,
        },
    };
    let mut out = Payload::default();
    out.begin(&head, frame_type::REPLAY);
    match content {
        Content::Map(map) => {
            let scale = [canonical(map.lo), canonical(map.hi)];
            let mut cells = Vec::new();
            quantise(&map.values, scale, &mut cells);
            full(0, dtype::U8, &cells, &mut out);
            take_states(map, &mut cells);
            full(1, dtype::STATE, &cells, &mut out);
            out.stats(2, &scale);
        }
        Content::Top(top) => write_top(top, &mut out),
        Content::Lines(lines) => write_lines(lines, &mut out),
        Content::Host(_) | Content::Stats(_) => return None,
    }
    Some(out.finish())
}

fn write_lines(lines: &[Line], out: &mut Payload) {
    let mut names = Vec::new();
    json::lines_head(lines, &mut names);
    out.json(0, &names);
    let count = lines.len() as u32;
    out.section(encoding::APPEND, dtype::F32, 1, count, 1, |out| {
        for line in lines {
            let value = canonical(line.value) as f32;
            out.extend_from_slice(&value.to_le_bytes());
        }
    });
}

fn full(column: u16, dtype: u8, cells: &[u8], out: &mut Payload) {
    out.section(
        encoding::FULL,
        dtype,
        column,
        cells.len() as u32,
        0,
        |out| {
            out.extend_from_slice(cells);
        },
    );
}

#[cfg(test)]
mod tests;
