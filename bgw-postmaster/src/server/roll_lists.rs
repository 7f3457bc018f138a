//! The workers of rolls that do not fit into one request, until the roll itself is asked for.
//!
//! All lists together name no more workers than there are slots: no two rolls have a worker in
//! common. So they only need more room if one was given up by a session that stays, and the one
//! that has grown least lately gives way.

use bgw_core::WorkerHandle;
use bgw_core::internals::RollPart;
use std::collections::VecDeque;

/// The lists, the one that has grown last at the end.
#[derive(Debug)]
pub(super) struct RollLists {
    /// How many workers they may name.
    most: usize,
    lists: VecDeque<(Name, Vec<WorkerHandle>)>,
}

/// A session, and the number of its list.
type Name = (u64, u32);

impl RollLists {
    pub(super) fn new(slots: u32) -> Self {
        Self { most: usize::try_from(slots).unwrap_or(usize::MAX), lists: VecDeque::new() }
    }

    /// Adds workers to a list of a session.
    pub(super) fn add(&mut self, session: u64, part: RollPart) {
        // Lists that name nobody would be without number.
        if part.workers.is_empty() {
            return;
        }
        let mut workers = self.remove((session, part.list));
        workers.extend(part.workers);
        while self.named().saturating_add(workers.len()) > self.most {
            if self.lists.pop_front().is_none() {
                // It cannot be rolled: it names a worker twice. It ends up too short.
                workers.truncate(self.most);
                break;
            }
        }
        self.lists.push_back(((session, part.list), workers));
    }

    /// The whole list, which ends with these workers and has `before` others. `None`: it does not.
    pub(super) fn complete(
        &mut self,
        session: u64,
        before: u32,
        last: RollPart,
    ) -> Option<Vec<WorkerHandle>> {
        if before == 0 {
            return Some(last.workers);
        }
        let mut workers = self.remove((session, last.list));
        let is_whole = u32::try_from(workers.len()) == Ok(before);
        workers.extend(last.workers);
        is_whole.then_some(workers)
    }

    pub(super) fn close_session(&mut self, session: u64) {
        self.lists.retain(|((of, _), _)| *of != session);
    }

    fn remove(&mut self, name: Name) -> Vec<WorkerHandle> {
        let place = self.lists.iter().position(|(of, _)| *of == name);
        place.and_then(|place| self.lists.remove(place)).map(|(_, all)| all).unwrap_or_default()
    }

    fn named(&self) -> usize {
        self.lists.iter().map(|(_, workers)| workers.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(list: u32, workers: std::ops::Range<u32>) -> RollPart {
        let workers = workers.map(|slot| WorkerHandle::new(slot, 1, 1)).collect();
        RollPart { list, workers }
    }

    #[test]
    fn a_list_is_whole_if_all_parts_came_and_none_was_dropped() {
        let mut lists = RollLists::new(10);
        lists.add(1, part(1, 0..3));
        lists.add(2, part(1, 6..7));
        lists.add(1, part(1, 3..5));
        lists.add(1, part(2, 9..10));
        // No list is mixed with another one, nor used twice.
        assert_eq!(lists.complete(1, 5, part(1, 5..6)), Some(part(1, 0..6).workers));
        assert_eq!(lists.complete(1, 5, part(1, 5..6)), None);
        assert_eq!(lists.complete(2, 2, part(1, 7..8)), None, "it has one");
        assert_eq!(lists.complete(1, 0, part(2, 8..9)), Some(part(2, 8..9).workers));
        lists.close_session(1);
        assert_eq!(lists.complete(1, 1, part(2, 8..9)), None);
        assert_eq!(lists.named(), 0);
    }

    /// Fails if a session makes lists without end: each needs memory, and all are looked through.
    #[test]
    fn a_list_that_names_nobody_is_not_kept() {
        let mut lists = RollLists::new(10);
        for list in 0..100 {
            lists.add(1, part(list, 0..0));
        }
        assert!(lists.lists.is_empty());
        lists.add(1, part(1, 0..2));
        lists.add(1, part(1, 0..0));
        assert_eq!(lists.complete(1, 2, part(1, 2..3)), Some(part(1, 0..3).workers));
    }

    #[test]
    fn the_list_that_grew_least_lately_gives_way_and_none_has_more_workers_than_there_are_slots() {
        let mut lists = RollLists::new(10);
        lists.add(1, part(1, 0..4));
        lists.add(1, part(2, 4..8));
        lists.add(1, part(1, 8..9));
        lists.add(2, part(1, 0..5));
        assert_eq!(lists.complete(1, 4, part(2, 0..0)), None, "it gave way");
        assert_eq!(lists.complete(1, 5, part(1, 0..0)).map(|all| all.len()), Some(5));
        for _ in 0..100 {
            lists.add(3, part(1, 0..3));
            assert!(lists.named() <= 10);
        }
        assert_eq!(lists.complete(3, 300, part(1, 0..1)), None);
    }
}
