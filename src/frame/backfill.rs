//! BACKFILL: the past of a `lines` view, for the one viewer who asked (PROTOCOL.md 2.3 and 2.4).

use std::borrow::Cow;

use bytes::Bytes;

use super::binary::{Payload, dtype, encoding, frame_type};
use super::reader::FrameView;
use super::view::Format;
use super::{Head, Stamp, json, websocket};
use crate::limits::BACKFILL_BYTES_MAX;

/// Invariant of whoever makes one: every line has the same number of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backfill {
    /// Time of the first points. A point tells of the `step_ms` that end at its time.
    pub from_ms: i64,
    pub step_ms: u32,
    pub lines: Vec<PastLine>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PastLine {
    pub expr: String,
    pub group: Option<String>,
    /// NaN: a gap.
    pub values: Vec<f32>,
}

impl Backfill {
    /// A message of at most [`BACKFILL_BYTES_MAX`]: every second, third, … point where all are too
    /// many. None if there is no point, or the names alone are too long.
    pub fn encode(&self, view: u32, format: Format) -> Option<Bytes> {
        let mut stride = 1;
        while stride <= self.points() {
            let kept = if stride == 1 {
                Cow::Borrowed(self)
            } else {
                Cow::Owned(self.every(stride))
            };
            let bytes = match format {
                Format::Binary => kept.binary(view),
                Format::Json | Format::Default => kept.text(view),
            };
            if bytes.len() <= BACKFILL_BYTES_MAX {
                return Some(bytes);
            }
            // Names do not shrink, so this never goes past the least stride that fits.
            let next = (stride * bytes.len()) / BACKFILL_BYTES_MAX;
            stride = next.max(stride + 1);
        }
        None
    }

    /// Points of each line.
    fn points(&self) -> usize {
        self.lines.first().map_or(0, |line| line.values.len())
    }

    fn time_ms(&self, point: usize) -> i64 {
        let after_ms = i64::from(self.step_ms).saturating_mul(point as i64);
        self.from_ms.saturating_add(after_ms)
    }

    /// Every `stride`th point, the last among them.
    fn every(&self, stride: usize) -> Backfill {
        let first = self.points().saturating_sub(1) % stride;
        let line = |line: &PastLine| PastLine {
            expr: line.expr.clone(),
            group: line.group.clone(),
            values: line
                .values
                .iter()
                .skip(first)
                .step_by(stride)
                .copied()
                .collect(),
        };
        Backfill {
            from_ms: self.time_ms(first),
            step_ms: self.step_ms.saturating_mul(stride as u32),
            lines: self.lines.iter().map(line).collect(),
        }
    }

    /// It is no frame of the view's sequence, so it has no number in it.
    fn head(&self, view: u32) -> Head {
        Head {
            view,
            seq: 0,
            base_seq: 0,
            stamp: Stamp {
                tick: 0,
                time_ms: self.time_ms(self.points().saturating_sub(1)),
                tick_ms: 0,
                host_epoch: 0,
                flags: 0,
            },
        }
    }

    fn binary(&self, view: u32) -> Bytes {
        let mut names = b"{\"lines\":".to_vec();
        json::list(&self.lines, &mut names, |line, out| {
            json::line_name(&line.expr, line.group.as_deref(), out);
            out.push(b'}');
        });
        self.times(&mut names);
        names.push(b'}');
        let mut out = Payload::default();
        out.begin(&self.head(view), frame_type::BACKFILL);
        out.json(0, &names);
        let (lines, points) = (self.lines.len() as u32, self.points() as u32);
        out.section(encoding::APPEND, dtype::F32, 1, lines, points, |out| {
            for value in self.lines.iter().flat_map(|line| &line.values) {
                let value = if value.is_nan() { f32::NAN } else { *value };
                out.extend_from_slice(&value.to_le_bytes());
            }
        });
        out.finish()
    }

    fn text(&self, view: u32) -> Bytes {
        let mut out = Vec::new();
        json::begin(&self.head(view), "lines", "backfill", &mut out);
        self.times(&mut out);
        out.extend_from_slice(b",\"lines\":");
        json::list(&self.lines, &mut out, |line, out| {
            json::line_name(&line.expr, line.group.as_deref(), out);
            out.extend_from_slice(b",\"values\":");
            json::list(&line.values, out, |value, out| number(*value, out));
            out.push(b'}');
        });
        out.push(b'}');
        websocket::text_frame(&out)
    }

    fn times(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"from\":");
        out.extend_from_slice(itoa::Buffer::new().format(self.from_ms).as_bytes());
        out.extend_from_slice(b",\"step_ms\":");
        json::integer(u64::from(self.step_ms), out);
    }

    /// The client's side. None: another frame, or one that contradicts itself.
    pub fn read(frame: &FrameView<'_>) -> Option<Backfill> {
        #[derive(serde::Deserialize)]
        struct Names {
            lines: Vec<Name>,
            from: i64,
            step_ms: u32,
        }
        #[derive(serde::Deserialize)]
        struct Name {
            expr: String,
            group: Option<String>,
        }
        if frame.header.frame_type != frame_type::BACKFILL {
            return None;
        }
        let section = |wanted: u8, column: u16| {
            let mut sections = frame.sections.iter();
            sections.find(|s| s.encoding == wanted && s.column == column)
        };
        let names: Names = serde_json::from_slice(section(encoding::JSON, 0)?.payload).ok()?;
        let points = section(encoding::APPEND, 1)?;
        if points.count != names.lines.len() || points.aux == 0 || names.step_ms == 0 {
            return None;
        }
        let values = points.payload.as_chunks().0.chunks(points.aux);
        let lines = names.lines.into_iter().zip(values);
        let line = |(name, values): (Name, &[[u8; 4]])| PastLine {
            expr: name.expr,
            group: name.group,
            values: values.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        };
        Some(Backfill {
            from_ms: names.from,
            step_ms: names.step_ms,
            lines: lines.map(line).collect(),
        })
    }
}

/// As many digits as tell this number from its neighbours: the binary frame has no more.
fn number(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests;
