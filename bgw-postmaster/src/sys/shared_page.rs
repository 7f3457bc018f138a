//! A page of memory that the postmaster shares with one child, and with nothing else.
//!
//! It is mapped before the fork, so that the child has it, and hidden from later children
//! afterwards. For a child that another process forks it lies in a file that is passed on.

use super::anon_map::{AnonMap, Sharing};
use shmem_slots::Segment;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

/// How many cells a page holds.
pub(crate) const CELLS: usize = LENGTH / size_of::<AtomicU64>();
/// Larger pages (16 or 64 KiB) are used in part.
const LENGTH: usize = 4096;

/// A zeroed page. Dropping it unmaps it in this process alone.
#[derive(Debug)]
pub(crate) struct SharedPage(AnonMap);

impl SharedPage {
    /// Maps a new page.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(AnonMap::new(LENGTH, Sharing::Shared)?))
    }

    /// Maps a new page of a file that nobody can shrink, which is returned, too.
    pub(crate) fn in_file() -> io::Result<(Self, OwnedFd)> {
        let file = Segment::create_file(LENGTH as u64).map_err(io::Error::other)?;
        Ok((Self::of_file(&file)?, file))
    }

    /// Maps the page of such a file.
    pub(crate) fn of_file(file: &OwnedFd) -> io::Result<Self> {
        Ok(Self(AnonMap::of_sealed(file, LENGTH)?))
    }

    /// The cells.
    pub(crate) const fn cells(&self) -> &[AtomicU64; CELLS] {
        // SAFETY: mapped, zeroed and page-aligned; it stays mapped while `self` lives. Both
        // processes access it by atomic operations only.
        unsafe { self.0.start().cast::<[AtomicU64; CELLS]>().as_ref() }
    }

    /// Children forked from now on do not have it.
    pub(crate) fn hide_from_later_children(&self) -> io::Result<()> {
        self.0.hide_from_later_children()
    }
}
