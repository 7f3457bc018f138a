//! The two ends of a queue. Pure.

use std::fmt;

/// In the bits of a state, beside the owner: it has detached.
pub(super) const DETACHED: u64 = 1 << 32;

/// One of the two ends of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that writes.
    Sender,
    /// The one that reads.
    Receiver,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        })
    }
}

/// Whether a side of a queue is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideState {
    /// No process has taken it yet.
    Vacant,
    /// This process has it, as far as the queue knows.
    Attached {
        /// Its pid, or whatever number it gave.
        owner: u32,
    },
    /// It has detached, or was closed, for ever.
    Detached,
}

impl SideState {
    /// The state that a word says, whatever its bits are.
    pub(super) const fn of(bits: u64) -> Self {
        let owner = bits as u32;
        if bits & DETACHED != 0 {
            Self::Detached
        } else if owner == 0 {
            Self::Vacant
        } else {
            Self::Attached { owner }
        }
    }
}
