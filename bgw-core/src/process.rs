//! This process as a worker: what it was started for, and which signals it has had.
//!
//! The postmaster's child calls [`enter`] once, before the worker's main; from then on
//! [`current`] answers. Signal handlers do two things only: they set a bit in [`pending`] and wake
//! whatever the process sleeps on (its latch, a futex, `ppoll`). The work is done at the next wait
//! or check of the worker, never in signal context.
//!
//! No wake-up is lost between a check of the bits and the sleep that follows: each handler raises
//! [`interrupts`], a sleeper reads it *before* it checks the bits and hands the value to the wait,
//! which ends at once when it has moved on.

use crate::attachment::Attachment;
use crate::handle::WorkerHandle;
use crate::sys::signals::SavedActions;
use crate::sys::{eventfd, signals};
use crate::worker::{BackgroundWorker, WorkerFlags};
use bitflags::bitflags;
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::{Latch, Wake};
use std::error::Error;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How a worker's main ends: `Ok` is exit 0, an error is logged and becomes exit 1.
pub type WorkerResult = Result<(), Box<dyn Error + Send + Sync>>;

/// A worker's main function, as the postmaster calls it in the forked child.
///
/// Backends rarely write one by hand: the backend crate wraps a function over its own `Worker`.
pub type EntryFn = dyn Fn(&'static WorkerProcess) -> WorkerResult;

/// What a worker process knows of itself.
#[derive(Debug)]
pub struct WorkerProcess {
    /// The description it was registered with.
    pub worker: Arc<BackgroundWorker>,
    /// Its own handle.
    pub handle: WorkerHandle,
    /// How many times it was restarted before this start.
    pub restarts: u32,
    /// Its attachment to the cluster.
    pub attachment: Arc<Attachment>,
}

impl WorkerProcess {
    /// The latch of this worker.
    #[doc(alias = "MyLatch")]
    #[must_use]
    pub fn latch(&self) -> Option<Latch<'_>> {
        self.attachment.cells().latch(self.handle.slot())
    }
}

bitflags! {
    /// Signals that this process has had and not yet acted upon.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pending: u32 {
        /// SIGTERM: end.
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
        /// The worker has seen [`Pending::TERMINATE`] and is ending: its waits are no longer cut short.
        const ENDING = 32;
        /// SIGUSR1: something about a worker that this process registered has changed.
        const NOTIFIED = 16;
        /// The program asked for an end of its waits ([`interrupt_waits`]).
        const WAITS_INTERRUPTED = 64;
    }
}

/// No handler of a worker stands yet.
const NOTHING: u32 = 0;
/// Those stand that a postmaster may have: by the fork.
const COMMON: u32 = 1;
/// All stand, but what differs for a worker with a database; and what a worker is never deaf to is
/// unblocked.
const ALL: u32 = 2;

/// What a process knows of itself, in one place: a forked worker writes to a page of it, not to several.
#[repr(align(256))]
struct Own {
    current: OnceLock<WorkerProcess>,
    pending: AtomicU32,
    /// [`NOTHING`], [`COMMON`] or [`ALL`].
    prepared: AtomicU32,
    /// The pid of this process while it runs as a postmaster; a forked child has another one.
    postmaster: AtomicU32,
    interrupts: AtomicU64,
    /// The pid in the high half, the descriptor of its poll wake-up eventfd in the low half; 0: none.
    poll_wake_up: AtomicU64,
}

static OWN: Own = Own {
    current: OnceLock::new(),
    pending: AtomicU32::new(0),
    prepared: AtomicU32::new(NOTHING),
    postmaster: AtomicU32::new(0),
    interrupts: AtomicU64::new(0),
    poll_wake_up: AtomicU64::new(0),
};

/// Says that this process is a postmaster from now on: it must not wait for one.
pub fn become_postmaster() {
    OWN.postmaster.store(std::process::id(), Ordering::Relaxed);
}

/// Installs, in a postmaster, most of the handlers that its workers start with, so that each has them by
/// the fork. They never run in the postmaster: all signals are blocked there, and stay so until
/// [`leave_postmaster`].
///
/// # Errors
/// The error of `sigaction`.
pub fn prepare_for_workers() -> std::io::Result<SavedActions> {
    let before = SavedActions::save()?;
    signals::install_common()?;
    OWN.prepared.store(COMMON, Ordering::Relaxed);
    Ok(before)
}

/// The process is a postmaster no longer: what [`prepare_for_workers`] replaced is there again.
///
/// # Errors
/// The error of `sigaction`.
pub fn leave_postmaster(before: Option<&SavedActions>) -> std::io::Result<()> {
    OWN.postmaster.store(0, Ordering::Relaxed);
    OWN.prepared.store(NOTHING, Ordering::Relaxed);
    before.map_or(Ok(()), SavedActions::restore)
}

/// True in a running postmaster, false in its children.
#[must_use]
pub fn is_postmaster() -> bool {
    let pid = OWN.postmaster.load(Ordering::Relaxed);
    pid != 0 && pid == std::process::id()
}

/// This process as a worker, or `None` in any other process.
#[must_use]
pub fn current() -> Option<&'static WorkerProcess> {
    OWN.current.get()
}

/// Makes this process the worker `process`: adopts its attachment and its latch and installs the
/// handlers that a worker starts with, unless the postmaster has. All signals are still blocked but SIGQUIT and the postmaster's death.
///
/// # Errors
/// The error of `sigaction`; or when the process is a worker already.
pub fn enter(process: WorkerProcess) -> std::io::Result<&'static WorkerProcess> {
    if OWN.current.get().is_some() {
        return Err(std::io::Error::other("this process is a worker already"));
    }
    OWN.pending.store(0, Ordering::Relaxed);
    process.attachment.adopt();
    let process = OWN.current.get_or_init(|| process);
    if let Some(latch) = process.latch() {
        latch.adopt(process.attachment.owner().get());
    }
    // A worker that was killed in a wait has left its name there.
    process.attachment.cells().set_wait_event(process.handle.slot(), None);
    let prepared = OWN.prepared.load(Ordering::Relaxed);
    if prepared == NOTHING {
        signals::install_common()?;
    }
    let flags = process.worker.flags();
    if prepared != ALL || flags.contains(WorkerFlags::DATABASE_CONNECTION) {
        signals::install_own(flags)?;
    }
    if prepared != ALL {
        signals::hear_at_once()?;
    }
    Ok(process)
}

/// For a child that waits to become a worker: does what [`enter`] will do, as far as it leaves no trace,
/// so that the pages which that touches are the child's own by then; its handlers stand, and it hears
/// at once what a worker is never deaf to.
///
/// # Errors
/// The error of `sigaction` or `pthread_sigmask`.
pub fn rehearse(attachment: &Attachment) -> std::io::Result<()> {
    attachment.adopt();
    OWN.interrupts.fetch_add(1, Ordering::Relaxed);
    signals::install_own(WorkerFlags::empty())?;
    signals::hear_at_once()?;
    OWN.prepared.store(ALL, Ordering::Relaxed);
    Ok(())
}

/// The signals that have come and were not taken yet.
#[must_use]
pub fn pending() -> Pending {
    Pending::from_bits_truncate(OWN.pending.load(Ordering::Acquire))
}

/// True when this worker was told to end and has not noticed yet.
#[must_use]
pub fn told_to_end() -> bool {
    pending() & (Pending::TERMINATE | Pending::ENDING) == Pending::TERMINATE
}

/// The worker has noticed that it was told to end.
pub fn acknowledge_end() {
    OWN.pending.fetch_or(Pending::ENDING.bits(), Ordering::AcqRel);
}

/// True when this process is not to wait for others any longer: it was told to end, its statement is to
/// be cancelled, or its own handler called [`interrupt_waits`].
#[must_use]
pub fn waits_are_interrupted() -> bool {
    told_to_end() || pending().intersects(Pending::CANCEL | Pending::WAITS_INTERRUPTED)
}

/// Ends the waits of all threads of this process, those under way and those that begin, until
/// [`take_interrupt`]. For a program's own signal handlers: it does nothing that is not safe there.
pub fn interrupt_waits() {
    interrupt(Pending::WAITS_INTERRUPTED);
}

/// Takes back [`interrupt_waits`]; true when it had been called.
pub fn take_interrupt() -> bool {
    take_pending(Pending::WAITS_INTERRUPTED)
}

/// Takes `which` out of the pending signals; true when one of them was there.
pub fn take_pending(which: Pending) -> bool {
    let before = OWN.pending.fetch_and(!which.bits(), Ordering::AcqRel);
    Pending::from_bits_truncate(before).intersects(which)
}

/// How many times a handler of this process has run. Read it before a check that a handler can
/// change, and hand it to the wait that follows.
#[must_use]
pub fn interrupts() -> u64 {
    OWN.interrupts.load(Ordering::Acquire)
}

/// A watch that ends a futex wait when a handler has run since `seen` was read.
#[must_use]
pub fn watch_interrupts(seen: u64) -> Watch<'static> {
    Watch { cell: (&OWN.interrupts).into(), half: Half::Low, seen: seen as u32 }
}

/// Records `what` and wakes this process wherever it sleeps. For signal handlers (it does nothing
/// that is not safe there), a program's own ones included.
pub fn interrupt(what: Pending) {
    OWN.pending.fetch_or(what.bits(), Ordering::AcqRel);
    OWN.interrupts.fetch_add(1, Ordering::AcqRel);
    // The handler may run in another thread than the one that sleeps.
    futex::wake_all(&OWN.interrupts);
    if let Some(latch) = OWN.current.get().and_then(WorkerProcess::latch) {
        // A sleeper of this process is woken by the poll wake-up below and by the signal itself.
        let _: Wake = latch.set();
    }
    wake_poll();
}

/// Sets this worker's own latch; nothing in any other process. For a worker's own signal handlers: it
/// does nothing that is not safe there.
#[doc(alias = "SetLatch")]
#[doc(alias = "MyLatch")]
pub fn set_latch() {
    if let Some(latch) = OWN.current.get().and_then(WorkerProcess::latch) {
        let _: Wake = latch.set();
        wake_poll();
    }
}

/// Ends a sleep of this process in `ppoll`, if there is one. Safe in a signal handler.
pub fn wake_poll() {
    let packed = OWN.poll_wake_up.load(Ordering::Acquire);
    if packed != 0 && (packed >> 32) as u32 == std::process::id() {
        if let Some(bell) = signals::borrow_poll_wake_up(packed as u32) {
            // Ringing can only fail when somebody closed the descriptor: then nobody polls on it.
            let _ = eventfd::ring(bell);
        }
    }
}

/// The eventfd on which this process is woken out of `ppoll`; made at the first use in each
/// process, since a fork must not share it. It becomes readable whenever [`interrupt`] has run, so
/// a loop of the worker's own that polls descriptors watches it too. To be polled, not read: the
/// waits of this crate take the rings back.
///
/// # Errors
/// The error of `eventfd`.
pub fn poll_wake_up_descriptor() -> std::io::Result<BorrowedFd<'static>> {
    let me = std::process::id();
    let packed = OWN.poll_wake_up.load(Ordering::Acquire);
    if packed != 0 && (packed >> 32) as u32 == me {
        if let Some(bell) = signals::borrow_poll_wake_up(packed as u32) {
            return Ok(bell);
        }
    }
    let bell = eventfd::new_doorbell()?;
    let (number, borrowed) = signals::leak_poll_wake_up(bell);
    match OWN.poll_wake_up.compare_exchange(
        packed,
        u64::from(me) << 32 | u64::from(number),
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => Ok(borrowed),
        // Another thread of this process was first: use its one; ours stays open, once.
        Err(theirs) => signals::borrow_poll_wake_up(theirs as u32).ok_or_else(|| {
            std::io::Error::other("the poll wake-up descriptor of this process is gone")
        }),
    }
}
