//! The submitter's side: a job in, its end out. See the head of `jobs`.

use super::error::SubmitError;
use super::order::{Corrupt, Pushed};
use super::shared::Jobs;
use super::word::{CANCELLED, DETACHED, JobKey, JobState, JobWord};
use crate::fault;
use crate::memory::Memory;
use crate::primitive::Ordering;

/// What became of an attempt to cancel a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It never ran and never will; its cell is free.
    Cancelled,
    /// This taker has it.
    Taken {
        /// The taker.
        taker: u32,
    },
    /// It is over already, or the key is stale.
    Over,
}

impl<M: Memory> Jobs<M> {
    /// Submits a job: `input` for whoever takes it, after all jobs of its class that were submitted
    /// before. Waits for nobody. `notes` are the first notes of the job. Looks for a free cell from
    /// cell `near` of the class on: best is one that the submitter has had lately.
    ///
    /// A sleeping taker of the class is woken.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was submitted.
    pub fn submit(
        &self,
        class: u32,
        submitter: u32,
        near: u32,
        input: &[u8],
        notes: &[u64],
    ) -> Result<JobKey, SubmitError> {
        let options = self.options();
        if class >= options.classes || submitter >= options.submitters {
            return Err(SubmitError::Unknown { class, submitter });
        }
        if input.len() > self.room() {
            return Err(SubmitError::TooLong { len: input.len(), limit: self.room() });
        }
        let claimed = self.claim(class, submitter, near).ok_or(SubmitError::Full { class })?;
        let JobKey { index, .. } = claimed;
        fault::point("submit:claimed");
        if let Some(cell) = self.party_cell(index) {
            cell.store(u64::from(submitter), Ordering::Relaxed);
        }
        for (number, &note) in notes.iter().enumerate() {
            if let Some(cell) = self.note(claimed, number) {
                cell.store(note, Ordering::Relaxed);
            }
        }
        self.write(index, input, 0);
        fault::point("submit:written");
        let queued = JobWord::new(claimed.generation, JobState::Queued, submitter);
        let filling = JobWord::new(claimed.generation, JobState::Filling, submitter);
        // A release: the input is there before the word says so. Fails if this process was taken
        // for dead.
        if !self.swap(index, filling, queued) {
            return Err(SubmitError::Corrupt);
        }
        fault::point("submit:queued");
        let pushed = self.push(class, claimed);
        if pushed != Ok(Pushed::Done) {
            self.swap(index, queued, queued.freed());
            return Err(match pushed {
                Err(Corrupt) => SubmitError::Corrupt,
                Ok(_) => SubmitError::Full { class },
            });
        }
        self.wake_taker(class);
        Ok(claimed)
    }

    /// Claims a free cell of the class, in the name of the submitter.
    fn claim(&self, class: u32, submitter: u32, near: u32) -> Option<JobKey> {
        let jobs = self.options().jobs;
        // Below the classes, so it does not overflow.
        let first = class * jobs;
        (0..jobs).find_map(|step| {
            // Both are below 2^17.
            let index = first + (near % jobs + step) % jobs;
            let word = self.word_of(index).filter(|word| word.state() == JobState::Free)?;
            let mine = JobWord::new(word.generation(), JobState::Filling, submitter);
            let key = JobKey { index, generation: word.generation() };
            self.swap(index, word, mine).then_some(key)
        })
    }

    /// Copies how a job has ended, frees its cell, and returns the code that its taker gave. `None`
    /// if it is not over, or the key is stale. For the submitter, once.
    pub fn collect(&self, key: JobKey, output: &mut Vec<u8>) -> Option<u32> {
        let word = self.look(key).filter(|word| word.state() == JobState::Ended)?;
        let (_, code) = self.length(key.index)?;
        self.read(key, output);
        fault::point("collect:read");
        // Fails if two collect at once, or this process was taken for dead.
        self.swap(key.index, word, word.freed()).then_some(code)
    }

    /// Takes a job back that nobody has taken. If one has, its word says that it is cancelled: its
    /// taker learns so at its [end](Jobs::end), and takes no other job, so that a signal that was
    /// meant for this one hits no other.
    pub fn cancel(&self, key: JobKey) -> Cancel {
        let changed = self.change(key, |word| match word.state() {
            JobState::Queued => Some(word.freed()),
            JobState::Taken | JobState::Closing => Some(word.with(CANCELLED)),
            _ => None,
        });
        match changed.map(|word| (word.state(), word.party())) {
            Ok((JobState::Queued, _)) => Cancel::Cancelled,
            Ok((_, taker)) => Cancel::Taken { taker },
            Err(_) => Cancel::Over,
        }
    }

    /// Says that nobody will collect the job: it runs, and whoever ends it frees its cell. One that
    /// has ended is freed here.
    pub fn detach(&self, key: JobKey) {
        let _ = self.change(key, |word| match word.state() {
            JobState::Queued | JobState::Taken | JobState::Closing => Some(word.with(DETACHED)),
            JobState::Ended => Some(word.freed()),
            _ => None,
        });
    }

    /// Frees the cell of a job whose taker is known to be dead, so that nobody will end it. If
    /// somebody has seen that already and writes it down, the cell is freed when that is done.
    pub fn abandon(&self, key: JobKey) {
        let _ = self.change(key, |word| match word.state() {
            JobState::Taken | JobState::Ended => Some(word.freed()),
            JobState::Closing => Some(word.with(DETACHED)),
            _ => None,
        });
    }

    /// Changes the word of a job as `to` says, which is asked again whenever another process was
    /// quicker. `Err` has the word that was not changed.
    pub(super) fn change(
        &self,
        key: JobKey,
        to: impl Fn(JobWord) -> Option<JobWord>,
    ) -> Result<JobWord, Option<JobWord>> {
        /// A word changes a few times in the life of a job.
        const TRIES: u32 = 1 << 10;
        for _ in 0..TRIES {
            let word = self.look(key).ok_or(None)?;
            let next = to(word).ok_or(Some(word))?;
            if self.swap(key.index, word, next) {
                return Ok(word);
            }
        }
        Err(None)
    }

    /// The one way in which a word changes.
    pub(super) fn swap(&self, index: u32, from: JobWord, to: JobWord) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        self.word(index)
            .is_some_and(|cell| cell.compare_exchange(from.0, to.0, success, failure).is_ok())
    }
}
