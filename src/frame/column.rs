//! What changed in one column, in the fewest bytes: FULL, LIST or BITMAP (PROTOCOL.md 2.3).

use super::binary::{Payload, encoding};

/// An element of a column: how it is compared and written.
pub(super) trait Cell: Copy {
    /// Bit i is set where `before[i]` and `after[i]` differ on the wire. At most 64 elements.
    fn differ(before: &[Self], after: &[Self]) -> u64;
    fn put(self, out: &mut Vec<u8>);
    fn put_all(cells: &[Self], out: &mut Vec<u8>);
}

/// One column as the viewers have it. The buffers are kept from frame to frame.
pub(super) struct Column<T> {
    /// The frame's number for it.
    number: u16,
    dtype: u8,
    /// What an element is before it was ever sent.
    none: T,
    cells: Vec<T>,
    /// Bit i%64 of word i/64: element i changed.
    changed: Vec<u64>,
}

impl<T: Cell> Column<T> {
    pub(super) fn new(number: u16, dtype: u8, none: T) -> Self {
        Self {
            number,
            dtype,
            none,
            cells: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Takes `next` for what the viewers have; `next` gets the old buffer.
    pub(super) fn replace(&mut self, next: &mut Vec<T>) {
        std::mem::swap(&mut self.cells, next);
    }

    pub(super) fn write_full(&self, out: &mut Payload) {
        let count = self.cells.len() as u32;
        out.section(encoding::FULL, self.dtype, self.number, count, 0, |out| {
            T::put_all(&self.cells, out);
        });
    }

    /// Writes what turns the present cells into `next`, nothing if they are equal, and replaces
    /// them.
    pub(super) fn write_delta(&mut self, next: &mut Vec<T>, out: &mut Payload) {
        let resized = self.cells.len() != next.len();
        self.cells.resize(next.len(), self.none);
        let changes = self.mark(next);
        self.replace(next);
        if changes == 0 && !resized {
            return;
        }
        let (length, wide) = (self.cells.len(), self.cells.len() > 1 << 16);
        if 8 * changes >= 7 * length {
            self.write_full(out);
        } else if wide && 32 * changes < length {
            self.write_changed(encoding::LIST32, changes, out, |changed, out| {
                each(changed, |index| {
                    out.extend_from_slice(&(index as u32).to_le_bytes());
                });
            });
        } else if !wide && 16 * changes < length {
            self.write_changed(encoding::LIST16, changes, out, |changed, out| {
                each(changed, |index| {
                    out.extend_from_slice(&(index as u16).to_le_bytes());
                });
            });
        } else {
            self.write_changed(encoding::BITMAP, changes, out, |changed, out| {
                for word in changed {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            });
        }
    }

    /// Fills `changed` and counts.
    fn mark(&mut self, next: &[T]) -> usize {
        let mut count = 0;
        self.changed.clear();
        let pairs = self.cells.chunks(64).zip(next.chunks(64));
        self.changed.extend(pairs.map(|(before, after)| {
            let word = T::differ(before, after);
            count += word.count_ones() as usize;
            word
        }));
        count
    }

    fn write_changed(
        &self,
        encoding: u8,
        changes: usize,
        out: &mut Payload,
        places: impl FnOnce(&[u64], &mut Vec<u8>),
    ) {
        let (count, length) = (changes as u32, self.cells.len() as u32);
        out.section(encoding, self.dtype, self.number, count, length, |out| {
            places(&self.changed, out);
            out.resize(out.len().next_multiple_of(8), 0);
            each(&self.changed, |index| self.cells[index].put(out));
        });
    }
}

fn each(changed: &[u64], mut visit: impl FnMut(usize)) {
    for (place, &word) in changed.iter().enumerate() {
        let mut rest = word;
        while rest != 0 {
            visit(64 * place + rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}

impl Cell for u8 {
    /// Eight bytes a step: most of a calm fleet's column is skipped by one comparison each.
    fn differ(before: &[u8], after: &[u8]) -> u64 {
        let (before, before_rest) = before.as_chunks::<8>();
        let (after, after_rest) = after.as_chunks::<8>();
        let mut word = 0;
        for (at, (before, after)) in before.iter().zip(after).enumerate() {
            let differing = u64::from_le_bytes(*before) ^ u64::from_le_bytes(*after);
            if differing != 0 {
                word |= nonzero_bytes(differing) << (8 * at);
            }
        }
        let tail = 8 * before.len();
        for (at, (before, after)) in before_rest.iter().zip(after_rest).enumerate() {
            word |= u64::from(before != after) << (tail + at);
        }
        word
    }

    fn put(self, out: &mut Vec<u8>) {
        out.push(self);
    }

    fn put_all(cells: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(cells);
    }
}

/// Bit i is set if byte i is not zero: carries lift each byte's answer to its top bit, a multiply
/// gathers the top bits.
fn nonzero_bytes(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let tops = (((word & LOW) + LOW) | word) & !LOW;
    (tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

impl Cell for f64 {
    /// By bits, so that NaN equals itself. Callers send one NaN only.
    fn differ(before: &[f64], after: &[f64]) -> u64 {
        let pairs = before.iter().zip(after).enumerate();
        pairs.fold(0, |word, (at, (before, after))| {
            word | u64::from(before.to_bits() != after.to_bits()) << at
        })
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn put_all(cells: &[f64], out: &mut Vec<u8>) {
        for cell in cells {
            cell.put(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_bytes_are_found_one_by_one() {
        let before: Vec<u8> = (0..61).collect();
        for at in 0..before.len() {
            for bit in 0..8 {
                let mut after = before.clone();
                after[at] ^= 1 << bit;
                assert_eq!(u8::differ(&before, &after), 1 << at);
                assert_eq!(u8::differ(&after, &before), 1 << at);
            }
        }
        let all = vec![255; 64];
        assert_eq!(u8::differ(&[0; 64], &all), u64::MAX);
        assert_eq!(u8::differ(&all, &all), 0);
    }

    #[test]
    fn the_smallest_encoding_is_chosen() {
        use encoding::{BITMAP, FULL, LIST16, LIST32};
        for (length, changes, expected) in [
            (64, 0, None),
            (64, 3, Some(LIST16)),
            (64, 4, Some(BITMAP)),
            (64, 55, Some(BITMAP)),
            (64, 56, Some(FULL)),
            (1, 1, Some(FULL)),
            (65_536, 4_095, Some(LIST16)),
            (65_536, 4_096, Some(BITMAP)),
            (65_537, 2_048, Some(LIST32)),
            (65_537, 2_049, Some(BITMAP)),
        ] {
            let mut column = Column::new(0, 0, 255_u8);
            column.replace(&mut vec![9; length]);
            let mut next = vec![9; length];
            next[length - changes..].fill(8);
            let mut out = Payload::default();
            column.write_delta(&mut next, &mut out);
            let actual = out.bytes().first().copied();
            assert_eq!(actual, expected, "{changes} of {length}");
        }
    }
}
