//! When a worker may start, and what follows from its start.
//!
//! | phase reached | `PostmasterStart` | `ConsistentState` | `RecoveryFinished` |
//! |---|---|---|---|
//! | start-up | starts | waits | waits |
//! | consistent | starts | starts | waits |
//! | recovery finished | starts | starts | starts |
//!
//! No worker starts while the cluster stops, or from a crash until the slots are made anew.

use super::action::{Action, News, Note};
use super::cluster::{Cluster, report_stopped, unregister};
use super::registry::{Entry, NotifyTarget, Progress};
use super::timers::Due;
use bgw_core::{BackgroundWorker, ExitCause, NotStarted, Pid, RestartPolicy, StartTime};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// The shortest time until a failed fork is tried again. The system is short of something, or the
/// process has a second thread: an immediate retry would fail again, and an interval of 0 would be a
/// busy loop that fills the log.
pub(super) const FORK_RETRY: Duration = Duration::from_millis(100);

impl Cluster {
    pub(super) fn registered(
        &mut self,
        key: Key,
        worker: BackgroundWorker,
        notify: Option<NotifyTarget>,
        terminate: bool,
        out: &mut Vec<Action>,
    ) {
        let entry = Entry { terminate, ..Entry::new(key, worker, notify) };
        let refusal = if terminate {
            NotStarted::Terminated
        } else if self.accepts_workers() {
            out.push(Action::Log(Note::Registering(entry.worker.name().into())));
            self.registry.insert(entry);
            return self.enqueue(key);
        } else if self.crashed {
            NotStarted::ClusterReset
        } else {
            NotStarted::ShuttingDown
        };
        let ending = entry.ending_without_process(ExitCause::NotStarted(refusal));
        unregister(&entry, ending, out);
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
            self.start_queue.push_back(key);
        }
    }

    fn may_start(&self, key: Key) -> bool {
        self.accepts_workers()
            && self.registry.get(key).is_some_and(|entry| {
                entry.progress == Progress::Unstarted
                    && !entry.terminate
                    && entry.worker.start_time() <= self.phase
            })
    }

    /// Takes the next worker to fork. The server answers with [`super::Event::Forked`] or
    /// [`super::Event::ForkFailed`].
    pub(crate) fn next_to_start(&mut self) -> Option<Key> {
        loop {
            let key = self.start_queue.pop_front()?;
            if let Some(entry) = self.registry.get_mut(key) {
                entry.queued = false;
            }
            if self.may_start(key) {
                return Some(key);
            }
        }
    }

    /// True when a worker waits in the start queue.
    pub(crate) fn has_more_to_start(&self) -> bool {
        !self.start_queue.is_empty()
    }

    pub(super) fn forked(&mut self, key: Key, pid: Pid, now: Instant, out: &mut Vec<Action>) {
        self.registry.set_progress(key, Progress::Running { pid, stop_signal: None });
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.restarts += u32::from(entry.started_before);
        entry.started_before = true;
        let (notify, terminate) = (entry.notify, entry.terminate);
        out.push(Action::ReportStarted(key, pid));
        out.extend(notify.map(|target| Action::Notify(target, News::Started)));
        if terminate {
            self.terminate_running(key, now, out);
        }
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
        match entry.worker.restart() {
            RestartPolicy::Never => self.drop_unstarted(key, why, out),
            RestartPolicy::After(interval) => {
                let ending = entry.ending_without_process(ExitCause::NotStarted(why));
                report_stopped(entry, ending, out);
                let due = now.checked_add(interval.max(FORK_RETRY)).unwrap_or(now);
                self.rest_until(key, due);
            }
        }
    }

    /// The worker is restarted at `due`, or now if that has passed.
    pub(super) fn restart_at(&mut self, key: Key, due: Instant, now: Instant) {
        if due <= now {
            self.registry.set_progress(key, Progress::Unstarted);
            self.enqueue(key);
        } else {
            self.rest_until(key, due);
        }
    }

    /// The worker rests until its restart at `due`.
    pub(super) fn rest_until(&mut self, key: Key, due: Instant) {
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
}
