//! The word of a job's cell, and the word of a place in the order. Pure.
//!
//! | bits of a cell's word | what |
//! |---|---|
//! | 0 to 3 | the state |
//! | 4 to 6 | flags |
//! | 12 to 31 | the party: a submitter or a taker, as the state says |
//! | 32 to 63 | the generation: which job of this cell |
//!
//! | bits of a place's word | what |
//! |---|---|
//! | 0 to 19 | the cell |
//! | 20 to 30 | the lowest bits of the job's generation |
//! | 31 | set in a place that holds a job |
//! | 32 to 63 | the round: how often the order has come round to this place |

/// A job, for as long as somebody wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobKey {
    /// The number of its cell.
    pub index: u32,
    /// Which job of this cell.
    pub generation: u32,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// The cell holds no job.
    Free,
    /// A submitter writes its input.
    Filling,
    /// It waits for a taker. The party is its submitter.
    Queued,
    /// A taker has it. The party is that taker.
    Taken,
    /// Its taker is dead, and somebody writes down what became of it. The party is that taker.
    Closing,
    /// It is over; its submitter may read how.
    Ended,
    /// The word holds what nobody writes.
    Corrupt,
}

const STATE: u64 = 0xf;
/// Somebody sleeps until the job is over.
pub(super) const SLEEPS: u64 = 1 << 4;
/// Nobody wants to know how it ends: whoever ends it frees its cell.
pub(super) const DETACHED: u64 = 1 << 5;
/// Its submitter wants its end: its taker takes nothing after it.
pub(super) const CANCELLED: u64 = 1 << 6;
const FLAGS: u64 = SLEEPS | DETACHED | CANCELLED;
const PARTY: u32 = 12;
/// The largest number of parties of each kind.
pub(super) const MAX_PARTIES: u32 = 1 << 20;

impl JobState {
    const fn code(self) -> u64 {
        match self {
            Self::Free => 0,
            Self::Filling => 1,
            Self::Queued => 2,
            Self::Taken => 3,
            Self::Closing => 4,
            Self::Ended => 5,
            Self::Corrupt => STATE,
        }
    }

    const fn of(code: u64) -> Self {
        match code {
            0 => Self::Free,
            1 => Self::Filling,
            2 => Self::Queued,
            3 => Self::Taken,
            4 => Self::Closing,
            5 => Self::Ended,
            _ => Self::Corrupt,
        }
    }
}

/// The word of a job's cell, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobWord(pub(super) u64);

impl JobWord {
    pub(super) const fn new(generation: u32, state: JobState, party: u32) -> Self {
        Self((generation as u64) << 32 | ((party % MAX_PARTIES) as u64) << PARTY | state.code())
    }

    /// How the job is.
    #[must_use]
    pub const fn state(self) -> JobState {
        JobState::of(self.0 & STATE)
    }

    /// Which job of its cell.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The submitter or the taker, as the state says.
    #[must_use]
    pub const fn party(self) -> u32 {
        self.0 as u32 >> PARTY
    }

    /// True if the submitter has cancelled the job since it was taken.
    #[must_use]
    pub const fn is_cancelled(self) -> bool {
        self.has(CANCELLED)
    }

    pub(super) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn with(self, flag: u64) -> Self {
        Self(self.0 | flag)
    }

    /// The same job in another state; its flags stay.
    pub(super) const fn turned(self, state: JobState, party: u32) -> Self {
        Self::new(self.generation(), state, party).with(self.0 & FLAGS)
    }

    /// The cell without this job.
    pub(super) const fn freed(self) -> Self {
        Self::new(self.generation().wrapping_add(1), JobState::Free, 0)
    }
}

const HOLDS: u64 = 1 << 31;
/// The largest number of cells of all classes.
pub(super) const MAX_INDEX: u32 = 1 << 20;
const GENERATION: u32 = 20;
const GENERATION_MASK: u32 = (1 << 11) - 1;

/// A place in the order, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) u64);

impl Place {
    pub(super) const fn empty(round: u32) -> Self {
        Self((round as u64) << 32)
    }

    pub(super) const fn with(round: u32, key: JobKey) -> Self {
        let generation = ((key.generation & GENERATION_MASK) as u64) << GENERATION;
        let index = (key.index % MAX_INDEX) as u64;
        Self((round as u64) << 32 | HOLDS | generation | index)
    }

    pub(super) const fn round(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The cell, if it holds one.
    pub(super) const fn index(self) -> Option<u32> {
        if self.0 & HOLDS == 0 { None } else { Some(self.0 as u32 % MAX_INDEX) }
    }

    /// True if it holds the job of this word.
    pub(super) const fn is_of(self, word: JobWord) -> bool {
        self.0 as u32 >> GENERATION & GENERATION_MASK == word.generation() & GENERATION_MASK
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const STATES: [JobState; 7] = [
        JobState::Free,
        JobState::Filling,
        JobState::Queued,
        JobState::Taken,
        JobState::Closing,
        JobState::Ended,
        JobState::Corrupt,
    ];

    #[test]
    fn a_word_says_what_was_put_in_and_any_bits_say_something() {
        for state in STATES {
            for (generation, party) in [(0, 0), (7, 1), (u32::MAX, MAX_PARTIES - 1)] {
                for flag in [0, SLEEPS, DETACHED, CANCELLED, FLAGS] {
                    let word = JobWord::new(generation, state, party).with(flag);
                    let parts = (word.state(), word.generation(), word.party());
                    assert_eq!(parts, (state, generation, party));
                    let other = word.turned(JobState::Taken, 3);
                    let parts = (other.state(), other.generation(), other.party());
                    assert_eq!(parts, (JobState::Taken, generation, 3));
                    assert_eq!(other.has(SLEEPS), flag & SLEEPS != 0);
                    assert_eq!(other.has(DETACHED), flag & DETACHED != 0);
                    let freed = word.freed();
                    assert_eq!(freed, JobWord::new(generation.wrapping_add(1), JobState::Free, 0));
                }
            }
        }
        for code in 6..16 {
            assert_eq!(JobWord(code).state(), JobState::Corrupt);
        }
    }

    #[test]
    fn a_place_holds_one_job_of_one_round_or_none() {
        assert_eq!(Place::empty(7).index(), None);
        assert_eq!(Place::empty(7).round(), 7);
        for (round, index, generation) in [(0, 0, 0), (u32::MAX, MAX_INDEX - 1, u32::MAX)] {
            let place = Place::with(round, JobKey { index, generation });
            assert_eq!((place.round(), place.index()), (round, Some(index)));
            let word = |generation| JobWord::new(generation, JobState::Queued, 1);
            assert!(place.is_of(word(generation)));
            assert!(!place.is_of(word(generation.wrapping_add(1))));
        }
    }
}
