//! The rolls under way.

use super::timers::OrdKey;
use bgw_core::RollOutcome;
use shmem_slots::Key;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A worker in hand: it makes place, or its next run starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct InHand {
    /// Its place in the list.
    pub(super) place: usize,
    pub(super) key: Key,
    /// The run that makes place.
    pub(super) run: u32,
    /// When the next run must be ready at the latest, once it starts or the old one has gone.
    pub(super) late_at: Option<Instant>,
    /// It is to have a next run beside it once the process of an earlier one has ended.
    pub(super) waits: bool,
    /// Its next run starts beside it.
    pub(super) beside: bool,
}

/// One roll.
#[derive(Clone, Debug)]
pub(crate) struct Roll {
    /// Its number.
    pub(crate) number: u64,
    pub(crate) at_once: usize,
    pub(crate) ready_within: Duration,
    /// Each run ends before the next one starts.
    pub(crate) stop_first: bool,
    /// In this order.
    pub(crate) workers: Vec<Key>,
}

/// A roll under way.
#[derive(Debug)]
pub(super) struct Rolling {
    pub(super) roll: Roll,
    pub(super) outcomes: Vec<RollOutcome>,
    pub(super) in_hand: Vec<InHand>,
    /// The next one to begin.
    pub(super) next: usize,
    /// Those that are in hand, or are to be.
    left: HashSet<Key>,
    /// One has failed.
    pub(super) failed: bool,
}

impl Rolling {
    pub(super) fn new(roll: Roll) -> Self {
        let outcomes = vec![RollOutcome::NotBegun; roll.workers.len()];
        let left = roll.workers.iter().copied().collect();
        Self { roll, outcomes, in_hand: Vec::new(), next: 0, left, failed: false }
    }

    /// True while the worker is in hand, or is to be.
    pub(super) fn concerns(&self, key: Key) -> bool {
        self.left.contains(&key)
    }

    pub(super) fn is_over(&self) -> bool {
        let none_left = self.failed || self.next >= self.roll.workers.len();
        self.in_hand.is_empty() && none_left
    }

    /// True if another one is to begin.
    pub(super) fn has_room(&self) -> bool {
        !self.failed
            && self.next < self.roll.workers.len()
            && self.in_hand.len() < self.roll.at_once
    }

    /// The worker in hand at `place`.
    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut InHand> {
        self.in_hand.iter_mut().find(|worker| worker.place == place)
    }

    /// What has become of the worker in hand at `place`.
    pub(super) fn settle(&mut self, place: usize, outcome: RollOutcome) {
        self.in_hand.retain(|worker| worker.place != place);
        if let Some(key) = self.roll.workers.get(place) {
            self.left.remove(key);
        }
        if let Some(slot) = self.outcomes.get_mut(place) {
            *slot = outcome;
        }
        self.failed |= outcome != RollOutcome::Done;
    }

    /// The deadlines of the workers in hand.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = (Instant, OrdKey)> + '_ {
        self.in_hand.iter().filter_map(|worker| Some((worker.late_at?, worker.key.into())))
    }
}
