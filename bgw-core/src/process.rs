//! This process as a worker, and as a postmaster.
//!
//! The postmaster's child calls [`enter`] once, before the worker's main. From then on [`current`]
//! answers. A postmaster calls [`become_postmaster`] and later [`FormerProcess::restore`].

use crate::attachment::Attachment;
use crate::berth::Berth;
use crate::gifts::{Gifts, TakeError};
use crate::handed_down::HandedDown;
use crate::handle::WorkerHandle;
use crate::jobs::Jobs;
use crate::pid::Pid;
use crate::shared::{ClusterCells, flag, said};
use crate::sys::clock::monotonic_nanos;
use crate::sys::interrupts::{Interrupts, Pending};
use crate::sys::latch_seen;
use crate::sys::latest::Latest;
use crate::sys::role::set_postmaster;
use crate::sys::signals::{self, SavedActions};
use crate::worker::{BackgroundWorker, StopSignal, WorkerFlags};
use nix::sys::signal::{SigSet, Signal};
use shmem_slots::bells::Interest;
use shmem_slots::{Key, Latch};
use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// How a worker's main ends: `Ok` is exit 0, an error is logged and becomes exit 1.
pub type WorkerResult = Result<(), Box<dyn Error + Send + Sync>>;

/// A worker's main function, as the postmaster calls it in the forked child.
///
/// Programs rarely write one by hand: `bgw_backend::entry` makes one from a function over its
/// `Worker`.
pub type EntryFn = dyn Fn(&'static WorkerProcess) -> WorkerResult;

/// What a worker process knows of itself.
#[derive(Debug)]
pub struct WorkerProcess {
    /// The description it was registered with.
    pub worker: Arc<BackgroundWorker>,
    /// Its own handle.
    pub handle: WorkerHandle,
    /// Where it has its cells.
    pub berth: Berth,
    /// How many times it was started before this start.
    pub restarts: u32,
    /// Its attachment to the cluster.
    pub attachment: Arc<Attachment>,
    /// The descriptors that it was given.
    pub gifts: Gifts,
}

impl WorkerProcess {
    /// The latch of this worker.
    #[doc(alias = "MyLatch")]
    #[must_use]
    pub fn latch(&self) -> Option<Latch<'_>> {
        self.attachment.cells().latch(self.berth.index)
    }

    /// Takes the descriptor that it was given as `name`.
    ///
    /// # Errors
    /// [`TakeError`].
    pub fn take(&self, name: &str) -> Result<OwnedFd, TakeError> {
        let name = name.to_owned();
        self.gifts.take(&name).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                let given: Vec<_> = self.worker.own_gifts().map(|gift| &*gift.name).collect();
                let given = if given.is_empty() { "none".to_owned() } else { given.join(", ") };
                TakeError::Unknown { name, given }
            }
            io::ErrorKind::WouldBlock => TakeError::Taken { name },
            _ => TakeError::System { name, source },
        })
    }

    /// Records that this worker works on shared state (`true`) or has left it in order (`false`). A
    /// worker that ends while the mark is set has crashed, whatever its exit code.
    #[doc(alias = "MarkPostmasterChildActive")]
    pub fn mark_cleanup_needed(&self, needed: bool) {
        self.attachment.cells().set_cleanup_mark(self.berth.index, needed);
    }

    fn key(&self) -> Key {
        Key { index: self.handle.slot(), generation: self.handle.generation() }
    }

    /// Says that this worker is ready. Whoever waits for that wakes; of a run that began beside
    /// another one, once the postmaster has let it take the place.
    pub fn say_ready(&self) {
        // Either fails after a crash reset, which this worker does not survive.
        let slots = self.attachment.slots();
        if self.berth.beside {
            self.attachment.cells().say(self.berth.index, said::READY);
            let _ = slots.mark_changed(self.key());
        } else {
            let _ = slots.set_flags_and_wake(self.key(), flag::READY);
        }
    }

    /// Rings the doorbell after this worker has reported that it is ready, if its description
    /// declares that it does, or if bells are to be rung for it.
    #[doc(hidden)]
    pub fn ring_when_ready(&self) {
        let number = ClusterCells::interest_of(self.handle.slot());
        let is_asked = |interest: Interest<'_>| interest.is_asked();
        let is_awaited = self.attachment.cells().interest(number).is_some_and(is_asked);
        if is_awaited || self.berth.beside || self.worker.ready().is_some() {
            // A full doorbell is rung already. If ringing fails, the postmaster sees it at the
            // worker's end.
            let _ = self.attachment.ring();
        }
    }

    /// From here on `result`, of at most [`RESULT_LIMIT`](crate::RESULT_LIMIT) bytes, is what this
    /// worker gives back if it ends well. Calls `written` before that counts.
    pub fn set_result(&self, result: &[u8], written: impl FnOnce()) {
        self.attachment.cells().set_result(self.berth.index, result, written);
    }

    /// Counts a job. From the limit of this run on, the postmaster is told.
    pub fn job_done(&self) {
        if OWN.jobs.count(|random| self.worker.drawn_jobs(random)) {
            self.tell_that_jobs_are_done();
        }
    }

    #[cold]
    fn tell_that_jobs_are_done(&self) {
        let cells = self.attachment.cells();
        if cells.said(self.berth.index) & said::JOBS_DONE == 0 {
            cells.say(self.berth.index, said::JOBS_DONE);
            // It fails after a crash reset, which this worker does not survive; and a full doorbell
            // is rung already.
            let _ = self.attachment.slots().mark_changed(self.key());
            let _ = self.attachment.ring();
        }
    }

    /// Publishes how this worker is, for people.
    pub fn set_status_text(&self, text: &str) {
        self.attachment.cells().set_status_text(self.berth.index, text);
    }

    /// Says that this worker is alive.
    pub fn beat(&self) {
        self.attachment.cells().beat(self.berth.index);
    }

    /// Asks for `time` from now on to become ready, if the worker has a `start_timeout`.
    pub fn extend_start(&self, time: Duration) {
        let until = Duration::from_nanos(monotonic_nanos()).saturating_add(time);
        self.attachment.cells().extend_start(self.berth.index, until);
    }

    /// Publishes what this worker is about to wait for; `None` once it works again.
    #[doc(alias = "pgstat_report_wait_start")]
    pub fn set_wait_event(&self, name: Option<&str>) {
        self.attachment.cells().set_wait_event(self.berth.index, name);
    }
}

/// No handler of a worker is installed.
const NOTHING: u32 = 0;
/// Handlers inherited from the postmaster are installed.
const COMMON: u32 = 1;
/// The same, and the signals that a worker never blocks are unblocked.
const UNBLOCKED: u32 = 2;

/// What a process knows of itself. In one place, so that a forked worker writes to one page of it.
#[repr(align(256))]
struct Own {
    interrupts: Interrupts,
    current: Latest<WorkerProcess>,
    /// The pid of the worker that this process is, or 0.
    pid: AtomicU32,
    /// For the next child of this postmaster.
    handed_down: HandedDown,
    jobs: Jobs,
    /// `current` is the worker of a life that is over.
    between_lives: AtomicBool,
    /// [`NOTHING`], [`COMMON`] or [`UNBLOCKED`].
    prepared: AtomicU32,
}

static OWN: Own = Own {
    interrupts: Interrupts::new(),
    current: Latest::new(),
    pid: AtomicU32::new(0),
    handed_down: HandedDown::nothing(),
    jobs: Jobs::new(),
    between_lives: AtomicBool::new(false),
    prepared: AtomicU32::new(NOTHING),
};

const _: () = assert!(size_of::<Own>() == 256);

/// Where a worker has its pid. A forked child of the worker finds it, too.
#[must_use]
pub const fn worker_pid() -> &'static AtomicU32 {
    &OWN.pid
}

/// A postmaster hands `attachment` down to its children.
pub fn hand_down(attachment: &Arc<Attachment>) {
    OWN.handed_down.put(Some(Arc::clone(attachment)));
}

/// In a child of a postmaster: its share of `attachment`, which was handed down.
#[must_use]
pub fn handed_down(attachment: &Arc<Attachment>) -> Arc<Attachment> {
    OWN.handed_down.take(attachment)
}

fn become_worker() {
    OWN.pid.store(Pid::this().get(), Ordering::Relaxed);
}

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
/// handlers that workers start with, so that each inherits them. They never run in the postmaster.
/// On an error the process is as it was.
///
/// # Errors
/// The error of `sigaction` or `pthread_sigmask`.
pub fn become_postmaster() -> io::Result<FormerProcess> {
    let (actions, pending) = (SavedActions::save()?, signals::pending()?);
    let former = FormerProcess { actions, mask: signals::block_all()?, pending };
    set_postmaster(true);
    if let Err(error) = signals::install_common(&OWN.interrupts, Signal::SIGTERM) {
        former.restore()?;
        return Err(error);
    }
    OWN.prepared.store(COMMON, Ordering::Relaxed);
    Ok(former)
}

impl FormerProcess {
    /// Ends the life of this process as a postmaster: its signal actions and its mask are what they
    /// were, and signals that were for the postmaster are gone.
    ///
    /// # Errors
    /// The error of `sigaction` or `pthread_sigmask`. The mask is restored in any case.
    pub fn restore(self) -> io::Result<()> {
        set_postmaster(false);
        OWN.prepared.store(NOTHING, Ordering::Relaxed);
        OWN.handed_down.put(None);
        signals::discard_pending_but(&self.pending);
        let actions = self.actions.restore();
        signals::restore(&self.mask)?;
        actions
    }
}

/// Makes this process the worker `process`, the owner of its attachment and its latch, and installs
/// the handlers that a worker starts with, unless it inherited them. All signals stay blocked but
/// those that a worker never blocks. A process that has ended a life as a worker ([`end_life`])
/// begins another one.
///
/// # Errors
/// The error of `sigaction`, or a process that is a worker already.
pub fn enter(process: WorkerProcess) -> io::Result<&'static WorkerProcess> {
    let already = || io::Error::other("this process is a worker already");
    if OWN.current.get().is_some() && !OWN.between_lives.swap(false, Ordering::Relaxed) {
        return Err(already());
    }
    become_worker();
    OWN.current.set(process);
    let process = OWN.current.get().ok_or_else(already)?;
    let latch = process.latch();
    if let Some(latch) = &latch {
        latch.adopt();
    }
    OWN.interrupts.become_worker(latch);
    // A worker that was killed in a wait has left its name there.
    process.set_wait_event(None);
    let prepared = OWN.prepared.load(Ordering::Relaxed);
    let stop = process.worker.stop().signal();
    if prepared == NOTHING {
        signals::install_common(&OWN.interrupts, stop)?;
    }
    let database = process.worker.flags().contains(WorkerFlags::DATABASE_CONNECTION);
    signals::install_own(database, stop)?;
    if prepared != UNBLOCKED {
        signals::unblock_vital()?;
    }
    Ok(process)
}

/// [`enter`] is to install all handlers, whichever are installed.
pub(crate) fn forget_handlers() {
    OWN.prepared.store(NOTHING, Ordering::Relaxed);
}

/// Does in a spare what [`enter`] will do, as far as it leaves no trace, so that the kernel has
/// copied the pages that it writes to. The signals that a worker never blocks are unblocked. No
/// handler is installed: the spare may have been given a worker, and sent its stop signal, already.
///
/// # Errors
/// The error of `sigaction` or `pthread_sigmask`.
pub fn rehearse() -> io::Result<()> {
    become_worker();
    OWN.interrupts.rehearse();
    signals::rehearse()?;
    OWN.prepared.store(UNBLOCKED, Ordering::Relaxed);
    Ok(())
}

/// The main of this worker has returned, and the process is to be another worker later. Its signals
/// are [blocked](signals::block_in_worker) again: its handlers become those that a worker starts
/// with, and it has done no job. Of the life before nothing is left here but what is pending
/// ([`discard_signals`]).
///
/// # Errors
/// The error of `sigaction`.
pub fn end_life() -> io::Result<()> {
    signals::install_common(&OWN.interrupts, Signal::SIGTERM)?;
    signals::uninstall_own()?;
    OWN.jobs.reset();
    latch_seen::forget();
    OWN.between_lives.store(true, Ordering::Relaxed);
    Ok(())
}

/// Takes back the signals that have come for the life before, once nobody sends any for it.
pub fn discard_signals() {
    signals::discard_pending_but(&SigSet::empty());
}

/// How many descriptors waits have made for this process, and keep. Only its first thread asks.
#[must_use]
pub fn kept_descriptors() -> usize {
    OWN.interrupts.kept_descriptors()
}

/// From now on SIGHUP ends the waits of this process and sets [`Pending::RELOAD`].
///
/// # Errors
/// SIGHUP is the stop signal of this worker; the error of `sigaction`.
pub fn handle_reload() -> io::Result<()> {
    if current().is_some_and(|me| me.worker.stop() == StopSignal::Hup) {
        let text = "SIGHUP is the stop signal of this worker";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
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
