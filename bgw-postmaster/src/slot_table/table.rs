//! The owner of the slots, and the facts about the cluster that it publishes.

use crate::failure_log::Occasional;
use crate::sys::private_table::PrivateTable;
use bgw_core::internals::{EntryKinds, PostmasterCells, WorkerSlots};
use bgw_core::{BackgroundWorker, Pid, StartTime, WorkerHandle};
use shmem_slots::Key;
use std::ops::Range;
use std::sync::Arc;

/// The slots, and what the postmaster remembers about them.
#[derive(Debug)]
pub(crate) struct SlotTable {
    pub(super) slots: Arc<WorkerSlots>,
    /// What only the postmaster writes beside the slots.
    pub(super) cells: PostmasterCells,
    /// The postmaster, which owns the slots that it claims itself.
    pub(super) postmaster: Pid,
    /// How many slots are not for the parallel class. Our own number, not the region's.
    pub(super) general_slots: u32,
    /// What backends may register besides functions.
    pub(super) registrable: EntryKinds,
    /// Who registered the tenant of a slot. Until it has read how the worker ended, the slot is kept.
    pub(super) registrants: PrivateTable<(Key, Pid)>,
    pub(super) corrupt_slots: Occasional,
    pub(super) logged_wrong_counts: bool,
}

impl SlotTable {
    pub(crate) fn new(
        cells: PostmasterCells,
        postmaster: Pid,
        general_slots: u32,
        registrable: EntryKinds,
    ) -> Self {
        Self {
            slots: Arc::clone(cells.slots()),
            cells,
            postmaster,
            general_slots,
            registrable,
            registrants: PrivateTable::default(),
            corrupt_slots: Occasional::default(),
            logged_wrong_counts: false,
        }
    }

    /// The postmaster's pid.
    pub(crate) const fn postmaster(&self) -> Pid {
        self.postmaster
    }

    /// Publishes the first incarnation, the phase in which the cluster begins, and what may be
    /// registered.
    pub(crate) fn publish_cluster(&self, phase: StartTime) {
        self.cells.set_phase(phase);
        self.cells.set_registrable(self.registrable);
        self.cells.set_incarnation(first_incarnation(self.postmaster));
    }

    pub(crate) fn publish_phase(&self, phase: StartTime) {
        self.cells.set_phase(phase);
    }

    /// Before a process is started for `key`: clears the clean-up mark that an earlier process may have
    /// left by a crash. Returns the handle that the worker gets.
    pub(crate) fn begin_life(&self, key: Key) -> WorkerHandle {
        self.cells.clear_cleanup_mark(key.index);
        self.handle(key)
    }

    /// The handle of a worker in this incarnation.
    pub(crate) fn handle(&self, key: Key) -> WorkerHandle {
        WorkerHandle::new(key.index, key.generation, self.cells.cluster().incarnation())
    }

    /// True when the process of slot `index` left its clean-up mark behind.
    pub(crate) fn cleanup_needed(&self, index: u32) -> bool {
        self.cells.cluster().cleanup_needed(index)
    }

    /// The slots of a worker's class, by our own numbers.
    pub(super) fn slots_of(&self, worker: &BackgroundWorker) -> Range<u32> {
        if worker.is_parallel() {
            self.general_slots..self.slots.capacity()
        } else {
            0..self.general_slots
        }
    }

    /// Logs at the first time, and then at each power of two: a hostile backend must not fill the log.
    pub(super) fn log_corrupt(&mut self, index: u32, what: &str) {
        if let Some(count) = self.corrupt_slots.count() {
            tracing::error!(count, "slot {index} is corrupt: {what}");
        }
    }
}

/// Differs between postmasters (and is never 0), so that a handle of an earlier one is stale.
fn first_incarnation(pid: Pid) -> u32 {
    let mut bytes = [0u8; 4];
    let random = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    let seed = if random == Ok(4) { u32::from_ne_bytes(bytes) } else { pid.get() };
    seed | 1
}
