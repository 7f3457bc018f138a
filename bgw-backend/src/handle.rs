//! One registration: ask for its worker's status, or terminate it.

use crate::error::{LatchError, NotWritable, TerminateError};
use crate::keep::Keep;
use bgw_core::internals::{ReportRecord, RunState, WorkerRecord, flag, run_state};
use bgw_core::{Attachment, ExitReport, WorkerHandle, WorkerStatus};
use shmem_slots::{FlagError, Key, PinnedSlot, Snapshot};
use std::fmt;
use std::sync::Arc;

/// An opaque name of one registration of one worker, together with the cluster to ask in.
///
/// Cheap to clone. [`Handle::id`] is the part that can be stored or sent to another process.
///
/// The process that registered the worker keeps the worker's slot with its handle, so that it can read
/// how the worker ended whenever it looks. A program that does not want to know drops the handle: the
/// slot is then free as soon as the worker has ended.
#[derive(Clone)]
#[doc(alias = "BackgroundWorkerHandle")]
pub struct Handle {
    /// `None` for a handle of another incarnation: it refers to no slot.
    slot: Option<PinnedSlot<WorkerRecord, ReportRecord>>,
    pub(crate) attachment: Arc<Attachment>,
    id: WorkerHandle,
    pub(crate) key: Key,
    /// The slot, if this process registered the worker.
    keep: Option<Arc<Keep>>,
}

/// A slot index beyond every array, for handles of another incarnation.
const NOWHERE: u32 = u32::MAX;

impl Handle {
    pub(crate) fn new(attachment: Arc<Attachment>, id: WorkerHandle) -> Self {
        let of_this_life = id.incarnation() == attachment.cells().incarnation();
        let index = if of_this_life { id.slot() } else { NOWHERE };
        let slot = PinnedSlot::new(Arc::clone(attachment.slots()), index);
        let key = Key { index, generation: id.generation() };
        Self { slot, attachment, id, key, keep: None }
    }

    /// The handle of the process that registered the worker, in the slot of `keep`.
    pub(crate) fn of_registrant(keep: Keep, attachment: Arc<Attachment>, id: WorkerHandle) -> Self {
        Self { keep: Some(Arc::new(keep)), ..Self::new(attachment, id) }
    }

    /// The name of this registration: plain data, printable and parseable.
    #[must_use]
    pub const fn id(&self) -> WorkerHandle {
        self.id
    }

    /// The worker's status, by one atomic load: no lock, no retry, no system call.
    ///
    /// Never `PostmasterDied`: only a wait checks that. The answer may be out of date the moment it
    /// is read. `Stopped` means that no process runs for this registration: it ended, will be
    /// restarted, never started, or was registered before a crash reset. It carries the same report
    /// as [`Handle::exit_report`].
    #[inline]
    #[must_use]
    #[doc(alias = "GetBackgroundWorkerPid")]
    pub fn status(&self) -> WorkerStatus {
        self.status_of(self.word())
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
            RunState::Stopped => WorkerStatus::Stopped(self.exit_report()),
        }
    }

    /// How the worker ended last; `None` before its first end, and once the end of a later tenant of
    /// its slot has overwritten the report.
    ///
    /// The handle that [`Backend::register`](crate::Backend::register) returned, and its clones, lose
    /// no report: the slot is kept for them until one of them has read how the worker ended for good,
    /// and from then on they all return that report. There is one exception. When no slot is free, a
    /// registration takes the one whose end has gone unread for longest.
    #[must_use]
    pub fn exit_report(&self) -> Option<ExitReport> {
        if let Some(last) = self.keep.as_ref().and_then(|keep| keep.last()) {
            return Some(last);
        }
        let record: ReportRecord = self.attachment.slots().read_report(self.key).ok()?;
        let report = record.decode().ok()?;
        if let Some(keep) = &self.keep {
            keep.read(&report);
        }
        Some(report)
    }

    /// True once the worker has reported that it is ready, and as long as it runs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let running_and_ready = flag::STARTED | flag::READY;
        self.word().is_some_and(|word| word.flags() & running_and_ready == running_and_ready)
    }

    /// Requests the termination of the worker: SIGTERM if it runs. A worker that has not started
    /// never will, and none is restarted afterwards.
    ///
    /// Safe at any time: twice, after the end, or with a handle whose slot has another tenant.
    /// Nothing happens then.
    ///
    /// # Errors
    /// [`TerminateError`]: this process may not change the cluster, or the doorbell cannot be rung.
    #[doc(alias = "TerminateBackgroundWorker")]
    #[doc(alias = "pg_terminate_backend")]
    pub fn terminate(&self) -> Result<(), TerminateError> {
        NotWritable::check(&self.attachment)?;
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
