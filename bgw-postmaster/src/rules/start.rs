//! When a worker may start, and what follows from its start.
//!
//! | phase reached | `PostmasterStart` | `ConsistentState` | `RecoveryFinished` |
//! |---|---|---|---|
//! | start-up | starts | waits | waits |
//! | consistent | starts | starts | waits |
//! | recovery finished | starts | starts | starts |
//!
//! None starts while the cluster stops, or from a crash until the slots were made anew.

use super::{Action, Cluster, Ending, Note, Stage};
use crate::registry::{Entry, NotifyTarget, Progress, Told};
use crate::timers::Due;
use bgw_core::{BackgroundWorker, ExitCause, NotStarted, Pid, RestartPolicy, StartTime};
use shmem_slots::Key;
use std::time::Instant;

/// True when a worker that asks for `wanted` may run in `phase`.
#[must_use]
pub(super) fn phase_allows(phase: StartTime, wanted: StartTime) -> bool {
    wanted <= phase
}

impl Cluster {
    pub(super) fn registered(
        &mut self,
        key: Key,
        worker: BackgroundWorker,
        notify: Option<NotifyTarget>,
        terminate: bool,
        out: &mut Vec<Action>,
    ) {
        let mut entry = Entry::new(key, worker, notify);
        if terminate {
            entry.terminate = true;
            return self.told_gone(&entry, ExitCause::NotStarted(NotStarted::Terminated), out);
        }
        if !self.takes_registrations() {
            let why =
                if self.crashed { NotStarted::ClusterReset } else { NotStarted::ShuttingDown };
            return self.told_gone(&entry, ExitCause::NotStarted(why), out);
        }
        out.push(Action::Log(Note::Registering(entry.worker.name().into())));
        self.registry.insert(entry);
        self.enqueue(key);
    }

    pub(super) fn phase_reached(&mut self, phase: StartTime, out: &mut Vec<Action>) {
        if phase <= self.phase {
            return;
        }
        self.phase = phase;
        out.push(Action::PublishPhase(phase));
        for key in self.registry.keys() {
            self.enqueue(key);
        }
    }

    /// Puts a worker into the start queue if it may start now.
    pub(super) fn enqueue(&mut self, key: Key) {
        if !self.may_start(key) {
            return;
        }
        if let Some(entry) = self.registry.get_mut(key).filter(|entry| !entry.queued) {
            entry.queued = true;
            self.queue.push_back(key);
        }
    }

    fn may_start(&self, key: Key) -> bool {
        self.takes_registrations()
            && self.registry.get(key).is_some_and(|entry| {
                entry.progress == Progress::Unstarted
                    && !entry.terminate
                    && phase_allows(self.phase, entry.worker.start_time())
            })
    }

    /// Takes the next worker that is to be forked now. The executor answers with
    /// [`super::Event::Forked`] or [`super::Event::ForkFailed`].
    pub fn next_to_start(&mut self) -> Option<Key> {
        loop {
            let key = self.queue.pop_front()?;
            if let Some(entry) = self.registry.get_mut(key) {
                entry.queued = false;
            }
            if self.may_start(key) {
                return Some(key);
            }
        }
    }

    /// True when a worker waits in the start queue.
    #[must_use]
    pub fn has_more_to_start(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn forked(&mut self, key: Key, pid: Pid, now: Instant, out: &mut Vec<Action>) {
        self.registry.set_progress(key, Progress::Running { pid, told: None });
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.restarts += u32::from(entry.started_before);
        entry.started_before = true;
        let (notify, terminate) = (entry.notify, entry.terminate);
        out.push(Action::ReportStarted(key, pid));
        out.extend(notify.map(Action::Notify));
        if terminate {
            self.terminate_running(key, now, out);
        }
    }

    /// As if the start had never been: it is tried once more, and does not count as a restart.
    pub(super) fn start_lost(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key).filter(|entry| entry.pid().is_some()) else {
            return;
        };
        entry.started_before = entry.restarts > 0;
        entry.restarts = entry.restarts.saturating_sub(1);
        let terminate = entry.terminate;
        self.registry.set_progress(key, Progress::Unstarted);
        if terminate {
            self.drop_unstarted(key, NotStarted::Terminated, out);
        } else if self.is_stopping() {
            self.drop_unstarted(key, NotStarted::ShuttingDown, out);
        } else {
            out.push(Action::ReportUnstarted(key));
            self.enqueue(key);
        }
        self.finish_if_all_gone(out);
    }

    pub(super) fn fork_failed(
        &mut self,
        key: Key,
        errno: i32,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        out.push(Action::Log(Note::ForkFailed(entry.worker.name().into(), errno)));
        let why = NotStarted::ForkFailed { errno };
        let notify = entry.notify;
        let ending = Ending::of(entry, ExitCause::NotStarted(why));
        match entry.worker.restart() {
            RestartPolicy::Never => self.drop_unstarted(key, why, out),
            RestartPolicy::After(interval) => {
                self.rest(key, now + interval.max(super::FORK_RETRY));
                out.push(Action::ReportStopped(key, ending));
                out.extend(notify.map(Action::Notify));
            }
        }
    }

    /// The worker waits for its restart at `due`.
    pub(super) fn rest(&mut self, key: Key, due: Instant) {
        self.registry.set_progress(key, Progress::Resting { due });
        self.timers.add(due, Due::Restart(key.into()));
    }

    pub(super) fn restart_due(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        if matches!(entry.progress, Progress::Resting { due } if due <= now) {
            self.registry.set_progress(key, Progress::Unstarted);
            self.enqueue(key);
        }
    }

    pub(super) fn terminate_asked(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if entry.terminate {
            return;
        }
        entry.terminate = true;
        if entry.pid().is_some() {
            self.terminate_running(key, now, out);
        } else if !self.crashed {
            self.drop_unstarted(key, NotStarted::Terminated, out);
        }
    }

    fn terminate_running(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        self.tell(key, Told::Terminate, out);
        if let Some(grace) = self.policy.terminate_grace {
            self.timers.add(now + grace, Due::Kill(key.into()));
        }
    }

    pub(super) fn kill_due(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get(key) else { return };
        if matches!(entry.progress, Progress::Running { told: Some(Told::Terminate), .. }) {
            out.push(Action::Log(Note::KillingStraggler(entry.worker.name().into())));
            self.tell(key, Told::Die, out);
        }
    }

    /// True when the cluster takes no more workers because it stops.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping | Stage::Over(_))
    }
}
