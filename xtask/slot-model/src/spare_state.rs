//! Spares that whoever registers may wake: what they are about, and what the postmaster does with
//! them.

use crate::job::Job;
use shmem_slots::Key;

/// What the postmaster does with spares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Takers {
    /// The spares that it is still to look at, or to close.
    pub(crate) todo: u8,
    /// It closes them, whatever they do.
    pub(crate) closes: bool,
    /// Slots that were given to a spare which does not take them.
    pub(crate) left: Vec<Key>,
    /// What comes when all that is done.
    pub(crate) then: Then,
    /// A change was passed over, since a spare has the slot.
    pub(crate) skipped: bool,
    /// The spare under way has been left alone long enough, and what it was given was offered.
    pub(crate) late: bool,
    /// A shutdown has begun.
    pub(crate) stopping: bool,
}

/// What comes after a look at spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    /// Nothing.
    Idle,
    /// The changed slots are taken in.
    Drain,
    /// The worker in `slot` has crashed.
    Crashed { slot: usize },
    /// A shutdown begins.
    Stop,
    /// A spare has ended.
    Gone { spare: usize },
    /// The worker in `slot` is started in this spare.
    Start { slot: usize, spare: usize },
}

/// Where the postmaster is with spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TakersAt {
    /// Is about to let a spare begin.
    OpenWord { spare: usize },
    /// Is about to open its cell.
    OpenCell { spare: usize },
    /// Goes on to the next spare.
    Next,
    /// Is about to look at what a spare was given.
    Look { spare: usize },
    /// Is about to look whether the slot says that the spare has it.
    Accepted { spare: usize, key: Key },
    /// Is about to close the spare's word.
    CloseWord { spare: usize },
    /// Is about to take back its cell.
    CloseCell { spare: usize, begun: Option<Key> },
    /// Found that it had begun `was`: is about to look which slot that is now.
    Begun { spare: usize, was: Key },
    /// Is about to withdraw the offer of the slot that it has begun.
    Withdraw { spare: usize, key: Key },
    /// Is about to take on its run.
    TakeOn { spare: usize, key: Key },
    /// Is about to publish the run that it has taken on.
    Publish { spare: usize, slot: usize },
    /// Is done with the spare.
    Settled { spare: usize },
    /// Is about to take in what spares have left.
    Attend,
}

/// A spare that whoever registers may wake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spare {
    /// False once its process has ended.
    pub(crate) alive: bool,
    /// It takes no step any more.
    pub(crate) stopped: bool,
    /// Its program counter.
    pub(crate) at: SpareAt,
    /// Its cell in the region: the bits of a `TakerCell`.
    pub(crate) cell: u64,
    /// Its word on the page that it shares with the postmaster: the bits of a `TakerWord`.
    pub(crate) word: u64,
    /// What it has copied of the slot that it is about to accept.
    pub(crate) copy: Option<Job>,
    /// What it runs.
    pub(crate) runs: Option<Job>,
    /// The postmaster has given it what it runs.
    pub(crate) mail: bool,
    /// What it does not look at again.
    pub(crate) refused: Option<Key>,
    /// The postmaster has it among its spares.
    pub(crate) listed: bool,
    /// The postmaster lets others wake it.
    pub(crate) open: bool,
    /// It has had a worker.
    pub(crate) used: bool,
    /// Ghost: it has had one before a reset.
    pub(crate) ghost_former: bool,
    /// What the postmaster saw that it was given.
    pub(crate) seen: Option<Key>,
}

/// Where a spare is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SpareAt {
    /// Looks at its cell.
    Look,
    /// Is about to sleep, unless the cell has changed.
    Sleep { seen: u64 },
    /// Sleeps.
    Asleep,
    /// Is about to begin.
    Begin { key: Key },
    /// Has begun: is about to copy the slot.
    Copy { key: Key },
    /// Is about to accept the offer.
    Accept { key: Key },
    /// Has accepted it: is about to wake those who wait, and to say that it runs.
    Run { key: Key },
    /// Is about to step back.
    StepBack { key: Key },
    /// Is about to mark the slot that it has left.
    Mark { key: Key },
    /// Is about to ring.
    Ring,
    /// Is a worker.
    Works,
    /// Its worker is over: it waits until the postmaster has seen that.
    Over,
}
