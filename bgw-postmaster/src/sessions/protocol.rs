//! What a peer gets with its welcome, and what it may request.

use bgw_core::internals::{EventRing, RollPart, RollRequest, SegmentRequest, WorkerSlots};
use bgw_core::{Pid, ShutdownMode, StartTime, WorkerHandle};
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
    pub(crate) alarm: Arc<OwnedFd>,
    pub(crate) postmaster: Pid,
    /// The postmaster's functions, as lines, sorted.
    pub(crate) functions: Arc<[String]>,
    pub(crate) events: Option<Arc<EventRing>>,
}

impl Welcome {
    /// The descriptors that go with a welcome: a read-only peer maps the region read-only and does
    /// not ring.
    pub(super) fn descriptors(&self, read_only: bool) -> Vec<BorrowedFd<'_>> {
        let mut descriptors = if read_only {
            vec![self.region_read_only.as_fd(), self.postmaster_pidfd.as_fd()]
        } else {
            let region = self.slots.region().as_fd();
            vec![region, self.postmaster_pidfd.as_fd(), self.doorbell.as_fd(), self.alarm.as_fd()]
        };
        descriptors.extend(self.events.iter().map(|events| events.region().as_fd()));
        descriptors
    }
}

/// What the server has to do after it has read a message of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// End the pause of a worker, then acknowledge.
    RestartNow(WorkerHandle),
    /// Kill a worker, then acknowledge.
    Kill(WorkerHandle),
    /// Answer with the last lines of a worker's output, later.
    LastLines(WorkerHandle),
    /// Answer who is left of a shutdown, from this slot on.
    Left(u32),
    /// Give it a place to wait for a slot, and so many envelopes.
    Queue { waits: bool, gifts: u8 },
    /// Answer what it asks about a segment.
    Segment(SegmentRequest),
    /// Load the template of this name anew, or refuse it.
    Refork(String),
    /// Keep these workers for a roll, then acknowledge.
    ToRoll(RollPart),
    /// Begin a roll, or refuse it.
    Roll(RollRequest),
    /// Forward a reload, then acknowledge.
    Reload,
    /// The connection is over: close the session.
    Closed,
}
