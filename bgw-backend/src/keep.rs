//! What the handle of a registrant keeps: the slot, until the report of the last end was read.
//!
//! The slot of a registration that ended stays out of use while its registrant may want to know how
//! it ended (`shmem-slots`, `Claim::publish_kept`). The handles that [`Backend::register`] returned,
//! and their clones, share one [`Keep`]. It releases the slot when the report of the last end was read
//! by one of them, or when the last of them is dropped. If the registrant dies first, the postmaster
//! releases it.
//!
//! The report that was read stays in the keep: these handles return it for ever, whoever has the slot
//! by then.
//!
//! [`Backend::register`]: crate::Backend::register

use bgw_core::{Attachment, ExitReport};
use shmem_slots::Key;
use std::sync::{Arc, OnceLock};

/// One registration's slot, kept by this process.
#[derive(Debug)]
pub(crate) struct Keep {
    attachment: Arc<Attachment>,
    key: Key,
    /// The report of the last end, once it was read. The slot is released then.
    last: OnceLock<ExitReport>,
}

impl Keep {
    /// The slot was published as kept.
    pub(crate) fn new(attachment: Arc<Attachment>, key: Key) -> Self {
        Self { attachment, key, last: OnceLock::new() }
    }

    /// The report of the last end, if it was read.
    pub(crate) fn last(&self) -> Option<ExitReport> {
        self.last.get().copied()
    }

    /// A report was read. If it is that of the last end, the slot is released.
    pub(crate) fn read(&self, report: &ExitReport) {
        // A forked child reads, too; the slot is its parent's.
        if report.unregistered && self.last.set(*report).is_ok() && self.attachment.is_mine() {
            self.attachment.slots().release(self.key);
        }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if self.last.get().is_none() && self.attachment.is_mine() {
            self.attachment.slots().release(self.key);
        }
    }
}
