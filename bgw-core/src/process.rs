//! This process as a worker, and as a postmaster.
//!
//! The postmaster's child calls [`enter`] once, before the worker's main. From then on [`current`]
//! answers. A postmaster calls [`become_postmaster`] and later [`FormerProcess::restore`].

use crate::attachment::Attachment;
use crate::handle::WorkerHandle;
use crate::sys::interrupts::{Interrupts, Pending};
use crate::sys::role::set_postmaster;
use crate::sys::signals::{self, SavedActions};
use crate::worker::{BackgroundWorker, WorkerFlags};
use nix::sys::signal::SigSet;
use shmem_slots::Latch;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// How a worker's main ends: `Ok` is exit 0, an error is logged and becomes exit 1.
pub type WorkerResult = Result<(), Box<dyn Error + Send + Sync>>;

/// A worker's main function, as the postmaster calls it in the forked child.
///
/// Programs rarely write one by hand: `bgw_backend::entry` makes one from a function over its `Worker`.
pub type EntryFn = dyn Fn(&'static WorkerProcess) -> WorkerResult;

/// What a worker process knows of itself.
#[derive(Debug)]
pub struct WorkerProcess {
    /// The description it was registered with.
    pub worker: Arc<BackgroundWorker>,
    /// Its own handle.
    pub handle: WorkerHandle,
    /// How many times it was started before this start.
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

    /// Records that this worker works on shared state (`true`) or has left it in order (`false`). A
    /// worker that ends while the mark is set has crashed, whatever its exit code.
    #[doc(alias = "MarkPostmasterChildActive")]
    pub fn mark_cleanup_needed(&self, needed: bool) {
        self.attachment.cells().set_cleanup_mark(self.handle.slot(), needed);
    }

    /// Publishes what this worker is about to wait for; `None` once it works again.
    #[doc(alias = "pgstat_report_wait_start")]
    pub fn set_wait_event(&self, name: Option<&str>) {
        self.attachment.cells().set_wait_event(self.handle.slot(), name);
    }
}

/// No handler of a worker is installed.
const NOTHING: u32 = 0;
/// Handlers inherited from the postmaster are installed.
const COMMON: u32 = 1;
/// All handlers of a worker without a database are installed, and the signals that it never blocks are
/// unblocked.
const ALL: u32 = 2;

/// What a process knows of itself. In one place, so that a forked worker writes to one page of it.
#[repr(align(256))]
struct Own {
    interrupts: Interrupts,
    current: OnceLock<WorkerProcess>,
    /// [`NOTHING`], [`COMMON`] or [`ALL`].
    prepared: AtomicU32,
}

static OWN: Own = Own {
    interrupts: Interrupts::new(),
    current: OnceLock::new(),
    prepared: AtomicU32::new(NOTHING),
};

/// The interrupts of this process.
#[inline]
#[must_use]
pub fn interrupts() -> &'static Interrupts {
    &OWN.interrupts
}

/// This process as a worker, or `None` in any other process.
#[inline]
#[must_use]
pub fn current() -> Option<&'static WorkerProcess> {
    OWN.current.get()
}

/// The signal mask and actions of a process from before it became a postmaster.
#[derive(Debug)]
#[must_use = "a process that is a postmaster no longer gets its signals back by restore()"]
pub struct FormerProcess {
    mask: SigSet,
    actions: SavedActions,
    /// What was pending already.
    pending: SigSet,
}

/// Makes this process a postmaster: blocks all signals but fault signals, and installs most of the
/// handlers that workers start with, so that each inherits them. They never run in the postmaster. On
/// an error the process is as it was.
///
/// # Errors
/// The error of `sigaction` or `pthread_sigmask`.
pub fn become_postmaster() -> io::Result<FormerProcess> {
    let (actions, pending) = (SavedActions::save()?, signals::pending()?);
    let former = FormerProcess { actions, mask: signals::block_all()?, pending };
    set_postmaster(true);
    if let Err(error) = signals::install_common(&OWN.interrupts) {
        former.restore()?;
        return Err(error);
    }
    OWN.prepared.store(COMMON, Ordering::Relaxed);
    Ok(former)
}

impl FormerProcess {
    /// Ends the life of this process as a postmaster: its signal actions and its mask are what they were,
    /// and signals that were for the postmaster are gone.
    ///
    /// # Errors
    /// The error of `sigaction` or `pthread_sigmask`. The mask is restored in any case.
    pub fn restore(self) -> io::Result<()> {
        set_postmaster(false);
        OWN.prepared.store(NOTHING, Ordering::Relaxed);
        signals::discard_pending_but(&self.pending);
        let actions = self.actions.restore();
        signals::restore(&self.mask)?;
        actions
    }
}

/// Makes this process the worker `process`: adopts its attachment and its latch, and installs the
/// handlers that a worker starts with, unless it inherited them. All signals stay blocked but those
/// that a worker never blocks.
///
/// # Errors
/// The error of `sigaction`, or a process that is a worker already.
pub fn enter(process: WorkerProcess) -> io::Result<&'static WorkerProcess> {
    if OWN.current.get().is_some() {
        return Err(io::Error::other("this process is a worker already"));
    }
    process.attachment.adopt();
    let process = OWN.current.get_or_init(|| process);
    let latch = process.latch();
    if let Some(latch) = &latch {
        latch.adopt();
    }
    OWN.interrupts.become_worker(latch);
    // A worker that was killed in a wait has left its name there.
    process.set_wait_event(None);
    let prepared = OWN.prepared.load(Ordering::Relaxed);
    if prepared == NOTHING {
        signals::install_common(&OWN.interrupts)?;
    }
    let database = process.worker.flags().contains(WorkerFlags::DATABASE_CONNECTION);
    if prepared != ALL || database {
        signals::install_own(database)?;
    }
    if prepared != ALL {
        signals::unblock_vital()?;
    }
    Ok(process)
}

/// Does in a spare what [`enter`] will do, as far as it leaves no trace, so that the kernel has copied the
/// pages that it writes to. Its handlers are installed, and the signals that a worker never blocks are
/// unblocked.
///
/// # Errors
/// The error of `sigaction` or `pthread_sigmask`.
pub fn rehearse(attachment: &Attachment) -> io::Result<()> {
    attachment.adopt();
    OWN.interrupts.rehearse();
    signals::install_own(false)?;
    signals::unblock_vital()?;
    OWN.prepared.store(ALL, Ordering::Relaxed);
    Ok(())
}

/// From now on SIGHUP ends the waits of this process and sets [`Pending::RELOAD`].
///
/// # Errors
/// The error of `sigaction`.
pub fn handle_reload() -> io::Result<()> {
    signals::handle_reload(&OWN.interrupts)
}

/// From now on SIGUSR1 ends the waits of this process and sets [`Pending::NOTIFIED`].
///
/// # Errors
/// The error of `sigaction`.
pub fn handle_notify() -> io::Result<()> {
    signals::handle_notify(&OWN.interrupts)
}

/// Ends the waits of all threads of this process, those in progress and those that begin, until
/// [`take_interrupt`]. Safe in a signal handler.
pub fn interrupt_waits() {
    OWN.interrupts.raise(Pending::WAITS_INTERRUPTED);
}

/// Takes [`interrupt_waits`] back. True if it had been called.
pub fn take_interrupt() -> bool {
    OWN.interrupts.take(Pending::WAITS_INTERRUPTED)
}

/// Sets this worker's own latch; does nothing in any other process. Safe in a signal handler.
#[doc(alias = "SetLatch")]
#[doc(alias = "MyLatch")]
pub fn set_latch() {
    OWN.interrupts.set_latch();
}
