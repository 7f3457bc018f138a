//! Rolling replacement: each worker of a list makes place for its next run, a few at a time.
//!
//! A worker in hand is told to end as one that is recycled. Once it has gone, its next run starts
//! at once and has its time to be ready; then the next worker of the list is taken in hand. From
//! the first failure on none is begun any more, and those in hand are seen through.
//!
//! | in hand: | outcome |
//! |---|---|
//! | the old run lives, or has gone and its time is not over | none yet |
//! | the next run is ready | done |
//! | the next run has ended; the worker is unregistered, or was told to end | ended |
//! | the time since the old run has gone is over | not ready |
//! | a crash resets the cluster; the cluster stops | reset; shutting down |
//!
//! Whatever happens to a worker, it is looked at after each event while it is in hand.

use super::action::Action;
use super::cluster::Cluster;
use super::registry::{Entry, Progress};
use super::rolls::{InHand, Roll, Rolling};
use super::timers::Due;
use bgw_core::{Recycled, RollOutcome};
use shmem_slots::Key;
use std::time::Instant;

/// Why a worker cannot be rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RollObjection {
    NotRegistered,
    RolledAlready,
    NeverRestarted,
    Undeclared,
    NamedTwice,
}

impl RollObjection {
    /// What is said of the worker.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::NotRegistered => "is not registered",
            Self::RolledAlready => "is being rolled already",
            Self::NeverRestarted => "is never restarted",
            Self::Undeclared => "does not declare that it says ready",
            Self::NamedTwice => "is named twice",
        }
    }
}

impl Cluster {
    /// Why a worker cannot be rolled; `None` if it can.
    pub(crate) fn objection_to_roll(&self, key: Key) -> Option<RollObjection> {
        let Some(entry) = self.registry.get(key) else { return Some(RollObjection::NotRegistered) };
        if self.rolls.iter().any(|rolling| rolling.concerns(key)) {
            Some(RollObjection::RolledAlready)
        } else if entry.never_restarts() {
            Some(RollObjection::NeverRestarted)
        } else if entry.worker.ready().is_none() {
            Some(RollObjection::Undeclared)
        } else {
            None
        }
    }

    pub(super) fn roll_requested(&mut self, roll: Roll) {
        self.rolls.push(Rolling::new(roll));
    }

    /// Looks at the workers in hand, and goes on.
    #[cold]
    #[inline(never)]
    pub(super) fn go_on_rolling(&mut self, now: Instant, out: &mut Vec<Action>) {
        for mut rolling in std::mem::take(&mut self.rolls) {
            for (at, key) in rolling.deadlines() {
                self.timers.remove(at, Due::Roll(key));
            }
            self.look_at_those_in_hand(&mut rolling, now);
            while rolling.has_room() {
                self.take_in_hand(&mut rolling, now, out);
                self.look_at_those_in_hand(&mut rolling, now);
            }
            if rolling.is_over() {
                out.push(Action::RollEnded(rolling.roll.number, rolling.outcomes));
                continue;
            }
            for (at, key) in rolling.deadlines() {
                self.timers.add(at, Due::Roll(key));
            }
            self.rolls.push(rolling);
        }
    }

    /// What has become of the workers in hand by now.
    fn look_at_those_in_hand(&self, rolling: &mut Rolling, now: Instant) {
        let ready_within = rolling.roll.ready_within;
        for worker in &mut rolling.in_hand {
            let gone = |entry: &Entry| entry.pid().is_none();
            let entry = self.registry.get(worker.key);
            if worker.late_at.is_none() && entry.is_some_and(gone) {
                worker.late_at = now.checked_add(ready_within);
            }
        }
        for worker in rolling.in_hand.clone() {
            if let Some(outcome) = self.outcome_of(worker, now) {
                rolling.settle(worker.place, outcome);
            }
        }
        if self.stops_rolls().is_some() {
            rolling.failed = true;
        }
    }

    const fn stops_rolls(&self) -> Option<RollOutcome> {
        if self.crashed.is_some() {
            Some(RollOutcome::Reset)
        } else if self.is_stopping() {
            Some(RollOutcome::ShuttingDown)
        } else {
            None
        }
    }

    fn outcome_of(&self, worker: InHand, now: Instant) -> Option<RollOutcome> {
        if let Some(outcome) = self.stops_rolls() {
            return Some(outcome);
        }
        let Some(entry) = self.registry.get(worker.key).filter(|entry| !entry.terminate) else {
            return Some(RollOutcome::Ended);
        };
        let is_next = entry.run == worker.run.wrapping_add(1);
        if is_next && entry.pid().is_some() && entry.ready_at.is_some() {
            Some(RollOutcome::Done)
        } else if entry.run != worker.run && !(is_next && entry.pid().is_some()) {
            Some(RollOutcome::Ended)
        } else if worker.late_at.is_some_and(|at| at <= now) {
            Some(RollOutcome::NotReady)
        } else {
            None
        }
    }

    fn take_in_hand(&mut self, rolling: &mut Rolling, now: Instant, out: &mut Vec<Action>) {
        let place = rolling.next;
        rolling.next += 1;
        let Some(&key) = rolling.roll.workers.get(place) else { return };
        // One that is not there any more is settled at once.
        let (progress, run) =
            self.registry.get(key).map_or((Progress::Unstarted, 0), |e| (e.progress, e.run));
        rolling.in_hand.push(InHand { place, key, run, late_at: None });
        match progress {
            Progress::Running { .. } => self.replace(key, Recycled::Roll, now, out),
            // Its pause is over.
            Progress::Resting { due } => {
                self.timers.remove(due, Due::Restart(key.into()));
                self.restart_at(key, now, now);
            }
            Progress::Clearing { restart: Some(_) } => {
                let progress = Progress::Clearing { restart: Some(now) };
                self.registry.set_progress(key, progress);
            }
            Progress::Clearing { restart: None } | Progress::Unstarted => {}
        }
    }
}
