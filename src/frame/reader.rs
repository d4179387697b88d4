//! The client's side of the binary frames: bytes to a picture (PROTOCOL.md 2.3 and 2.5).
//!
//! For simulated viewers and tests. Takes bytes from anyone: a section that contradicts itself
//! never reaches a picture, and what a picture may grow to is bounded.

use super::binary::quantum;
use super::binary::{HEADER_BYTES, MAGIC, SECTION_BYTES, VERSION, dtype, encoding, frame_type};
use crate::limits::READER_CELLS_MAX;

/// A frame, its sections borrowed from the message.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameView<'a> {
    pub header: Header,
    /// Those of a known encoding, checked: lengths fit, indices ascend and lie inside the column.
    pub sections: Vec<Section<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header {
    pub frame_type: u8,
    pub view: u32,
    pub seq: u32,
    pub base_seq: u32,
    pub time_ms: f64,
    pub host_epoch: u32,
    pub flags: u16,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Section<'a> {
    pub encoding: u8,
    pub dtype: u8,
    pub column: u16,
    pub count: usize,
    pub aux: usize,
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseError {
    #[error("the frame ends too early")]
    Short,
    #[error("the frame has bytes after its last section")]
    Long,
    #[error("not a frame of this protocol")]
    Magic,
    #[error("version {0} is not known")]
    Version(u8),
    #[error("section {0} contradicts itself")]
    Section(usize),
}

pub fn parse(bytes: &[u8]) -> Result<FrameView<'_>, ParseError> {
    let (head, mut rest) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or(ParseError::Short)?;
    if u16_at(head, 0) != MAGIC {
        return Err(ParseError::Magic);
    }
    if head[2] != VERSION {
        return Err(ParseError::Version(head[2]));
    }
    let header = Header {
        frame_type: head[3],
        view: u32_at(head, 4),
        seq: u32_at(head, 8),
        base_seq: u32_at(head, 12),
        time_ms: f64_at(head, 16),
        host_epoch: u32_at(head, 24),
        flags: u16_at(head, 28),
    };
    let mut sections = Vec::new();
    for index in 0..usize::from(u16_at(head, 30)) {
        let (section, after) = split_section(rest).ok_or(ParseError::Short)?;
        rest = after;
        match section.check() {
            Some(true) => sections.push(section),
            Some(false) => {}
            None => return Err(ParseError::Section(index)),
        }
    }
    if !rest.is_empty() {
        return Err(ParseError::Long);
    }
    Ok(FrameView { header, sections })
}

fn split_section(bytes: &[u8]) -> Option<(Section<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(SECTION_BYTES)?;
    let length = u32_at(head, 8) as usize;
    let (padded, rest) = rest.split_at_checked(length.checked_next_multiple_of(8)?)?;
    let section = Section {
        encoding: head[0],
        dtype: head[1],
        column: u16_at(head, 2),
        count: u32_at(head, 4) as usize,
        aux: u32_at(head, 12) as usize,
        payload: &padded[..length],
    };
    Some((section, rest))
}

impl Section<'_> {
    /// Whether the encoding is known; None if the section breaks its rules.
    fn check(&self) -> Option<bool> {
        let Section { count, payload, .. } = *self;
        if count > READER_CELLS_MAX || self.aux > READER_CELLS_MAX {
            return None;
        }
        let fits = match self.encoding {
            encoding::FULL => payload.len() == count * self.width()?,
            encoding::BITMAP | encoding::LIST16 | encoding::LIST32 => {
                let places = self.places_bytes().next_multiple_of(8);
                payload.len() == places + count * self.width()? && self.places_ascend()
            }
            encoding::APPEND => {
                let cells = count.saturating_mul(self.aux);
                let is_small = cells <= READER_CELLS_MAX;
                is_small && self.dtype == dtype::F32 && payload.len() == 4 * cells
            }
            encoding::TOP => {
                let slots = (4 * count).next_multiple_of(8);
                self.dtype == dtype::F64 && payload.len() == slots + 8 * count
            }
            encoding::JSON => str::from_utf8(payload).is_ok(),
            encoding::STATS => self.dtype == dtype::F64 && payload.len() == 8 * count,
            _ => return Some(false),
        };
        fits.then_some(true)
    }

    /// Bytes of an element.
    fn width(&self) -> Option<usize> {
        match self.dtype {
            dtype::U8 | dtype::STATE => Some(1),
            dtype::F32 => Some(4),
            dtype::F64 => Some(8),
            _ => None,
        }
    }

    fn places_bytes(&self) -> usize {
        match self.encoding {
            encoding::BITMAP => self.aux.div_ceil(8),
            encoding::LIST16 => 2 * self.count,
            encoding::LIST32 => 4 * self.count,
            _ => 0,
        }
    }

    /// The payload is long enough.
    fn places_ascend(&self) -> bool {
        let (mut count, mut end, mut ascend) = (0, 0, true);
        self.each_place(|place| {
            ascend &= place >= end;
            end = place + 1;
            count += 1;
        });
        ascend && count == self.count && end <= self.aux
    }

    /// Which elements changed.
    fn each_place(&self, mut visit: impl FnMut(usize)) {
        let bytes = &self.payload[..self.places_bytes()];
        match self.encoding {
            encoding::LIST16 => {
                each(bytes, |at| visit(u16::from_le_bytes(at).into()));
            }
            encoding::LIST32 => {
                each(bytes, |at| visit(u32::from_le_bytes(at) as usize));
            }
            _ => {
                for (index, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                    let set = (0..8).filter(|bit| byte >> bit & 1 == 1);
                    set.for_each(|bit| visit(8 * index + bit));
                }
            }
        }
    }

    fn json(&self) -> Option<String> {
        let text = str::from_utf8(self.payload).ok();
        let text = text.filter(|_| self.encoding == encoding::JSON);
        text.map(str::to_owned)
    }

    fn stats<const N: usize>(&self) -> Option<[f64; N]> {
        let numbers = collect(self.payload, f64::from_le_bytes);
        let numbers = numbers.try_into().ok();
        numbers.filter(|_| self.encoding == encoding::STATS)
    }

    fn points(&self) -> Option<Vec<f32>> {
        let is_one_each = self.encoding == encoding::APPEND && self.aux == 1;
        is_one_each.then(|| collect(self.payload, f32::from_le_bytes))
    }

    fn rows(&self) -> Option<Vec<(u32, f64)>> {
        if self.encoding != encoding::TOP {
            return None;
        }
        let slots_bytes = 4 * self.count;
        let (slots, values) = self.payload.split_at(slots_bytes.next_multiple_of(8));
        let slots = collect(&slots[..slots_bytes], u32::from_le_bytes);
        let values = collect(values, f64::from_le_bytes);
        Some(slots.into_iter().zip(values).collect())
    }

    /// Turns the column of the base into this frame's.
    fn update<T, const N: usize>(
        &self,
        cells: &mut Vec<T>,
        is_key: bool,
        none: T,
        dtype: u8,
        read: fn([u8; N]) -> T,
    ) -> Option<()>
    where
        T: Copy,
    {
        if self.dtype != dtype {
            return None;
        }
        if is_key || self.encoding == encoding::FULL {
            cells.clear();
        }
        match self.encoding {
            encoding::FULL => each(self.payload, |bytes| cells.push(read(bytes))),
            encoding::BITMAP | encoding::LIST16 | encoding::LIST32 => {
                cells.resize(self.aux, none);
                let values = &self.payload[self.places_bytes().next_multiple_of(8)..];
                let mut values = values.as_chunks().0.iter();
                self.each_place(|place| {
                    if let Some(value) = values.next() {
                        cells[place] = read(*value);
                    }
                });
            }
            _ => return None,
        }
        Some(())
    }
}

fn each<const N: usize>(bytes: &[u8], mut visit: impl FnMut([u8; N])) {
    bytes.as_chunks().0.iter().for_each(|chunk| visit(*chunk));
}

fn collect<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let chunks = bytes.as_chunks().0.iter();
    chunks.map(|chunk| read(*chunk)).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(fixed(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(fixed(bytes, at))
}

fn f64_at(bytes: &[u8], at: usize) -> f64 {
    f64::from_le_bytes(fixed(bytes, at))
}

/// Of a header, whose length is known.
fn fixed<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|offset| bytes[at + offset])
}

/// What a viewer of one view shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    view: u32,
    /// Of the last frame applied.
    pub header: Option<Header>,
    /// A frame was missed: grey until a KEY comes.
    pub stale: bool,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Map {
        lo: f64,
        hi: f64,
        values: Vec<u8>,
        states: Vec<u8>,
    },
    Lines {
        head: String,
        points: Vec<f32>,
    },
    Top {
        rows: Vec<(u32, f64)>,
    },
    Host {
        head: String,
        values: Vec<f64>,
        state: f64,
        age_ms: f64,
        interval_ms: f64,
    },
    Stats {
        json: String,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Applied,
    /// Frames were missed, or this one does not fit the view: ask for a KEY, once.
    NeedsResync,
    /// Another view's frame, one of another type, or a DELTA while waiting for the KEY.
    Ignored,
}

impl Picture {
    /// `kind` and `view` as the `schema` message names them. None for an unknown kind.
    pub fn new(kind: &str, view: u32) -> Option<Picture> {
        let body = match kind {
            "map" => Body::Map {
                lo: 0.0,
                hi: 0.0,
                values: Vec::new(),
                states: Vec::new(),
            },
            "lines" => Body::Lines {
                head: String::new(),
                points: Vec::new(),
            },
            "top" => Body::Top { rows: Vec::new() },
            "host" => Body::Host {
                head: String::new(),
                values: Vec::new(),
                state: 0.0,
                age_ms: 0.0,
                interval_ms: 0.0,
            },
            "stats" => Body::Stats {
                json: String::new(),
            },
            _ => return None,
        };
        Some(Picture {
            view,
            header: None,
            stale: false,
            body,
        })
    }

    pub fn apply(&mut self, frame: &FrameView<'_>) -> Outcome {
        let header = frame.header;
        let known = [frame_type::KEY, frame_type::DELTA].contains(&header.frame_type);
        if header.view != self.view || !known {
            return Outcome::Ignored;
        }
        let is_key = header.frame_type == frame_type::KEY;
        if !is_key && self.stale {
            return Outcome::Ignored;
        }
        let follows = self.header.is_some_and(|last| {
            header.base_seq == last.seq && header.seq == last.seq.wrapping_add(1)
        });
        if !(is_key || follows) || self.body.apply(frame, is_key).is_none() {
            self.stale = true;
            return Outcome::NeedsResync;
        }
        self.header = Some(header);
        self.stale = false;
        Outcome::Applied
    }

    /// Shows a REPLAY frame, which has no place in the sequence: no DELTA follows it. False:
    /// another frame, or one that does not fit the view.
    pub fn rewind(&mut self, frame: &FrameView<'_>) -> bool {
        let header = frame.header;
        if header.view != self.view || header.frame_type != frame_type::REPLAY {
            return false;
        }
        self.stale = true;
        self.header = Some(header);
        self.body.apply(frame, true).is_some()
    }
}

impl Body {
    /// None if a section does not fit the kind, or a KEY lacks one; the body is then good for
    /// nothing but the next KEY.
    fn apply(&mut self, frame: &FrameView<'_>, is_key: bool) -> Option<()> {
        let wanted = match self {
            Body::Map { .. } | Body::Host { .. } => 0b111,
            Body::Lines { .. } => 0b11,
            Body::Top { .. } | Body::Stats { .. } => 0b1,
        };
        let mut seen = 0;
        for section in &frame.sections {
            self.take(section, is_key)?;
            seen |= 1_u32.checked_shl(section.column.into()).unwrap_or(0);
        }
        (!is_key || seen & wanted == wanted).then_some(())
    }

    fn take(&mut self, section: &Section<'_>, is_key: bool) -> Option<()> {
        let byte = |[byte]: [u8; 1]| byte;
        match (self, section.column) {
            (Body::Map { values, .. }, 0) => {
                section.update(values, is_key, quantum::NONE, dtype::U8, byte)?;
            }
            (Body::Map { states, .. }, 1) => {
                section.update(states, is_key, 0, dtype::STATE, byte)?;
            }
            (Body::Map { lo, hi, .. }, 2) => [*lo, *hi] = section.stats()?,
            (Body::Lines { head, .. } | Body::Host { head, .. }, 0) => *head = section.json()?,
            (Body::Lines { points, .. }, 1) => *points = section.points()?,
            (Body::Top { rows }, 0) => *rows = section.rows()?,
            (Body::Host { values, .. }, 1) => {
                section.update(values, is_key, f64::NAN, dtype::F64, f64::from_le_bytes)?;
            }
            (
                Body::Host {
                    state,
                    age_ms,
                    interval_ms,
                    ..
                },
                2,
            ) => [*state, *age_ms, *interval_ms] = section.stats()?,
            (Body::Stats { json }, 0) => *json = section.json()?,
            // A later version's.
            _ => {}
        }
        Some(())
    }
}
