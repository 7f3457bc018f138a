//! Sleeping on cells, across processes.
//!
//! A wait names halves of cells and what the caller saw in them. The kernel compares each with its
//! memory while it queues the caller, in the order given, and sleeps only if all are as seen. So a
//! change between the look and the sleep is never missed. A wake goes to the low half of a cell.
//!
//! The futexes are shared ones; a private futex does not reach other processes. Waiting uses
//! `futex_waitv`, which Linux has since 5.16. [`check_kernel`] finds out early.
//!
//! Why not an eventfd for each waiter: a futex takes no descriptor and no table of waiters, one
//! call wakes all, and a waiter that dies leaves nothing behind.

use crate::cell::CellRef;
#[cfg(loom)]
use crate::loom_futex as kernel;
#[cfg(not(loom))]
use crate::sys::futex as kernel;
use kernel::{Outcome, Word};
use std::time::Instant;

/// The largest number of watches of one wait.
pub const MAX_WATCHES: usize = kernel::MAX_WORDS;

/// Which 32 bits of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The lower ones: the half that [`wake_all`] wakes.
    Low,
    /// The upper ones: compared, never woken.
    High,
}

/// Half of a cell, and what was seen there.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// The cell.
    pub cell: CellRef<'a>,
    /// Which half.
    pub half: Half,
    /// What was seen.
    pub seen: u32,
}

impl<'a> Watch<'a> {
    fn word(&self) -> Word<'a> {
        Word { cell: self.cell.0, high: self.half == Half::High, seen: self.seen }
    }

    /// Returns true if the half is no longer as seen.
    pub(crate) fn has_changed(&self) -> bool {
        let bits = self.cell.load();
        let now = match self.half {
            Half::Low => bits as u32,
            Half::High => (bits >> 32) as u32,
        };
        now != self.seen
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A cell was woken, or was no longer as seen. Look again: the wake may have been for another
    /// waiter.
    Changed,
    /// The deadline has passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Why a wait failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// More watches than the kernel takes, or none at all.
    #[error("a wait on {count} watches is not possible, one wait takes 1 to {MAX_WATCHES}")]
    Count {
        /// The number of watches.
        count: usize,
    },
    /// The system call failed.
    #[error("futex_waitv failed")]
    System(#[source] std::io::Error),
}

/// This process cannot wait: the kernel lacks a call, or a system call filter refuses it.
#[derive(thiserror::Error)]
#[error(
    "{call} is not available; Linux has it since {since}, and a system call filter must allow it"
)]
pub struct Unsupported {
    /// The call.
    pub call: &'static str,
    /// The first version of Linux that has it.
    pub since: &'static str,
    /// What the kernel answers.
    #[source]
    pub source: std::io::Error,
}

crate::debug_as_chain!(WaitError, Unsupported);

/// Sleeps until one of the watched halves is woken or is no longer as seen, the deadline passes, or
/// a signal handler runs. One system call, no allocation. May return without a reason.
///
/// # Errors
/// More than [`MAX_WATCHES`] watches, or none; a kernel without `futex_waitv`.
pub fn wait_any(watches: &[Watch<'_>], deadline: Option<Instant>) -> Result<Woken, WaitError> {
    wait_both(watches, &[], deadline)
}

/// Waits as [`wait_any`] does, on the watches of `first` and then those of `also`.
pub(crate) fn wait_both(
    first: &[Watch<'_>],
    also: &[Watch<'_>],
    deadline: Option<Instant>,
) -> Result<Woken, WaitError> {
    let count = first.len() + also.len();
    if count == 0 || count > MAX_WATCHES {
        return Err(WaitError::Count { count });
    }
    let words = first.iter().chain(also).map(Watch::word);
    match kernel::wait(words, count, deadline).map_err(WaitError::System)? {
        Outcome::Changed => Ok(Woken::Changed),
        Outcome::TimedOut => Ok(Woken::TimedOut),
        Outcome::Interrupted => Ok(Woken::Interrupted),
    }
}

/// Wakes all waiters on the low half of `cell`, in every process. One system call; safe in a signal
/// handler.
pub fn wake_all<'a>(cell: impl Into<CellRef<'a>>) {
    kernel::wake_all(cell.into().0);
}

/// Like [`wake_all`], but wakes one waiter, the one that has slept longest. It may be stopped, or
/// killed before it does anything. False if nobody sleeps on the cell.
pub fn wake_one<'a>(cell: impl Into<CellRef<'a>>) -> bool {
    kernel::wake_one(cell.into().0)
}

/// Checks that this process can wait at all.
///
/// # Errors
/// [`Unsupported`], which names the call and the kernel that has it.
pub fn check_kernel() -> Result<(), Unsupported> {
    kernel::probe().map_err(|source| Unsupported { call: "futex_waitv", since: "5.16", source })
}
