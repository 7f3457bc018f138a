//! Sleeping until there is a job, or until one is over. See the head of `jobs` for T4.

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
        if taker >= self.options().takers {
            return Ok(Woken::Changed);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Woken::TimedOut);
        }
        let known = classes.iter().copied().filter(|&class| class < self.options().classes);
        let asleep = self.announce(taker, known.clone());
        fault::point("sleep:announced");
        fence(Ordering::SeqCst); // T4, pairs with T5
        let woken = if { known }.any(|class| self.may_wait(class)) {
            Ok(Woken::Changed)
        } else {
            let cell = CellRef(self.sleep_of(taker));
            let own = Watch { cell, half: Half::Low, seen: asleep.seen() };
            futex::wait_both(&[own], also, deadline)
        };
        self.is_awake(taker);
        woken
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
