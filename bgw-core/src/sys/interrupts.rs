//! What signal handlers of this process touch: pending bits, a counter, the worker's own latch, and
//! the wake-up of threads that sleep in `ppoll`.
//!
//! A handler calls [`Interrupts::raise`] and nothing else. It records a bit and wakes every sleep
//! of the process, whichever thread it runs in. The work is done at the next wait or check, never
//! in signal context.
//!
//! No wake-up is lost between a check of the bits and the sleep that follows. A sleeper reads
//! [`Interrupts::count`] before it checks the bits, and its wait ends at once if the count has
//! moved on since. `raise` sets the bit first, then adds to the count, then wakes.
//!
//! This module lies at the bottom of the crate: it names no worker and no cluster, so the handlers
//! in `signals` need nothing above `sys/`.

use super::latest::Latest;
use super::poll_wake_up::PollWakeUp;
use bitflags::bitflags;
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::{Latch, Wake};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

bitflags! {
    /// Signals that this process has received and not acted on yet.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pending: u32 {
        /// SIGTERM: the worker is requested to end.
        #[doc(alias = "ShutdownRequestPending")]
        const TERMINATE = 1;
        /// SIGHUP: read the settings again.
        #[doc(alias = "ConfigReloadPending")]
        const RELOAD = 2;
        /// SIGINT in a database worker: cancel the running statement.
        #[doc(alias = "QueryCancelPending")]
        const CANCEL = 4;
        /// The postmaster has died.
        const POSTMASTER_DIED = 8;
        /// SIGUSR1: a worker that this process registered has changed.
        const NOTIFIED = 16;
        /// The worker has seen [`Pending::TERMINATE`] and is ending: its waits are not cut short
        /// any more.
        const ENDING = 32;
        /// The program asked for the end of its waits.
        const WAITS_INTERRUPTED = 64;
    }
}

/// The interrupts of one process. It lies in a static, since signal handlers have no argument.
#[derive(Debug)]
pub struct Interrupts {
    pending: AtomicU32,
    count: AtomicU64,
    poll: PollWakeUp,
    latch: Latest<Latch<'static>>,
}

impl Interrupts {
    pub(crate) const fn new() -> Self {
        Self {
            pending: AtomicU32::new(0),
            count: AtomicU64::new(0),
            poll: PollWakeUp::new(),
            latch: Latest::new(),
        }
    }

    /// The signals that have come and were not taken yet.
    #[must_use]
    pub fn pending(&self) -> Pending {
        Pending::from_bits_truncate(self.pending.load(Ordering::Acquire))
    }

    /// Takes `which` out of the pending signals. True if one of them was there.
    pub fn take(&self, which: Pending) -> bool {
        let before = self.pending.fetch_and(!which.bits(), Ordering::AcqRel);
        Pending::from_bits_truncate(before).intersects(which)
    }

    /// True if this worker was requested to end and has not acknowledged it.
    #[must_use]
    pub fn end_requested(&self) -> bool {
        self.pending() & (Pending::TERMINATE | Pending::ENDING) == Pending::TERMINATE
    }

    /// Records that the worker has seen the request to end. Its waits sleep again from now on.
    pub fn acknowledge_end(&self) {
        self.pending.fetch_or(Pending::ENDING.bits(), Ordering::AcqRel);
    }

    /// True if waits for other processes must return: this worker was requested to end, its
    /// statement is to be cancelled, or the program has interrupted its waits.
    #[must_use]
    pub fn waits_are_interrupted(&self) -> bool {
        self.end_requested()
            || self.pending().intersects(Pending::CANCEL | Pending::WAITS_INTERRUPTED)
    }

    /// How many times [`Interrupts::raise`] has run. Read it before a check that a handler can
    /// change, and pass it to the wait that follows.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// A watch that ends a futex wait if the count has moved on from `seen`.
    #[must_use]
    pub fn watch(&self, seen: u64) -> Watch<'_> {
        Watch { cell: (&self.count).into(), half: Half::Low, seen: seen as u32 }
    }

    /// An eventfd that a loop polls, edge-triggered, to learn that the count has moved on. It is
    /// made at the first use, stays open for the life of the process, and is never read: once rung
    /// it stays readable.
    ///
    /// # Errors
    /// The error of `eventfd`.
    pub fn poll_descriptor(&self) -> io::Result<BorrowedFd<'static>> {
        self.poll.eventfd()
    }

    /// How many descriptors of this process, and of the calling thread, waits have made and keep.
    pub(crate) fn kept_descriptors(&self) -> usize {
        self.poll.kept_descriptors()
    }

    /// What a thread polls while it sleeps in `ppoll`.
    pub(crate) const fn poll(&self) -> &PollWakeUp {
        &self.poll
    }

    /// Records `what` and wakes all sleeps of this process. Safe in a signal handler.
    pub(crate) fn raise(&self, what: Pending) {
        self.pending.fetch_or(what.bits(), Ordering::AcqRel);
        self.count.fetch_add(1, Ordering::AcqRel);
        futex::wake_all(&self.count);
        self.set_latch();
    }

    /// Sets this worker's own latch, if it is a worker, and wakes the threads that poll. Safe in a
    /// signal handler.
    pub(crate) fn set_latch(&self) {
        if let Some(latch) = self.latch.get() {
            // Threads that poll are woken below.
            let _: Wake = latch.set();
        }
        self.poll.ring();
    }

    /// Begins the life of a worker with this latch and no pending signals.
    pub(crate) fn become_worker(&self, latch: Option<Latch<'static>>) {
        if self.pending.load(Ordering::Relaxed) != 0 {
            self.pending.store(0, Ordering::Relaxed);
        }
        if let Some(latch) = latch {
            self.latch.set(latch);
        }
    }

    /// Writes to the memory that [`Interrupts::become_worker`] writes to, so that the kernel has
    /// copied its page by then.
    pub(crate) fn rehearse(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}
