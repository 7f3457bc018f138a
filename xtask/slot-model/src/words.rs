//! The words of the model: the transitions of [`shmem_slots::Snapshot`], and what an end that nobody
//! has read adds to them.

use shmem_slots::{Snapshot, State};

/// Somebody asked for the end of the worker.
pub(crate) const TERMINATE: u8 = 1;
/// The registrant does not want to know the end: it has dropped its handle.
pub(crate) const DROPPED: u8 = 2;
/// The worker runs.
pub(crate) const STARTED: u8 = 4;

/// The word of an ended tenancy that waits for `registrant` to look.
pub(crate) fn ended(generation: u64, registrant: u32) -> Snapshot {
    Snapshot::ended(generation, registrant).unwrap_or(Snapshot::vacant(generation))
}

/// True for an end that nobody has read.
pub(crate) fn is_unread(word: Snapshot) -> bool {
    word.state() == State::Ended
}

/// True for a slot that anybody may take without a loss.
pub(crate) fn is_free(word: Snapshot) -> bool {
    word.state() == State::Free
}
