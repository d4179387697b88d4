//! The little that a simulated viewer reads of a binary frame: its header, and single values.
//! docs/PROTOCOL.md, 2.3.

const HEADER_BYTES: usize = 32;
const SECTION_BYTES: usize = 16;
const MAGIC: u16 = 0x5754;
const VERSION: u8 = 1;

/// A column of 32-bit floats or values of a host view.
const DTYPE_F64: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameType {
    Key,
    Delta,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: FrameType,
    pub(super) view: u32,
    pub(super) seq: u32,
    pub(super) base_seq: u32,
    sections: u16,
    rest: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    encoding: u8,
    dtype: u8,
    pub(super) column: u16,
    n: u32,
    aux: u32,
    pub(super) payload: &'a [u8],
}

/// `None`: not a frame we know.
pub(super) fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    if u16_at(header, 0)? != MAGIC || header[2] != VERSION {
        return None;
    }
    let kind = match header[3] {
        1 => FrameType::Key,
        2 => FrameType::Delta,
        _ => return None,
    };
    Some(Frame {
        kind,
        view: u32_at(header, 4)?,
        seq: u32_at(header, 8)?,
        base_seq: u32_at(header, 12)?,
        sections: u16_at(header, 30)?,
        rest,
    })
}

impl<'a> Frame<'a> {
    /// Ends early at a section that is cut off.
    pub(super) fn sections(&self) -> impl Iterator<Item = Section<'a>> {
        let mut rest = self.rest;
        let mut left = self.sections;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (head, after) = rest.split_first_chunk::<SECTION_BYTES>()?;
            let length = u32_at(head, 8)? as usize;
            let payload = after.get(..length)?;
            rest = after.get(length.next_multiple_of(8)..).unwrap_or(&[]);
            Some(Section {
                encoding: head[0],
                dtype: head[1],
                column: u16_at(head, 2)?,
                n: u32_at(head, 4)?,
                aux: u32_at(head, 12)?,
                payload,
            })
        })
    }
}

impl Section<'_> {
    /// The column's value at `index`, if this section holds one.
    pub(super) fn f64_at(&self, index: usize) -> Option<f64> {
        if self.dtype != DTYPE_F64 {
            return None;
        }
        let n = self.n as usize;
        let (head, position) = match self.encoding {
            0 => (0, index),
            1 => {
                let head = (self.aux as usize).div_ceil(8);
                let bitmap = self.payload.get(..head)?;
                let mask = 1u8 << (index % 8);
                if bitmap.get(index / 8)? & mask == 0 {
                    return None;
                }
                let before = bitmap[..index / 8]
                    .iter()
                    .map(|b| b.count_ones())
                    .sum::<u32>();
                let within = (bitmap[index / 8] & (mask - 1)).count_ones();
                (head, (before + within) as usize)
            }
            2 => {
                let indices = self.payload.get(..n * 2)?;
                let position = (0..n).find(|i| {
                    u16_at(indices, i * 2).is_some_and(|found| usize::from(found) == index)
                })?;
                (n * 2, position)
            }
            3 => {
                let indices = self.payload.get(..n * 4)?;
                let position = (0..n).find(|i| {
                    u32_at(indices, i * 4).is_some_and(|found| found as usize == index)
                })?;
                (n * 4, position)
            }
            _ => return None,
        };
        let at = head.next_multiple_of(8) + position * 8;
        let bytes = self.payload.get(at..)?.first_chunk()?;
        (position < n).then(|| f64::from_le_bytes(*bytes))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Builds frames for tests of everything that reads them.
#[cfg(test)]
pub(super) mod build {
    pub(in crate::agent::fleet) struct Part {
        pub(in crate::agent::fleet) encoding: u8,
        pub(in crate::agent::fleet) dtype: u8,
        pub(in crate::agent::fleet) column: u16,
        pub(in crate::agent::fleet) n: u32,
        pub(in crate::agent::fleet) aux: u32,
        pub(in crate::agent::fleet) payload: Vec<u8>,
    }

    pub(in crate::agent::fleet) fn full(column: u16, values: &[f64]) -> Part {
        Part {
            encoding: 0,
            dtype: 3,
            column,
            n: values.len() as u32,
            aux: 0,
            payload: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    pub(in crate::agent::fleet) fn json(text: &str) -> Part {
        Part {
            encoding: 7,
            dtype: 0,
            column: 0,
            n: 1,
            aux: 0,
            payload: text.as_bytes().to_vec(),
        }
    }

    pub(in crate::agent::fleet) fn frame(
        kind: u8,
        view: u32,
        seq: u32,
        base_seq: u32,
        parts: &[Part],
    ) -> Vec<u8> {
        let mut out = vec![0x54, 0x57, 1, kind];
        for number in [view, seq, base_seq] {
            out.extend(number.to_le_bytes());
        }
        out.extend([0; 14]);
        out.extend((parts.len() as u16).to_le_bytes());
        for part in parts {
            out.extend([part.encoding, part.dtype]);
            out.extend(part.column.to_le_bytes());
            for number in [part.n, part.payload.len() as u32, part.aux] {
                out.extend(number.to_le_bytes());
            }
            out.extend(&part.payload);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::build::{Part, frame, full, json};
    use super::*;

    fn check(part: Part, expected: &[Option<f64>]) {
        let bytes = frame(2, 7, 9, 8, &[json("{}"), part]);
        let parsed = parse(&bytes).unwrap();
        assert_eq!((parsed.kind, parsed.view), (FrameType::Delta, 7));
        assert_eq!((parsed.seq, parsed.base_seq), (9, 8));
        let section = parsed.sections().last().unwrap();
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(section.f64_at(index), *expected, "{index}");
        }
        for cut in 0..bytes.len() {
            if let Some(frame) = parse(&bytes[..cut]) {
                for section in frame.sections() {
                    let _ = section.f64_at(0);
                }
            }
        }
    }

    fn changed(encoding: u8, indices: &[u8], aux: u32, values: &[f64]) -> Part {
        let mut payload = indices.to_vec();
        payload.resize(payload.len().next_multiple_of(8), 0);
        payload.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        Part {
            encoding,
            dtype: 3,
            column: 1,
            n: values.len() as u32,
            aux,
            payload,
        }
    }

    #[test]
    fn values_are_found_in_every_encoding() {
        check(full(1, &[1.0, 2.0]), &[Some(1.0), Some(2.0), None]);
        let bits = changed(1, &[0b1000_0010, 0b1], 9, &[1.5, 7.5, 8.5]);
        check(
            bits,
            &[
                None,
                Some(1.5),
                None,
                None,
                None,
                None,
                None,
                Some(7.5),
                Some(8.5),
                None,
            ],
        );
        check(
            changed(2, &[1, 0, 3, 0], 4, &[1.5, 3.5]),
            &[None, Some(1.5), None, Some(3.5)],
        );
        check(
            changed(3, &[2, 0, 0, 0], 4, &[2.5]),
            &[None, None, Some(2.5), None],
        );
        check(json("{}"), &[None]);
    }

    #[test]
    fn other_bytes_are_not_frames() {
        assert!(parse(&[]).is_none());
        assert!(parse(&[0; 32]).is_none());
        assert!(parse(&frame(3, 1, 1, 0, &[])).is_none());
        let lies = Part {
            n: u32::MAX,
            ..changed(3, &[2, 0, 0, 0], u32::MAX, &[2.5])
        };
        let bytes = frame(1, 1, 1, 0, &[lies]);
        let section = parse(&bytes).unwrap().sections().last().unwrap();
        assert_eq!(section.f64_at(2), None);
    }
}
