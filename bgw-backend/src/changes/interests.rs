//! The waits of this process for workers of one cluster, by the interest that they share.

use super::subscriber::Subscriber;
use super::waiter::{Entry, Waiter};
use shmem_slots::bells::Interest;
use shmem_slots::{Key, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

/// Names one wait, for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitId {
    interest: u32,
    number: u64,
}

/// The waits that share an interest.
#[derive(Debug, Default)]
struct Group {
    /// How many times the requests had been taken when this process asked; see `bells`.
    asked: u32,
    entries: BTreeMap<u64, Entry>,
}

/// The interests of all waits.
#[derive(Debug, Default)]
pub(super) struct Interests {
    groups: BTreeMap<u32, Group>,
    next: u64,
}

/// Where waits look and ask. A region, or what a test has in its place.
pub(super) trait Cells {
    /// The interest of this number; `None` if this process cannot ask.
    fn interest(&self, number: u32) -> Option<Interest<'_>>;
    /// The word of the slot, if it still belongs to the registration.
    fn word(&self, key: Key) -> Option<Snapshot>;
    /// The bell of this process.
    fn bell(&self) -> u32;
}

impl Interests {
    /// Adds a wait for the worker of `key`, and asks for the bell. The caller looks at the worker
    /// afterwards: what changes from now on is not missed.
    pub(super) fn add(
        &mut self,
        interest: u32,
        key: Key,
        waiter: Waiter,
        cells: &impl Cells,
    ) -> WaitId {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let is_new = !self.groups.contains_key(&interest);
        let group = self.groups.entry(interest).or_default();
        group.entries.insert(number, Entry { key, waiter });
        let asked = cells.interest(interest).map_or(0, |interest| interest.ask(cells.bell()));
        if is_new {
            // Otherwise others wait here: what was taken since they asked, they have yet to see.
            group.asked = asked;
        }
        WaitId { interest, number }
    }

    /// If the wait goes on, it wakes `waker` from now on. Returns the one before, to be dropped
    /// outside of any lock.
    #[cfg(feature = "tokio")]
    pub(super) fn renew(&mut self, id: WaitId, with: &Waker) -> Option<Waker> {
        let entry = self.groups.get_mut(&id.interest)?.entries.get_mut(&id.number)?;
        let Waiter::Future { waker, .. } = &mut entry.waiter else { return None };
        Some(std::mem::replace(waker, with.clone()))
    }

    /// Ends a wait. What it has asked for is taken at the next change, and nobody asks again.
    /// Returns what is to be dropped outside of any lock.
    pub(super) fn remove(&mut self, id: WaitId) -> Option<Waiter> {
        let group = self.groups.get_mut(&id.interest)?;
        let entry = group.entries.remove(&id.number);
        if group.entries.is_empty() {
            self.groups.remove(&id.interest);
        }
        Some(entry?.waiter)
    }

    /// Ends the waits of a descriptor.
    pub(super) fn remove_all_of(&mut self, whose: &Arc<Subscriber>) {
        self.retain(|entry| !entry.waiter.is_of(whose));
    }

    /// True if the descriptor watches the worker of `key`.
    pub(super) fn is_watched(&self, interest: u32, key: Key, whose: &Arc<Subscriber>) -> bool {
        let group = self.groups.get(&interest);
        let mut entries = group.into_iter().flat_map(|group| group.entries.values());
        entries.any(|entry| entry.key == key && entry.waiter.is_of(whose))
    }

    /// Looks at the workers whose interest was taken, and asks again for those that are still
    /// waited for. Returns the futures whose wait is over.
    pub(super) fn look(&mut self, cells: &impl Cells) -> Vec<Waker> {
        let mut woken = Vec::new();
        self.groups.retain(|&number, group| {
            let interest = cells.interest(number);
            if interest.is_some_and(|interest| interest.taken() == group.asked) {
                return true;
            }
            let mut look = |entries: &mut BTreeMap<u64, Entry>| {
                entries
                    .retain(|_, Entry { key, waiter }| waiter.look(cells.word(*key), &mut woken));
                !entries.is_empty()
            };
            // Whoever is done need not ask.
            if !look(&mut group.entries) {
                return false;
            }
            let Some(interest) = interest else { return true };
            group.asked = interest.ask(cells.bell());
            look(&mut group.entries)
        });
        woken
    }

    /// Looks at one worker that is waited for since just now.
    pub(super) fn look_at(&mut self, id: WaitId, cells: &impl Cells) -> Option<Waker> {
        let entry = self.groups.get_mut(&id.interest)?.entries.get_mut(&id.number)?;
        let (mut woken, word) = (Vec::new(), cells.word(entry.key));
        if !entry.waiter.look(word, &mut woken) {
            self.remove(id);
        }
        woken.pop()
    }

    /// Ends all waits, or those of futures.
    pub(super) fn give_up(&mut self, futures_only: bool) -> Vec<Waker> {
        let mut woken = Vec::new();
        self.groups.retain(|_, group| {
            let all = std::mem::take(&mut group.entries);
            for (number, entry) in all {
                if futures_only && !entry.waiter.is_future() {
                    group.entries.insert(number, entry);
                } else {
                    entry.waiter.give_up(&mut woken);
                }
            }
            !group.entries.is_empty()
        });
        woken
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.groups.retain(|_, group| {
            group.entries.retain(|_, entry| keep(entry));
            !group.entries.is_empty()
        });
    }
}
