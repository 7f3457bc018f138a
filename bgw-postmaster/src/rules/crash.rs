//! A crash that puts shared state in doubt: everybody quits, the slots are made anew.
//!
//! From the crash on no worker starts and nothing is registered. Every process is told to quit at
//! once; those that have not after [`super::QUIT_GRACE`] are killed. A second crash in between is
//! part of the same reset. When the last process is gone, workers that never restart are forgotten,
//! the others start at once, and nobody is notified about them any more: whoever asked for that
//! belonged to the life before.

use super::{Action, Cluster, Ending, Note, QUIT_GRACE, Stage};
use crate::registry::{Entry, Progress, Told};
use crate::timers::Due;
use bgw_core::{ExitCause, NotStarted};
use shmem_slots::Key;
use std::time::Instant;

impl Cluster {
    pub(super) fn begin_reset(
        &mut self,
        key: Key,
        cause: ExitCause,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.crashed = true;
        if let Some(entry) = self.registry.get(key) {
            out.push(Action::Log(Note::TerminatingOthers(entry.worker.worker_type().into())));
        }
        self.ended_during_reset(key, cause, now, out);
        for other in self.registry.keys() {
            self.tell(other, Told::Quit, out);
        }
        self.timers.add(now + QUIT_GRACE, Due::KillAll);
    }

    /// A worker that ends during the reset keeps its place on the list if it is to come again.
    pub(super) fn ended_during_reset(
        &mut self,
        key: Key,
        cause: ExitCause,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let (notify, ending) = (entry.notify, Ending::of(entry, cause));
        if cause.is_clean() || entry.terminate || entry.never_restarts() {
            if let Some(entry) = self.registry.remove(key) {
                self.told_gone(&entry, cause, out);
            }
        } else {
            self.registry.set_progress(key, Progress::Resting { due: now });
            out.push(Action::ReportStopped(key, ending));
            out.extend(notify.map(Action::Notify));
        }
    }

    pub(super) fn kill_all_due(&mut self, out: &mut Vec<Action>) {
        let quitting = self.crashed || self.is_stopping();
        if !quitting || self.registry.running() == 0 {
            return;
        }
        out.push(Action::Log(Note::KillingStragglers(self.registry.running())));
        for key in self.registry.keys() {
            self.tell(key, Told::Die, out);
        }
    }

    /// After the last process: the reset goes on, or the postmaster ends.
    pub(super) fn finish_if_all_gone(&mut self, out: &mut Vec<Action>) {
        if self.registry.running() > 0 {
            return;
        }
        if self.crashed {
            if self.shutdown.is_some() || !self.policy.restart_after_crash {
                self.drop_all_unstarted(NotStarted::ShuttingDown, out);
                self.stage = Stage::Over(1);
            } else {
                self.forget_never_restarting(out);
                out.push(Action::Log(Note::Reinitialising));
                out.push(Action::ResetShared);
            }
        } else if self.stage == Stage::Stopping {
            self.stage = Stage::Over(0);
        }
    }

    fn forget_never_restarting(&mut self, out: &mut Vec<Action>) {
        for key in self.registry.keys() {
            let goes = self
                .registry
                .get(key)
                .is_some_and(|entry| entry.never_restarts() || entry.terminate);
            if goes {
                self.drop_unstarted(key, NotStarted::ClusterReset, out);
            }
        }
    }

    pub(super) fn drop_all_unstarted(&mut self, why: NotStarted, out: &mut Vec<Action>) {
        for key in self.registry.keys() {
            if self.registry.get(key).is_some_and(|entry| entry.pid().is_none()) {
                self.drop_unstarted(key, why, out);
            }
        }
    }

    /// The end of a reset: the slots are new, and `place` gives each surviving worker its slot
    /// (`None`: the worker is dropped, since its end was asked for meanwhile, or since there is no
    /// slot any more: its own one's generations are used up, or somebody scribbled).
    /// The phases run again from the beginning.
    pub fn rebuild(&mut self, mut place: impl FnMut(&Entry) -> Option<Key>, out: &mut Vec<Action>) {
        self.crashed = false;
        self.queue.clear();
        self.timers.clear();
        self.phase = self.policy.initial_phase;
        for old in self.registry.take_all() {
            if let Some(key) = place(&old) {
                let mut entry = Entry::new(key, old.worker, None);
                entry.restarts = old.restarts;
                entry.started_before = old.started_before;
                self.registry.insert(entry);
                self.enqueue(key);
            } else {
                out.push(Action::Log(Note::Unregistering(old.worker.name().into())));
            }
        }
        out.push(Action::PublishPhase(self.phase));
    }
}
