//! Rolling replacement: what is asked for, and what became of it.

use crate::handle::WorkerHandle;

/// What became of one worker of a roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RollOutcome {
    /// Its next run is ready.
    Done,
    /// It was not touched: another one had failed before its turn.
    NotBegun,
    /// Its next run ended before it was ready, or the worker was unregistered meanwhile. Unless the
    /// former run was stopped first, that serves on.
    Ended,
    /// Its next run was not ready in time. If the former run was stopped first, the next one goes
    /// on; else it is stopped, and the former one serves on.
    NotReady,
    /// A crash reset came in between.
    Reset,
    /// The cluster shuts down.
    ShuttingDown,
}

impl RollOutcome {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotBegun => 1,
            Self::Ended => 2,
            Self::NotReady => 3,
            Self::Reset => 4,
            Self::ShuttingDown => 5,
        }
    }

    /// That of a number; `None` for any other number.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Done),
            1 => Some(Self::NotBegun),
            2 => Some(Self::Ended),
            3 => Some(Self::NotReady),
            4 => Some(Self::Reset),
            5 => Some(Self::ShuttingDown),
            _ => None,
        }
    }
}

/// Some of the workers of a roll that follows: one packet does not hold any number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollPart {
    /// Which list they go on, of those of this session.
    pub list: u32,
    /// Which, in this order.
    pub workers: Vec<WorkerHandle>,
}

/// A roll as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollRequest {
    /// How many at once.
    pub at_once: u32,
    /// How long each next run may take to be ready, in milliseconds.
    pub ready_within: u32,
    /// Each run ends before the next one starts.
    pub stop_first: bool,
    /// How many of its workers are on the list already.
    pub before: u32,
    /// The last ones, and their list.
    pub last: RollPart,
}

impl RollPart {
    /// How many workers one packet names.
    pub const IN_A_PACKET: usize = 250;
}
