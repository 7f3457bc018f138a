//! Where the cells lie. The protocol knows nothing else of the world.

use crate::cell::Cells;
use crate::error::NotWritable;
use crate::primitive::AtomicU64;
use std::io;

/// What a process may do with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may load and store.
    ReadWrite,
    /// Look and wait: the pages are mapped read-only, and every writing operation is refused.
    ReadOnly,
}

/// An array of atomic cells, of the same length for as long as it lives: a
/// [`Region`](crate::Region) or a [`Heap`].
pub trait Memory: Sealed + Send + Sync {
    /// The cells, to load.
    fn cells(&self) -> Cells<'_>;

    /// What this process may do with them.
    fn access(&self) -> Access {
        Access::ReadWrite
    }

    /// Fails when the memory was damaged from outside: a named file that was truncated, or whose
    /// disk ran full. From then on this process sees zeros of its own in the file's place. Every
    /// operation that can fail then fails with `Damaged`; looks find stale keys only.
    ///
    /// # Errors
    /// What happened to the memory.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// The cells, to load and to store into. The protocol leans on what it has stored: a program
    /// that stores here gets errors and stale keys from the operations that follow.
    ///
    /// # Errors
    /// A region that is attached read-only, or damaged.
    fn writable_cells(&self) -> Result<&[AtomicU64], NotWritable> {
        if self.access() == Access::ReadOnly {
            return Err(NotWritable::ReadOnly);
        }
        if self.check().is_err() {
            return Err(NotWritable::Damaged);
        }
        Ok(self.cells().0)
    }
}

/// Only the memories of this crate are `Memory`: [`Memory::access`] must be the truth.
pub trait Sealed {}

/// Cells of one process, between threads: for unit tests and for loom.
#[derive(Debug)]
pub struct Heap {
    cells: Box<[AtomicU64]>,
}

impl Heap {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { cells: (0..len).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Sealed for Heap {}

impl Memory for Heap {
    #[inline]
    fn cells(&self) -> Cells<'_> {
        Cells(&self.cells)
    }
}
