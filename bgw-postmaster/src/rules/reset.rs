//! A crash that leaves shared state in doubt: all workers quit, the slots are made anew.
//!
//! From the crash on no worker starts and no registration is accepted. All processes get SIGQUIT;
//! those that remain after [`QUIT_GRACE`] are killed. A second crash meanwhile is part of the same
//! reset. When the last process has ended, workers that never restart are forgotten and the others
//! start at once. Their notify targets are forgotten: they belonged to the incarnation before.

use super::action::{Action, Note};
use super::cluster::{Cluster, QUIT_GRACE, report_stopped, unregister};
use super::ending::ProcessEnd;
use super::registry::{Entry, Progress, StopSignal};
use super::timers::Due;
use bgw_core::{ExitCause, NotStarted};
use shmem_slots::Key;
use std::collections::HashMap;
use std::time::Instant;

impl Cluster {
    /// The worker of `key` crashed.
    pub(super) fn begin_reset(
        &mut self,
        key: Key,
        end: ProcessEnd,
        group_left: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.crashed = true;
        if let Some(entry) = self.registry.get(key) {
            out.push(Action::Log(Note::TerminatingOthers(entry.worker.worker_type().into())));
        }
        self.ended_during_reset(key, end, group_left, now, out);
        self.stop_all(StopSignal::Quit, out);
        self.timers.add_after(now, QUIT_GRACE, Due::KillAll);
    }

    /// A worker that ends during the reset stays on the list if it is to be restarted.
    pub(super) fn ended_during_reset(
        &mut self,
        key: Key,
        end: ProcessEnd,
        group_left: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        if end.cause.is_clean() || entry.terminate || entry.never_restarts() {
            self.ended_for_good(key, end, group_left, out);
        } else {
            report_stopped(entry, entry.ending_of_process(end), out);
            self.registry.set_progress(key, Progress::Resting { due: now });
        }
    }

    /// The last process has ended.
    pub(super) fn reset_slots(&mut self, out: &mut Vec<Action>) {
        for key in self.registry.keys() {
            let stays = |entry: &Entry| !entry.never_restarts() && !entry.terminate;
            if !self.registry.get(key).is_some_and(stays) {
                self.drop_unstarted(key, NotStarted::ClusterReset, out);
            }
        }
        out.push(Action::Log(Note::Reinitialising));
        out.push(Action::ResetSlots);
    }

    /// The slots are new. A worker without a key is dropped: its end was requested meanwhile, or there
    /// is no slot for it (the generations of its own are used up, or shared memory was overwritten).
    /// The phases begin again.
    pub(super) fn slots_reset(&mut self, new_keys: &HashMap<Key, Key>, out: &mut Vec<Action>) {
        self.crashed = false;
        self.start_queue.clear();
        self.timers.clear();
        self.phase = self.policy.initial_phase;
        for old in self.registry.take_all() {
            let Some(&key) = new_keys.get(&old.key) else {
                out.push(Action::Log(Note::Unregistering(old.worker.name().into())));
                continue;
            };
            let entry = Entry {
                terminate: old.terminate,
                restarts: old.restarts,
                started_before: old.started_before,
                ..Entry::new(key, old.worker, None)
            };
            if entry.terminate {
                let cause = ExitCause::NotStarted(NotStarted::Terminated);
                unregister(&entry, entry.ending_without_process(cause), out);
            } else {
                self.registry.insert(entry);
                self.enqueue(key);
            }
        }
        out.push(Action::PublishPhase(self.phase));
    }
}
