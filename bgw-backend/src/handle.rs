//! One registration: ask how its worker is, or end it.

use crate::error::Error;
use bgw_core::shared::{ReportRecord, RunState, WorkerRecord, flag, run_state};
use bgw_core::{Attachment, ExitReport, WorkerHandle, WorkerStatus};
use shmem_slots::{FlagError, Key, PinnedSlot};
use std::fmt;
use std::sync::Arc;

/// An opaque name of one registration of one worker, together with the cluster to ask in.
///
/// Cheap to clone. What can be stored or sent to another process is [`Handle::id`].
#[derive(Clone)]
#[doc(alias = "BackgroundWorkerHandle")]
pub struct Handle {
    /// `None` for a handle of another life: it finds nobody.
    slot: Option<PinnedSlot<WorkerRecord, ReportRecord>>,
    pub(crate) attachment: Arc<Attachment>,
    id: WorkerHandle,
    pub(crate) key: Key,
}

/// A slot index that no array has: a handle of another life looks there and finds nobody.
const NOWHERE: u32 = u32::MAX;

impl Handle {
    pub(crate) fn new(attachment: Arc<Attachment>, id: WorkerHandle) -> Self {
        let of_this_life = id.incarnation() == attachment.cells().incarnation();
        let index = if of_this_life { id.slot() } else { NOWHERE };
        let slot = PinnedSlot::new(attachment.shared_slots(), index);
        Self { slot, attachment, id, key: Key { index, generation: id.generation() } }
    }

    /// The name of this registration: plain data, printable and parseable.
    #[must_use]
    pub const fn id(&self) -> WorkerHandle {
        self.id
    }

    /// How the worker is, by one atomic load: no lock, no retry, no system call.
    ///
    /// Never `PostmasterDied`: only a wait looks for that. The answer may be out of date the moment
    /// it is read. `Stopped` says that no process runs for this registration: it ended (the report
    /// says how, until the slot is used again), will be restarted, never started, or belongs to a
    /// time before a crash reset.
    #[inline]
    #[must_use]
    #[doc(alias = "GetBackgroundWorkerPid")]
    pub fn status(&self) -> WorkerStatus {
        let Some(slot) = &self.slot else { return WorkerStatus::Stopped(None) };
        let word = slot.snapshot();
        if word.generation() != self.key.generation {
            return WorkerStatus::Stopped(None);
        }
        match run_state(word) {
            RunState::Started(pid) => WorkerStatus::Started(pid),
            RunState::NotYetStarted => WorkerStatus::NotYetStarted,
            RunState::Stopped => WorkerStatus::Stopped(self.exit_report()),
        }
    }

    /// How the worker ended last; `None` before its first end and once the slot is used again.
    #[must_use]
    pub fn exit_report(&self) -> Option<ExitReport> {
        let record: ReportRecord = self.attachment.slots().read_report(self.key)?;
        record.decode().ok()
    }

    /// True once the worker has said that it is ready, and as long as it runs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let running_and_ready = flag::STARTED | flag::READY;
        self.attachment
            .slots()
            .look(self.key)
            .is_some_and(|word| word.flags() & running_and_ready == running_and_ready)
    }

    /// Asks for the end of the worker: SIGTERM if it runs; if it has not started it never will. It
    /// is not restarted afterwards.
    ///
    /// Safe at any time: twice, after the end, with a handle whose slot belongs to another worker
    /// by now. Nothing happens then.
    ///
    /// # Errors
    /// A read-only attachment, a forked child, or a doorbell that cannot be rung.
    #[doc(alias = "TerminateBackgroundWorker")]
    pub fn terminate(&self) -> Result<(), Error> {
        if self.attachment.is_read_only() {
            return Err(Error::ReadOnly);
        }
        match self.attachment.slots().set_flags(self.key, flag::TERMINATE) {
            Ok(_) => self.attachment.ring().map_err(Error::Doorbell),
            Err(FlagError::Stale) => Ok(()),
            Err(FlagError::ReadOnly) => Err(Error::ReadOnly),
            Err(_) => Err(Error::Contended { slot: self.id.slot() }),
        }
    }

    /// Sets the worker's latch, wherever it sleeps. True when there is a worker to be woken.
    ///
    /// # Errors
    /// A read-only attachment; a worker that polls and may not be signalled.
    #[doc(alias = "SetLatch")]
    pub fn set_latch(&self) -> Result<bool, Error> {
        if self.attachment.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if !matches!(self.status(), WorkerStatus::Started(_)) {
            return Ok(false);
        }
        let Some(latch) = self.attachment.cells().latch(self.key.index) else { return Ok(false) };
        match latch.set() {
            bgw_core::Wake::Done => Ok(true),
            bgw_core::Wake::Signal { .. } => self
                .attachment
                .wake_polling_worker(self.key.index, self.key.generation)
                .map_err(Error::Signals),
        }
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
