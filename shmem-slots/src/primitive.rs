//! The one place that chooses between the standard library's atomics and loom's.
//!
//! With `--cfg loom` the same protocol code runs on loom's atomics over a heap backing, so what is
//! checked is the code that runs on mapped memory, not a copy of it.

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
