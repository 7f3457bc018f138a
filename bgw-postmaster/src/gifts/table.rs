//! The envelopes of each worker, by the tenancy of its slot.

use super::envelope::{Envelope, Office};
use crate::child::RunSetup;
use crate::quick_map::QuickMap;
use bgw_core::{BackgroundWorker, Output};
use shmem_slots::Key;
use std::collections::HashMap;
use std::rc::Rc;

/// The envelopes of all workers that were given something.
#[derive(Debug)]
pub(crate) struct Gifts {
    by_key: QuickMap<Key, Vec<Rc<Envelope>>>,
    /// The names of those that the launcher passes to all workers.
    of_launcher: Vec<String>,
    pub(crate) office: Rc<Office>,
}

impl Gifts {
    pub(crate) fn new(of_launcher: Vec<String>, office: Rc<Office>) -> Self {
        Self { by_key: QuickMap::default(), of_launcher, office }
    }

    /// The worker of `key` is registered, and was given these.
    pub(crate) fn keep(&mut self, key: Key, envelopes: Vec<Envelope>) {
        if !envelopes.is_empty() {
            self.by_key.insert(key, envelopes.into_iter().map(Rc::new).collect());
        }
    }

    /// The next run of this worker gets its envelopes, in the order of its description. The one
    /// with the descriptor that its output goes to is returned: the worker does not get that.
    pub(crate) fn begin_run(
        &self,
        key: Key,
        worker: &BackgroundWorker,
        setup: &mut RunSetup,
    ) -> Option<Rc<Envelope>> {
        let all = self.by_key.get(&key)?;
        let output = worker.output_gift();
        let own = all.iter().enumerate().filter(|&(at, _)| Some(at) != output);
        for number in own.filter_map(|(_, envelope)| envelope.number()) {
            setup.placements.add(number, number);
            setup.envelopes.push(number);
        }
        all.get(output?).map(Rc::clone)
    }

    /// The descriptor that the output of `worker` is to go to, if there is none of this name.
    pub(crate) fn missing_output<'a>(&self, worker: &'a BackgroundWorker) -> Option<&'a str> {
        let Output::Descriptor(to) = worker.output() else { return None };
        let known =
            worker.output_gift().is_some() || self.of_launcher.iter().any(|name| name == to.name());
        (!known).then_some(to.name())
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
