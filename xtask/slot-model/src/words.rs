//! The flags of the upper layer. Everything else about a word is [`shmem_slots::Snapshot`]'s own.

/// Somebody requested the termination of the worker.
pub(crate) const TERMINATE: u8 = 1;
/// The worker runs.
pub(crate) const STARTED: u8 = 4;
