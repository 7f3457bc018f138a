//! A latch: a process sleeps on it, anybody sets it.
//!
//! One cell of 64 bits. Its low half is the futex and holds three bits, its high half the pid of
//! the process that owns the latch.
//!
//! | bit | set by | meaning |
//! |---|---|---|
//! | `SET` | anybody | there is something to do |
//! | `SLEEPING` | the owner | it sleeps, or is about to, in a futex wait on the low half |
//! | `POLLING` | the owner | it sleeps, or is about to, in `ppoll`; a futex wake does not reach it |
//!
//! The only right loop of an owner, since a set between `reset` and the look must not be lost:
//!
//! ```text
//! loop {
//!     latch.reset();            // first
//!     look at the condition;    // then
//!     latch.wait(...);          // a set since the reset ends this at once
//! }
//! ```
//!
//! Never look first and reset after it.
//!
//! Ordering. (L1) [`Latch::set`] and (L2) [`Latch::reset`] are read-modify-writes with AcqRel on one
//! cell, so one comes before the other. If the reset comes after the set it synchronises with it,
//! and the look that follows sees the setter's condition. If it comes before, the set stands and
//! the wait ends at once. A plain load in `set` ("it is set already, nothing to do") would be
//! wrong: it may read the value from before the reset while the condition is not yet visible.
//! (L3) the announcement of the sleeper is a read-modify-write on the same cell, so either the
//! setter sees the announcement and wakes, or the sleeper sees the set and does not sleep; the
//! futex compares the low half once more in the kernel.
//!
//! Crash. A setter killed after L1 and before the wake leaves a set latch and a sleeper: the
//! sleeper wakes at its next event. A setter that is killed has not finished setting; nothing
//! else depends on it. An owner killed while it sleeps leaves its announcement: a setter wakes
//! nobody, and the next owner clears it (`adopt`).
//!
//! Trust. Any bits give a decision; the pid in the high half is never used to send a signal by
//! itself (see [`Wake::Signal`]).

use shmem_slots::futex::{self, Half, Watch, Woken};
use shmem_slots::primitive::{AtomicU64, Ordering};
use std::time::Instant;

const SET: u64 = 1;
const SLEEPING: u64 = 2;
const POLLING: u64 = 4;
const LOW: u64 = 0xffff_ffff;

/// What is left to do for the one who has set a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an owner that sleeps in ppoll is woken by a signal that the caller sends"]
pub enum Wake {
    /// Nothing: the owner was awake, or has been woken.
    Done,
    /// The owner sleeps in `ppoll`, and a futex does not reach it. The pid is what the latch
    /// claims; check it against a fact (a slot that says `Started` with that pid, looked at after
    /// a pidfd was opened) before signalling.
    Signal {
        /// The owner's pid as it stands in the latch: a hint, not a fact.
        owner: u32,
    },
}

/// A latch over one cell: set by any process, reset and waited for by its owner alone.
///
/// Setting wakes a sleeping owner with one system call and an owner that is awake with none.
#[derive(Clone, Copy, Debug)]
pub struct Latch<'a> {
    cell: &'a AtomicU64,
}

impl<'a> Latch<'a> {
    /// The latch that lies in `cell`. Every process that names the same cell has the same latch.
    #[must_use]
    pub const fn new(cell: &'a AtomicU64) -> Self {
        Self { cell }
    }

    /// Makes the calling process the owner and clears the latch: whatever a former owner left in
    /// it is gone. A set that comes after this call is not lost.
    #[doc(alias = "OwnLatch")]
    pub fn adopt(&self, owner: u32) {
        self.cell.store(u64::from(owner) << 32, Ordering::Release);
    }

    /// Sets the latch. Safe in a signal handler: no allocation, no lock.
    ///
    /// Whatever the caller wrote before is visible to the owner once it has woken and reset.
    #[doc(alias = "SetLatch")]
    pub fn set(&self) -> Wake {
        let before = self.cell.fetch_or(SET, Ordering::AcqRel); // L1
        if before & SET != 0 {
            return Wake::Done;
        }
        if before & SLEEPING != 0 {
            futex::wake_all(self.cell);
        }
        if before & POLLING != 0 {
            return Wake::Signal { owner: (before >> 32) as u32 };
        }
        Wake::Done
    }

    /// True when the latch is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.cell.load(Ordering::Acquire) & SET != 0
    }

    /// Clears the latch. Call it before the look at the condition, never after it.
    #[doc(alias = "ResetLatch")]
    pub fn reset(&self) {
        self.cell.fetch_and(!SET, Ordering::AcqRel); // L2, pairs with L1
    }

    /// Sleeps until the latch is set, one of `also` changes, the deadline passes or a signal
    /// handler ran. For the owner alone.
    ///
    /// Returns at once when the latch is set. The latch stays set: [`Latch::reset`] clears it.
    ///
    /// # Errors
    /// Those of [`futex::wait_any`]: too many watches, or a kernel without `futex_waitv`.
    #[doc(alias = "WaitLatch")]
    pub fn wait(
        &self,
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<Woken, futex::WaitError> {
        let before = self.cell.fetch_or(SLEEPING, Ordering::AcqRel); // L3
        if before & SET != 0 {
            self.cell.fetch_and(!SLEEPING, Ordering::AcqRel);
            return Ok(Woken::Changed);
        }
        let mine =
            Watch { cell: self.cell, half: Half::Low, seen: ((before | SLEEPING) & LOW) as u32 };
        let mut watches = [mine; 8];
        let end = (also.len() + 1).min(watches.len());
        for (to, from) in watches.iter_mut().skip(1).zip(also) {
            *to = *from;
        }
        // `end` is at most the length of the array.
        let woken = futex::wait_any(watches.get(..end).unwrap_or(&[]), deadline);
        self.cell.fetch_and(!SLEEPING, Ordering::AcqRel);
        woken
    }

    /// Announces a sleep in `ppoll`. False when the latch is set: do not sleep then. Take the
    /// announcement back by [`Latch::end_poll`] in both cases.
    #[must_use]
    pub fn begin_poll(&self) -> bool {
        self.cell.fetch_or(POLLING, Ordering::AcqRel) & SET == 0 // L3
    }

    /// Takes the announcement of [`Latch::begin_poll`] back.
    pub fn end_poll(&self) {
        self.cell.fetch_and(!POLLING, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_set_latch_ends_the_wait_at_once_and_stays_set() {
        let cell = AtomicU64::new(0);
        let latch = Latch::new(&cell);
        latch.adopt(7);
        assert_eq!(latch.set(), Wake::Done);
        assert_eq!(latch.wait(&[], None).unwrap(), Woken::Changed);
        assert!(latch.is_set());
        latch.reset();
        assert!(!latch.is_set());
    }

    #[test]
    fn an_unset_latch_times_out_and_forgets_that_it_slept() {
        let cell = AtomicU64::new(0);
        let latch = Latch::new(&cell);
        let deadline = Instant::now() + Duration::from_millis(1);
        assert_eq!(latch.wait(&[], Some(deadline)).unwrap(), Woken::TimedOut);
        assert_eq!(cell.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_setter_is_told_to_signal_an_owner_that_polls() {
        let cell = AtomicU64::new(0);
        let latch = Latch::new(&cell);
        latch.adopt(42);
        assert!(latch.begin_poll());
        assert_eq!(latch.set(), Wake::Signal { owner: 42 });
        assert_eq!(latch.set(), Wake::Done, "a set latch needs no second wake");
        latch.end_poll();
        latch.reset();
        assert!(latch.begin_poll(), "nothing is left of the first sleep");
    }
}
