//! Starting workers: ordinary registrations, which the postmaster keeps alive.
//!
//! Whoever submits, or waits for a job that nobody has taken, starts another worker if all are busy
//! and there may be more. The launch interval holds for all processes together: whoever comes first
//! swaps the time of the last launch. One that is stopped while it launches loses the place to
//! another one that waits: its registration, if it comes to that, finds the place another's, and
//! ends.

use super::cells::{LAUNCHED_AT, WORKERS, nanos};
use super::clock::now;
use super::place::{PlaceState, PlaceWord, set_registered};
use super::shared::{Shared, vacate};
use crate::calls::{CallError, format};
use crate::error::RegisterError;
use crate::fault;
use bgw_core::{BackgroundWorker, InvalidWorker, Ready, RestartPolicy, SegmentHandle};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The type of the workers, as views show it.
const WORKER_TYPE: &str = "pool worker";
/// A launch takes less, unless who launches is stopped, or the machine is very busy: then another
/// process launches, too, and one of the two workers ends at once.
const LAUNCHES_FOR: Duration = Duration::from_millis(200);
/// A worker that was woken takes a job sooner, unless it is stopped, or the machine is very busy.
pub(super) const WAKES_WITHIN: Duration = Duration::from_millis(10);
/// A run that was ready for so long was good: its failure is that of its job.
const GOOD_RUN: Duration = Duration::from_millis(1);

/// What a worker of a pool is registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) segment: u64,
    pub(super) place: u32,
    pub(super) launch: u32,
}

impl Start {
    pub(super) const fn segment(self) -> SegmentHandle {
        SegmentHandle::from_bits(self.segment)
    }
}

impl Shared {
    fn workers(&self) -> u32 {
        u32::try_from(self.cells().load(WORKERS)).unwrap_or(u32::MAX)
    }

    /// Starts the least workers.
    pub(super) fn launch_least(&self) -> Result<(), CallError> {
        while self.workers() < self.settings.min {
            if !self.launch()? {
                break;
            }
        }
        Ok(())
    }

    /// Starts another worker if jobs of the class wait, nobody sleeps, there may be more, and the
    /// last start was long enough ago. Returns when it is worth asking again: also while somebody
    /// sleeps, who was woken for one of these jobs and leaves the others.
    pub(super) fn launch_if_needed(&self, class: u32) -> Option<u64> {
        let workers = self.workers();
        if workers >= self.settings.max
            || self.jobs.queued(class) == 0
            || self.cells().is_draining()
        {
            return None;
        }
        if workers >= self.settings.min.max(1) && !self.jobs.nobody_sleeps() {
            return Some(now().saturating_add(nanos(WAKES_WITHIN)));
        }
        let cell = self.cells().get(LAUNCHED_AT)?;
        let (last, time) = (cell.load(Ordering::Acquire), now());
        let interval = nanos(self.settings.interval);
        // A time to come is none that anybody has written.
        let next = last.min(time).saturating_add(interval);
        if time < next && last != 0 {
            return Some(next);
        }
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        if cell.compare_exchange(last, time, success, failure).is_ok() {
            // An error: no slot is free, for instance. The next one tries again.
            let _ = self.launch();
        }
        Some(time.saturating_add(interval))
    }

    /// Registers a worker for a vacant place; false if there is none.
    fn launch(&self) -> Result<bool, CallError> {
        for worker in 0..self.settings.max {
            let Some(place) = self.cells().place(worker) else { break };
            if self.look_after(worker) != PlaceState::Vacant {
                continue;
            }
            let vacant = PlaceWord::read(place);
            let launching = PlaceWord {
                state: PlaceState::Launching { submitter: self.number },
                launch: vacant.launch.wrapping_add(1),
            };
            if vacant.state != PlaceState::Vacant || !vacant.swap(place, launching) {
                continue;
            }
            if let Some(count) = self.cells().get(WORKERS) {
                count.fetch_add(1, Ordering::AcqRel);
            }
            return self.launch_in(worker, place, launching);
        }
        Ok(false)
    }

    /// Registers a worker for a place that has this word of ours; false if that is refused.
    fn launch_in(
        &self,
        worker: u32,
        place: &[AtomicU64],
        launching: PlaceWord,
    ) -> Result<bool, CallError> {
        set_registered(place, launching.launch, None);
        fault::point("order:launching");
        let registered = self.register(worker, launching.launch);
        let Ok(handle) = registered else {
            vacate(self.cells(), worker, launching);
            return registered.map(|_| false);
        };
        fault::point("order:registered");
        // Its worker may have been quicker.
        set_registered(place, launching.launch, Some(handle.id()));
        self.launched().insert(worker, handle);
        launching.swap(place, launching.turned(PlaceState::Launched));
        fault::point("order:launched");
        Ok(true)
    }

    /// For who waits for a job that nobody has taken: takes a launch over from a process that
    /// seems to be stopped in the middle of it. Returns when it is worth asking again.
    pub(super) fn take_over_launch(&self, class: u32) -> Option<u64> {
        if self.jobs.queued(class) == 0 || self.cells().is_draining() {
            return None;
        }
        let is_late = |worker| {
            let word = PlaceWord::read(self.cells().place(worker)?);
            let others = matches!(word.state, PlaceState::Launching { submitter }
                if submitter != self.number);
            others.then_some((worker, word))
        };
        let found = (0..self.settings.max).find_map(is_late);
        let mut seen = self.seen_launching();
        let Some((worker, word)) = found else {
            *seen = None;
            return None;
        };
        let time = now();
        let since = match *seen {
            Some((before, since)) if before == (worker, word) => since,
            _ => time,
        };
        *seen = Some(((worker, word), since));
        let due = since.saturating_add(nanos(LAUNCHES_FOR));
        if time < due {
            return Some(due);
        }
        drop(seen);
        let place = self.cells().place(worker)?;
        let state = PlaceState::Launching { submitter: self.number };
        let ours = PlaceWord { state, launch: word.launch.wrapping_add(1) };
        if word.swap(place, ours) {
            // An error: no slot is free, for instance. The next one tries again.
            let _ = self.launch_in(worker, place, ours);
        }
        Some(time)
    }

    fn register(&self, place: u32, launch: u32) -> Result<crate::handle::Handle, CallError> {
        let function = &self.settings.function;
        let start = Start { segment: self.segment.handle().to_bits(), place, launch };
        let input = format::encode(&start)
            .map_err(|source| CallError::Encode { function: function.clone(), source })?;
        let worker = BackgroundWorker::builder(format!("{function} {place}"))
            .worker_type(WORKER_TYPE)
            .function(function)
            .restart(RestartPolicy::Fixed(Duration::ZERO))
            .reset_after(GOOD_RUN)
            .ready(Ready::Call)
            .start_attempts(self.settings.attempts)
            .grace(self.settings.grace)
            .call(self.tag, input)
            .build()
            .map_err(|error: InvalidWorker| CallError::from(error))?;
        self.backend.register(&worker).map_err(|error: RegisterError| error.into())
    }
}
