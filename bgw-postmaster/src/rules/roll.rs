//! Rolling replacement: each worker of a list makes place for its next run, a few at a time.
//!
//! The next run of a worker in hand starts beside it and has its time to be ready, as one that is
//! recycled with an overlap; but there is no second try. Or, if the roll is to stop first, it is
//! told to end, and once it has gone, its next run starts at once and has its time. When the next
//! run is ready and the old one gone, the next worker of the list is taken in hand. From the first
//! failure on none is begun any more, and those in hand are seen through.
//!
//! | in hand: | outcome |
//! |---|---|
//! | the old run lives, or the time of the next one is not over | none yet |
//! | the next run is ready, and the old one has gone | done |
//! | the next run has ended; the worker is unregistered, or was told to end | ended |
//! | the time of the next run is over | not ready; stopped if it is beside the old one |
//! | a crash resets the cluster; the cluster stops | reset; shutting down |
//!
//! Whatever happens to a worker, it is looked at after each event while it is in hand.

use super::action::Action;
use super::cluster::Cluster;
use super::overlap::Overlap;
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

/// True if the next run of a worker in hand serves, and is ready.
fn serves_anew(entry: &Entry, worker: InHand) -> bool {
    let is_next = entry.run == worker.run.wrapping_add(1);
    is_next && entry.pid().is_some() && entry.ready_at.is_some()
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
            self.look_at_those_in_hand(&mut rolling, now, out);
            while rolling.has_room() {
                self.take_in_hand(&mut rolling, now, out);
                self.look_at_those_in_hand(&mut rolling, now, out);
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
    fn look_at_those_in_hand(
        &mut self,
        rolling: &mut Rolling,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let ready_within = rolling.roll.ready_within;
        for worker in &mut rolling.in_hand {
            self.begin_beside(worker, out);
            let Some(entry) = self.registry.get(worker.key) else { continue };
            let starts = matches!(entry.overlap, Some(Overlap::Starting { .. }));
            if serves_anew(entry, *worker) {
                worker.late_at = None;
            } else if worker.late_at.is_none() && (entry.pid().is_none() || starts) {
                worker.late_at = now.checked_add(ready_within);
            }
        }
        for worker in rolling.in_hand.clone() {
            if let Some(outcome) = self.outcome_of(worker, now) {
                rolling.settle(worker.place, outcome);
                let entry = self.registry.get(worker.key);
                if worker.beside && entry.is_some_and(|entry| entry.run == worker.run) {
                    self.stop_late(worker.key, now, out);
                }
            }
        }
        if self.stops_rolls().is_some() {
            rolling.failed = true;
        }
    }

    /// A worker whose next run starts beside it, once the process of an earlier one has ended.
    fn begin_beside(&mut self, worker: &mut InHand, out: &mut Vec<Action>) {
        let leaving = |entry: &Entry| matches!(entry.overlap, Some(Overlap::Leaving { .. }));
        if worker.waits && !self.registry.get(worker.key).is_some_and(leaving) {
            worker.waits = false;
            self.begin_overlap(worker.key, Recycled::Roll, out);
            let entry = self.registry.get(worker.key);
            worker.beside = entry.is_some_and(|entry| entry.overlap.is_some());
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
        if serves_anew(entry, worker) {
            let gone = !matches!(entry.overlap, Some(Overlap::Leaving { .. }));
            gone.then_some(RollOutcome::Done)
        } else if worker.beside && entry.run == worker.run && entry.pid().is_some() {
            match entry.overlap {
                Some(Overlap::Starting { .. }) if worker.late_at.is_some_and(|at| at <= now) => {
                    Some(RollOutcome::NotReady)
                }
                Some(Overlap::Due(_) | Overlap::Lent(_) | Overlap::Starting { .. }) => None,
                _ => Some(RollOutcome::Ended),
            }
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
        let in_hand = InHand { place, key, run, late_at: None, waits: false, beside: false };
        rolling.in_hand.push(in_hand);
        match progress {
            Progress::Running { .. } if !rolling.roll.stop_first => {
                if let Some(worker) = rolling.at_mut(place) {
                    worker.waits = true;
                }
            }
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
