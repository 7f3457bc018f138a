//! A cell as safe code may have it from any region: to load and to wait on.
//!
//! A region may be mapped read-only. A store into such a mapping faults, and Rust gives it no
//! meaning at all. So a reference to the atomic itself is handed out only by what has looked at the
//! access first ([`Slots::writable_cells`](crate::Slots::writable_cells)); everybody else gets a
//! [`CellRef`], which has no store.
//!
//! Ordering. The standard library allows relaxed loads of up to the width of a pointer from
//! read-only memory, and says nothing for loads with a stronger order. So a load here is relaxed
//! and an acquire fence follows it, which orders at least as much. On x86-64 both compile to the
//! same instruction.

use crate::primitive::{AtomicU64, Ordering, fence};
use std::fmt;

#[cfg(all(not(loom), not(target_pointer_width = "64")))]
compile_error!("loads of 64-bit cells from read-only mappings need a 64-bit target");

/// One cell of a region, or any other atomic: loaded and waited on, never stored into.
#[derive(Clone, Copy)]
pub struct CellRef<'a>(pub(crate) &'a AtomicU64);

impl CellRef<'_> {
    /// The value now. An acquire: what was written before the value was stored is visible.
    #[inline]
    #[must_use]
    pub fn load(self) -> u64 {
        load_acquire(self.0)
    }
}

impl<'a> From<&'a AtomicU64> for CellRef<'a> {
    fn from(cell: &'a AtomicU64) -> Self {
        Self(cell)
    }
}

impl fmt::Debug for CellRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CellRef({:#x})", self.load())
    }
}

/// The cells of a region, in order: loaded and waited on, never stored into.
#[derive(Clone, Copy)]
pub struct Cells<'a>(pub(crate) &'a [AtomicU64]);

impl<'a> Cells<'a> {
    /// How many cells there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// Returns true when there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The cells, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = CellRef<'a>> {
        self.0.iter().map(CellRef)
    }
}

impl fmt::Debug for Cells<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cells", self.len())
    }
}

/// An acquire load, also from a read-only mapping: see the head of the module.
#[inline]
pub(crate) fn load_acquire(cell: &AtomicU64) -> u64 {
    let bits = cell.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    bits
}
