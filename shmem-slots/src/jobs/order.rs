//! The order of one class: which job is next. See the head of `jobs` for T1 to T3.

use super::layout::OfClass;
use super::shared::Jobs;
use super::word::{JobKey, JobState, JobWord, Place};
use crate::fault;
use crate::memory::Memory;
use crate::primitive::Ordering;

/// How often a step is tried before the cells count as corrupt. In good cells, each try that fails
/// means that another process has made progress.
const TRIES: u32 = 1 << 14;

/// The cells hold what nobody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt;

/// What came of an attempt to put a job at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Done,
    /// Every place holds a job, though it may be that not all of them wait.
    Full,
}

/// The first place of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    head: u64,
    pub(super) place: Place,
    /// The word of its job, if that waits.
    pub(super) word: Option<JobWord>,
}

impl<M: Memory> Jobs<M> {
    fn round(&self, position: u64) -> u32 {
        // A power of two; only the lowest bits count.
        (position / self.layout.places as u64) as u32
    }

    fn step_on(&self, class: u32, end: OfClass, position: u64) {
        let next = position.wrapping_add(1);
        let end = self.of_class(class, end);
        // It may have been done by somebody else.
        let _ = end.compare_exchange(position, next, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Puts a queued job at the end of its class.
    pub(super) fn push(&self, class: u32, key: JobKey) -> Result<Pushed, Corrupt> {
        for _ in 0..TRIES {
            let tail = self.of_class(class, OfClass::Tail).load(Ordering::Acquire);
            let (cell, round) = (self.place(class, tail), self.round(tail));
            let found = Place(cell.load(Ordering::Acquire));
            if found == Place::empty(round) {
                fault::point("submit:before_push");
                let mine = Place::with(round, key).0;
                let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
                // T1: one swap, which makes the job the last of its class.
                if cell.compare_exchange(found.0, mine, success, failure).is_ok() {
                    fault::point("submit:pushed");
                    self.step_on(class, OfClass::Tail, tail);
                    return Ok(Pushed::Done);
                }
            } else if found.index().is_some() && found.round() == round
                || found == Place::empty(round.wrapping_add(1))
            {
                // Somebody has this place, or had it: whoever that is may be dead.
                self.step_on(class, OfClass::Tail, tail);
            } else if found.index().is_some() && found.round().wrapping_add(1) == round {
                // The place is that of the first. It may be one of a job that does not wait.
                match self.first(class)? {
                    Some(First { word: Some(_), .. }) => return Ok(Pushed::Full),
                    Some(first) => self.pass(class, first),
                    None => {}
                }
            }
        }
        Err(Corrupt)
    }

    /// The first place of a class that is not empty.
    pub(super) fn first(&self, class: u32) -> Result<Option<First>, Corrupt> {
        for _ in 0..TRIES {
            let head = self.of_class(class, OfClass::Head).load(Ordering::Acquire);
            let round = self.round(head);
            let found = Place(self.place(class, head).load(Ordering::Acquire));
            if found == Place::empty(round) {
                return Ok(None);
            }
            if found == Place::empty(round.wrapping_add(1)) {
                // Somebody has passed it, and may be dead.
                self.step_on(class, OfClass::Head, head);
            } else if let (true, Some(index)) = (found.round() == round, found.index()) {
                let word = self
                    .word_of(index)
                    .filter(|&word| word.state() == JobState::Queued && found.is_of(word));
                return Ok(Some(First { head, place: found, word }));
            }
        }
        Err(Corrupt)
    }

    /// Empties the first place, whose job does not wait any more, and goes on to the next.
    pub(super) fn pass(&self, class: u32, First { head, place: found, .. }: First) {
        fault::point("take:before_pass");
        let empty = Place::empty(found.round().wrapping_add(1)).0;
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        // T3: of all that come, one empties it; none that comes late empties a later one.
        let _ = self.place(class, head).compare_exchange(found.0, empty, success, failure);
        fault::point("take:passed");
        self.step_on(class, OfClass::Head, head);
    }

    /// True if a job of the class waits, or a place may hold one. A look for those who are about to
    /// sleep; corrupt cells look full.
    pub(super) fn may_wait(&self, class: u32) -> bool {
        !matches!(self.first(class), Ok(None))
    }
}
