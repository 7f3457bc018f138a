//! Who has a unique name, and who starts after whom, by name.

use super::timers::OrdKey;
use bgw_core::BackgroundWorker;
use shmem_slots::Key;
use std::collections::{BTreeSet, HashMap};

/// The names of the registered workers that matter to others.
#[derive(Debug, Default)]
pub(super) struct Names {
    owners: HashMap<Box<str>, Key>,
    /// Those that start after the worker of a name.
    dependents: HashMap<Box<str>, BTreeSet<OrdKey>>,
}

impl Names {
    /// The worker is on the list. Its name is free, if it is unique.
    pub(super) fn insert(&mut self, key: Key, worker: &BackgroundWorker) {
        if worker.is_unique() {
            self.owners.insert(worker.name().into(), key);
        }
        for (target, _) in worker.after() {
            self.dependents.entry(target.into()).or_default().insert(key.into());
        }
    }

    /// The worker is off the list.
    pub(super) fn remove(&mut self, key: Key, worker: &BackgroundWorker) {
        if worker.is_unique() && self.owners.get(worker.name()) == Some(&key) {
            self.owners.remove(worker.name());
        }
        for (target, _) in worker.after() {
            let Some(dependents) = self.dependents.get_mut(target) else { continue };
            dependents.remove(&key.into());
            if dependents.is_empty() {
                self.dependents.remove(target);
            }
        }
    }

    /// The worker that has this unique name.
    pub(super) fn owner(&self, name: &str) -> Option<Key> {
        self.owners.get(name).copied()
    }

    /// Those that start after the worker of this name.
    pub(super) fn dependents(&self, name: &str) -> impl Iterator<Item = Key> {
        self.dependents.get(name).into_iter().flatten().map(|&key| key.into())
    }
}
