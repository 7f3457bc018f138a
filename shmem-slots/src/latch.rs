//! A latch: threads of one process sleep on it, any process sets it.
//!
//! A latch is one cell of 64 bits. Its low half is the futex.
//!
//! | bits | written by | meaning |
//! |---|---|---|
//! | 0 | setters, and the owner's resets | set: there is something to do |
//! | 1 to 31 | the owner's resets | how many times it was reset |
//! | 32 to 47 | the owner | how many of its threads sleep, or are about to, on the futex |
//! | 48 to 63 | the owner | how many sleep, or are about to, in `ppoll`, which a futex wake does not reach |
//!
//! The owner's loop must reset first and look second, so that a set between the two is not lost.
//! [`Latch::wait`] takes what [`Latch::reset`] returns:
//!
//! ```text
//! loop {
//!     let seen = latch.reset();    // first
//!     look at the condition;       // then
//!     latch.wait(seen, ...);       // a set since the reset ends this at once
//! }
//! ```
//!
//! Several threads of the owner may run that loop. A set wakes all that sleep, and a set that one
//! thread has reset still ends the wait of the others: the number of resets is not as seen.
//!
//! Ordering. (L1) [`Latch::set`] and (L2) [`Latch::reset`] are read-modify-writes with AcqRel on
//! one cell, so one comes before the other. If the reset comes second, it synchronizes with the
//! set, and the look that follows sees the setter's condition. If it comes first, or finds the
//! latch unset and writes nothing, the latch stays set and the wait returns at once. A plain load
//! in `set` ("it is set already, nothing to do") would be wrong: it may read the value from before
//! the reset while the condition is not yet visible. (L3) A sleeper counts itself by a
//! read-modify-write on the same cell: either the setter sees the count and wakes the sleeper, or
//! the sleeper sees the set and does not sleep. The kernel compares the low half once more before
//! it puts the sleeper to sleep.
//!
//! Crash. A setter killed between L1 and the wake leaves a set latch and a sleeper, which wakes at
//! its next event. An owner killed in its sleep leaves its count: a setter then wakes nobody, and
//! [`Latch::adopt`] of the next owner clears it.
//!
//! Trust. Any bits give a decision. Who overwrites the cell can keep the owner asleep, and does
//! nothing else.

use crate::futex::{self, Half, Watch, Woken};
use crate::primitive::{AtomicU64, Ordering};
use std::time::Instant;

const SET: u64 = 1;
const LOW: u64 = 0xffff_ffff;
const SLEEPER: u64 = 1 << 32;
const SLEEPERS: u64 = 0xffff << 32;
const POLLER: u64 = 1 << 48;
const POLLERS: u64 = 0xffff << 48;

/// What the caller of [`Latch::set`] still has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an owner that sleeps in ppoll is woken by a signal that the caller sends"]
pub enum Wake {
    /// Nothing: the owner was awake, or has been woken.
    Done,
    /// A thread of the owner sleeps in `ppoll`, which a futex wake does not end. The latch does not
    /// know who its owner is: the caller must, and must prove it before it sends a signal.
    Signal,
}

/// What a thread of the owner has seen of a latch: sets from then on end its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u32);

/// A latch over one cell: any process sets it, its owner resets it and waits for it.
///
/// A set costs one system call when the owner sleeps and none when it is awake.
#[derive(Clone, Copy, Debug)]
pub struct Latch<'a> {
    cell: &'a AtomicU64,
}

/// The low half without the set bit.
const fn resets(bits: u64) -> u32 {
    (bits & LOW & !SET) as u32
}

const fn is_set_since(bits: u64, seen: Seen) -> bool {
    bits & SET != 0 || resets(bits) != seen.0
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
    pub fn adopt(&self) {
        self.cell.store(0, Ordering::Release);
    }

    /// Sets the latch. Safe in a signal handler: no allocation, no lock.
    ///
    /// The owner sees everything that the caller wrote before, once it has woken and reset.
    #[inline]
    #[doc(alias = "SetLatch")]
    pub fn set(&self) -> Wake {
        let before = self.cell.fetch_or(SET, Ordering::AcqRel); // L1
        if before & SET != 0 {
            return Wake::Done;
        }
        if before & SLEEPERS != 0 {
            futex::wake_all(self.cell);
        }
        if before & POLLERS != 0 { Wake::Signal } else { Wake::Done }
    }

    /// What there is to see now, without a reset. For a first wait, before which nobody has reset:
    /// it returns at once when the latch is set.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen(resets(self.cell.load(Ordering::Acquire)))
    }

    /// Returns true when the latch is set, or was set and reset since `seen`.
    #[must_use]
    pub fn is_set(&self, seen: Seen) -> bool {
        is_set_since(self.cell.load(Ordering::Acquire), seen)
    }

    /// Clears the latch. Call this before checking the condition, never after.
    #[inline]
    #[doc(alias = "ResetLatch")]
    pub fn reset(&self) -> Seen {
        let clear = |bits: u64| {
            let low = (bits & LOW).wrapping_add(1) & LOW; // The set bit carries into the number.
            (bits & SET != 0).then_some(bits & !LOW | low)
        };
        let cleared = self.cell.fetch_update(Ordering::AcqRel, Ordering::Acquire, clear); // L2, L1
        match cleared {
            Ok(before) => Seen(resets(before.wrapping_add(1))),
            Err(unset) => Seen(resets(unset)),
        }
    }

    /// Sleeps until the latch is set, one of `also` changes, the deadline passes or a signal
    /// handler runs. Only the owner calls this.
    ///
    /// Returns at once when the latch was set since `seen`. The latch stays set: [`Latch::reset`]
    /// clears it.
    ///
    /// # Errors
    /// [`futex::WaitError`]: more than [`MAX_WATCHES`](futex::MAX_WATCHES) watches, the latch
    /// included, or a kernel without `futex_waitv`.
    #[doc(alias = "WaitLatch")]
    pub fn wait(
        &self,
        seen: Seen,
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<Woken, futex::WaitError> {
        let before = self.cell.fetch_add(SLEEPER, Ordering::AcqRel); // L3
        let woken = if is_set_since(before, seen) {
            Ok(Woken::Changed)
        } else {
            let mine = Watch { cell: self.cell.into(), half: Half::Low, seen: seen.0 };
            futex::wait_both(&[mine], also, deadline)
        };
        self.cell.fetch_sub(SLEEPER, Ordering::AcqRel);
        woken
    }

    /// Announces a sleep in `ppoll`. Returns false when the latch was set since `seen`: do not
    /// sleep then. Call [`Latch::end_poll`] in both cases.
    #[must_use]
    pub fn begin_poll(&self, seen: Seen) -> bool {
        !is_set_since(self.cell.fetch_add(POLLER, Ordering::AcqRel), seen) // L3
    }

    /// Takes the announcement of [`Latch::begin_poll`] back.
    pub fn end_poll(&self) {
        self.cell.fetch_sub(POLLER, Ordering::AcqRel);
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
        latch.adopt();
        assert_eq!(latch.set(), Wake::Done);
        assert_eq!(latch.wait(latch.seen(), &[], None).unwrap(), Woken::Changed);
        assert!(latch.is_set(latch.seen()));
        let seen = latch.reset();
        assert!(!latch.is_set(seen));
    }

    #[test]
    fn a_wait_that_times_out_takes_its_announcement_back() {
        let cell = AtomicU64::new(0);
        let latch = Latch::new(&cell);
        let deadline = Instant::now() + Duration::from_millis(1);
        assert_eq!(latch.wait(latch.seen(), &[], Some(deadline)).unwrap(), Woken::TimedOut);
        assert_eq!(cell.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_setter_of_a_polling_owner_learns_that_it_must_signal() {
        let cell = AtomicU64::new(0);
        let latch = Latch::new(&cell);
        latch.adopt();
        let seen = latch.reset();
        assert!(latch.begin_poll(seen));
        assert_eq!(latch.set(), Wake::Signal);
        assert_eq!(latch.set(), Wake::Done, "a set latch needs no second wake");
        latch.end_poll();
        let seen = latch.reset();
        assert!(latch.begin_poll(seen), "nothing is left of the first sleep");
    }

    /// Fails when one bit stands for all sleepers: the first that leaves takes the mark of the
    /// other.
    #[test]
    fn a_sleeper_that_leaves_does_not_hide_another() {
        let cell = AtomicU64::new(0);
        let latch = Latch::new(&cell);
        let seen = latch.reset();
        assert!(latch.begin_poll(seen) && latch.begin_poll(seen));
        latch.end_poll();
        assert_eq!(latch.set(), Wake::Signal);
        latch.end_poll();
        latch.reset();
        std::thread::scope(|scope| {
            let seen = latch.reset();
            let sleeper = scope.spawn(move || latch.wait(seen, &[], None));
            while cell.load(Ordering::Relaxed) & SLEEPERS == 0 {
                std::thread::yield_now();
            }
            let past = Some(Instant::now());
            assert_eq!(latch.wait(seen, &[], past).unwrap(), Woken::TimedOut);
            assert_ne!(cell.load(Ordering::Relaxed) & SLEEPERS, 0);
            assert_eq!(latch.set(), Wake::Done);
            assert_eq!(sleeper.join().unwrap().unwrap(), Woken::Changed);
        });
    }

    /// Fails when a wait looks at the set bit alone.
    #[test]
    fn a_set_that_another_thread_reset_still_ends_the_wait() {
        let cell = AtomicU64::new(LOW & !SET);
        let latch = Latch::new(&cell);
        let (one, other) = (latch.reset(), latch.reset());
        assert_eq!(latch.set(), Wake::Done);
        let one = [one, latch.reset()];
        assert!(!latch.is_set(one[1]), "reset by this thread, and the number has wrapped");
        assert!(latch.is_set(other));
        assert_eq!(latch.wait(other, &[], None).unwrap(), Woken::Changed);
        assert!(!latch.begin_poll(other));
        latch.end_poll();
        assert_eq!(cell.load(Ordering::Relaxed), 0, "no carry into the counts");
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
            assert_eq!(
                latch.wait(latch.seen(), &also, deadline).unwrap(),
                Woken::Changed,
                "{count} watches"
            );
        }
        let many = vec![Watch { cell: (&other).into(), half: Half::Low, seen: 0 }; MAX_WATCHES];
        let refused = latch.wait(latch.seen(), &many, None);
        assert!(matches!(refused, Err(WaitError::Count { count }) if count == MAX_WATCHES + 1));
        assert_eq!(cell.load(Ordering::Relaxed), 0);
    }
}
