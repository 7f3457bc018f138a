//! The place of a worker in its pool: who is to fill it, and which run has it. Pure, and a few
//! cells.
//!
//! | cell | what | written by |
//! |---|---|---|
//! | 0 | the word: state, and the number of the launch | launchers and its worker, by swaps |
//! | 1 to 3 | the run that takes jobs: generation, incarnation and slot, pid | that run |
//! | 4, 5 | the registration of an even launch: generation, incarnation and slot | its launcher, its worker |
//! | 6, 7 | the same of an odd launch | the same |
//!
//! A launcher that is stopped loses the place after a while, to a launch of the next number. So
//! what it writes later is not taken for the registration of that one.
//!
//! A run closes the jobs of the one before before it writes cells 1 to 3. So as long as a job's
//! word says that the place has it, these cells name the run that took it.

use bgw_core::{Pid, WorkerHandle};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceState {
    /// No worker has it, and nobody is starting one.
    Vacant,
    /// A submitter is about to register a worker for it.
    Launching {
        /// The number of that submitter.
        submitter: u32,
    },
    /// It has a registration.
    Launched,
    /// Its worker was given up.
    GivenUp,
}

/// The word of a place, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaceWord {
    pub(super) state: PlaceState,
    /// Which launch.
    pub(super) launch: u32,
}

impl PlaceWord {
    pub(super) const fn of(bits: u64) -> Self {
        let launch = (bits >> 32) as u32;
        let state = match bits & 3 {
            0 => PlaceState::Vacant,
            1 => PlaceState::Launching { submitter: bits as u32 >> 4 },
            2 => PlaceState::Launched,
            _ => PlaceState::GivenUp,
        };
        Self { state, launch }
    }

    pub(super) const fn bits(self) -> u64 {
        let state = match self.state {
            PlaceState::Vacant => 0,
            PlaceState::Launching { submitter } => 1 | (submitter as u64) << 4,
            PlaceState::Launched => 2,
            PlaceState::GivenUp => 3,
        };
        (self.launch as u64) << 32 | state
    }

    pub(super) const fn turned(self, state: PlaceState) -> Self {
        Self { state, ..self }
    }

    pub(super) fn read(place: &[AtomicU64]) -> Self {
        Self::of(place.first().map_or(0, |cell| cell.load(Ordering::Acquire)))
    }

    /// Replaces exactly this word.
    pub(super) fn swap(self, place: &[AtomicU64], to: Self) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        place.first().is_some_and(|cell| {
            cell.compare_exchange(self.bits(), to.bits(), success, failure).is_ok()
        })
    }
}

/// One run of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) handle: WorkerHandle,
    pub(super) pid: Pid,
}

impl Run {
    const FIRST: usize = 1;

    pub(super) fn read(place: &[AtomicU64]) -> Option<Self> {
        let handle = read_handle(place, Self::FIRST)?;
        let pid = place.get(Self::FIRST + 2)?.load(Ordering::Acquire);
        Some(Self { handle, pid: Pid::new(u32::try_from(pid).ok()?)? })
    }

    pub(super) fn write(self, place: &[AtomicU64]) {
        write_handle(place, Self::FIRST, self.handle);
        if let Some(cell) = place.get(Self::FIRST + 2) {
            cell.store(u64::from(self.pid.get()), Ordering::Release);
        }
    }
}

const REGISTERED: usize = 4;

/// Where the registration of this launch lies.
const fn registered_at(launch: u32) -> usize {
    REGISTERED + if launch % 2 == 0 { 0 } else { 2 }
}

/// The registration of a place; `None` before its launcher or its worker has written it.
pub(super) fn registered(place: &[AtomicU64]) -> Option<WorkerHandle> {
    read_handle(place, registered_at(PlaceWord::read(place).launch))
}

/// Sets that of this launch.
pub(super) fn set_registered(place: &[AtomicU64], launch: u32, handle: Option<WorkerHandle>) {
    let first = registered_at(launch);
    match handle {
        Some(handle) => write_handle(place, first, handle),
        None => place.iter().skip(first).take(2).for_each(|cell| {
            cell.store(0, Ordering::Release);
        }),
    }
}

/// Its worker has found that the place is to be its own, by this word. False if it is no more.
pub(super) fn join(place: &[AtomicU64], word: PlaceWord, handle: WorkerHandle) -> bool {
    if word.state == PlaceState::Launched {
        return true;
    }
    set_registered(place, word.launch, Some(handle));
    let launched = word.turned(PlaceState::Launched);
    // Its launcher may have been quicker.
    word.swap(place, launched) || PlaceWord::read(place) == launched
}

fn read_handle(place: &[AtomicU64], first: usize) -> Option<WorkerHandle> {
    let generation = place.get(first)?.load(Ordering::Acquire);
    let other = place.get(first + 1)?.load(Ordering::Acquire);
    // No registration has generation 0 in incarnation 0 and slot 0 of a zeroed region.
    let known = generation != 0 || other != 0;
    known.then(|| WorkerHandle::new(other as u32 & 0x7fff_ffff, generation, (other >> 32) as u32))
}

fn write_handle(place: &[AtomicU64], first: usize, handle: WorkerHandle) {
    // The highest bit of the slot is never used by one, and says that there is a handle.
    let other =
        u64::from(handle.incarnation()) << 32 | 1 << 31 | u64::from(handle.slot() & 0x7fff_ffff);
    if let [generation, cell] = place.get(first..first + 2).unwrap_or(&[]) {
        generation.store(handle.generation(), Ordering::Release);
        cell.store(other, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> Vec<AtomicU64> {
        (0..8).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_word_comes_back_and_is_replaced_by_whoever_saw_it() {
        let place = cells();
        let states = [
            PlaceState::Vacant,
            PlaceState::Launching { submitter: 4095 },
            PlaceState::Launched,
            PlaceState::GivenUp,
        ];
        for state in states {
            let word = PlaceWord { state, launch: u32::MAX };
            assert_eq!(PlaceWord::of(word.bits()), word);
        }
        let seen = PlaceWord::read(&place);
        let next = seen.turned(PlaceState::Launched);
        assert!(seen.swap(&place, next) && !seen.swap(&place, next));
        assert_eq!(PlaceWord::read(&place), next);
    }

    #[test]
    fn runs_and_registrations_come_back_and_zeroed_cells_hold_none() {
        let place = cells();
        assert_eq!((Run::read(&place), registered(&place)), (None, None));
        let handle = WorkerHandle::new(0, 0, 0);
        set_registered(&place, 0, Some(handle));
        assert_eq!((Run::read(&place), registered(&place)), (None, Some(handle)));
        let run = Run { handle: WorkerHandle::new(7, 1 << 33, 9), pid: Pid::new(5).unwrap() };
        run.write(&place);
        assert_eq!((Run::read(&place), registered(&place)), (Some(run), Some(handle)));
        set_registered(&place, 0, None);
        assert_eq!((Run::read(&place), registered(&place)), (Some(run), None));
    }

    #[test]
    fn of_a_launcher_that_has_lost_its_place_and_the_next_one_the_latter_counts() {
        let place = cells();
        let launching =
            |submitter, launch| PlaceWord { state: PlaceState::Launching { submitter }, launch };
        let handle = |slot| WorkerHandle::new(slot, 1, 1);
        let (late, next) = (launching(3, 1), launching(4, 2));
        assert!(PlaceWord::of(0).swap(&place, late) && late.swap(&place, next));
        set_registered(&place, 2, Some(handle(2)));
        // The late one goes on, and so does its worker.
        set_registered(&place, 1, Some(handle(1)));
        assert!(!late.swap(&place, late.turned(PlaceState::Launched)));
        assert!(!join(&place, late, handle(1)));
        assert_eq!(registered(&place), Some(handle(2)));
        assert!(join(&place, next, handle(2)) && join(&place, PlaceWord::read(&place), handle(2)));
        assert!(join(&place, next, handle(2)), "its launcher was quicker");
        assert_eq!(PlaceWord::read(&place), next.turned(PlaceState::Launched));
    }
}
