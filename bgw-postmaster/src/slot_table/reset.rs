//! Makes all slots anew after a crash: every worker process has ended, and what the slots hold is in
//! doubt.
//!
//! Every slot is freed with a new generation, except those of workers that will be restarted. Those are
//! never free in between, so that no other worker gets them.

use super::table::SlotTable;
use crate::fault;
use crate::rules::{Event, Registry};
use bgw_core::internals::{WorkerRecord, flag};
use bgw_core::{Pid, StartTime};
use shmem_slots::Key;
use std::collections::{HashMap, HashSet};

impl SlotTable {
    /// Resets the slots and places the workers of `registry`. The event names their new keys; a worker
    /// whose end was requested meanwhile has none.
    ///
    /// No worker process runs now. A claim under way is revoked; its slot comes back when its owner
    /// has noticed, or here, unless the owner `is_attached`.
    pub(crate) fn reset(
        &self,
        registry: &Registry,
        phase: StartTime,
        is_attached: impl Fn(Pid) -> bool,
    ) -> Event {
        fault::point("reset:before");
        let cells = &self.cells;
        cells.set_incarnation(cells.cluster().incarnation().wrapping_add(2) | 1);
        fault::point("reset:new_life");
        let stays = |index| registry.at(index).is_some();
        let mut terminated: HashSet<Key> = HashSet::new();
        let kept = self.slots.reset_all_but(self.postmaster.get(), stays, |key, word| {
            if word.flags() & flag::TERMINATE != 0 {
                terminated.insert(key);
            }
        });
        let kept = kept.unwrap_or_else(|error| {
            tracing::error!("resetting the slots failed: {error}");
            Vec::new()
        });
        self.slots.sweep(|owner| {
            owner != self.postmaster.get() && !Pid::new(owner).is_some_and(&is_attached)
        });
        fault::point("reset:freed");
        cells.restore_general_slots();
        cells.set_phase(phase);
        cells.count_change();
        let mut kept: HashMap<u32, _> =
            kept.into_iter().map(|claim| (claim.key().index, claim)).collect();
        let mut new_keys = HashMap::new();
        for entry in registry.iter() {
            let own = kept.remove(&entry.key.index);
            if terminated.contains(&entry.key) {
                continue;
            }
            fault::point("reset:before_place");
            // Its own slot, unless its generations are used up. Workers of the parallel class never
            // restart, so there is none among these.
            let (general, owner) = (0..self.general_slots, self.postmaster);
            let claim = own.or_else(|| self.slots.claim_in(general, owner.get()).ok());
            let placed = claim.and_then(|mut claim| {
                claim.write(&WorkerRecord::encode(&entry.worker, owner)).ok()?;
                claim.publish(0).ok()
            });
            new_keys.extend(placed.map(|key| (entry.key, key)));
        }
        fault::point("reset:rebuilt");
        Event::SlotsReset { new_keys }
    }
}
