//! A page of memory that the postmaster shares with one child, and with nobody else.
//!
//! Made before the fork, so that the child has it; hidden from later children afterwards.

use shmem_slots::primitive::AtomicU64;
use std::io;
use std::ptr::NonNull;

/// How many cells a page holds.
pub(crate) const CELLS: usize = LENGTH / size_of::<AtomicU64>();
/// Pages of 16 or 64 KiB are used in part.
const LENGTH: usize = 4096;

/// A zeroed page. Unmapped when dropped, in this process alone.
#[derive(Debug)]
pub(crate) struct Page(NonNull<AtomicU64>);

impl Page {
    /// Maps a new page.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping, nowhere in particular.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(Self).ok_or_else(|| io::Error::other("a page at address 0"))
    }

    /// The cells.
    pub(crate) fn cells(&self) -> &[AtomicU64; CELLS] {
        // SAFETY: mapped, zeroed and aligned to a page; it stays mapped while `self` lives; other
        // processes touch it by atomic operations only, as we do.
        unsafe { self.0.cast::<[AtomicU64; CELLS]>().as_ref() }
    }

    /// Children forked from now on do not have it.
    pub(crate) fn hide_from_later_children(&self) -> io::Result<()> {
        // SAFETY: the range is our own mapping; the advice changes nothing in this process.
        let done = unsafe { libc::madvise(self.0.as_ptr().cast(), LENGTH, libc::MADV_DONTFORK) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: our own mapping; no reference to it outlives `self`. Cannot fail for a whole one.
        let _ = unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}
