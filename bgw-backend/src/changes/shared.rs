//! Locks, and wakers that are called outside of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Locks, also after another thread panicked: each change of what lies behind these locks is one
/// call of a map.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes them. Call it without a lock: a waker may run anything. If one panics, which the panic
/// hook reports, the others are woken nevertheless.
pub(super) fn wake_all(woken: Vec<Waker>) {
    for waker in woken {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}
