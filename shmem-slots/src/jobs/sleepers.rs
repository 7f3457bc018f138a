//! Takers that sleep, and who wakes them. See the head of `jobs` for T5.
//!
//! | bits of a taker's word | what |
//! |---|---|
//! | 0 to 1 | whether it sleeps |
//! | 8 to 15 | a bit for each class that it serves |
//! | 32 to 63 | which of its sleeps |
//!
//! | from | to | by |
//! |---|---|---|
//! | awake | asleep, of the next number | the taker |
//! | asleep | rung | whoever wakes it, before the wake |
//! | rung | woken | the same, after the wake |
//! | any | awake | the taker; its successor |
//!
//! The taker sleeps until the lowest half changes.

use super::shared::Jobs;
use crate::fault;
use crate::futex;
use crate::memory::Memory;
use crate::primitive::{Ordering, fence};

/// How a taker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Awake,
    Asleep,
    /// Somebody is about to wake it, and may have died before that.
    Rung,
    /// It was woken, and has not looked yet.
    Woken,
}

/// The word of a taker's sleep, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SleepWord(u64);

const STATE: u64 = 3;
const CLASSES: u32 = 8;

impl SleepWord {
    const fn with(self, sleep: Sleep) -> Self {
        let state = match sleep {
            Sleep::Awake => 0,
            Sleep::Asleep => 1,
            Sleep::Rung => 2,
            Sleep::Woken => 3,
        };
        Self(self.0 & !STATE | state)
    }

    const fn sleep(self) -> Sleep {
        match self.0 & STATE {
            0 => Sleep::Awake,
            1 => Sleep::Asleep,
            2 => Sleep::Rung,
            _ => Sleep::Woken,
        }
    }

    /// The next sleep of the same taker, which serves these classes.
    fn next(self, classes: impl Iterator<Item = u32>) -> Self {
        let number = (self.0 >> 32).wrapping_add(1) << 32;
        let served = classes.fold(0, |all, class| all | 1 << (CLASSES + class % 8));
        Self(number | served).with(Sleep::Asleep)
    }

    /// True if the taker serves the class, and nobody has woken it.
    const fn is_to_wake(self, class: u32) -> bool {
        matches!(self.sleep(), Sleep::Asleep | Sleep::Rung)
            && self.0 & 1 << (CLASSES + class % 8) != 0
    }

    /// The half that the taker sleeps on.
    pub(super) const fn seen(self) -> u32 {
        self.0 as u32
    }
}

impl<M: Memory> Jobs<M> {
    /// Says that a taker of these classes is about to sleep. `taker` is one.
    pub(super) fn announce(&self, taker: u32, classes: impl Iterator<Item = u32>) -> SleepWord {
        let cell = self.sleep_of(taker);
        let asleep = SleepWord(cell.load(Ordering::Relaxed)).next(classes);
        cell.store(asleep.0, Ordering::Relaxed);
        if let Some(bits) = self.sleepers().get((taker / 64) as usize) {
            // A release: who finds the bit finds this sleep.
            bits.fetch_or(1 << (taker % 64), Ordering::Release);
        }
        asleep
    }

    /// Says that a taker does not sleep: for itself, and for one that died in its sleep.
    pub fn is_awake(&self, taker: u32) {
        if taker >= self.options().takers {
            return;
        }
        if let Some(bits) = self.sleepers().get((taker / 64) as usize) {
            bits.fetch_and(!(1 << (taker % 64)), Ordering::Relaxed);
        }
        // A swap: what others have said of this sleep comes before the next one.
        self.sleep_of(taker).fetch_and(!STATE, Ordering::AcqRel);
    }

    /// Wakes a taker of the class that sleeps and was not woken yet, if there is one. Comes after a
    /// job was put into the order; for a taker, too, that was woken and goes away without having
    /// looked.
    pub fn wake_taker(&self, class: u32) {
        fence(Ordering::SeqCst); // T5, pairs with T4
        for taker in self.all_sleepers() {
            let word = SleepWord(self.sleep_of(taker).load(Ordering::Relaxed));
            // One that does not sleep by now looks, or is dead: then the next one is woken, too.
            if word.is_to_wake(class) && self.wake(taker, word) {
                return;
            }
        }
    }

    /// Wakes all takers of a class: for a submitter whose job was not taken within a time that is
    /// long for a taker that was woken, which may have been stopped or killed since.
    pub fn wake_all_takers(&self, class: u32) {
        if class < self.options().classes {
            for taker in self.all_sleepers() {
                self.wake(taker, SleepWord(self.sleep_of(taker).load(Ordering::Relaxed)));
            }
        }
    }

    /// Rings a taker, wakes it, and says so. True if it has slept.
    fn wake(&self, taker: u32, word: SleepWord) -> bool {
        let cell = self.sleep_of(taker);
        let swap = |from: SleepWord, to: SleepWord| {
            // Fails if somebody else wakes it, too, or it is awake.
            let _ = cell.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed);
        };
        let rung = word.with(Sleep::Rung);
        if word.sleep() == Sleep::Asleep {
            // Before the wake: whoever is about to sleep finds its word changed.
            swap(word, rung);
        }
        fault::point("submit:before_wake");
        let has_slept = futex::wake_one(cell);
        fault::point("submit:woken");
        swap(rung, word.with(Sleep::Woken));
        has_slept
    }

    /// The takers that say that they sleep.
    fn all_sleepers(&self) -> impl Iterator<Item = u32> + '_ {
        (0..)
            .zip(self.sleepers())
            .flat_map(|(group, cell)| {
                let mut bits = cell.load(Ordering::Acquire);
                std::iter::from_fn(move || {
                    let first = bits.trailing_zeros();
                    bits &= bits.checked_sub(1)?;
                    Some(group * 64 + first)
                })
            })
            .filter(|&taker| taker < self.options().takers)
    }

    /// True if no taker says that it sleeps.
    #[must_use]
    pub fn nobody_sleeps(&self) -> bool {
        self.sleepers().iter().all(|cell| cell.load(Ordering::Relaxed) == 0)
    }

    /// How many takers say that they sleep.
    #[must_use]
    pub fn sleeping(&self) -> u32 {
        self.sleepers().iter().map(|cell| cell.load(Ordering::Relaxed).count_ones()).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_taker_is_to_be_woken_for_its_classes_until_it_was() {
        let asleep = SleepWord(u64::MAX).next([1, 7].into_iter());
        assert_eq!(asleep.0 >> 32, 0);
        for class in 0..8 {
            let serves = class == 1 || class == 7;
            assert_eq!(asleep.is_to_wake(class), serves);
            assert_eq!(asleep.with(Sleep::Rung).is_to_wake(class), serves);
            for sleep in [Sleep::Woken, Sleep::Awake] {
                assert!(!asleep.with(sleep).is_to_wake(class));
                assert_ne!(asleep.with(sleep).seen(), asleep.seen());
            }
        }
        assert_ne!(asleep.with(Sleep::Rung).seen(), asleep.seen());
        let again = asleep.next([1].into_iter());
        assert_eq!((again.sleep(), again.0 >> 32), (Sleep::Asleep, 1));
    }
}
