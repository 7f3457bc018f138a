//! A latch: one process sleeps on it, any process sets it.
//!
//! A latch is one cell of 64 bits. Its low half is the futex and holds three bits. Its high half
//! holds the pid of the process that owns the latch.
//!
//! | bit | written by | meaning |
//! |---|---|---|
//! | `SET` | anybody | there is something to do |
//! | `SLEEPING` | the owner | it sleeps, or is about to, in a futex wait on the low half |
//! | `POLLING` | the owner | it sleeps, or is about to, in `ppoll`; a futex wake does not reach it |
//!
//! The owner's loop must reset first and look second, so that a set between the two is not lost:
//!
//! ```text
//! loop {
//!     latch.reset();            // first
//!     look at the condition;    // then
//!     latch.wait(...);          // a set since the reset ends this at once
//! }
//! ```
//!
//! Ordering. (L1) [`Latch::set`] and (L2) [`Latch::reset`] are read-modify-writes with AcqRel on one
//! cell, so one comes before the other. If the reset comes second, it synchronizes with the set, and
//! the look that follows sees the setter's condition. If it comes first, the latch stays set and the
//! wait returns at once. A plain load in `set` ("it is set already, nothing to do") would be wrong:
//! it may read the value from before the reset while the condition is not yet visible. (L3) The
//! sleeper announces itself by a read-modify-write on the same cell: either the setter sees the
//! announcement and wakes the sleeper, or the sleeper sees the set and does not sleep. The kernel
//! compares the low half once more before it puts the sleeper to sleep.
//!
//! Crash. A setter killed between L1 and the wake leaves a set latch and a sleeper, which wakes at
//! its next event. An owner killed in its sleep leaves its announcement: a setter then wakes nobody,
//! and [`Latch::adopt`] of the next owner clears it.
//!
//! Trust. Any bits give a decision. The pid in the high half is a hint, see [`Wake::Signal`].

use crate::futex::{self, Half, Watch, Woken};
use crate::primitive::{AtomicU64, Ordering};
use std::time::Instant;

const SET: u64 = 1;
const SLEEPING: u64 = 2;
const POLLING: u64 = 4;
const LOW: u64 = 0xffff_ffff;

/// What the caller of [`Latch::set`] still has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an owner that sleeps in ppoll is woken by a signal that the caller sends"]
pub enum Wake {
    /// Nothing: the owner was awake, or has been woken.
    Done,
    /// The owner sleeps in `ppoll`, which a futex wake does not end. Before the caller signals this
    /// pid, it must prove by other means that the pid is still the owner's.
    Signal {
        /// The owner's pid as the latch has it: a hint, not a fact.
        owner: u32,
    },
}

/// A latch over one cell: any process sets it, its owner resets it and waits for it.
///
/// A set costs one system call when the owner sleeps and none when it is awake.
#[derive(Clone, Copy, Debug)]
pub struct Latch<'a> {
    cell: &'a AtomicU64,
}

impl<'a> Latch<'a> {
    /// The latch in `cell`. Processes that name the same cell share one latch.
    #[must_use]
    pub const fn new(cell: &'a AtomicU64) -> Self {
        Self { cell }
    }

    /// Makes the calling process the owner and clears the latch, whatever its previous owner left
    /// there. A set after this call is not lost.
    #[doc(alias = "OwnLatch")]
    pub fn adopt(&self, owner: u32) {
        self.cell.store(u64::from(owner) << 32, Ordering::Release);
    }

    /// Sets the latch. Safe in a signal handler: no allocation, no lock.
    ///
    /// The owner sees everything that the caller wrote before, once it has woken and reset.
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

    /// Returns true when the latch is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.cell.load(Ordering::Acquire) & SET != 0
    }

    /// Clears the latch. Call it before the look at the condition, never after it.
    #[doc(alias = "ResetLatch")]
    pub fn reset(&self) {
        self.cell.fetch_and(!SET, Ordering::AcqRel); // L2, pairs with L1
    }

    /// Sleeps until the latch is set, one of `also` changes, the deadline passes or a signal handler
    /// runs. Only the owner calls this.
    ///
    /// Returns at once when the latch is set. The latch stays set: [`Latch::reset`] clears it.
    ///
    /// # Errors
    /// [`futex::WaitError`]: more than [`MAX_WATCHES`](futex::MAX_WATCHES) watches, the latch
    /// included, or a kernel without `futex_waitv`.
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
        let mine = Watch {
            cell: self.cell.into(),
            half: Half::Low,
            seen: ((before | SLEEPING) & LOW) as u32,
        };
        let woken = futex::wait_both(&[mine], also, deadline);
        self.cell.fetch_and(!SLEEPING, Ordering::AcqRel);
        woken
    }

    /// Announces a sleep in `ppoll`. Returns false when the latch is set: do not sleep then. Call
    /// [`Latch::end_poll`] in both cases.
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
    use crate::futex::{MAX_WATCHES, WaitError};
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
    fn a_wait_that_times_out_takes_its_announcement_back() {
        let cell = AtomicU64::new(0);
        let latch = Latch::new(&cell);
        let deadline = Instant::now() + Duration::from_millis(1);
        assert_eq!(latch.wait(&[], Some(deadline)).unwrap(), Woken::TimedOut);
        assert_eq!(cell.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_setter_of_a_polling_owner_learns_whom_to_signal() {
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

    /// Fails when the wait drops the watches that its first buffer has no room for: the last one is
    /// not as seen, so a wait that keeps it returns at once.
    #[test]
    fn a_wait_keeps_every_watch_or_refuses_them_all() {
        let (cell, other) = (AtomicU64::new(0), AtomicU64::new(0));
        let latch = Latch::new(&cell);
        for count in [1, 7, 8, 20, MAX_WATCHES - 1] {
            let mut also = vec![Watch { cell: (&other).into(), half: Half::Low, seen: 0 }; count];
            also[count - 1].seen = 1;
            let deadline = Some(Instant::now() + Duration::from_secs(30));
            assert_eq!(latch.wait(&also, deadline).unwrap(), Woken::Changed, "{count} watches");
        }
        let many = vec![Watch { cell: (&other).into(), half: Half::Low, seen: 0 }; MAX_WATCHES];
        let refused = latch.wait(&many, None);
        assert!(matches!(refused, Err(WaitError::Count { count }) if count == MAX_WATCHES + 1));
        assert_eq!(cell.load(Ordering::Relaxed), 0);
    }
}
