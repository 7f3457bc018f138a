//! How log lines name a worker.

use bgw_core::Pid;
use shmem_slots::Key;

/// The worker that a log line is about. It holds the name, because the worker may be off the list
/// by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: Box<str>,
    pub(crate) key: Key,
    /// Its process, if it has one, or has had it just now.
    pub(crate) pid: Option<Pid>,
}
