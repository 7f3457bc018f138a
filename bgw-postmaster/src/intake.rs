//! From a slot that some backend wrote to a registration that the postmaster trusts.
//!
//! Whatever lies in the slot is copied once, checked, and only the copy is used. The notify target is
//! resolved to a living child or an attached program; anything else becomes nobody.

use crate::fault;
use crate::rules::Event;
use crate::rules::NotifyTarget;
use crate::server::Server;
use bgw_core::shared::ClusterCells;
use bgw_core::shared::{CorruptRecord, WorkerSlots, flag};
use bgw_core::{BackgroundWorker, Pid};
use shmem_slots::{Key, Snapshot, State};

/// What a changed slot says, checked.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) worker: Box<BackgroundWorker>,
    pub(crate) notify: Option<NotifyTarget>,
    pub(crate) terminate: bool,
}

/// Why a slot could not be taken in. It is freed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the slot changed while it was read")]
    Changing,
    #[error("its record is not a worker: {0}")]
    Corrupt(#[from] CorruptRecord),
}

/// Copies and checks the new tenant of slot `index`.
pub(crate) fn take_in(
    slots: &WorkerSlots,
    index: u32,
    word: Snapshot,
    resolve: impl FnOnce(Pid) -> Option<NotifyTarget>,
) -> Result<Found, Refused> {
    debug_assert_eq!(word.state(), State::Published);
    let key = Key { index, generation: word.generation() };
    let record = slots.read(key).map_err(|_| Refused::Changing)?;
    let worker = record.decode()?;
    let notify = worker.notify().and_then(resolve);
    let terminate = word.flags() & flag::TERMINATE != 0;
    Ok(Found { key, worker: Box::new(worker), notify, terminate })
}

impl Server {
    /// The slots that changed: new ones are taken in, terminate requests passed on.
    pub(crate) fn look_at_changes(&mut self) {
        self.compare_counts();
        let mut changed: Vec<(u32, Snapshot)> = Vec::new();
        fault::point("intake:before_look");
        self.slots.drain_changes(|index, word| changed.push((index, word)));
        fault::point("intake:drained");
        for (index, word) in changed {
            self.slot_changed(index, word);
        }
    }

    /// Says once when the counts of slots in shared memory are not our own any more. Ours are used all
    /// the same; the one that registering programs look at is put right, lest they find no slot.
    fn compare_counts(&mut self) {
        let cells = ClusterCells::new(&self.slots);
        let told = cells.slots_of(false).end;
        if told == self.general_slots && self.slots.header_is_intact() {
            return;
        }
        cells.set_general_slots(self.general_slots);
        if !self.said_that_counts_differ {
            self.said_that_counts_differ = true;
            tracing::error!(
                "inconsistent slot counts in shared memory (max_workers={}, found {told}): somebody wrote over them; going on by our own",
                self.general_slots
            );
        }
    }

    fn slot_changed(&mut self, index: u32, word: Snapshot) {
        if word.state() != State::Published {
            return;
        }
        let key = Key { index, generation: word.generation() };
        if self.cluster.registry().get(key).is_some() {
            if word.flags() & flag::TERMINATE != 0 {
                self.step(Event::TerminateRequested(key));
            }
            return;
        }
        if self.cluster.registry().at(index).is_some() {
            // Our worker's slot says another generation: somebody scribbled. Our list is the truth.
            self.say_corrupt(index, "the generation of a registered worker was overwritten");
            return;
        }
        let sessions = &self.sessions;
        let by_pid = &self.by_pid;
        let resolve = |pid| {
            let child = by_pid.get(&pid).map(|&key| NotifyTarget::Child { key, pid });
            child.or_else(|| sessions.target(pid))
        };
        match take_in(&self.slots, index, word, resolve) {
            Ok(found) if !self.slots_of(&found.worker).contains(&index) => {
                self.say_corrupt(index, "its worker belongs to the slots of the other class");
                if let Err(error) = self.slots.free(key) {
                    tracing::debug!("freeing slot {index} failed: {error}");
                }
            }
            Ok(found) => {
                fault::point("intake:copied");
                self.step(Event::Registered {
                    key: found.key,
                    worker: found.worker,
                    notify: found.notify,
                    terminate: found.terminate,
                });
            }
            Err(Refused::Changing) => {}
            Err(refused @ Refused::Corrupt(_)) => {
                self.say_corrupt(index, &refused.to_string());
                if let Err(error) = self.slots.free(key) {
                    tracing::debug!("freeing slot {index} failed: {error}");
                }
            }
        }
    }

    /// Once, and then at each power of two: a hostile backend must not fill the log.
    pub(crate) fn say_corrupt(&mut self, index: u32, what: &str) {
        self.corrupt_slots_seen += 1;
        if self.corrupt_slots_seen.is_power_of_two() {
            tracing::error!(count = self.corrupt_slots_seen, "slot {index} is corrupt: {what}");
        }
    }

    /// Gives back what a process that has gone had half done, and takes in what it had published
    /// without ringing.
    pub(crate) fn sweep(&mut self, gone: Pid) {
        let swept = self.slots.sweep(|owner| owner == gone.get());
        if swept > 0 {
            tracing::debug!("swept {swept} slots that process {gone} had claimed");
        }
        self.look_at_changes();
    }
}
