//! What a change descriptor and the thread that rings it share.

use super::shared::lock;
use bgw_core::WorkerHandle;
use bgw_core::internals::eventfd;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

/// The side of a descriptor that the thread rings.
#[derive(Debug)]
pub(super) struct Subscriber {
    eventfd: OwnedFd,
    changed: Mutex<BTreeSet<WorkerHandle>>,
}

impl Subscriber {
    /// Nothing has changed yet.
    ///
    /// # Errors
    /// The error of `eventfd`, above all too many open files.
    pub(super) fn new() -> io::Result<Self> {
        let eventfd = eventfd::new_doorbell()?;
        // Above the standard streams, which a program may have closed.
        let is_above = eventfd.as_raw_fd() > 2;
        let eventfd = if is_above { eventfd } else { eventfd.try_clone()? };
        Ok(Self { eventfd, changed: Mutex::default() })
    }

    /// A worker has changed.
    pub(super) fn tell(&self, handle: WorkerHandle) {
        lock(&self.changed).insert(handle);
        self.ring();
    }

    /// Makes the descriptor readable.
    pub(super) fn ring(&self) {
        // It fails only if somebody else closed the descriptor.
        let _ = eventfd::ring(&self.eventfd);
    }

    /// Makes the descriptor unreadable, and returns the workers that have changed.
    pub(super) fn drain(&self) -> Vec<WorkerHandle> {
        // In this order: what changes in between makes it readable again.
        let _ = eventfd::take_rings(&self.eventfd);
        std::mem::take(&mut *lock(&self.changed)).into_iter().collect()
    }
}

impl AsFd for Subscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
