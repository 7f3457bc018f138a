//! The owner of the slots, and the facts about the cluster that it publishes.

use super::berths::Berths;
use super::jobs::Jobs;
use super::waiter::Tickets;
use crate::failure_log::Occasional;
use crate::gifts::Gifts;
use crate::rules::NotifyTarget;
use crate::sys::private_table::PrivateTable;
use bgw_core::internals::{
    EntryKinds, PostmasterCells, SlotClass, SlotClasses, WorkerRecord, WorkerSlots,
};
use bgw_core::{BackgroundWorker, Berth, LastWords, Pid, StartTime, WorkerHandle};
use bytemuck::Zeroable;
use shmem_slots::Key;
use std::collections::HashSet;
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
    /// Which slots whose are. Our own numbers, not the region's.
    pub(super) classes: SlotClasses,
    /// What backends may register besides functions.
    pub(super) registrable: EntryKinds,
    /// Who registered the last tenant of a slot. Until it has read how the worker ended, the slot
    /// is kept.
    pub(super) registrants: PrivateTable<Registrant>,
    /// The copy of the slot that is taken in. Here, so that it takes no room on the stack, of which
    /// each page that is written to between two forks costs a copy.
    pub(super) record: WorkerRecord,
    /// What the counters of each slot have come to, by the number of the value.
    counted: PrivateTable<u64>,
    pub(super) jobs: Jobs,
    pub(super) berths: Berths,
    /// Who waits for a slot.
    pub(crate) tickets: Tickets,
    /// What workers are given.
    pub(crate) gifts: Gifts,
    /// Why the worker of this key is not started, for its report.
    pub(crate) why_not_started: Option<(Key, LastWords)>,
    /// A spare has accepted a slot while it was taken in: it is to be looked at again.
    pub(super) passed_over: bool,
    /// The region says that somebody waits for a slot.
    pub(super) waiting: bool,
    pub(super) corrupt_slots: Occasional,
    pub(super) refused: Occasional,
    pub(super) logged_wrong_counts: bool,
}

/// Who registered a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registrant {
    /// The worker.
    pub(super) of: Key,
    pub(super) pid: Pid,
    /// The worker that registered it, if it was one: its process may serve others later.
    pub(super) life: Option<Key>,
    /// The worker is a job.
    pub(super) is_job: bool,
}

impl Registrant {
    /// Process `pid`, which `target` stands for now, has registered `of`.
    pub(super) const fn new(of: Key, pid: Pid, target: Option<NotifyTarget>, is_job: bool) -> Self {
        let life = match target {
            Some(NotifyTarget::Child { key, .. }) => Some(key),
            Some(NotifyTarget::Session(_)) | None => None,
        };
        Self { of, pid, life, is_job }
    }

    /// True if `target`, what its pid means now, is still who registered.
    pub(super) fn is(&self, target: NotifyTarget) -> bool {
        match target {
            NotifyTarget::Child { key, .. } => self.life == Some(key),
            NotifyTarget::Session(_) => true,
        }
    }
}

impl SlotTable {
    pub(crate) fn new(
        cells: PostmasterCells,
        postmaster: Pid,
        registrable: EntryKinds,
        gifts: Gifts,
    ) -> Self {
        let (slots, sets) = (cells.slots().capacity(), cells.slots().sets());
        Self {
            berths: Berths::new(slots, sets),
            slots: Arc::clone(cells.slots()),
            classes: cells.classes().clone(),
            cells,
            postmaster,
            registrable,
            registrants: PrivateTable::default(),
            counted: PrivateTable::default(),
            jobs: Jobs::default(),
            record: WorkerRecord::zeroed(),
            tickets: Tickets::default(),
            gifts,
            why_not_started: None,
            passed_over: false,
            waiting: false,
            corrupt_slots: Occasional::default(),
            refused: Occasional::default(),
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

    /// Before a process is started for `key`, `beside` the one that serves or not: clears the
    /// clean-up mark that an earlier process may have left by a crash, what it has given back, and
    /// what it has said of itself. Returns the handle that the worker gets, and its berth; `None`
    /// if none is free.
    pub(crate) fn begin_life(
        &mut self,
        key: Key,
        worker: &BackgroundWorker,
        beside: bool,
    ) -> Option<(WorkerHandle, Berth)> {
        let index = if beside {
            self.berths.lend(key.index)?
        } else {
            self.go_home(key.index);
            self.berth(key.index)
        };
        self.cells.clear_returned(index);
        self.cells.clear_run(index, worker);
        Some((self.handle(key), Berth { index, beside }))
    }

    /// What only the postmaster writes beside the slots.
    pub(crate) const fn cells(&self) -> &PostmasterCells {
        &self.cells
    }

    /// The berth of the run of slot `index` that its word names.
    pub(crate) fn berth(&self, index: u32) -> u32 {
        self.berths.of(index)
    }

    /// That of its second process.
    pub(crate) fn berth_beside(&self, index: u32) -> Option<u32> {
        self.berths.beside(index)
    }

    /// The second process of slot `index` has ended, or was never started.
    pub(crate) fn free_berth(&mut self, index: u32) {
        self.berths.give_back(index);
    }

    /// Slot `index`, which has no process, gets its own berth again, if that is free.
    fn go_home(&mut self, index: u32) {
        if self.berths.go_home(index) {
            self.cells.set_berth(index, index);
        }
    }

    /// No process of a worker is left: each slot has its own berth.
    pub(crate) fn all_go_home(&mut self) {
        for index in self.berths.away() {
            self.cells.set_berth(index, index);
        }
        self.berths = Berths::new(self.slots.capacity(), self.slots.sets());
    }

    /// A process of slot `index` in berth `berth` has ended: what its worker has counted is kept.
    pub(super) fn end_metrics(&mut self, index: u32, berth: u32) {
        let Self { cells, counted, .. } = self;
        cells.end_metrics(index, berth, |place, next| {
            let before = counted.get(place).copied().unwrap_or(0);
            let now = next(before);
            if now != before {
                counted.put(place, now);
            }
            now
        });
    }

    /// Somebody may have scribbled: what ended runs have counted is written again.
    pub(super) fn restore_counters(&self) {
        self.cells.restore_counters(|place| self.counted.get(place).copied().unwrap_or(0));
    }

    /// The handle of a worker in this incarnation.
    pub(crate) fn handle(&self, key: Key) -> WorkerHandle {
        WorkerHandle::new(key.index, key.generation, self.cells.incarnation())
    }

    /// True when the process of berth `berth` left its clean-up mark behind.
    pub(crate) fn cleanup_needed(&self, berth: u32) -> bool {
        self.cells.cluster().cleanup_needed(berth)
    }

    /// Who registered the tenant of `key`, if it was taken in.
    pub(super) fn registrant(&self, key: Key) -> Option<&Registrant> {
        self.registrants.get(key.index as usize).filter(|registrant| registrant.of == key)
    }

    /// Notes who registered a worker, and whether it is terminated with that process.
    pub(super) fn note_registrant(&mut self, who: Registrant, ends_with_submitter: bool) {
        self.registrants.put(who.of.index as usize, who);
        if ends_with_submitter {
            self.jobs.add(who.pid, who.of);
        }
    }

    /// The tenant of `key` is off the list.
    pub(super) fn forget_job(&mut self, key: Key) {
        if !self.jobs.are_none()
            && let Some(submitter) = self.registrant(key).map(|who| who.pid)
        {
            self.jobs.remove(submitter, key);
        }
    }

    /// Process `submitter` has ended: its jobs, which are to be terminated.
    pub(crate) fn orphaned_by(&mut self, submitter: Pid) -> HashSet<Key> {
        if self.jobs.are_none() { HashSet::new() } else { self.jobs.take(submitter) }
    }

    /// The slots that a worker may have. One of an unknown class is not taken in.
    pub(super) fn slots_of(&self, worker: &BackgroundWorker) -> [Range<u32>; 2] {
        self.classes.ranges(self.classes.of(worker).unwrap_or(SlotClass::Common))
    }

    /// Logs at the first time, and then at each power of two: a hostile backend must not fill the
    /// log.
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

#[cfg(test)]
mod tests {
    use super::{NotifyTarget, Registrant};
    use bgw_core::Pid;
    use shmem_slots::Key;

    /// Breaks if a process is taken for the worker that it was before, or a worker that registered
    /// in its turn for a slot is no registrant.
    #[test]
    fn a_registrant_is_a_life_and_not_a_process() {
        let pid = Pid::this();
        let key = |generation| Key { index: 3, generation };
        let child = |generation| NotifyTarget::Child { key: key(generation), pid };
        let session = NotifyTarget::Session(1);
        for (then, now, is_the_same) in [
            (Some(child(1)), child(1), true),
            (Some(child(1)), child(2), false),
            (Some(session), session, true),
            (None, session, true),
            (None, child(1), false),
        ] {
            let registrant = Registrant::new(key(9), pid, then, false);
            assert_eq!(registrant.is(now), is_the_same, "{then:?}, {now:?}");
        }
    }
}
