//! A second process of a worker: the next run, which starts beside the one that serves, and the
//! former run, which still lives when the next one has taken its place.
//!
//! | state | second process | holds a berth | what ends it |
//! |---|---|---|---|
//! | due | none | no | a berth is lent |
//! | lent | is to start | yes | it starts, or fails to |
//! | starting | next run | yes | it is ready, or has ended; the serving run has ended |
//! | leaving | former run | yes | it has ended |
//! | pausing | none | no | the pause is over: due again |
//!
//! Besides, whatever tells the worker to end, or holds it in a round, ends what has no process.
//!
//! A berth is where a process has its cells. One is lent for a second process, and given back when
//! that, or the run whose place it has taken, has ended: so `lent` counts berths, and those that
//! are due wait in order of asking.

use super::lapse::StartClock;
use super::stop_level::StopLevel;
use bgw_core::{Pid, Recycled};
use shmem_slots::Key;
use std::collections::VecDeque;
use std::time::Instant;

/// Why a worker is to have a next run beside its present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(super) why: Recycled,
    /// How many next runs have failed for that, in a row.
    pub(super) failures: u32,
}

/// A process beside the one that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(super) pid: Pid,
    /// The strictest stop level that it was sent.
    pub(super) told: Option<StopLevel>,
    /// When it is killed, if it has not ended by then.
    pub(super) kill_at: Option<Instant>,
}

/// How far a worker is with the second one of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// It waits for a berth.
    Due(Cause),
    /// It has one, and is to start there.
    Lent(Cause),
    /// The next run is not ready.
    Starting {
        cause: Cause,
        next: Beside,
        /// When it is to be ready.
        clock: Option<StartClock>,
        /// It was not ready by then.
        late: bool,
        /// Any number, for its limits.
        random: u32,
    },
    /// The next run serves, and the former one is to end.
    Leaving {
        why: Recycled,
        former: Beside,
        /// How often the worker had been restarted.
        restarts: u32,
        /// The run that serves is to be replaced in its turn, once the former one has ended.
        again: Option<Recycled>,
    },
    /// A next run has failed.
    Pausing {
        cause: Cause,
        /// When another one is due.
        due: Instant,
    },
}

impl Overlap {
    pub(super) const fn holds_berth(&self) -> bool {
        matches!(self, Self::Lent(_) | Self::Starting { .. } | Self::Leaving { .. })
    }

    /// The second process.
    pub(super) const fn process(&self) -> Option<&Beside> {
        match self {
            Self::Starting { next, .. } => Some(next),
            Self::Leaving { former, .. } => Some(former),
            Self::Due(_) | Self::Lent(_) | Self::Pausing { .. } => None,
        }
    }

    pub(super) const fn process_mut(&mut self) -> Option<&mut Beside> {
        match self {
            Self::Starting { next, .. } => Some(next),
            Self::Leaving { former, .. } => Some(former),
            Self::Due(_) | Self::Lent(_) | Self::Pausing { .. } => None,
        }
    }

    /// When it is looked at again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Due(_) | Self::Lent(_) => None,
            Self::Starting { next: Beside { told: None, .. }, clock, .. } => {
                clock.map(|clock| clock.due)
            }
            Self::Starting { next: process, .. } | Self::Leaving { former: process, .. } => {
                process.kill_at
            }
            Self::Pausing { due, .. } => Some(*due),
        }
    }
}

/// The berths for second processes.
#[derive(Debug, Default)]
pub(super) struct Berths {
    /// How many are lent.
    pub(super) lent: usize,
    /// Who waits for one.
    pub(super) due: VecDeque<Key>,
}
