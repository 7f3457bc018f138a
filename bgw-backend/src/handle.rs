//! One registration: ask for its worker's status, or terminate it.

use crate::error::{LatchError, NotWritable, TerminateError};
use crate::keep::Keep;
use bgw_core::internals::{ReportRecord, RunState, WorkerRecord, flag, run_state};
use bgw_core::{Attachment, CrashReset, ExitReport, Pid, WorkerHandle, WorkerStatus};
use shmem_slots::{FlagError, Hold, Key, PinnedSlot, Region, Snapshot, State};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Names one registration of a worker, and asks its cluster about it.
///
/// Cheap to clone. [`Handle::id`] is the part that can be stored or sent to another process.
///
/// The process that registered the worker keeps the worker's slot with its handle, so that it can
/// read how the worker ended whenever it looks. A program that does not want to know drops the
/// handle: the slot is then free as soon as the worker has ended.
#[derive(Clone)]
#[doc(alias = "BackgroundWorkerHandle")]
pub struct Handle {
    /// `None` for a handle of another incarnation: no slot is in its state any more.
    slot: Option<PinnedSlot<WorkerRecord, ReportRecord>>,
    pub(crate) attachment: Arc<Attachment>,
    id: WorkerHandle,
    pub(crate) key: Key,
    /// The slot, if this process registered the worker.
    keep: Option<Arc<Keep>>,
}

impl Handle {
    pub(crate) fn new(attachment: Arc<Attachment>, id: WorkerHandle) -> Self {
        let of_this_life = id.incarnation() == attachment.cells().incarnation();
        let slot = of_this_life.then(|| pinned(&attachment, id)).flatten();
        Self { slot, attachment, id, key: key_of(id), keep: None }
    }

    /// The handle of the process that registered the worker, in the slot of `keep`.
    ///
    /// It goes by the slot alone. A reset that is under way names its incarnation before it comes
    /// to the slot: until then there is no report of the end that it will bring.
    pub(crate) fn of_registrant(keep: Keep, attachment: Arc<Attachment>, id: WorkerHandle) -> Self {
        let slot = pinned(&attachment, id);
        Self { slot, attachment, id, key: key_of(id), keep: Some(Arc::new(keep)) }
    }

    /// The name of this registration: plain data, printable and parseable.
    #[must_use]
    pub const fn id(&self) -> WorkerHandle {
        self.id
    }

    /// The worker's status, by one atomic load: no lock, no retry, no system call.
    ///
    /// Never `PostmasterDied`: only a wait checks that. The answer may be out of date the moment it
    /// is read. `Stopped` means that no process runs for this registration: the worker has ended,
    /// waits for its restart, never started, or was registered before a crash reset. It carries the
    /// same report as [`Handle::exit_report`].
    #[inline]
    #[must_use]
    #[doc(alias = "GetBackgroundWorkerPid")]
    pub fn status(&self) -> WorkerStatus {
        self.status_of(self.word())
    }

    /// The worker's process, by one atomic load; `None` before its start, in a pause and after its
    /// end. Cheaper than [`Handle::status`] where no report is wanted: it copies none.
    ///
    /// The answer may be out of date the moment it is read. Signal a worker by
    /// [`Handle::terminate`] and [`Handle::kill`], not by its pid.
    #[inline]
    #[must_use]
    #[doc(alias = "GetBackgroundWorkerPid")]
    pub fn pid(&self) -> Option<Pid> {
        match self.word().map_or(RunState::Stopped, run_state) {
            RunState::Started(pid) => Some(pid),
            RunState::NotYetStarted | RunState::Stopped => None,
        }
    }

    /// The slot's word, if it still belongs to this registration.
    #[inline]
    pub(crate) fn word(&self) -> Option<Snapshot> {
        let word = self.slot.as_ref()?.snapshot();
        (word.generation() == self.key.generation).then_some(word)
    }

    /// The status that the slot's `word` stands for; `None` if the slot has another tenant.
    #[inline]
    pub(crate) fn status_of(&self, word: Option<Snapshot>) -> WorkerStatus {
        match word.map_or(RunState::Stopped, run_state) {
            RunState::Started(pid) => WorkerStatus::Started(pid),
            RunState::NotYetStarted => WorkerStatus::NotYetStarted,
            RunState::Stopped => self.stopped_status(),
        }
    }

    /// Out of line, and it writes the report where the status lies: so that the status of a worker
    /// that runs is one load and a few comparisons.
    #[cold]
    #[inline(never)]
    fn stopped_status(&self) -> WorkerStatus {
        WorkerStatus::Stopped(self.exit_report())
    }

    /// How the worker ended last; `None` before its first end, and once the end of a later tenant
    /// of its slot has overwritten the report. A wait that began before the end gets it even then:
    /// see [`Handle::wait_for_end`].
    ///
    /// A crash reset replaces no report. The last one of a registration that it ends, or whose
    /// slot has no later tenant, can be read by any handle until the next reset; see
    /// [`Handle::crash_reset`].
    ///
    /// The handle that [`Backend::register`](crate::Backend::register) returned, and its clones,
    /// lose no report: the slot is kept for them until one of them has read how the worker ended
    /// for good, through any number of crash resets, and from then on they all return that report.
    /// Two exceptions: when no slot of the worker's class is free, a registration takes the slot
    /// whose end has gone unread for longest; and when a crash reset has no other slot for a worker
    /// that goes on, it takes the worker's own, and the report stays only until the next reset.
    #[must_use]
    pub fn exit_report(&self) -> Option<ExitReport> {
        if let Some(last) = self.keep.as_ref().and_then(|keep| keep.last()) {
            return Some(last);
        }
        let (record, annex) = self.read_record()?;
        let report = record.decode(&annex).ok()?;
        if let Some(keep) = &self.keep {
            keep.read(&report, record);
        }
        Some(report)
    }

    /// The crash reset that ended this registration: who caused it and how, and under which handle
    /// the worker goes on. `None` if the registration goes on, or ended otherwise.
    ///
    /// Says the same from the reset on until the next one; the handle that
    /// [`Backend::register`](crate::Backend::register) returned, and its clones, for ever once one
    /// of them has looked. Only the successor is told later, when it is there: at the latest when a
    /// wait that began before the reset returns.
    #[must_use]
    pub fn crash_reset(&self) -> Option<CrashReset> {
        let kept = self.keep.as_ref().and_then(|keep| keep.last_record());
        let record = kept.or_else(|| {
            // Through the report, so that the keep remembers it.
            self.exit_report()?;
            self.read_record().map(|(record, _)| record)
        })?;
        let mut reset = record.crash_reset()?;
        reset.successor = reset.successor.filter(|successor| {
            let word = self.attachment.slots().snapshot(successor.slot());
            word.is_some_and(|word| match word.generation().cmp(&successor.generation()) {
                Ordering::Less => false,
                Ordering::Equal => word.state() != State::Reserved,
                Ordering::Greater => true,
            })
        });
        Some(reset)
    }

    /// What the handle of a registrant keeps.
    pub(crate) fn keep(&self) -> Option<&Keep> {
        self.keep.as_deref()
    }

    /// Holds the slot for a wait, so that the report is there when this process runs again. Not
    /// needed by the process that keeps it; not possible for one that only observes, or that was
    /// forked from the attached one, whose death the postmaster would not see.
    pub(crate) fn hold(&self) -> Option<Hold<'_, WorkerRecord, ReportRecord, Region>> {
        let attachment = &self.attachment;
        if self.keep.is_some() || self.slot.is_none() || !attachment.is_mine() {
            return None;
        }
        attachment.slots().hold(self.key, attachment.owner().get())
    }

    /// The record of this registration's last report, and its annex.
    fn read_record(&self) -> Option<(ReportRecord, Vec<u8>)> {
        let slots = self.attachment.slots();
        let (record, annex) = slots.read_report_with(self.key, ReportRecord::annex_len).ok()?;
        record.is_of(self.id).then_some((record, annex))
    }

    /// True once the worker has reported that it is ready, and as long as it runs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let running_and_ready = flag::STARTED | flag::READY;
        self.word().is_some_and(|word| word.flags() & running_and_ready == running_and_ready)
    }

    /// Requests the end of the worker. If it runs, it gets its stop signal (SIGTERM, unless its
    /// description names another one), and SIGKILL once its grace time is over. If it has not
    /// started, it never will. Either way it is not restarted.
    ///
    /// A second request, a request after the end, and one with a handle whose slot has another
    /// tenant have no effect.
    ///
    /// # Errors
    /// [`TerminateError`]: this process may not change the cluster, or the doorbell cannot be rung.
    #[doc(alias = "TerminateBackgroundWorker")]
    #[doc(alias = "pg_terminate_backend")]
    pub fn terminate(&self) -> Result<(), TerminateError> {
        NotWritable::check(&self.attachment)?;
        if self.slot.is_none() {
            return Ok(());
        }
        match self.attachment.slots().set_flags(self.key, flag::TERMINATE) {
            Ok(_) => self.attachment.ring().map_err(TerminateError::Doorbell),
            Err(FlagError::Stale) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the worker's latch, wherever it sleeps. Returns whether the worker runs.
    ///
    /// # Errors
    /// [`LatchError`]: the attachment is read-only, or this process may not signal the worker.
    #[doc(alias = "SetLatch")]
    pub fn set_latch(&self) -> Result<bool, LatchError> {
        if self.attachment.is_read_only() {
            return Err(NotWritable::ReadOnly.into());
        }
        if self.slot.is_none() {
            return Ok(false);
        }
        self.attachment.set_latch(self.id).map_err(LatchError::Signal)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.id.to_string()).finish()
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Handle {}

const fn key_of(id: WorkerHandle) -> Key {
    Key { index: id.slot(), generation: id.generation() }
}

fn pinned(
    attachment: &Attachment,
    id: WorkerHandle,
) -> Option<PinnedSlot<WorkerRecord, ReportRecord>> {
    PinnedSlot::new(Arc::clone(attachment.slots()), id.slot())
}
