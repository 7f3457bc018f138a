//! Mapping a region's file.

use crate::primitive::AtomicU64;
use memmap2::{Advice, Mmap, MmapOptions, MmapRaw};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A shared mapping of the first bytes of a file, as cells.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The first cell: a copy, so that the way to a cell has no branch.
    base: *const AtomicU64,
    cells: usize,
    /// Unmaps when dropped.
    raw: Raw,
}

// SAFETY: `base` points to memory that any thread may access atomically (I2), and that stays mapped
// while the `Mapping` lives (I1), in whatever thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

#[derive(Debug)]
enum Raw {
    Write(MmapRaw),
    Read(Mmap),
}

impl Mapping {
    /// Maps `bytes` bytes of `file`, shared with every process that maps it. The file must be that
    /// long.
    pub(crate) fn new(file: impl AsFd, bytes: usize, writable: bool) -> io::Result<Self> {
        let file = file.as_fd().as_raw_fd();
        let mut options = MmapOptions::new();
        options.len(bytes);
        let raw = if writable {
            Raw::Write(options.map_raw(file)?)
        } else {
            // SAFETY: `Mmap` can hand out its bytes as a plain slice, which other processes change.
            // This crate never takes that slice, only the pointer, and loads by atomics (I2, I4).
            Raw::Read(unsafe { options.map(file) }?)
        };
        let base = match &raw {
            Raw::Write(raw) => raw.as_ptr(),
            Raw::Read(raw) => raw.as_ptr(),
        };
        Ok(Self { base: base.cast(), cells: bytes / 8, raw })
    }

    /// The addresses from the first byte to behind the last one.
    pub(crate) fn range(&self) -> (usize, usize) {
        let start = self.base.addr();
        (start, start + self.cells * 8)
    }

    /// Has the kernel enter the first `most` bytes in this process's page table.
    pub(crate) fn populate(&self, most: usize) -> io::Result<()> {
        let most = most.min(self.cells * 8);
        match &self.raw {
            Raw::Write(raw) => raw.advise_range(Advice::PopulateRead, 0, most),
            Raw::Read(raw) => raw.advise_range(Advice::PopulateRead, 0, most),
        }
    }

    /// Children that are forked from now on do not have this mapping. A child must not use it.
    pub(crate) fn hide_from_children(&self) -> io::Result<()> {
        match &self.raw {
            Raw::Write(raw) => raw.advise(Advice::DontFork),
            Raw::Read(raw) => raw.advise(Advice::DontFork),
        }
    }

    /// The cells.
    #[inline]
    pub(crate) fn cells(&self) -> &[AtomicU64] {
        // SAFETY: `cells * 8` bytes from `base` are mapped while `self` lives (I1). A mapping
        // begins on a page, so it is aligned. Any bytes are an AtomicU64, and every process
        // accesses them atomically (I2). A read-only mapping is only loaded from (I4).
        unsafe { std::slice::from_raw_parts(self.base, self.cells) }
    }
}

/// Puts zeroed private pages in the place of the mapping at `start`. Safe in a signal handler: one
/// system call. Returns whether it was done.
///
/// # Safety
/// - `start` to `start + len` is a mapping of this process that a live [`Mapping`] stands for.
pub(super) unsafe fn replace_by_zeros(start: usize, len: usize) -> bool {
    // SAFETY: by the caller's promise the range is a mapping of cells. What replaces it has the
    // same length and can be read and written, so I1 still holds, with zeros for contents.
    let zeros = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    zeros != libc::MAP_FAILED
}
