//! The slots of workers that who registers them gives to spares.

use super::table::SlotTable;
use crate::children::Spare;
use crate::rules::{Event, NotifyTarget, Registry};
use bgw_core::internals::{WorkerRecord, may_start_directly};
use bgw_core::{Pid, StopSignal};
use shmem_slots::taker::Taking;
use shmem_slots::{Key, Offer};
use std::time::Instant;

impl SlotTable {
    /// `spare`, which sleeps, may be given a worker by who registers it.
    pub(crate) fn open(&self, spare: &mut Spare, used: bool) {
        let Some(number) = spare.mailbox.taker() else { return };
        spare.open = true;
        spare.seen.set(None);
        spare.mailbox.open(self.cells.incarnation());
        self.cells.open_taker(number, used);
    }

    /// `spare` is given nothing any more; what it was given goes to `left`. Returns what it has
    /// begun: then it is still open, and keeps its cell.
    pub(crate) fn close(&self, spare: &mut Spare, left: &mut Vec<Key>) -> Option<Key> {
        if !spare.open {
            return None;
        }
        let begun = spare.mailbox.taking().close().key();
        if begun.is_none() {
            spare.open = false;
            self.close_cell(spare, None, left);
        }
        begun
    }

    /// Closes the cell of `spare`, which has begun `begun`; what it was given besides goes to
    /// `left`.
    pub(crate) fn close_cell(&self, spare: &Spare, begun: Option<Key>, left: &mut Vec<Key>) {
        let given = spare.mailbox.taker().and_then(|number| self.cells.close_taker(number));
        left.extend(given.filter(|&key| begun != Some(key)));
    }

    /// What `spare` was given, or has begun.
    pub(crate) fn given_to(&self, spare: &Spare) -> Option<Key> {
        let begun = spare.mailbox.taking().look().key();
        begun.or_else(|| self.cells.given_to_taker(spare.mailbox.taker()?))
    }

    /// True if `spare` was given `key` and nothing keeps it from taking it. Notes when that was
    /// first seen.
    pub(crate) fn is_given(&self, spare: &Spare, key: Key) -> bool {
        let is_given = self.given_to(spare) == Some(key);
        if is_given && spare.seen.get().is_none_or(|(seen, _)| seen != key) {
            spare.seen.set(Some((key, Instant::now())));
        }
        is_given
    }

    /// True if nobody has taken the worker of `key`, which is offered.
    pub(crate) fn is_offered(&self, key: Key) -> bool {
        self.slots.look(key).is_some_and(|word| word.is_offered())
    }

    /// True if `spare` has begun `key` and its slot says so.
    pub(crate) fn runs_in(&self, key: Key, spare: &Spare) -> bool {
        let taking = spare.mailbox.taking().look();
        let word = self.slots.look(key);
        matches!(taking, Taking::Begun(begun) | Taking::Runs(begun) if begun == key)
            && word.is_some_and(|word| word.pid() == spare.pid.get())
    }

    /// True once after a slot was passed over that a spare had just accepted.
    pub(crate) const fn has_passed_over(&mut self) -> bool {
        std::mem::replace(&mut self.passed_over, false)
    }

    /// Withdraws the offer of `key`. False: `spare` has accepted it.
    pub(crate) fn takes_back(&self, key: Key, spare: &Spare) -> bool {
        let offer = self.slots.withdraw_offer(key);
        !matches!(offer, Offer::Accepted(word) if word.pid() == spare.pid.get())
    }

    /// The registration of a worker that runs already, by the copy that its process has made,
    /// and its stop signal. `None` if that is none that could have begun so.
    pub(crate) fn take_on(
        &mut self,
        key: Key,
        record: WorkerRecord,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<(Event, StopSignal)> {
        self.record = record;
        let worker = self.check(key.index).ok().filter(|worker| may_start_directly(worker))?;
        self.note(key, &resolve);
        let (registered_at, stop) = (self.record.registered_at(), worker.stop());
        let event =
            Event::Registered { key, worker, notify: None, terminate: false, registered_at };
        Some((event, stop))
    }

    /// A slot that was given to a spare which does not take it.
    pub(crate) fn take_in(
        &mut self,
        key: Key,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        if registry.get(key).is_some() {
            return None;
        }
        let word = self.slots.look(key)?;
        self.slot_changed(key, word, registry, &resolve)
    }
}
