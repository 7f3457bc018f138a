//! Errors of a backend, an enum a kind of request.

use bgw_core::Pid;
use std::io;

/// Why a worker could not be registered, or a request could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The notify target is another process than the caller.
    #[error(
        "notify: process {asked} was named, but a backend can only ask to be notified itself (it is {own})"
    )]
    NotifyTarget {
        /// Who was named.
        asked: Pid,
        /// The caller.
        own: Pid,
    },
    /// The notification would end this process.
    #[error(
        "notify: this process does not handle SIGUSR1, so the notification would end it; call enable_notifications() first, or install a handler"
    )]
    NotifyUnhandled,
    /// The attachment may look but not touch.
    #[error("this attachment is read-only; connect without read_only to register or terminate")]
    ReadOnly,
    /// This process is a forked child of the one that attached.
    #[error(
        "this process is a forked child of the backend {owner}; it must connect to the postmaster itself"
    )]
    ForkedChild {
        /// The process that attached.
        owner: Pid,
    },
    /// This process is the postmaster, which waits for nobody: what it wants it registers before it
    /// runs.
    #[error(
        "this process is a postmaster and cannot register workers dynamically; register static ones before it runs, or let another process do it"
    )]
    Postmaster,
    /// The postmaster is gone.
    #[error("postmaster {pid} is gone")]
    PostmasterDied {
        /// Its pid.
        pid: Pid,
    },
    /// The slot was taken away while it was being filled: the cluster was reset after a crash.
    #[error("the cluster was reset while the worker was being registered; try again")]
    Reset,
    /// The slot of the worker changes too fast to be written to; nobody in his right mind does that.
    #[error("slot {slot} changes without end; its shared memory is being scribbled on")]
    Contended {
        /// The slot.
        slot: u32,
    },
    /// The doorbell could not be rung.
    #[error("ringing the postmaster's doorbell failed")]
    Doorbell(#[source] io::Error),
    /// A signal handler could not be looked at or installed.
    #[error("sigaction for SIGUSR1 failed")]
    Signals(#[source] io::Error),
    /// The postmaster was asked and did not do it.
    #[error("the postmaster did not do it")]
    Asked(#[from] bgw_core::AttachError),
}

/// Why a wait ended without an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline passed first.
    #[error("timed out")]
    TimedOut,
    /// The waiting process is not to wait any longer: a worker that was told to end or whose statement
    /// is to be cancelled ([`crate::Worker::check_interrupts`] says which), or a program whose handler
    /// called [`crate::interrupt_waits`].
    #[error("interrupted by a signal of the waiting process")]
    Interrupted,
    /// Nothing to wait for.
    #[error("no handle was given: nothing could end the wait")]
    NoHandles,
    /// Handles made from more connections than one wait can watch.
    #[error("the handles were made from {clusters} connections, one wait can watch {limit}")]
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
