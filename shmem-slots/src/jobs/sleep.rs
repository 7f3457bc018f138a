//! Sleeping until there is a job, or until one is over. See the head of `jobs` for T4 and T5.

use super::layout::{MAX_CLASSES, OfClass};
use super::shared::Jobs;
use super::word::{JobKey, JobState, JobWord, SLEEPS};
use crate::cell::CellRef;
use crate::fault;
use crate::futex::{self, Half, WaitError, Watch, Woken};

use crate::memory::Memory;
use crate::primitive::{Ordering, fence};
use std::time::Instant;

impl<M: Memory> Jobs<M> {
    /// Sleeps until a job of one of `classes` may wait, one of `also` changes, the deadline passes,
    /// or a signal handler runs. May return without a reason: look again then.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_for_job(
        &self,
        classes: &[u32],
        taker: u32,
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<Woken, WaitError> {
        let (place, bit) = ((taker / 64) as usize, 1 << (taker % 64));
        let Some(sleepers) = self.sleepers().get(place) else { return Ok(Woken::Changed) };
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Woken::TimedOut);
        }
        sleepers.fetch_or(bit, Ordering::Relaxed);
        fault::point("sleep:announced");
        fence(Ordering::SeqCst); // T4, pairs with T5
        let known = classes.iter().copied().filter(|&class| class < self.options().classes);
        let watch = |class| {
            let bell = self.of_class(class, OfClass::Bell);
            let seen = bell.load(Ordering::Acquire) as u32;
            Watch { cell: CellRef(bell), half: Half::Low, seen }
        };
        let mut bells = [watch(0); MAX_CLASSES as usize];
        let mut count = 0;
        for (bell, class) in bells.iter_mut().zip(known.clone()) {
            *bell = watch(class);
            count += 1;
        }
        let woken = if { known }.any(|class| self.may_wait(class)) {
            Ok(Woken::Changed)
        } else {
            futex::wait_both(bells.get(..count).unwrap_or(&[]), also, deadline)
        };
        sleepers.fetch_and(!bit, Ordering::Relaxed);
        woken
    }

    /// Wakes one taker of the class if any taker sleeps. Comes after a job was put into the order;
    /// for a taker, too, that was woken and goes away without having looked.
    pub fn wake_taker(&self, class: u32) {
        fence(Ordering::SeqCst); // T5, pairs with T4
        if class >= self.options().classes || self.nobody_sleeps() {
            return;
        }
        let bell = self.of_class(class, OfClass::Bell);
        // Before the wake: whoever is about to sleep finds the bell changed.
        bell.fetch_add(1, Ordering::AcqRel);
        fault::point("submit:before_wake");
        futex::wake_one(bell);
    }

    /// Wakes all takers of a class: for a submitter whose job was not taken within a time that is
    /// long for a taker that was woken, which may have been stopped or killed since.
    pub fn wake_all_takers(&self, class: u32) {
        if class < self.options().classes {
            let bell = self.of_class(class, OfClass::Bell);
            bell.fetch_add(1, Ordering::AcqRel);
            futex::wake_all(bell);
        }
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

    /// Takes back what a taker said that died in its sleep.
    pub fn is_awake(&self, taker: u32) {
        if let Some(cell) = self.sleepers().get((taker / 64) as usize) {
            cell.fetch_and(!(1 << (taker % 64)), Ordering::Relaxed);
        }
    }

    /// Says that somebody sleeps until the job is over, and returns what to sleep on, beside the
    /// caller's own watches: the two halves of the job's word. `None` if the job is over, or the
    /// key is stale.
    ///
    /// They change when the job is over, and when it is taken, too; only the former wakes.
    #[must_use]
    pub fn watches(&self, key: JobKey) -> Option<[Watch<'_>; 2]> {
        let cell = CellRef(self.word(key.index)?);
        let mut word = self.look(key)?;
        if !word.has(SLEEPS) {
            let announced = self.change(key, |word| is_open(word).then(|| word.with(SLEEPS)));
            word = announced.ok()?.with(SLEEPS);
        }
        let low = Watch { cell, half: Half::Low, seen: word.0 as u32 };
        let high = Watch { cell, half: Half::High, seen: (word.0 >> 32) as u32 };
        is_open(word).then_some([low, high])
    }
}

fn is_open(word: JobWord) -> bool {
    matches!(word.state(), JobState::Queued | JobState::Taken | JobState::Closing)
}
