//! The cells that belong to the layer above: some for the whole array, and a
//! set of 32 for each slot. There may be spare sets, numbered as slots behind the last one.
//!
//! The first 8 of a set lie on one line. The others lie behind everything else, and take memory
//! only where they are used.
//!
//! The protocol of the slots never touches them. They outlive a slot's tenants, and a reset.

use crate::cell::CellRef;
use crate::error::NotWritable;
use crate::layout::{Layout, SLOT_CELLS};
use crate::memory::Memory;
use crate::primitive::AtomicU64;
use crate::slots::Slots;
use bytemuck::Pod;
use std::ops::Range;

impl Layout {
    fn shared_cell(&self, number: u32) -> Option<usize> {
        (number < self.shape.shared_cells).then_some(self.shared + number as usize)
    }

    fn checked_slot_cell(&self, index: u32, place: usize) -> Option<usize> {
        (index < self.shape.sets() && place < SLOT_CELLS).then(|| self.slot_cell(index, place))
    }
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Shared cell number `number`, to load or wait on.
    #[must_use]
    pub fn shared_cell(&self, number: u32) -> Option<CellRef<'_>> {
        self.layout.shared_cell(number).map(|cell| CellRef(self.cell(cell)))
    }

    /// Cell `place` (0 to 31) of set `index`, that of the slot with this number, to load or wait
    /// on. 0 to 7 share a cache line.
    #[must_use]
    pub fn slot_cell(&self, index: u32, place: usize) -> Option<CellRef<'_>> {
        self.layout.checked_slot_cell(index, place).map(|cell| CellRef(self.cell(cell)))
    }

    /// The shared cells and the slot cells, to store into.
    ///
    /// # Errors
    /// A region that is attached read-only, or damaged.
    #[inline]
    pub fn writable_cells(&self) -> Result<WritableCells<'_>, NotWritable> {
        Ok(WritableCells { cells: self.memory.writable_cells()?, layout: &self.layout })
    }
}

/// The cells of the layer above in a region that may be written.
#[derive(Clone, Copy, Debug)]
pub struct WritableCells<'a> {
    cells: &'a [AtomicU64],
    layout: &'a Layout,
}

impl<'a> WritableCells<'a> {
    pub(crate) const fn cells(self) -> &'a [AtomicU64] {
        self.cells
    }

    /// Where the own annex of set `index` lies.
    pub(crate) fn own_annex(self, index: u32) -> Option<Range<usize>> {
        let exists = index < self.layout.shape.sets();
        exists.then(|| self.layout.own_annex(index))
    }

    /// Shared cell number `number`.
    #[must_use]
    pub fn shared_cell(self, number: u32) -> Option<&'a AtomicU64> {
        self.cells.get(self.layout.shared_cell(number)?)
    }

    /// All shared cells, in order.
    #[must_use]
    pub fn shared_cells(self) -> &'a [AtomicU64] {
        let start = self.layout.shared;
        let end = start + self.layout.shape.shared_cells as usize;
        self.cells.get(start..end).unwrap_or(&[])
    }

    /// Cell `place` (0 to 31) of set `index`. 0 to 7 share a cache line.
    #[must_use]
    pub fn slot_cell(self, index: u32, place: usize) -> Option<&'a AtomicU64> {
        self.cells.get(self.layout.checked_slot_cell(index, place)?)
    }
}
