//! The live state: one cell per series, the newest value of a column on a host.
//!
//! A column is dense (an array over slots: 12 B a cell) once enough hosts have it, else sparse (a
//! hash map). Touches no names and no clock: slots, columns, values and stamps.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::{DEMOTE_DIVISOR, HOSTS_MAX, PROMOTE_DIVISOR, PROMOTE_MIN, SLOTS_STEP};
use crate::sample::{Column, Slot};

/// Value and stamp side by side: a fold touches one cache line, not two. Packed to 12 B.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
struct Cell {
    /// NaN: none.
    value: f64,
    /// Monotonic milliseconds, wrapping after 49 days; cells are cleared long before.
    stamp: u32,
}

const NONE: Cell = Cell {
    value: f64::NAN,
    stamp: 0,
};

const _: () = assert!(size_of::<Cell>() == 12);

enum Store {
    Sparse(HashMap<Slot, Cell, RandomState>),
    /// Indexed by slot; may be shorter than the fleet.
    Dense(Vec<Cell>),
}

struct Cells {
    store: Store,
    /// Cells that hold a value.
    hosts: usize,
    /// Least and greatest value ever seen: the map's scale must not swing.
    least: f64,
    greatest: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Put {
    Done,
    /// A new series past the bound: nothing was stored.
    Full,
}

/// Invariants: `series` is the sum of the columns' hosts; each of those counts the cells that are
/// not NaN; a dense column wastes at most [`DEMOTE_DIVISOR`] cells a series where it last grew.
pub struct Matrix {
    columns: Vec<Cells>,
    series: usize,
    series_max: usize,
    /// One past the highest slot ever put.
    slots: usize,
}

impl Matrix {
    pub fn new(series_max: usize) -> Self {
        Self {
            columns: Vec::new(),
            series: 0,
            series_max,
            slots: 0,
        }
    }

    /// Stores a finite value. No allocation for a series that is there already.
    #[inline]
    pub fn put(&mut self, slot: Slot, column: Column, value: f64, stamp: u32) -> Put {
        if let Some(cells) = self.columns.get_mut(usize::from(column))
            && let Store::Dense(dense) = &mut cells.store
            && let Some(cell) = dense.get_mut(slot as usize)
            && !{ cell.value }.is_nan()
        {
            *cell = Cell { value, stamp };
            cells.widen(value);
            return Put::Done;
        }
        self.put_sparse_or_new(slot, column, value, stamp, self.series_max)
    }

    /// As [`Matrix::put`], whatever the bound: for the columns that excess series are folded into,
    /// at most one series a host.
    pub fn put_unbounded(&mut self, slot: Slot, column: Column, value: f64, stamp: u32) {
        let put = self.put_sparse_or_new(slot, column, value, stamp, usize::MAX);
        debug_assert_eq!(put, Put::Done);
    }

    pub fn value(&self, slot: Slot, column: Column) -> Option<(f64, u32)> {
        let cells = self.columns.get(usize::from(column))?;
        let cell = match &cells.store {
            Store::Sparse(sparse) => sparse.get(&slot),
            Store::Dense(dense) => dense.get(slot as usize),
        }?;
        (!{ cell.value }.is_nan()).then_some((cell.value, cell.stamp))
    }

    /// Every value of a column; in the order of slots when dense.
    pub fn each(&self, column: Column, mut f: impl FnMut(Slot, f64)) {
        self.each_stamped(column, |slot, value, _| f(slot, value));
    }

    #[inline]
    pub fn each_stamped(&self, column: Column, mut f: impl FnMut(Slot, f64, u32)) {
        let Some(cells) = self.columns.get(usize::from(column)) else {
            return;
        };
        match &cells.store {
            Store::Sparse(sparse) => {
                for (&slot, cell) in sparse {
                    f(slot, cell.value, cell.stamp);
                }
            }
            Store::Dense(dense) => {
                for (slot, cell) in dense.iter().enumerate() {
                    if !{ cell.value }.is_nan() {
                        f(slot as Slot, cell.value, cell.stamp);
                    }
                }
            }
        }
    }

    /// Least and greatest value the column ever saw; None before the first.
    pub fn range(&self, column: Column) -> Option<(f64, f64)> {
        let cells = self.columns.get(usize::from(column))?;
        (cells.least <= cells.greatest).then_some((cells.least, cells.greatest))
    }

    /// Hosts that have a value in this column.
    pub fn hosts(&self, column: Column) -> usize {
        self.columns
            .get(usize::from(column))
            .map_or(0, |cells| cells.hosts)
    }

    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    pub fn series(&self) -> usize {
        self.series
    }

    /// Forgets hosts. Column by column, so that one column's memory is visited once for all.
    pub fn clear(&mut self, slots: &[Slot]) {
        for cells in &mut self.columns {
            let before = cells.hosts;
            match &mut cells.store {
                Store::Sparse(sparse) => {
                    for slot in slots {
                        cells.hosts -= usize::from(sparse.remove(slot).is_some());
                    }
                }
                Store::Dense(dense) => {
                    for &slot in slots {
                        if let Some(cell) = dense.get_mut(slot as usize) {
                            cells.hosts -= usize::from(!{ cell.value }.is_nan());
                            *cell = NONE;
                        }
                    }
                }
            }
            self.series -= before - cells.hosts;
        }
    }

    /// Forgets the column's series that brought nothing for `age_max_ms`: a live host may have
    /// stopped to send one of its metrics, and its last value would stand for ever.
    pub fn expire(&mut self, column: Column, stamp: u32, age_max_ms: u32) {
        let Some(cells) = self.columns.get_mut(usize::from(column)) else {
            return;
        };
        let before = cells.hosts;
        let old = |cell: &Cell| stamp.wrapping_sub(cell.stamp) > age_max_ms;
        match &mut cells.store {
            Store::Sparse(sparse) => {
                sparse.retain(|_, cell| !old(cell));
                cells.hosts = sparse.len();
            }
            Store::Dense(dense) => {
                for cell in dense.iter_mut() {
                    if !{ cell.value }.is_nan() && old(cell) {
                        *cell = NONE;
                        cells.hosts -= 1;
                    }
                }
                if dense.len() > cells.hosts.max(PROMOTE_MIN) * DEMOTE_DIVISOR {
                    cells.demote();
                }
            }
        }
        self.series -= before - cells.hosts;
    }

    pub fn invariants(&self) {
        let mut series = 0;
        for (column, cells) in self.columns.iter().enumerate() {
            let mut hosts = 0;
            self.each(column as Column, |slot, value| {
                assert!((slot as usize) < self.slots && value.is_finite());
                assert!(cells.least <= value && value <= cells.greatest);
                hosts += 1;
            });
            assert_eq!(hosts, cells.hosts, "column {column}");
            series += hosts;
        }
        assert_eq!(series, self.series);
    }

    /// The way of small fleets, rare columns and first samples.
    fn put_sparse_or_new(
        &mut self,
        slot: Slot,
        column: Column,
        value: f64,
        stamp: u32,
        series_max: usize,
    ) -> Put {
        debug_assert!(value.is_finite(), "decoding refuses what is not finite");
        let at = usize::from(column);
        if at >= self.columns.len() {
            self.columns.resize_with(at + 1, Cells::new);
        }
        if slot as usize >= self.slots {
            assert!(slot as usize <= HOSTS_MAX, "the catalog gives no such slot");
            self.slots = slot as usize + 1;
        }
        let cells = &mut self.columns[at];
        if cells.update(slot, value, stamp) {
            return Put::Done;
        }
        if self.series >= series_max {
            return Put::Full;
        }
        cells.insert(slot, Cell { value, stamp });
        self.series += 1;
        if cells.hosts >= PROMOTE_MIN && cells.hosts > self.slots / PROMOTE_DIVISOR {
            cells.promote();
        }
        Put::Done
    }
}

impl Cells {
    fn new() -> Self {
        Self {
            store: Store::Sparse(HashMap::default()),
            hosts: 0,
            least: f64::INFINITY,
            greatest: f64::NEG_INFINITY,
        }
    }

    #[inline]
    fn widen(&mut self, value: f64) {
        if value < self.least {
            self.least = value;
        }
        if value > self.greatest {
            self.greatest = value;
        }
    }

    /// False when the series is not there yet.
    fn update(&mut self, slot: Slot, value: f64, stamp: u32) -> bool {
        let cell = match &mut self.store {
            Store::Sparse(sparse) => sparse.get_mut(&slot),
            Store::Dense(dense) => dense
                .get_mut(slot as usize)
                .filter(|cell| !{ cell.value }.is_nan()),
        };
        let Some(cell) = cell else {
            return false;
        };
        *cell = Cell { value, stamp };
        self.widen(value);
        true
    }

    fn insert(&mut self, slot: Slot, cell: Cell) {
        self.hosts += 1;
        self.widen(cell.value);
        let len = (slot as usize + 1).next_multiple_of(SLOTS_STEP);
        if let Store::Dense(dense) = &self.store
            && len > dense.len()
            && len > self.hosts.max(PROMOTE_MIN) * DEMOTE_DIVISOR
        {
            self.demote();
        }
        match &mut self.store {
            Store::Sparse(sparse) => {
                sparse.insert(slot, cell);
            }
            Store::Dense(dense) => {
                if len > dense.len() {
                    dense.reserve_exact(len - dense.len());
                    dense.resize(len, NONE);
                }
                dense[slot as usize] = cell;
            }
        }
    }

    fn promote(&mut self) {
        let Store::Sparse(sparse) = &self.store else {
            return;
        };
        let highest = sparse.keys().copied().max().unwrap_or(0);
        let mut dense = vec![NONE; (highest as usize + 1).next_multiple_of(SLOTS_STEP)];
        for (&slot, &cell) in sparse {
            dense[slot as usize] = cell;
        }
        self.store = Store::Dense(dense);
    }

    fn demote(&mut self) {
        let Store::Dense(dense) = &self.store else {
            return;
        };
        let cells = dense.iter().zip(0..);
        let cells = cells.filter(|(cell, _)| !{ cell.value }.is_nan());
        self.store = Store::Sparse(cells.map(|(&cell, slot)| (slot, cell)).collect());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn is_dense(matrix: &Matrix, column: usize) -> bool {
        matches!(matrix.columns[column].store, Store::Dense(_))
    }

    #[test]
    fn a_column_turns_dense_when_enough_hosts_have_it() {
        let min = PROMOTE_MIN as Slot;
        let mut matrix = Matrix::new(usize::MAX);
        for slot in 0..min - 1 {
            matrix.put(slot, 0, 1.0, 0);
        }
        assert!(!is_dense(&matrix, 0), "one too few");
        matrix.put(min - 1, 0, 1.0, 0);
        assert!(is_dense(&matrix, 0));
        matrix.put(8_000, 1, 1.0, 0);
        for slot in 0..1_000 {
            matrix.put(slot, 2, f64::from(slot), slot);
        }
        assert!(!is_dense(&matrix, 2), "1,000 of 8,001 are an eighth");
        matrix.put(1_000, 2, 1_000.0, 1_000);
        assert!(is_dense(&matrix, 2));
        for slot in 0..=1_000 {
            assert_eq!(matrix.value(slot, 2), Some((f64::from(slot), slot)));
        }
        assert_eq!(matrix.value(1_001, 2), None);
        assert_eq!(matrix.range(2), Some((0.0, 1_000.0)));
        assert_eq!(matrix.range(9), None);
        matrix.invariants();
    }

    /// Columns that a small fleet filled must not cost 12 B x 65,536 each when it grows.
    #[test]
    fn a_column_turns_sparse_rather_than_grow_thin() {
        let mut matrix = Matrix::new(usize::MAX);
        for slot in 0..100 {
            matrix.put(slot, 0, 1.0, 0);
        }
        assert!(is_dense(&matrix, 0));
        matrix.put(60_000, 0, 2.0, 0);
        assert!(!is_dense(&matrix, 0));
        assert_eq!(matrix.value(60_000, 0), Some((2.0, 0)));
        assert_eq!(matrix.hosts(0), 101);
        matrix.invariants();
    }

    #[test]
    fn series_are_bounded() {
        let mut matrix = Matrix::new(2);
        assert_eq!(matrix.put(0, 0, 1.0, 0), Put::Done);
        assert_eq!(matrix.put(1, 0, 1.0, 0), Put::Done);
        assert_eq!(matrix.put(2, 0, 1.0, 0), Put::Full);
        assert_eq!(matrix.put(1, 0, 5.0, 1), Put::Done, "known");
        matrix.put_unbounded(2, 1, 1.0, 0);
        assert_eq!((matrix.series(), matrix.value(2, 0)), (3, None));
        matrix.clear(&[0, 1]);
        assert_eq!(matrix.put(2, 0, 1.0, 0), Put::Done);
        matrix.invariants();
    }

    #[test]
    fn series_expire_across_the_wrap_of_stamps() {
        for hosts in [10, 200] {
            let mut matrix = Matrix::new(usize::MAX);
            let start = u32::MAX - 5;
            for slot in 0..hosts {
                matrix.put(slot, 0, 1.0, start.wrapping_add(slot % 10));
            }
            matrix.expire(0, start.wrapping_add(20), 15);
            assert_eq!(matrix.series(), hosts as usize / 2);
            assert_eq!(matrix.value(4, 0), None);
            assert!(matrix.value(5, 0).is_some());
            matrix.invariants();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behaves_like_a_map(
            ops in prop::collection::vec((0..300_u32, 0..3_u16, -9.0..9.0_f64, 0..40_u8), 0..2_000)
        ) {
            let mut matrix = Matrix::new(700);
            let mut naive = BTreeMap::new();
            for (i, (slot, column, value, op)) in ops.into_iter().enumerate() {
                if op == 0 {
                    matrix.clear(&[slot]);
                    naive.retain(|&(of, _), _| of != slot);
                    continue;
                }
                let new = !naive.contains_key(&(slot, column));
                let full = new && naive.len() >= 700;
                let put = matrix.put(slot, column, value, i as u32);
                prop_assert_eq!(put == Put::Full, full);
                if !full {
                    naive.insert((slot, column), (value, i as u32));
                }
            }
            matrix.invariants();
            prop_assert_eq!(matrix.series(), naive.len());
            for (&(slot, column), &cell) in &naive {
                prop_assert_eq!(matrix.value(slot, column), Some(cell));
            }
        }
    }
}
