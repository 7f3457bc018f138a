//! The failures of a worker in a row: its pauses, and its limits.
//!
//! A failure that ends a good run is the first of a streak. It is judged then, from how long the
//! run lasted, so no timer looks at runs. A pause is the delay of the streak and a share of the
//! jitter, by a random number that comes with the event.

use bgw_core::{BackgroundWorker, GivenUp};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a worker remembers of its failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streak {
    /// The failures since its last good run.
    pub(crate) failures: u32,
    /// When restarts were granted after failures, as far as its limit looks back.
    granted: VecDeque<Instant>,
    /// True once a run was ready.
    ever_ready: bool,
    /// How many runs failed while none was ever ready.
    failed_starts: u32,
}

impl Streak {
    /// A run has said that it is ready.
    pub(super) const fn ready(&mut self) {
        self.ever_ready = true;
    }

    /// Forgets failures and restarts: the next one is the first.
    pub(super) fn clear(&mut self) {
        self.failures = 0;
        self.granted = VecDeque::new();
    }

    /// Counts a failure at `now`, after a good run or not. The limit that is reached by it, if any;
    /// else a restart is granted.
    pub(super) fn failed(
        &mut self,
        worker: &BackgroundWorker,
        after_good_run: bool,
        now: Instant,
    ) -> Option<GivenUp> {
        self.lengthen(after_good_run);
        if !self.ever_ready {
            self.failed_starts = self.failed_starts.saturating_add(1);
        }
        if let Some((count, within)) = worker.give_up() {
            let is_old = |at: &Instant| now.saturating_duration_since(*at) >= within;
            while self.granted.front().is_some_and(is_old) {
                self.granted.pop_front();
            }
            if u32::try_from(self.granted.len()).is_ok_and(|granted| granted >= count) {
                return Some(GivenUp::Restarts { count, within });
            }
            self.granted.push_back(now);
        }
        // Starts no longer count once it was ready, so the number stays below the limit.
        let count = worker.start_attempts()?;
        (self.failed_starts >= count).then_some(GivenUp::StartAttempts { count })
    }

    /// Counts a failed fork, which is not the worker's fault: it lengthens the pause and counts for
    /// no limit.
    pub(super) const fn fork_failed(&mut self) {
        self.lengthen(false);
    }

    const fn lengthen(&mut self, after_good_run: bool) {
        self.failures = if after_good_run { 1 } else { self.failures.saturating_add(1) };
    }

    /// The pause before the next run. Zero for a worker that is never restarted.
    pub(super) fn pause(&self, worker: &BackgroundWorker, random: u32) -> Duration {
        worker.spread(worker.delay(self.failures).unwrap_or_default(), random)
    }
}
