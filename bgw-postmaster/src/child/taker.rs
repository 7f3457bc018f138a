//! A start by one hand-over: the spare takes a worker that who registers it has given to it.
//!
//! The cell that woke it lies in the region, so it proves nothing. The spare copies and checks the
//! slot as the postmaster does, and leaves its copy on the page that it shares with the postmaster
//! alone. Then the slot's word decides, by one swap. What it does not take it leaves to the
//! postmaster, and tells it so.

use super::launch::{ChildContext, Launch, RunSetup};
use super::mailbox::Mailbox;
use bgw_core::internals::{MOST_TAKERS, flag, may_be_handed_over};
use bgw_core::{Pid, WorkerHandle};
use shmem_slots::Key;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// The numbers of spares that who registers may wake. Each is one spare's at a time.
#[derive(Clone, Debug)]
pub(crate) struct TakerNumbers(Rc<Cell<u64>>);

const _: () = assert!(MOST_TAKERS == u64::BITS);

impl TakerNumbers {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(0)))
    }

    /// A number that no process has; `None` if all are taken.
    pub(crate) fn take(&self) -> Option<TakerNumber> {
        let taken = self.0.get();
        let number = taken.trailing_ones();
        (number < MOST_TAKERS).then(|| {
            self.0.set(taken | 1 << number);
            TakerNumber { number, taken: Rc::clone(&self.0) }
        })
    }
}

/// A number among [`TakerNumbers`], given back when this is dropped.
#[derive(Debug)]
pub(crate) struct TakerNumber {
    number: u32,
    taken: Rc<Cell<u64>>,
}

impl TakerNumber {
    pub(crate) const fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for TakerNumber {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() & !(1 << self.number));
    }
}

impl Mailbox {
    /// In the spare: takes the worker of `key` if it may, and if the slot is as it was offered.
    pub(super) fn take_by_itself(
        &self,
        context: &ChildContext<'_>,
        key: Key,
        used: bool,
    ) -> Option<Launch> {
        if !self.taking().begin(key) {
            // The postmaster has closed it, and looks after what it was given.
            return None;
        }
        let launch = self.accept(context, key, used);
        if launch.is_none() {
            self.taking().step_back(key);
            // Errors: there is no such slot, or the postmaster is rung already.
            let _ = context.attachment.slots().mark_changed(key);
            let _ = context.attachment.ring();
        }
        launch
    }

    fn accept(&self, context: &ChildContext<'_>, key: Key, used: bool) -> Option<Launch> {
        let slots = context.attachment.slots();
        let cells = context.attachment.cells();
        let record = slots.read(key).ok()?;
        let worker = record.decode().ok().filter(may_be_handed_over)?;
        let main = context.functions.index_of(&worker)?;
        let is_reusable = context.functions.reuse(main).is_some();
        if (used && !is_reusable) || !cells.slots_of(false).contains(&key.index) {
            return None;
        }
        // Before the swap: whoever sees the slot's word finds the copy.
        self.put_record(&record);
        let accepted = slots.accept_offer(key, Pid::this().get(), flag::STARTED, || {
            cells.begin_own_life(key.index, &worker);
        });
        if !accepted.unwrap_or(false) {
            return None;
        }
        self.taking().run(key);
        if cells.tell_change(key.index) {
            // A full doorbell is rung already.
            let _ = context.attachment.ring();
        }
        let worker = Arc::new(worker);
        Some(Launch {
            share: Some(Arc::clone(&worker)),
            worker,
            main: Some(main),
            handle: WorkerHandle::new(key.index, key.generation, self.incarnation()),
            restarts: 0,
            setup: RunSetup::default(),
            exec_errno: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_spare_s_at_a_time() {
        let numbers = TakerNumbers::new();
        let mut all: Vec<_> = (0..MOST_TAKERS).map(|_| numbers.take().unwrap()).collect();
        assert!(numbers.take().is_none());
        assert!(all.iter().map(TakerNumber::get).eq(0..MOST_TAKERS));
        drop(all.remove(5));
        assert_eq!(numbers.take().map(|number| number.get()), Some(5));
    }
}
