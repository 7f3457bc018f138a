//! The envelopes of each worker, by the tenancy of its slot.

use super::envelope::{Envelope, Office};
use crate::child::RunSetup;
use crate::quick_map::QuickMap;
use shmem_slots::Key;
use std::collections::HashMap;
use std::rc::Rc;

/// The envelopes of all workers that were given something.
#[derive(Debug)]
pub(crate) struct Gifts {
    by_key: QuickMap<Key, Vec<Envelope>>,
    pub(crate) office: Rc<Office>,
}

impl Gifts {
    pub(crate) fn new(office: Rc<Office>) -> Self {
        Self { by_key: QuickMap::default(), office }
    }

    /// The worker of `key` is registered, and was given these.
    pub(crate) fn keep(&mut self, key: Key, envelopes: Vec<Envelope>) {
        if !envelopes.is_empty() {
            self.by_key.insert(key, envelopes);
        }
    }

    /// The next run of this worker gets its envelopes, in the order of its description.
    pub(crate) fn begin_run(&self, key: Key, setup: &mut RunSetup) {
        let all = self.by_key.get(&key).into_iter().flatten();
        for number in all.filter_map(Envelope::number) {
            setup.placements.add(number, number);
            setup.envelopes.push(number);
        }
    }

    /// The registration of `key` is over.
    pub(crate) fn over(&mut self, key: Key) {
        if !self.by_key.is_empty() {
            self.by_key.remove(&key);
        }
    }

    /// A reset has given the workers other slots. Those that have none are over.
    pub(crate) fn moved(&mut self, new_keys: &HashMap<Key, Key>) {
        let before = std::mem::take(&mut self.by_key).into_iter();
        let after = before.filter_map(|(key, all)| Some((*new_keys.get(&key)?, all)));
        self.by_key = after.collect();
    }

    /// No worker is left.
    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
    }
}
