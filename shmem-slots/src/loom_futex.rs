//! The futex of the loom models, in the place of `sys/futex.rs`: one lock and one condition for
//! all.
//!
//! As in the kernel, comparing and queueing are one step, since a waker must take the same lock.
//! Left out: deadlines, signals, and that the kernel compares word after word (here all at once;
//! the argument for two halves is in `wait.rs`).

use crate::primitive::{AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex};
use std::io;
use std::time::Instant;

pub(crate) const MAX_WORDS: usize = 128;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) cell: &'a AtomicU64,
    pub(crate) high: bool,
    pub(crate) seen: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the model has neither deadlines nor signals")]
pub(crate) enum Outcome {
    Changed,
    TimedOut,
    Interrupted,
}

loom::lazy_static! {
    static ref QUEUE: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());
}

pub(crate) fn wait<'a>(
    mut words: impl Iterator<Item = Word<'a>>,
    _count: usize,
    _deadline: Option<Instant>,
) -> io::Result<Outcome> {
    let (lock, woken) = &*QUEUE;
    // A thread that panicked has failed the model already.
    let Ok(mut round) = lock.lock() else { return Ok(Outcome::Changed) };
    let as_seen = |word: Word<'_>| {
        let bits = word.cell.load(Ordering::Relaxed);
        (if word.high { (bits >> 32) as u32 } else { bits as u32 }) == word.seen
    };
    if !words.all(as_seen) {
        return Ok(Outcome::Changed);
    }
    let before = *round;
    while *round == before {
        match woken.wait(round) {
            Ok(guard) => round = guard,
            Err(_) => return Ok(Outcome::Changed),
        }
    }
    Ok(Outcome::Changed)
}

pub(crate) fn wake_all(_cell: &AtomicU64) {
    let (lock, woken) = &*QUEUE;
    if let Ok(mut round) = lock.lock() {
        *round += 1;
    }
    woken.notify_all();
}

/// Wakes all: the models have one queue for all cells, so one woken thread might be another one's.
/// Nobody can say whether the right one has slept.
pub(crate) fn wake_one(cell: &AtomicU64) -> bool {
    wake_all(cell);
    true
}

pub(crate) fn probe() -> io::Result<()> {
    Ok(())
}
