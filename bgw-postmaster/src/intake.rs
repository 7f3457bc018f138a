//! From a slot that some backend wrote to a registration that the postmaster trusts.
//!
//! Whatever lies in the slot is copied once, checked, and only the copy is used. The notify target is
//! resolved to a living child or an attached program; anything else becomes nobody.

use crate::registry::NotifyTarget;
use bgw_core::shared::{CorruptRecord, WorkerSlots, flag};
use bgw_core::{BackgroundWorker, Pid};
use shmem_slots::{Key, Snapshot, State};
use std::sync::Arc;

/// What a changed slot says, checked.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) worker: Arc<BackgroundWorker>,
    pub(crate) notify: Option<NotifyTarget>,
    pub(crate) terminate: bool,
}

/// Why a slot could not be taken in. It is freed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the slot changed while it was read")]
    Changing,
    #[error("its record is not a worker: {0}")]
    Corrupt(#[from] CorruptRecord),
}

/// Copies and checks the new tenant of slot `index`.
pub(crate) fn take_in(
    slots: &WorkerSlots,
    index: u32,
    word: Snapshot,
    resolve: impl FnOnce(Pid) -> Option<NotifyTarget>,
) -> Result<Found, Refused> {
    debug_assert_eq!(word.state(), State::Published);
    let key = Key { index, generation: word.generation() };
    let record = slots.read(key).map_err(|_| Refused::Changing)?;
    let worker = record.decode()?;
    let notify = worker.notify().and_then(resolve);
    let terminate = word.flags() & flag::TERMINATE != 0;
    Ok(Found { key, worker: Arc::new(worker), notify, terminate })
}
