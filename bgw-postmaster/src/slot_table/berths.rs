//! Which berth the run of each slot has: where its process has its cells. Pure.
//!
//! There is one for each slot, with its number, and some spare ones. A second process of a worker
//! gets one that is free; when it takes the place of the first, the two change roles, and the
//! berth of the first is free when that has ended. So a slot may be away from its own berth, which
//! another one may have meanwhile. It goes home before a start, if it can.

use std::collections::HashMap;

/// The berths of all slots.
#[derive(Debug, Default)]
pub(crate) struct Berths {
    /// Slots whose run is not in the slot's own berth.
    away: HashMap<u32, u32>,
    /// The berths of second processes, by slot.
    beside: HashMap<u32, u32>,
    free: Vec<u32>,
}

impl Berths {
    /// Of `slots` slots, with berths up to `all`.
    pub(crate) fn new(slots: u32, all: u32) -> Self {
        Self { free: (slots..all).rev().collect(), ..Self::default() }
    }

    /// That of the run which the slot's word names, or of its next one.
    pub(crate) fn of(&self, slot: u32) -> u32 {
        self.away.get(&slot).copied().unwrap_or(slot)
    }

    /// That of its second process.
    pub(crate) fn beside(&self, slot: u32) -> Option<u32> {
        self.beside.get(&slot).copied()
    }

    /// Lends one for a second process. `None`: none is free.
    pub(crate) fn lend(&mut self, slot: u32) -> Option<u32> {
        if let Some(berth) = self.beside(slot) {
            return Some(berth);
        }
        let berth = self.free.pop()?;
        self.beside.insert(slot, berth);
        Some(berth)
    }

    /// The second process takes the place of the first.
    pub(crate) fn change_over(&mut self, slot: u32) {
        let now = self.of(slot);
        if let Some(berth) = self.beside.get_mut(&slot) {
            let next = std::mem::replace(berth, now);
            self.settle(slot, next);
        }
    }

    /// The second process has ended, or was never started.
    pub(crate) fn give_back(&mut self, slot: u32) {
        self.free.extend(self.beside.remove(&slot));
    }

    /// The slot, which has no process, gets its own berth again, unless another one has it. True
    /// if that was a change.
    pub(crate) fn go_home(&mut self, slot: u32) -> bool {
        let now = self.of(slot);
        let place = self.free.iter().position(|&berth| berth == slot);
        let Some(place) = place.filter(|_| now != slot) else { return false };
        self.free.swap_remove(place);
        self.free.push(now);
        self.settle(slot, slot);
        true
    }

    /// The slots that are away.
    pub(crate) fn away(&self) -> impl Iterator<Item = u32> {
        self.away.keys().copied()
    }

    fn settle(&mut self, slot: u32, berth: u32) {
        if berth == slot {
            self.away.remove(&slot);
        } else {
            self.away.insert(slot, berth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Berths;
    use std::collections::HashSet;

    /// Breaks if two processes ever have one berth, or a berth is lost.
    #[test]
    fn no_two_processes_have_one_berth_and_none_is_lost() {
        let (slots, all) = (4, 6);
        let mut berths = Berths::new(slots, all);
        let mut state = 1u64;
        let mut seen_away = false;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (state >> 40) as u32 % slots;
            match (state >> 60) % 4 {
                0 => drop(berths.lend(slot)),
                1 => berths.change_over(slot),
                2 => berths.give_back(slot),
                _ => drop(berths.go_home(slot)),
            }
            let of: Vec<u32> = (0..slots).map(|slot| berths.of(slot)).collect();
            let beside = (0..slots).filter_map(|slot| berths.beside(slot));
            let used: Vec<u32> = of.into_iter().chain(beside).chain(berths.free.clone()).collect();
            let different: HashSet<u32> = used.iter().copied().collect();
            assert_eq!((used.len(), different.len()), (6, 6), "{berths:?}");
            assert!(different.iter().all(|&berth| berth < all));
            seen_away |= berths.away().next().is_some();
        }
        assert!(seen_away);
    }

    #[test]
    fn a_slot_comes_home_once_its_own_berth_is_free() {
        let mut berths = Berths::new(2, 3);
        assert_eq!((berths.lend(1), berths.lend(0)), (Some(2), None), "one is spare");
        berths.change_over(1);
        assert_eq!((berths.of(1), berths.beside(1)), (2, Some(1)));
        assert!(!berths.go_home(1), "its own is in use");
        berths.give_back(1);
        assert_eq!(berths.lend(0), Some(1), "another slot has it meanwhile");
        assert!(!berths.go_home(1));
        berths.give_back(0);
        assert!(berths.go_home(1) && !berths.go_home(1));
        assert_eq!((berths.of(1), berths.away().count()), (1, 0));
    }
}
