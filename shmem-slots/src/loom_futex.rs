//! The futex of the loom models: one lock and one condition for all.
//!
//! What it keeps of the kernel's: the comparison and the queueing are one step, since a waker must
//! take the same lock. What it leaves out: deadlines, signals, and that halves are compared one after
//! the other (a cell is compared as a whole half here; the argument for two halves stands in
//! `wait.rs`).

use crate::cell::CellRef;
use crate::futex::{Half, MAX_WATCHES, Unsupported, WaitError, Watch, Woken};
use crate::primitive::Ordering;
use loom::sync::{Condvar, Mutex};
use std::time::Instant;

loom::lazy_static! {
    static ref QUEUE: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());
}

/// See `sys/futex.rs`; without a deadline.
///
/// # Errors
/// As there.
pub fn wait_any(watches: &[Watch<'_>], deadline: Option<Instant>) -> Result<Woken, WaitError> {
    wait_both(watches, &[], deadline)
}

/// See `sys/futex.rs`; without a deadline.
pub(crate) fn wait_both(
    first: &[Watch<'_>],
    also: &[Watch<'_>],
    _deadline: Option<Instant>,
) -> Result<Woken, WaitError> {
    let count = first.len() + also.len();
    if count == 0 || count > MAX_WATCHES {
        return Err(WaitError::Count { count });
    }
    let (lock, woken) = &*QUEUE;
    // A thread that panicked has failed the model already.
    let Ok(mut round) = lock.lock() else { return Ok(Woken::Changed) };
    let as_seen = |watch: &Watch<'_>| {
        let bits = watch.cell.0.load(Ordering::Relaxed);
        let half = match watch.half {
            Half::Low => bits as u32,
            Half::High => (bits >> 32) as u32,
        };
        half == watch.seen
    };
    if !first.iter().chain(also).all(as_seen) {
        return Ok(Woken::Changed);
    }
    let before = *round;
    while *round == before {
        match woken.wait(round) {
            Ok(guard) => round = guard,
            Err(_) => return Ok(Woken::Changed),
        }
    }
    Ok(Woken::Changed)
}

/// Wakes all waiters of the model.
pub fn wake_all<'a>(_cell: impl Into<CellRef<'a>>) {
    let (lock, woken) = &*QUEUE;
    if let Ok(mut round) = lock.lock() {
        *round += 1;
    }
    woken.notify_all();
}

/// Always there.
///
/// # Errors
/// None.
pub fn check_kernel() -> Result<(), Unsupported> {
    Ok(())
}
