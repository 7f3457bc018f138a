//! A pool as one process has it: its region, its number, and what it knows of the workers.

use super::cells::{Count, FREED, PoolCells, Settings, WAIT_FOR_ROOM};
use super::clock::{WallClock, now};
use super::members::Members;
use super::place::{PlaceState, PlaceWord, Run, registered};
use crate::backend::Backend;
use crate::handle::Handle;
use crate::segment::Segment;
use bgw_core::internals::{RunState, run_state};
use bgw_core::{ExitReport, WorkerStatus};
use shmem_slots::futex;
use shmem_slots::jobs::{JobKey, Jobs};
use shmem_slots::{Region, Snapshot};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the clones of a pool, and its jobs, share.
pub(super) struct Shared {
    pub(super) backend: Backend,
    pub(super) jobs: Jobs<Region>,
    /// Held, so that the region is there for workers that start.
    pub(super) segment: Segment,
    pub(super) members: Members,
    /// This process's number.
    pub(super) number: u32,
    pub(super) settings: Settings,
    /// Types of the workers' own call, by which they are launched.
    pub(super) tag: u64,
    pub(super) wall_clock: WallClock,
    /// Cells that were free lately: the last one is the warmest.
    near: Mutex<Vec<u32>>,
    /// Registrations of this process, by place: as long as they are here, their reports stay.
    launched: Mutex<HashMap<u32, Handle>>,
    /// The launch of another process that it has seen last, and since when.
    seen_launching: Mutex<Option<((u32, PlaceWord), u64)>>,
}

impl Shared {
    pub(super) fn new(
        backend: Backend,
        (segment, jobs): (Segment, Jobs<Region>),
        (members, number): (Members, u32),
        tag: u64,
    ) -> Self {
        let settings = PoolCells(&jobs).settings();
        PoolCells(&jobs).set_pid(number, backend.pid());
        let wall_clock = WallClock::default();
        Self {
            backend,
            jobs,
            segment,
            members,
            number,
            settings,
            tag,
            wall_clock,
            near: Mutex::default(),
            launched: Mutex::default(),
            seen_launching: Mutex::default(),
        }
    }

    pub(super) const fn cells(&self) -> PoolCells<'_> {
        PoolCells(&self.jobs)
    }

    pub(super) fn launched(&self) -> MutexGuard<'_, HashMap<u32, Handle>> {
        self.launched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen_launching(&self) -> MutexGuard<'_, Option<((u32, PlaceWord), u64)>> {
        self.seen_launching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn near(&self) -> u32 {
        self.near.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(0)
    }

    /// A cell of a job became free.
    pub(super) fn freed(&self, key: JobKey) {
        const KEPT: usize = 256;
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        if near.len() < KEPT {
            near.push(key.index % self.jobs.options().jobs);
        }
        drop(near);
        tell_of_room(self.cells());
    }

    /// True if this process is the one that opened the pool.
    pub(super) fn is_mine(&self) -> bool {
        self.backend.attachment.is_mine()
    }

    /// Gives up what processes that are gone have left. Returns true if that was anything.
    pub(super) fn sweep(&self) -> bool {
        let mut swept = false;
        for number in 0..self.jobs.options().submitters {
            if number == self.number || self.cells().pid(number).is_none() {
                continue;
            }
            swept |= self.members.sweep_if_gone(number, || {
                for _ in 0..self.jobs.sweep(number) {
                    self.cells().count(Count::GivenUp);
                }
            });
        }
        swept
    }

    /// True if this run of a worker is over.
    pub(super) fn is_over(&self, run: Run) -> bool {
        run_is_over(&self.backend.handle(run.handle), run)
    }

    /// How the run has ended, if its report is there.
    pub(super) fn report(&self, run: Run) -> Option<ExitReport> {
        let own = self.launched().values().find(|handle| handle.id() == run.handle).cloned();
        let handle = own.unwrap_or_else(|| self.backend.handle(run.handle));
        handle.exit_report().filter(|report| report.pid == Some(run.pid))
    }

    /// The report of a worker that was given up, if all workers are gone and one of them was.
    pub(super) fn given_up(&self) -> Option<ExitReport> {
        let mut last = None;
        for worker in 0..self.settings.max {
            let place = self.cells().place(worker)?;
            match self.look_after(worker) {
                PlaceState::Vacant => {}
                PlaceState::GivenUp => last = Some((worker, registered(place))),
                PlaceState::Launching { .. } | PlaceState::Launched => return None,
            }
        }
        let (worker, handle) = last?;
        if let Some(cell) = self.cells().get(super::cells::GIVEN_UP) {
            cell.store(1, Ordering::Release);
        }
        let own = self.launched().get(&worker).cloned();
        own.or_else(|| handle.map(|handle| self.backend.handle(handle)))?.exit_report()
    }

    /// What a place is for, once the end of its registration was seen to.
    pub(super) fn look_after(&self, worker: u32) -> PlaceState {
        let Some(place) = self.cells().place(worker) else { return PlaceState::Vacant };
        let word = PlaceWord::read(place);
        match word.state {
            PlaceState::Launching { submitter } if submitter != self.number => {
                // Registered or not: its worker finds that the place is not its own.
                if self.members.is_gone(submitter) && self.vacate(worker, word) {
                    return PlaceState::Vacant;
                }
            }
            PlaceState::Launched => {
                let Some(id) = registered(place) else { return word.state };
                let own = self.launched().get(&worker).filter(|own| own.id() == id).cloned();
                let handle = own.unwrap_or_else(|| self.backend.handle(id));
                if handle.word().is_some_and(|word| !crate::until::has_ended(word)) {
                    return word.state;
                }
                let WorkerStatus::Stopped(report) = handle.status() else { return word.state };
                if report.is_some_and(|report| report.given_up.is_some()) {
                    let given_up = word.turned(PlaceState::GivenUp);
                    word.swap(place, given_up);
                    return PlaceState::GivenUp;
                }
                if self.vacate(worker, word) {
                    return PlaceState::Vacant;
                }
            }
            PlaceState::Launching { .. } | PlaceState::Vacant | PlaceState::GivenUp => {}
        }
        word.state
    }

    fn vacate(&self, worker: u32, word: PlaceWord) -> bool {
        vacate(self.cells(), worker, word)
    }

    pub(super) fn word_of(&self, run: Run) -> Option<Snapshot> {
        self.backend.handle(run.handle).word()
    }
}

/// Makes a place vacant that still has this word.
pub(super) fn vacate(cells: PoolCells<'_>, worker: u32, word: PlaceWord) -> bool {
    let Some(place) = cells.place(worker).filter(|place| PlaceWord::read(place) == word) else {
        return false;
    };
    // It has no worker any more. Before the swap, after which it may have another one.
    cells.set_busy(worker, false);
    let vacated = word.swap(place, word.turned(PlaceState::Vacant));
    if vacated {
        if let Some(count) = cells.get(super::cells::WORKERS) {
            // Whoever has scribbled there gets no panic.
            let less = |count: u64| Some(count.saturating_sub(1));
            let _ = count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        }
    }
    vacated
}

/// True if the process of this run is not that of the worker any more.
pub(super) fn run_is_over(handle: &Handle, run: Run) -> bool {
    match handle.word().map_or(RunState::Stopped, run_state) {
        RunState::Started(pid) => pid != run.pid,
        // The postmaster has not said yet that it runs.
        RunState::NotYetStarted => false,
        RunState::Stopped => true,
    }
}

/// Wakes those who wait for room, if there are any.
pub(super) fn tell_of_room(cells: PoolCells<'_>) {
    std::sync::atomic::fence(Ordering::SeqCst);
    if cells.load(WAIT_FOR_ROOM) != 0 {
        if let Some(bell) = cells.get(FREED) {
            bell.fetch_add(1, Ordering::AcqRel);
            futex::wake_all(bell);
        }
    }
}

/// The last of a process to go: what nobody has taken is given up, and a pool that nobody has open
/// is drained.
impl Drop for Shared {
    fn drop(&mut self) {
        if !self.is_mine() {
            return;
        }
        self.jobs.sweep(self.number);
        if self.members.is_nobody() {
            self.stop_taking();
        }
    }
}

impl Shared {
    /// From here on nobody submits, and workers without a job end.
    pub(super) fn stop_taking(&self) {
        if let Some(cell) = self.cells().get(super::cells::DRAINING) {
            cell.store(1, Ordering::Release);
            futex::wake_all(cell);
        }
    }
}

/// The time when `nanos` of the monotonic clock will be, if that is to come.
pub(super) fn instant_of(nanos: u64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_nanos(nanos.saturating_sub(now())))
}
