//! What a peer gets with its welcome, and what it may request.

use bgw_core::internals::WorkerSlots;
use bgw_core::{Pid, ShutdownMode, StartTime};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What every peer gets when it attaches.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) slots: Arc<WorkerSlots>,
    /// The region again, opened read-only.
    pub(crate) region_read_only: OwnedFd,
    pub(crate) postmaster_pidfd: Arc<OwnedFd>,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) postmaster: Pid,
    /// The names of the postmaster's functions, sorted.
    pub(crate) functions: Arc<[String]>,
}

impl Welcome {
    /// The descriptors that go with a welcome: a read-only peer maps the region read-only and does not
    /// ring.
    pub(super) fn descriptors(&self, read_only: bool) -> Vec<BorrowedFd<'_>> {
        if read_only {
            vec![self.region_read_only.as_fd(), self.postmaster_pidfd.as_fd()]
        } else {
            let region = self.slots.region().as_fd();
            vec![region, self.postmaster_pidfd.as_fd(), self.doorbell.as_fd()]
        }
    }
}

/// What the server has to do after it has read a message of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerRequest {
    /// Nothing: it was answered, or there was none.
    Nothing,
    /// It has attached.
    Attached,
    /// Take in all slot changes, then acknowledge.
    Ping,
    /// Shut down, then acknowledge.
    Shutdown(ShutdownMode),
    /// The cluster has reached a phase; acknowledge.
    Phase(StartTime),
    /// Forward a reload, then acknowledge.
    Reload,
    /// The connection is over: close the session.
    Closed,
}
