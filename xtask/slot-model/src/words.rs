//! The flags of the upper layer. Everything else about a word is [`shmem_slots::Snapshot`]'s own.

/// Somebody requested the termination of the worker.
pub(crate) const TERMINATE: u8 = 1;
/// The process of a worker that the postmaster has forked.
pub(crate) const FORKED: u32 = 40;
/// That of spare 0; the others follow.
pub(crate) const SPARE: u32 = 50;
/// The worker runs.
pub(crate) const STARTED: u8 = 4;
