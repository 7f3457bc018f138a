//! The one place that chooses between the standard library's atomics and loom's.
//!
//! With `--cfg loom` the protocol runs on loom's atomics over the heap, so loom checks the very
//! code that runs on mapped memory.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Atomics of one process, for what lies outside the cells and is in no model: tables that a signal
/// handler reads, counters of fault points.
#[cfg(not(loom))]
pub(crate) mod private {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}
