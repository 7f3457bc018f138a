//! Where the cells lie. The protocol sees nothing else of the world.

use crate::primitive::AtomicU64;
use std::io;

/// What a holder of a region may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Look: the pages are mapped read-only, and every writing operation is refused.
    ReadOnly,
}

/// An array of atomic cells, of the same length for as long as it lives.
pub trait Memory: Send + Sync {
    /// The cells.
    ///
    /// In a region attached [`Access::ReadOnly`] they may be loaded and waited on; a store into one
    /// faults as any store into read-only memory does. The operations of this crate ask first.
    fn cells(&self) -> &[AtomicU64];

    /// Whether they may be written.
    fn access(&self) -> Access {
        Access::ReadWrite
    }

    /// Fails when the memory has been damaged from outside: a named file that was truncated, or
    /// that lay on a disk that ran full. From then on this process sees zeros of its own in its
    /// place, and every operation with an error to give gives `Damaged`; looks find only stale keys.
    ///
    /// # Errors
    /// What has happened to it.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Cells of one process: for unit tests and for loom.
#[derive(Debug)]
pub struct Heap {
    cells: Box<[AtomicU64]>,
}

impl Heap {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { cells: (0..len).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Memory for Heap {
    fn cells(&self) -> &[AtomicU64] {
        &self.cells
    }
}
