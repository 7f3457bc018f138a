//! One stream: what a run of a worker writes, and where it goes.

use super::file::Dropped;
use super::lines::Lines;
use bgw_core::OutputFile;
use shmem_slots::Key;
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pipe: OwnedFd,
    pub(super) lines: Lines,
    pub(super) key: Key,
    pub(super) to: To,
    /// Not reported yet.
    pub(super) dropped: Option<Dropped>,
    /// The pipe is in the epoll.
    pub(super) watched: bool,
    /// Nobody writes to it any more, but its last lines wait for their reader.
    pub(super) ended: bool,
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum To {
    Nowhere,
    File(OutputFile),
    /// Its number, and whether lines are dropped that it has no room for.
    Outlet(u64, bool),
    /// There is nothing that they could be written to: the error.
    Nothing(i32),
}

impl Stream {
    pub(super) const fn file(&self) -> Option<&OutputFile> {
        match &self.to {
            To::File(file) => Some(file),
            _ => None,
        }
    }

    pub(super) const fn outlet(&self) -> Option<u64> {
        match self.to {
            To::Outlet(number, _) => Some(number),
            _ => None,
        }
    }

    /// It is read, whatever it goes to.
    pub(super) const fn drops(&self) -> bool {
        matches!(self.to, To::Outlet(_, true))
    }
}
