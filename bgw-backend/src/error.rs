//! Errors of a backend: one enum for each kind of request.

use bgw_core::{Attachment, EntryPoint, Pid, debug_as_chain};
use shmem_slots::{ClaimError, ClaimLost, FlagError};
use std::io;

/// Why this process may not change the cluster.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotWritable {
    /// The attachment is read-only.
    #[error("this attachment is read-only; connect without read_only to change the cluster")]
    ReadOnly,
    /// This process is a forked child of the one that attached.
    #[error(
        "this process is a forked child of backend {owner}; it must connect to the postmaster itself"
    )]
    ForkedChild {
        /// The process that attached.
        owner: Pid,
    },
    /// The shared region is shorter than it was.
    #[error("the shared region was truncated; stop this cluster and start it anew")]
    Damaged,
}

impl NotWritable {
    /// Fails unless this process may change the cluster of `attachment`. One system call.
    pub(crate) fn check(attachment: &Attachment) -> Result<(), Self> {
        if attachment.is_read_only() {
            return Err(Self::ReadOnly);
        }
        if !attachment.is_mine() {
            return Err(Self::ForkedChild { owner: attachment.owner() });
        }
        Ok(())
    }
}

impl From<shmem_slots::NotWritable> for NotWritable {
    fn from(reason: shmem_slots::NotWritable) -> Self {
        match reason {
            shmem_slots::NotWritable::ReadOnly => Self::ReadOnly,
            shmem_slots::NotWritable::Damaged => Self::Damaged,
        }
    }
}

/// Why a worker could not be registered. Nothing is half registered then, except where a variant
/// says so.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// All slots are taken.
    #[error(
        "no free worker slot: {in_use} of {capacity} are in use; wait for a worker to end, or raise max_workers"
    )]
    NoFreeSlot {
        /// How many slots there are.
        capacity: u32,
        /// How many are taken.
        in_use: u32,
    },
    /// All slots of the parallel class are taken.
    #[error(
        "no free slot for a parallel worker: {in_use} of {limit} are in use; go on with fewer, wait for one to end, or raise max_parallel_workers"
    )]
    NoParallelSlot {
        /// How many there are.
        limit: u32,
        /// How many are taken.
        in_use: u32,
    },
    /// The postmaster has no such function.
    #[error("function: the postmaster has no \"{name}\"; it has {known}")]
    UnknownFunction {
        /// The name in the description.
        name: String,
        /// The names that the postmaster has.
        known: String,
    },
    /// The postmaster lets backends register no workers of this kind.
    #[error(
        "backends of this cluster may not register {kind}; use a function, or build the postmaster with {setting}(true)"
    )]
    NotAllowed {
        /// The kind.
        kind: &'static str,
        /// The setting of the postmaster's builder that allows it.
        setting: &'static str,
    },
    /// The notify target is another process than the caller.
    #[error(
        "notify: the description names process {asked}, but a backend can only be notified itself; it is {own}"
    )]
    NotifyTarget {
        /// The process in the description.
        asked: Pid,
        /// The caller.
        own: Pid,
    },
    /// The notification would end this process.
    #[error(
        "notify: this process does not handle SIGUSR1, so the notification would end it; call enable_notifications() first, or install a handler"
    )]
    NotifyUnhandled,
    /// This process may not change the cluster.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// This process is the postmaster.
    #[error(
        "this process is a postmaster and cannot register workers dynamically; register static ones before it runs, or let another process do it"
    )]
    Postmaster,
    /// The postmaster is dead.
    #[error("postmaster {pid} has died; connect to its successor")]
    PostmasterDied {
        /// Its pid.
        pid: Pid,
    },
    /// A reset or the sweeper took the claimed slot away.
    #[error("the cluster was reset while the worker was being registered; register it again")]
    ClaimLost(#[from] ClaimLost),
    /// No slot could be claimed, for a reason not listed above.
    #[error("claiming a worker slot failed")]
    Claim(#[source] ClaimError),
    /// The doorbell could not be rung. The worker is registered: the postmaster sees it the next
    /// time that anybody rings.
    #[error("the worker is registered, but ringing the postmaster's doorbell failed")]
    Doorbell(#[source] io::Error),
    /// The handler of SIGUSR1 could not be read or installed.
    #[error(transparent)]
    Signals(#[from] SignalsError),
}

impl RegisterError {
    /// The entry point is of a kind that may not be registered.
    pub(crate) const fn not_allowed(entry: &EntryPoint) -> Self {
        let (kind, setting) = match entry {
            EntryPoint::Library { .. } => ("libraries", "allow_libraries"),
            EntryPoint::Function(_) | EntryPoint::Command { .. } => ("commands", "allow_commands"),
        };
        Self::NotAllowed { kind, setting }
    }

    pub(crate) fn of_claim(error: ClaimError, parallel: bool) -> Self {
        match error {
            ClaimError::Full { capacity, in_use } if parallel => {
                Self::NoParallelSlot { limit: capacity, in_use }
            }
            ClaimError::Full { capacity, in_use } => Self::NoFreeSlot { capacity, in_use },
            ClaimError::NotWritable(reason) => NotWritable::from(reason).into(),
            other => Self::Claim(other),
        }
    }
}

/// Why a worker could not be terminated.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TerminateError {
    /// This process may not change the cluster.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The worker's slot could not be flagged, for a reason not listed above.
    #[error("flagging the worker's slot failed")]
    Flag(#[source] FlagError),
    /// The doorbell could not be rung. The flag is set: the postmaster sees it the next time that
    /// anybody rings.
    #[error("the worker is flagged, but ringing the postmaster's doorbell failed")]
    Doorbell(#[source] io::Error),
}

impl From<FlagError> for TerminateError {
    fn from(error: FlagError) -> Self {
        match error {
            FlagError::NotWritable(reason) => NotWritable::from(reason).into(),
            other => Self::Flag(other),
        }
    }
}

/// Why a worker's latch could not be set.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LatchError {
    /// This process may not change the cluster.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The worker polls and could not be signalled. Its latch is set: it sees that at its next
    /// wake-up.
    #[error("the latch is set, but signalling its worker, which polls, failed")]
    Signal(#[source] io::Error),
}

/// Why a wait ended without an answer.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline passed first.
    #[error("the wait timed out")]
    TimedOut,
    /// The waiting process must not wait any longer. It is a worker that must end or whose statement
    /// is cancelled ([`crate::Worker::check_interrupts`] returns which), or a handler of the program
    /// called [`crate::interrupt_waits`].
    #[error("a signal interrupted the wait")]
    Interrupted,
    /// There are no handles, so nothing could end the wait.
    #[error("no handle was given, so nothing could end the wait")]
    NoHandles,
    /// The handles come from more connections than one wait can watch.
    #[error("the handles come from {clusters} connections; one wait can watch {limit}")]
    TooManyClusters {
        /// How many there are.
        clusters: usize,
        /// The most.
        limit: usize,
    },
    /// The system call failed.
    #[error("futex_waitv failed")]
    Futex(#[from] shmem_slots::futex::WaitError),
    /// The wait on latch and sockets failed.
    #[error(transparent)]
    WaitSet(#[from] bgw_core::WaitError),
}

/// Why a signal handler or the signal mask could not be set.
#[derive(thiserror::Error)]
#[error("{what} failed")]
pub struct SignalsError {
    /// The step that failed.
    pub what: &'static str,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl SignalsError {
    pub(crate) fn at(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { what, source }
    }
}

debug_as_chain!(NotWritable, RegisterError, TerminateError, LatchError, WaitError, SignalsError,);
