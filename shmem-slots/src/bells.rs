//! Bells: who waits for many slots is woken when one of those changes, and by no other.
//!
//! A wait for one slot sleeps on the word of that slot. A process that waits for thousands of slots
//! sleeps on one cell, its *bell*, and asks for each of them to have the bell rung. Slots share
//! *interest* cells, and processes share bells, so that there are few of both. Sharing wakes
//! somebody in vain now and then, and loses nothing.
//!
//! | bits of an interest cell | written by | meaning |
//! |---|---|---|
//! | 0 to 31 | who asks sets one, who changes a slot takes them all | which bells to ring |
//! | 32 to 63 | who changes a slot | how many times the bits were taken |
//!
//! | | who waits | who changes a slot |
//! |---|---|---|
//! | 1 | reads its bell | changes the word |
//! | 2 | for each interest that was taken since: asks again (B1), notes the number of takes | looks whether anybody asks (B2); if so, |
//! | 3 | looks at the words of its slots there | takes the bits, then counts the take (B3) |
//! | 4 | sleeps if the bell is as read | rings the bells of the bits (B4) |
//!
//! Where nobody asks, a change costs no more than B2: a fence, a load and a branch. A ring costs
//! one system call for each bell. Nothing is swept: what a dead process has asked for is taken at
//! the next change.
//!
//! Ordering. (B1, B2) A sequentially consistent fence lies between the request and the look at the
//! word, and between the change of the word and the look at the requests: at least one of the two
//! sees the other. Nothing else orders the two, so the interest itself needs no more than one order
//! of its changes. (B3) The bits are taken before the take is counted. Who sees the new number
//! asks after the bits were taken, so that its request stays, and its look comes after the change
//! that they were taken for (B2 before B1); who asked before that, and sees the old number, is rung
//! for. (B4) The bell is raised after the count, by a release, and read before it, by an acquire.
//!
//! Crash. A process killed between B2 and B4 has woken nobody. So only the manager of the slots
//! takes requests, since all others learn of its end. Any other process that changes a slot has the
//! manager ring, if [`Interest::is_asked`].

use crate::futex;
use crate::primitive::{AtomicU64, Ordering, fence};

/// How many bells one interest cell can name.
pub const BELLS: u32 = 32;

const TAKE: u64 = 1 << BELLS;
const ASKING: u64 = TAKE - 1;

/// The bells that are to be rung when one of some slots changes.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'a> {
    cell: &'a AtomicU64,
}

impl<'a> Interest<'a> {
    /// The interest in `cell`.
    #[must_use]
    pub const fn new(cell: &'a AtomicU64) -> Self {
        Self { cell }
    }

    /// Has bell number `bell` rung at the next change. Look at the slots after this call.
    ///
    /// Returns how many times requests were taken before: once [`Interest::taken`] says something
    /// else, this request is over.
    #[must_use]
    pub fn ask(&self, bell: u32) -> u32 {
        let before = self.cell.fetch_or(1 << (bell % BELLS), Ordering::Relaxed);
        fence(Ordering::SeqCst); // B1, pairs with B2
        (before >> BELLS) as u32
    }

    /// How many times the requests were taken.
    #[must_use]
    pub fn taken(&self) -> u32 {
        (self.cell.load(Ordering::Relaxed) >> BELLS) as u32
    }

    /// True if somebody asks. Call it after a change.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        fence(Ordering::SeqCst); // B2, pairs with B1
        self.cell.load(Ordering::Relaxed) & ASKING != 0
    }

    /// Takes all requests, after a change: the bells to [ring](Requests::ring). Only the manager
    /// does.
    pub fn take(&self) -> Requests {
        if !self.is_asked() {
            return Requests(0);
        }
        let before = self.cell.fetch_and(!ASKING, Ordering::Relaxed); // B3
        self.cell.fetch_add(TAKE, Ordering::Relaxed); // B3
        Requests((before & ASKING) as u32)
    }
}

/// Bells that are to be rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "who asked sleeps until it is rung"]
pub struct Requests(u32);

impl Requests {
    /// These and those of `others`.
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Rings the bells among `bells`, in their order: one system call for each.
    pub fn ring(self, bells: &[AtomicU64]) {
        if self.0 == 0 {
            return;
        }
        for (number, bell) in bells.iter().enumerate().take(BELLS as usize) {
            if self.0 & (1 << number) != 0 {
                bell.fetch_add(1, Ordering::Release); // B4
                futex::wake_all(bell);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_once_and_rings_its_own_bell() {
        let (cell, bells) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; BELLS as usize]);
        let interest = Interest::new(&cell);
        let rung = || bells.each_ref().map(|bell| bell.load(Ordering::Relaxed));
        assert_eq!(interest.take(), Requests(0));
        assert_eq!((interest.ask(3), interest.ask(31), interest.ask(3)), (0, 0, 0));
        assert!(interest.is_asked());
        interest.take().ring(&bells);
        let mut expected = [0; BELLS as usize];
        (expected[3], expected[31]) = (1, 1);
        assert_eq!(rung(), expected);
        assert!(!interest.is_asked());
        interest.take().ring(&bells);
        assert_eq!(rung(), expected);
        assert_eq!((interest.taken(), interest.ask(3)), (1, 1));
    }

    /// Fails when the number of takes carries into the requests, or a number too high is refused.
    #[test]
    fn any_bits_and_any_number_of_a_bell_do_no_harm() {
        let cell = AtomicU64::new(u64::MAX);
        let interest = Interest::new(&cell);
        assert_eq!(interest.take(), Requests(u32::MAX));
        assert_eq!(cell.load(Ordering::Relaxed), 0, "the number wraps");
        assert_eq!(interest.ask(BELLS + 1), 0);
        assert_eq!(interest.take(), Requests(2));
        Requests(u32::MAX).ring(&[AtomicU64::new(0)]);
    }
}
