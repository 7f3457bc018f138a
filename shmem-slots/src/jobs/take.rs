//! The taker's side: the next job, and its end. See the head of `jobs`.

use super::error::{EndError, TakeError};
use super::order::Corrupt;
use super::shared::Jobs;
use super::word::{DETACHED, JobKey, JobState, JobWord, SLEEPS};
use crate::fault;
use crate::futex;
use crate::memory::Memory;

/// What a taker learns when it ends a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Somebody wants to know how it has ended. Otherwise its cell is free.
    pub wanted: bool,
    /// Its submitter has asked for its end: the taker may be signalled for that, and takes nothing
    /// after it.
    pub cancelled: bool,
}

impl<M: Memory> Jobs<M> {
    /// Takes the next job of a class; `None` if there is none. A job whose submitter `is_gone`, as
    /// its cell names it, is given up and not taken.
    ///
    /// # Errors
    /// [`TakeError`].
    pub fn take(
        &self,
        class: u32,
        taker: u32,
        is_gone: impl Fn(u32) -> bool,
    ) -> Result<Option<JobKey>, TakeError> {
        let options = self.options();
        if class >= options.classes || taker >= options.takers {
            return Err(TakeError::Unknown { class, taker });
        }
        // More than there are places: others come and go meanwhile.
        for _ in 0..self.layout.places * 2 {
            let first = self.first(class).map_err(|Corrupt| TakeError::Corrupt)?;
            let Some(first) = first else { return Ok(None) };
            if let (Some(word), Some(index)) = (first.word, first.place.index()) {
                let key = JobKey { index, generation: word.generation() };
                let given_up = is_gone(word.party());
                let next =
                    if given_up { word.freed() } else { word.turned(JobState::Taken, taker) };
                fault::point("take:before_swap");
                // T2: of all that come, one gets the job. Whoever fails looks at the first again.
                if !self.swap(index, word, next) {
                    continue;
                }
                fault::point("take:taken");
                self.pass(class, first);
                if !given_up {
                    return Ok(Some(key));
                }
            } else {
                self.pass(class, first);
            }
        }
        Err(TakeError::Corrupt)
    }

    /// Ends a job that this taker has taken: its submitter gets `output` and `code`.
    ///
    /// # Errors
    /// [`EndError`].
    pub fn end(&self, key: JobKey, taker: u32, code: u32, output: &[u8]) -> Result<End, EndError> {
        let taken = self.look(key).filter(|word| is(*word, JobState::Taken, taker));
        taken.ok_or(EndError::NotTaken)?;
        if output.len() > self.room() {
            return Err(EndError::TooLong { len: output.len(), limit: self.room() });
        }
        self.write(key.index, output, code);
        fault::point("end:written");
        self.finish(key, JobState::Taken, taker)
    }

    /// The jobs that a taker has, as far as their cells say so.
    pub fn taken_by(&self, taker: u32) -> impl Iterator<Item = JobKey> + '_ {
        (0..self.layout.all_jobs()).filter_map(move |index| {
            let word = self.word_of(index)?;
            let has = is(word, JobState::Taken, taker) || is(word, JobState::Closing, taker);
            has.then_some(JobKey { index, generation: word.generation() })
        })
    }

    /// Ends a job of a taker that is dead, in its place. For one process at a time: the one that
    /// follows as that taker, before it takes anything.
    ///
    /// # Errors
    /// [`EndError`]: the job is over, or its submitter was quicker.
    pub fn close(
        &self,
        key: JobKey,
        taker: u32,
        code: u32,
        output: &[u8],
    ) -> Result<End, EndError> {
        if output.len() > self.room() {
            return Err(EndError::TooLong { len: output.len(), limit: self.room() });
        }
        let closing = self.change(key, |word| match word.state() {
            JobState::Taken | JobState::Closing if word.party() == taker => {
                Some(word.turned(JobState::Closing, taker))
            }
            _ => None,
        });
        closing.map_err(|_| EndError::NotTaken)?;
        fault::point("close:closing");
        self.write(key.index, output, code);
        fault::point("close:written");
        self.finish(key, JobState::Closing, taker)
    }

    fn finish(&self, key: JobKey, state: JobState, taker: u32) -> Result<End, EndError> {
        let before = self.change(key, |word| {
            is(word, state, taker).then(|| {
                let wanted = !word.has(DETACHED);
                if wanted { word.turned(JobState::Ended, taker) } else { word.freed() }
            })
        });
        let before = before.map_err(|_| EndError::NotTaken)?;
        fault::point("end:ended");
        if before.has(SLEEPS) {
            if let Some(cell) = self.word(key.index) {
                futex::wake_all(cell);
            }
        }
        Ok(End { wanted: !before.has(DETACHED), cancelled: before.is_cancelled() })
    }
}

fn is(word: JobWord, state: JobState, party: u32) -> bool {
    word.state() == state && word.party() == party
}
