//! Giving up what a dead submitter has left. See the head of `jobs`.

use super::shared::Jobs;
use super::word::{DETACHED, JobKey, JobState};
use crate::fault;
use crate::memory::Memory;

impl<M: Memory> Jobs<M> {
    /// Gives up the jobs of a submitter that is dead, or has said that it will ask for none of
    /// them: those that nobody has taken never run, those that run are freed at their end, and
    /// those that have ended now. Returns how many never run. A look at every cell.
    ///
    /// Before its number is given to another one.
    pub fn sweep(&self, submitter: u32) -> u32 {
        let mut given_up = 0;
        for index in 0..self.layout.all_jobs() {
            let Some(word) = self.word_of(index) else { continue };
            let key = JobKey { index, generation: word.generation() };
            let its = self.submitter_of(key) == submitter;
            let swept = self.change(key, |word| match word.state() {
                JobState::Filling | JobState::Queued if word.party() == submitter => {
                    Some(word.freed())
                }
                JobState::Taken | JobState::Closing if its => Some(word.with(DETACHED)),
                JobState::Ended if its => Some(word.freed()),
                _ => None,
            });
            fault::point("sweep:swept");
            if swept.is_ok_and(|word| word.state() == JobState::Queued) {
                given_up += 1;
            }
        }
        given_up
    }
}
