//! Mapping a region's file.

use crate::memory::Access;
use crate::primitive::AtomicU64;
use memmap2::{MmapOptions, MmapRaw};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A shared mapping of the first bytes of a file, as cells.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Where the cells begin: a copy, so that the way to a cell has no branch.
    base: *const AtomicU64,
    cells: usize,
    /// Unmaps when dropped.
    raw: Raw,
}

// SAFETY: `base` points to memory that any thread may touch atomically (I2), and that stays mapped
// while the `Mapping` lives (I1), in whatever thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

#[derive(Debug)]
enum Raw {
    Write(MmapRaw),
    Read(memmap2::Mmap),
}

impl Mapping {
    /// Maps `bytes` bytes of `file`, shared with all who map it. The file must be that long.
    pub(crate) fn new(file: impl AsFd, bytes: usize, access: Access) -> io::Result<Self> {
        let file = file.as_fd().as_raw_fd();
        let mut options = MmapOptions::new();
        options.len(bytes);
        let raw = match access {
            Access::ReadWrite => Raw::Write(options.map_raw(file)?),
            // SAFETY: `Mmap` would hand out its bytes as a plain slice, which others change: we never
            // take that slice, only the pointer, and read it by atomic operations (I2).
            Access::ReadOnly => Raw::Read(unsafe { options.map(file) }?),
        };
        let base = match &raw {
            Raw::Write(raw) => raw.as_ptr(),
            Raw::Read(raw) => raw.as_ptr(),
        };
        Ok(Self { base: base.cast(), cells: bytes / 8, raw })
    }

    /// Where the mapping lies, as numbers.
    pub(crate) fn range(&self) -> (usize, usize) {
        let start = self.base.addr();
        (start, start + self.cells * 8)
    }

    /// Has the kernel enter the first `most` bytes in this process's page table.
    pub(crate) fn populate(&self, most: usize) -> io::Result<()> {
        let most = most.min(self.cells * 8);
        match &self.raw {
            Raw::Write(raw) => raw.advise_range(memmap2::Advice::PopulateRead, 0, most),
            Raw::Read(raw) => raw.advise_range(memmap2::Advice::PopulateRead, 0, most),
        }
    }

    /// The cells.
    #[inline]
    pub(crate) fn cells(&self) -> &[AtomicU64] {
        // SAFETY: `cells * 8` bytes from `base` are mapped while `self` lives (I1); a mapping begins
        // on a page, so it is aligned; any bytes are an AtomicU64, and all access to them, by
        // whatever process, is atomic (I2). A read-only mapping is only ever loaded from
        // (I4).
        unsafe { std::slice::from_raw_parts(self.base, self.cells) }
    }
}
