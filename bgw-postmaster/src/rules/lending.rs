//! Berths for second processes are lent in order of asking, and given back.

use super::action::Action;
use super::after::Standing;
use super::cluster::Cluster;
use super::overlap::Overlap;
use super::timers::Due;
use shmem_slots::Key;

impl Cluster {
    /// Changes how far a worker is with its second process, and what follows for its berth and its
    /// deadline.
    pub(super) fn set_overlap(&mut self, key: Key, next: Option<Overlap>, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.overlap, next);
        let deadline = |overlap: Option<Overlap>| overlap.and_then(|overlap| overlap.deadline());
        let holds = |overlap: Option<Overlap>| overlap.is_some_and(|overlap| overlap.holds_berth());
        if deadline(before) != deadline(next) {
            if let Some(at) = deadline(before) {
                self.timers.remove(at, Due::Beside(key.into()));
            }
            if let Some(at) = deadline(next) {
                self.timers.add(at, Due::Beside(key.into()));
            }
        }
        match (holds(before), holds(next)) {
            (false, true) => self.berths.lent += 1,
            (true, false) => {
                self.berths.lent -= 1;
                out.push(Action::FreeBerth(key));
            }
            _ => {}
        }
        if matches!(before, Some(Overlap::Due(_))) {
            self.berths.due.retain(|&due| due != key);
        }
        if matches!(next, Some(Overlap::Due(_))) {
            self.berths.due.push_back(key);
        }
    }

    /// Changes what is remembered of a second process.
    pub(super) fn update_overlap(
        &mut self,
        key: Key,
        out: &mut Vec<Action>,
        change: impl FnOnce(&mut Overlap),
    ) {
        let overlap = self.registry.get(key).and_then(|entry| entry.overlap);
        if let Some(mut next) = overlap {
            change(&mut next);
            self.set_overlap(key, Some(next), out);
        }
    }

    /// Berths that are free go to those that wait for them, in order of asking. One that would not
    /// start now is passed over.
    pub(super) fn lend_berths(&mut self, out: &mut Vec<Action>) {
        let most = usize::try_from(self.policy.overlap).unwrap_or(usize::MAX);
        if !self.accepts_workers() {
            return;
        }
        for key in self.berths.due.iter().copied().collect::<Vec<_>>() {
            if self.berths.lent >= most {
                return;
            }
            let Some(entry) = self.registry.get(key) else { continue };
            let Some(Overlap::Due(cause)) = entry.overlap else { continue };
            if self.standing(entry) == Standing::Met {
                self.set_overlap(key, Some(Overlap::Lent(cause)), out);
                self.enqueue(key);
            }
        }
    }
}
