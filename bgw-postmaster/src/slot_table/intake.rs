//! From a slot that a backend wrote to a registration that the postmaster trusts.
//!
//! The slot is copied once and checked, and only the copy is used. The notify target is resolved to a
//! living child or an attached program; anything else is no target.

use super::table::SlotTable;
use crate::fault;
use crate::rules::{Ending, Event, NotifyTarget, Registry};
use bgw_core::internals::{CorruptRecord, WorkerRecord, flag};
use bgw_core::{BackgroundWorker, ExitCause, NotStarted, Pid};
use shmem_slots::{Key, Snapshot, State};

/// Why a slot was not taken in. The registration ends with it.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("its record is not a worker: {0}")]
    Corrupt(#[from] CorruptRecord),
    #[error("its worker belongs to the slots of the other class")]
    WrongClass,
    #[error("this postmaster lets backends register no commands and no libraries of this kind")]
    NotAllowed,
}

/// How a registration ends that is not taken in.
const REFUSED: Ending = Ending {
    cause: ExitCause::NotStarted(NotStarted::Refused),
    restarts: 0,
    requested: false,
    process: None,
};

impl SlotTable {
    /// Turns the slots that changed into events: registrations and terminate requests.
    ///
    /// The events must reach the rules before this is called again: until then a new slot is not in
    /// `registry`.
    pub(crate) fn take_in_changes(
        &mut self,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
        events: &mut impl Extend<Event>,
    ) {
        self.check_counts();
        let mut changed: Vec<(u32, Snapshot)> = Vec::new();
        fault::point("intake:before_look");
        self.slots.drain_changes(|index, word| changed.push((index, word)));
        fault::point("intake:drained");
        for (index, word) in changed {
            events.extend(self.slot_changed(index, word, registry, &resolve));
        }
    }

    /// Registers a static worker: publishes it as a backend would.
    pub(crate) fn register_static(&self, worker: BackgroundWorker) -> Result<Event, String> {
        let record = WorkerRecord::encode(&worker, self.postmaster);
        let class = self.slots_of(&worker);
        let claim = self.slots.claim_in(class, self.postmaster.get());
        let mut claim = claim.map_err(|error| error.to_string())?;
        claim.write(&record).map_err(|error| error.to_string())?;
        let key = claim.publish(0).map_err(|error| error.to_string())?;
        Ok(Event::Registered { key, worker: Box::new(worker), notify: None, terminate: false })
    }

    fn slot_changed(
        &mut self,
        index: u32,
        word: Snapshot,
        registry: &Registry,
        resolve: &impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        if word.state() != State::Published {
            return None;
        }
        let key = Key { index, generation: word.generation() };
        let terminate = word.flags() & flag::TERMINATE != 0;
        if registry.get(key).is_some() {
            return terminate.then_some(Event::TerminateRequested(key));
        }
        if registry.at(index).is_some() {
            // The slot of a registered worker has another generation: something overwrote it. The
            // registry is the truth.
            self.log_corrupt(index, "the generation of a registered worker was overwritten");
            return None;
        }
        // It changes while it is read: its next change is a mark of its own.
        let record = self.slots.read(key).ok()?;
        if let Some(pid) = record.registered_by() {
            self.registrants.put(index as usize, (key, pid));
        }
        match self.check(&record, index) {
            Ok(worker) => {
                let notify = worker.notify().and_then(resolve);
                fault::point("intake:copied");
                Some(Event::Registered { key, worker, notify, terminate })
            }
            Err(refused) => {
                self.log_corrupt(index, &refused.to_string());
                self.unregister(key, &REFUSED, |pid| resolve(pid).is_some());
                None
            }
        }
    }

    /// Checks the copy of the new tenant of slot `index`.
    fn check(&self, record: &WorkerRecord, index: u32) -> Result<Box<BackgroundWorker>, Refused> {
        let worker = Box::new(record.decode()?);
        if !self.slots_of(&worker).contains(&index) {
            return Err(Refused::WrongClass);
        }
        if !self.registrable.permit(worker.entry()) {
            return Err(Refused::NotAllowed);
        }
        Ok(worker)
    }

    /// Logs once when the counts of slots in shared memory differ from ours, and corrects the one that
    /// registering programs read: with a wrong one they would find no slot.
    fn check_counts(&mut self) {
        let found = self.cells.cluster().slots_of(false).end;
        if found == self.general_slots && self.slots.header_is_intact() {
            return;
        }
        self.cells.restore_general_slots();
        if !self.logged_wrong_counts {
            self.logged_wrong_counts = true;
            tracing::error!(
                "inconsistent slot counts in shared memory (max_workers={}, found {found}): something overwrote them; continuing with the postmaster's own",
                self.general_slots
            );
        }
    }
}
