//! What the handle of a registrant keeps: the slot, until the report of the last end was read.
//!
//! The slot of a registration that ended stays out of use while its registrant may want to know how
//! it ended (`shmem-slots`, `Claim::publish_kept`). The handles that [`Backend::register`]
//! returned, and their clones, share one [`Keep`]. It releases the slot when the report of the last
//! end was read by one of them, or when the last of them is dropped. If the registrant dies first,
//! the postmaster releases it.
//!
//! The slot of a job is given to nobody else before it is released, and whoever releases it rings
//! for those that wait for a slot.
//!
//! A report that was read stays in the keep: these handles return it for ever, even when the slot
//! has another tenant.
//!
//! [`Backend::register`]: crate::Backend::register

use bgw_core::internals::ReportRecord;
use bgw_core::{Attachment, ExitReport};
use shmem_slots::Key;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// One registration's slot, kept by this process.
#[derive(Debug)]
pub(crate) struct Keep {
    attachment: Arc<Attachment>,
    key: Key,
    /// It is a job: nobody else takes its slot before it is released.
    is_job: bool,
    /// A handle has cancelled it.
    cancelled: AtomicBool,
    /// Its outcome was asked for, and nobody can know it any more.
    postmaster_died: AtomicBool,
    /// The last end, once it was read. The slot is released then.
    last: OnceLock<LastEnd>,
}

/// What was read of the last end.
#[derive(Debug)]
struct LastEnd {
    report: ExitReport,
    record: ReportRecord,
    /// A handle had cancelled it before.
    cancelled: bool,
}

impl Keep {
    /// The slot was published as kept.
    pub(crate) const fn new(attachment: Arc<Attachment>, key: Key, is_job: bool) -> Self {
        let (cancelled, postmaster_died) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { attachment, key, is_job, cancelled, postmaster_died, last: OnceLock::new() }
    }

    /// The slot, and the generation of its tenant.
    pub(crate) const fn key(&self) -> Key {
        self.key
    }

    /// The report of the last end, if it was read.
    pub(crate) fn last(&self) -> Option<ExitReport> {
        self.last.get().map(|last| last.report.clone())
    }

    /// The record of that report.
    pub(crate) fn last_record(&self) -> Option<ReportRecord> {
        self.last.get().map(|last| last.record)
    }

    /// A report was read. If it is that of the last end, the slot is released.
    pub(crate) fn read(&self, report: &ExitReport, record: ReportRecord) {
        if !report.unregistered {
            return;
        }
        let cancelled = self.cancelled.load(Ordering::Relaxed);
        let last = LastEnd { report: report.clone(), record, cancelled };
        if self.last.set(last).is_ok() {
            self.release();
        }
    }

    /// A handle is about to terminate it, since nobody wants its outcome.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// A handle had cancelled it when its last end was read.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.last.get().is_some_and(|last| last.cancelled)
    }

    /// Whoever asks from now on is told that nobody can know.
    pub(crate) fn postmaster_died(&self) {
        self.postmaster_died.store(true, Ordering::Relaxed);
    }

    /// True if somebody was told so.
    pub(crate) fn is_unknown(&self) -> bool {
        self.postmaster_died.load(Ordering::Relaxed)
    }

    fn release(&self) {
        // A forked child reads and drops, too; the slot is its parent's.
        if !self.attachment.is_mine() {
            return;
        }
        let released = self.attachment.slots().release(self.key);
        // Any other end would have given way at once to one that waits for a slot.
        if released && self.is_job && self.attachment.cells().somebody_waits() {
            // An error: the postmaster is dead, and nobody waits.
            let _ = self.attachment.ring();
        }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if self.last.get().is_none() {
            self.release();
        }
    }
}
