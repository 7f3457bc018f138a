//! Deadlines: many of them, one timer.
//!
//! A heap of what is due when. An entry that is no longer wanted is not searched for. It is found
//! stale when it is due: the worker is gone, or not in the state that the deadline was for.

use shmem_slots::Key;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Restart this worker.
    Restart(OrdKey),
    /// The grace time of this worker is over.
    Kill(OrdKey),
    /// The time after SIGQUIT to all workers is over.
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

/// The deadlines of one postmaster. Adding and taking cost O(log n).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Due)>>,
}

impl Timers {
    /// Adds a deadline.
    pub(crate) fn add(&mut self, at: Instant, due: Due) {
        self.heap.push(Reverse((at, due)));
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one deadline that has passed at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, due))| due)
    }

    /// Forgets all deadlines.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
}
