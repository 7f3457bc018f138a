//! The members of one named group, its window of restarts, and its round.

use crate::named_group::{Group, Strategy};
use bgw_core::GivenUp;
use shmem_slots::Key;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// A member's place in the order of registration: when, and as which one.
pub(crate) type Place = (u64, u64);

/// One named group.
#[derive(Debug)]
pub(super) struct Members {
    group: Group,
    by_place: BTreeMap<Place, Key>,
    /// How many there were, ever.
    joined: u64,
    /// When restarts were granted, as far back as the intensity looks.
    granted: VecDeque<Instant>,
    pub(super) round: Option<Round>,
}

/// Members that stop, and start again or are given up.
#[derive(Debug)]
pub(super) struct Round {
    /// Those that stop, the next one last.
    pub(super) stopping: Vec<Key>,
    /// Those that start afterwards, in this order.
    pub(super) starting: VecDeque<(Place, Key)>,
    /// Who has failed: the others start after its pause.
    pub(super) failed: Key,
    /// The group is given up: none starts again.
    pub(super) over: bool,
}

impl Members {
    pub(super) fn new(group: Group) -> Self {
        let (by_place, granted) = (BTreeMap::new(), VecDeque::new());
        Self { group, by_place, joined: 0, granted, round: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.group.name
    }

    /// Takes a worker in, registered at this time.
    pub(super) fn join(&mut self, key: Key, registered_at: u64) -> Place {
        self.joined += 1;
        let place = (registered_at, self.joined);
        self.by_place.insert(place, key);
        place
    }

    pub(super) fn leave(&mut self, place: Place) {
        self.by_place.remove(&place);
    }

    /// Nobody is a member any more. The window stays.
    pub(super) fn clear(&mut self) {
        self.by_place.clear();
        self.round = None;
    }

    /// All members, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = (Place, Key)> {
        self.by_place.iter().map(|(&place, &key)| (place, key))
    }

    /// Whom the restart of the member at `place` concerns besides itself, and it, in order. Empty
    /// if it concerns that member alone.
    pub(super) fn concerned(&self, place: Place) -> BTreeMap<Place, Key> {
        let from = match self.group.strategy {
            Strategy::OneForOne => return BTreeMap::new(),
            Strategy::RestForOne => place,
            Strategy::OneForAll => (0, 0),
        };
        self.by_place.range(from..).map(|(&place, &key)| (place, key)).collect()
    }

    /// Counts a failure at `now`. The limit, if no restart is granted.
    pub(super) fn failed(&mut self, now: Instant) -> Option<GivenUp> {
        let Group { restarts: count, within, .. } = self.group;
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= within;
        while self.granted.front().is_some_and(is_old) {
            self.granted.pop_front();
        }
        if u32::try_from(self.granted.len()).is_ok_and(|granted| granted >= count) {
            self.granted.clear();
            return Some(GivenUp::Group { count, within });
        }
        self.granted.push_back(now);
        None
    }
}
