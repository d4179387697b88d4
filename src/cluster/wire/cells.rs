//! Cells by column: the slots once where columns share them, values as short decimals where that
//! is exact.
//!
//! ```text
//! varint groups, each:
//!   varint column, u8 form, [varint count, varint gap of each slot], values, [varint age of each]
//! form  bit 0: the slots are those of the group before; bit 1: their ages, too; bits 2..: 0 f64
//!       values, else decimals of that many places and one: zigzag varints
//! ```

use super::bytes::{Reader, unzigzag, varint, zigzag};
use super::{column, slot};
use crate::limits::{COLUMNS_MAX, HOSTS_MAX};
use crate::sample::{Column, Slot};

/// The newest value of a series of the sender's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    pub column: Column,
    pub slot: Slot,
    pub value: f64,
    /// Milliseconds since it was heard.
    pub age_ms: u32,
}

const SAME_SLOTS: u8 = 1;
const SAME_AGES: u8 = 2;
/// Powers of ten that f64 has exactly, as many as metrics have places.
const SCALES: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// Up to here every whole number is an f64.
const EXACT: f64 = (1_u64 << 53) as f64;

pub(super) fn put(cells: &[Cell], out: &mut Vec<u8>) {
    let mut mantissas = Vec::new();
    let mut before: &[Cell] = &[];
    varint(
        out,
        cells.chunk_by(|a, b| a.column == b.column).count() as u64,
    );
    for group in cells.chunk_by(|a, b| a.column == b.column) {
        varint(out, u64::from(group[0].column));
        let places = decimals(group, &mut mantissas);
        let is_same =
            group.len() == before.len() && group.iter().zip(before).all(|(a, b)| a.slot == b.slot);
        // A host that sends all its metrics at once has one age for all.
        let has_ages = !is_same || group.iter().zip(before).any(|(a, b)| a.age_ms != b.age_ms);
        let mut form = places.map_or(0, |places| places as u8 + 1) << 2;
        form |= if is_same { SAME_SLOTS } else { 0 };
        form |= if has_ages { 0 } else { SAME_AGES };
        out.push(form);
        if !is_same {
            put_slots(group, out);
        }
        if places.is_some() {
            mantissas.iter().for_each(|&m| varint(out, zigzag(m)));
        } else {
            let bytes = group.iter().flat_map(|cell| cell.value.to_le_bytes());
            out.extend(bytes);
        }
        if has_ages {
            group
                .iter()
                .for_each(|cell| varint(out, u64::from(cell.age_ms)));
        }
        before = group;
    }
}

fn put_slots(group: &[Cell], out: &mut Vec<u8>) {
    varint(out, group.len() as u64);
    let mut next = 0;
    for cell in group {
        debug_assert!(next <= cell.slot, "sorted, each once");
        varint(out, u64::from(cell.slot - next));
        next = cell.slot + 1;
    }
}

/// The fewest places by which every value is exact, and the values in units of the last place.
fn decimals(group: &[Cell], mantissas: &mut Vec<i64>) -> Option<usize> {
    let mut places = 0;
    mantissas.clear();
    for cell in group {
        let exact =
            (places..SCALES.len()).find(|&places| mantissa(cell.value, places).is_some())?;
        places = exact;
    }
    for cell in group {
        mantissas.push(mantissa(cell.value, places)?);
    }
    Some(places)
}

#[inline]
fn mantissa(value: f64, places: usize) -> Option<i64> {
    let scaled = (value * SCALES[places]).round();
    let is_exact = scaled.abs() < EXACT && scaled / SCALES[places] == value;
    // Of -0.0 a mantissa has no trace.
    (is_exact && (scaled != 0.0 || value.is_sign_positive())).then_some(scaled as i64)
}

/// None also for more than `most`.
pub(super) fn get(reader: &mut Reader<'_>, most: usize) -> Option<Vec<Cell>> {
    let mut cells: Vec<Cell> = Vec::new();
    let mut before = 0..0;
    for _ in 0..reader.count(COLUMNS_MAX + 1)? {
        let column = column(reader.varint()?)?;
        let form = reader.u8()?;
        let start = cells.len();
        if form & SAME_SLOTS == 0 {
            get_slots(reader, column, &mut cells)?;
        } else {
            // Each takes a byte at least: a message of groups that share slots cannot swell.
            if before.len() > reader.0.len() {
                return None;
            }
            for at in before {
                cells.push(Cell {
                    column,
                    ..cells[at]
                });
            }
        }
        if most < cells.len() || form & (SAME_SLOTS | SAME_AGES) == SAME_AGES {
            return None;
        }
        before = start..cells.len();
        let group = &mut cells[start..];
        get_values(reader, form >> 2, group)?;
        if form & SAME_AGES == 0 {
            for cell in group {
                cell.age_ms = u32::try_from(reader.varint()?).ok()?;
            }
        }
    }
    Some(cells)
}

fn get_slots(reader: &mut Reader<'_>, column: Column, cells: &mut Vec<Cell>) -> Option<()> {
    let count = reader.count(HOSTS_MAX + 1)?;
    let mut next = 0_u64;
    for _ in 0..count {
        let slot = slot(next.checked_add(reader.varint()?)?)?;
        cells.push(Cell {
            column,
            slot,
            value: 0.0,
            age_ms: 0,
        });
        next = u64::from(slot) + 1;
    }
    Some(())
}

fn get_values(reader: &mut Reader<'_>, decimals: u8, group: &mut [Cell]) -> Option<()> {
    let Some(places) = usize::from(decimals).checked_sub(1) else {
        for cell in group {
            cell.value = f64::from_bits(reader.u64()?);
            if !cell.value.is_finite() {
                return None;
            }
        }
        return Some(());
    };
    let scale = SCALES.get(places)?;
    for cell in group {
        cell.value = unzigzag(reader.varint()?) as f64 / scale;
    }
    Some(())
}
