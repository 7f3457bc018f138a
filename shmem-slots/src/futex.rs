//! Sleeping on cells, across processes.
//!
//! A wait names halves of cells and what the caller saw in them. The kernel compares each with its
//! memory while it queues the caller, in the order given, and sleeps only if all are as seen: a
//! change between the look and the sleep is never missed. A wake goes to the low half of a cell.
//!
//! The futexes are shared ones (a private futex does not reach other processes). Waiting uses
//! `futex_waitv`, which Linux has since 5.16; [`check_kernel`] says so early.

use crate::cell::CellRef;

#[cfg(loom)]
pub(crate) use crate::loom_futex::wait_both;
#[cfg(loom)]
pub use crate::loom_futex::{check_kernel, wait_any, wake_all};
#[cfg(not(loom))]
pub(crate) use crate::sys::futex::wait_both;
#[cfg(not(loom))]
pub use crate::sys::futex::{check_kernel, wait_any, wake_all};

/// The most watches of one wait.
pub const MAX_WATCHES: usize = 128;

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

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A cell was woken, or was not as seen any more. Look again: it may have been for somebody else.
    Changed,
    /// The deadline has passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Why a wait could not be done.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// More than the kernel takes, or none at all.
    #[error("{count} watches were given, one wait takes 1 to {MAX_WATCHES}")]
    Count {
        /// How many.
        count: usize,
    },
    /// The system call failed.
    #[error("futex_waitv failed")]
    System(#[source] std::io::Error),
}

crate::debug_as_chain!(WaitError);

/// The kernel lacks a call.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("this kernel has no {call}, which Linux has since {since}")]
pub struct Unsupported {
    /// Which call.
    pub call: &'static str,
    /// Since which version Linux has it.
    pub since: &'static str,
}

crate::debug_as_chain!(Unsupported);
