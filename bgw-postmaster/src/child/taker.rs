//! A direct start: the spare takes a worker that was given to it by whoever registered it.
//!
//! The cell that woke it lies in the region, so it proves nothing. The spare copies and checks the
//! slot as the postmaster does, and leaves its copy on the page that it shares with the postmaster
//! alone. Then the slot's word decides, by one swap. What it does not take it leaves to the
//! postmaster, and tells it so.

use super::launch::{ChildContext, Launch, RunSetup};
use super::mailbox::Mailbox;
use bgw_core::internals::{flag, may_start_directly};
use bgw_core::{Berth, Pid, WorkerHandle};
use shmem_slots::Key;
use std::sync::Arc;

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
        let worker = record.decode().ok().filter(may_start_directly)?;
        let main = context.functions.index_of(&worker)?;
        let is_reusable = context.functions.reuse(main).is_some();
        let is_home = cells.berth_of(key.index) == key.index;
        if (used && !is_reusable) || !is_home || !cells.slots_of(false).contains(&key.index) {
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
        let handle = WorkerHandle::new(key.index, key.generation, self.incarnation());
        Some(Launch {
            share: Some(Arc::clone(&worker)),
            worker,
            main: Some(main),
            handle,
            berth: Berth::own(handle),
            restarts: 0,
            setup: RunSetup::default(),
            exec_errno: None,
        })
    }
}
