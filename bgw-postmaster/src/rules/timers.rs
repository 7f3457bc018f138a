//! Deadlines: many of them, one timer.
//!
//! An ordered set of what is due when. A deadline that is no longer wanted is removed, so the set
//! is as large as there are workers that wait for something. One that is removed too late does no
//! harm: the rules look at the worker again when it is due.

use bgw_core::Pid;
use shmem_slots::Key;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Restart this worker.
    Restart(OrdKey),
    /// This worker is to be ready.
    Start(OrdKey),
    /// A look at the workers that are to beat this often.
    Look(Duration),
    /// The grace time of this worker is over.
    Kill(OrdKey),
    /// The time of the last processes of this group is over.
    KillGroup(Pid),
    /// The lifetime of this worker's run is over.
    Recycle(OrdKey),
    /// The second process of this worker, or its next one, is looked at.
    Beside(OrdKey),
    /// The next run of this worker, which is rolled, is to be ready by now.
    Roll(OrdKey),
    /// A look at how much memory workers use.
    Memory,
    /// A reload that was postponed.
    Reload,
    /// The time of all workers is over.
    KillAll,
}

/// A [`Key`] with an order, as a heap needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrdKey {
    index: u32,
    generation: u64,
}

impl From<Key> for OrdKey {
    fn from(key: Key) -> Self {
        Self { index: key.index, generation: key.generation }
    }
}

impl From<OrdKey> for Key {
    fn from(key: OrdKey) -> Self {
        Self { index: key.index, generation: key.generation }
    }
}

/// The deadlines of one postmaster. Each operation costs O(log n).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Instant, Due)>,
}

impl Timers {
    /// Adds a deadline.
    pub(crate) fn add(&mut self, at: Instant, due: Due) {
        self.set.insert((at, due));
    }

    /// Adds a deadline `delay` from `now`, and returns it. `None` if the clock cannot represent it:
    /// it is never due.
    pub(crate) fn add_after(&mut self, now: Instant, delay: Duration, due: Due) -> Option<Instant> {
        let at = now.checked_add(delay)?;
        self.add(at, due);
        Some(at)
    }

    /// Removes a deadline.
    pub(crate) fn remove(&mut self, at: Instant, due: Due) {
        self.set.remove(&(at, due));
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.set.first().map(|&(at, _)| at)
    }

    /// Takes one deadline that has passed at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, due)| due)
    }

    /// How many deadlines there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// Forgets all deadlines.
    pub(crate) fn clear(&mut self) {
        self.set.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_due_in_order_and_not_early() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let key = |index| OrdKey { index, generation: 1 };
        let mut timers = Timers::default();
        timers.add(at(3), Due::KillAll);
        timers.add(at(1), Due::Restart(key(1)));
        timers.add(at(2), Due::Kill(key(2)));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(at(0)), None);
        assert_eq!(timers.pop_due(at(2)), Some(Due::Restart(key(1))));
        assert_eq!(timers.pop_due(at(2)), Some(Due::Kill(key(2))));
        assert_eq!(timers.pop_due(at(2)), None);
        assert_eq!(timers.pop_due(at(9)), Some(Due::KillAll));
    }

    /// Breaks if a deadline that the clock cannot represent panics, or comes early.
    #[test]
    fn a_delay_beyond_the_clock_is_never_due() {
        let now = Instant::now();
        let mut timers = Timers::default();
        assert_eq!(timers.add_after(now, Duration::MAX, Due::KillAll), None);
        assert_eq!(timers.len(), 0);
        let at = timers.add_after(now, Duration::from_secs(1), Due::KillAll).unwrap();
        timers.remove(at, Due::KillAll);
        assert_eq!(timers.next(), None);
    }
}
