//! When a worker may start, and what follows from its start.
//!
//! | phase reached | `PostmasterStart` | `ConsistentState` | `RecoveryFinished` |
//! |---|---|---|---|
//! | start-up | starts | waits | waits |
//! | consistent | starts | starts | waits |
//! | recovery finished | starts | starts | starts |
//!
//! No worker starts while the cluster stops, or from a crash until the slots are made anew.

use super::action::{Action, Misfit, News, Note};
use super::after::Standing;
use super::cluster::{Cluster, report_stopped, unregister};
use super::ending::Ending;
use super::pulse::Look;
use super::registry::{Entry, Newcomer, Progress};
use super::timers::Due;
use bgw_core::{ExitCause, NotStarted, Pid, RelationError, StartTime};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// The shortest time until a failed fork is tried again. The system is short of something, or the
/// process has a second thread: an immediate retry would fail again, and an interval of 0 would be
/// a busy loop that fills the log.
pub(super) const FORK_RETRY: Duration = Duration::from_millis(100);

impl Cluster {
    // Out of line, for the reason in `step.rs`.
    #[inline(never)]
    pub(super) fn registered(&mut self, new: Newcomer, out: &mut Vec<Action>) {
        if self.registry.at(new.key.index).is_some() {
            // Only corruption gives a slot twice. The first one has it.
            return;
        }
        match self.refusal(&new, out) {
            None => {
                let key = new.key;
                out.push(Action::Log(Note::Registering(new.subject())));
                self.registry.insert(new.into_entry());
                self.join(key);
                self.enqueue(key);
            }
            Some(why) => self.refuse(new, why, out),
        }
    }

    /// Why a new worker is not put on the list.
    fn refusal(&self, new: &Newcomer, out: &mut Vec<Action>) -> Option<NotStarted> {
        if new.terminate {
            return Some(NotStarted::Terminated);
        }
        if !self.accepts_workers() {
            let resets = self.crashed.is_some();
            return Some(if resets { NotStarted::ClusterReset } else { NotStarted::ShuttingDown });
        }
        if let Err(error) = self.registry.check_relations(&new.worker) {
            let taken = matches!(error, RelationError::NameTaken { .. });
            out.push(Action::Log(Note::Refused(new.subject(), Misfit::Relations(error))));
            return Some(if taken { NotStarted::NameTaken } else { NotStarted::Refused });
        }
        let has = |name: &str| self.templates.iter().any(|known| **known == *name);
        if let Some(unknown) = new.worker.template().filter(|name| !has(name)) {
            let why = Misfit::UnknownTemplate(unknown.into());
            out.push(Action::Log(Note::Refused(new.subject(), why)));
            return Some(NotStarted::Refused);
        }
        if self.policy.overlap == 0 && new.worker.recycle().is_some_and(|recycle| recycle.overlap) {
            out.push(Action::Log(Note::Refused(new.subject(), Misfit::NoOverlap)));
            return Some(NotStarted::Refused);
        }
        let unknown = new.worker.group().filter(|name| self.group_named(name).is_none())?;
        let why = Misfit::UnknownGroup(unknown.into());
        out.push(Action::Log(Note::Refused(new.subject(), why)));
        Some(NotStarted::Refused)
    }

    #[cold]
    #[inline(never)]
    fn refuse(&mut self, new: Newcomer, why: NotStarted, out: &mut Vec<Action>) {
        let entry = new.into_entry();
        let ending = entry.ending_without_process(ExitCause::NotStarted(why));
        let ending = Ending { reset: self.crashed, ..ending };
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
        if let Some(entry) = self.registry.get(key).filter(|entry| entry.held) {
            return self.moved.extend(entry.member.map(|(number, _)| number));
        }
        let Some(entry) = self.registry.get(key).filter(|entry| self.would_start(entry)) else {
            return;
        };
        match self.standing(entry) {
            _ if entry.is_lent() => {
                if let Some(entry) = self.registry.get_mut(key).filter(|entry| !entry.queued) {
                    entry.queued = true;
                    self.start_queue.push_back(key);
                }
            }
            Standing::Lost(target) => self.lost.push((key, target)),
            Standing::Met if entry.worker.start_time() <= self.phase => {
                if let Some(entry) = self.registry.get_mut(key).filter(|entry| !entry.queued) {
                    entry.queued = true;
                    self.start_queue.push_back(key);
                }
            }
            Standing::Met | Standing::Waits => {}
        }
    }

    /// True for a worker without a process that is to have one.
    fn would_start(&self, entry: &Entry) -> bool {
        self.accepts_workers()
            && (entry.progress == Progress::Unstarted || entry.is_lent())
            && !entry.terminate
            && !entry.held
    }

    pub(crate) fn may_start(&self, key: Key) -> bool {
        self.registry.get(key).is_some_and(|entry| {
            self.would_start(entry)
                && entry.worker.start_time() <= self.phase
                && (entry.is_lent() || self.standing(entry) == Standing::Met)
        })
    }

    /// True if its next process is to be one beside that which serves.
    pub(crate) fn starts_beside(&self, key: Key) -> bool {
        self.registry.get(key).is_some_and(Entry::is_lent)
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

    // Out of line, for the reason in `step.rs`.
    #[inline(never)]
    pub(super) fn forked(
        &mut self,
        key: Key,
        pid: Pid,
        random: u32,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.starts_beside(key) {
            return self.forked_beside(key, pid, random, now, out);
        }
        self.registry.set_progress(key, Progress::Running { pid, stop_signal: None });
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.restarts += u32::from(entry.started_before);
        entry.started_before = true;
        entry.run = entry.run.wrapping_add(1);
        entry.ready_at = None;
        if !entry.terminate {
            // Who ended the run before has not ended this one.
            entry.asked_by = None;
        }
        entry.lapse = None;
        let (notify, terminate) = (entry.notify, entry.terminate);
        self.draw_limits(key, random, now);
        self.begin_start_clock(key, now);
        self.begin_looks(key, now);
        self.changed(key);
        if self.registry.get(key).is_some_and(|entry| entry.worker.ready().is_none()) {
            self.begin_pulse(key, now);
        }
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
        random: u32,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        out.push(Action::Log(Note::ForkFailed(entry.subject(), errno)));
        self.not_started(key, NotStarted::ForkFailed { errno }, random, now, out);
    }

    /// There was to be a process for it, and there is none.
    pub(super) fn not_started(
        &mut self,
        key: Key,
        why: NotStarted,
        random: u32,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.starts_beside(key) {
            return self.beside_not_started(key, random, now, out);
        }
        let Some(entry) = self.registry.get_mut(key) else { return };
        if entry.never_restarts() {
            return self.drop_unstarted(key, why, out);
        }
        entry.streak.fork_failed();
        let pause = entry.streak.pause(&entry.worker, random).max(FORK_RETRY);
        let ending = entry.ending_without_process(ExitCause::NotStarted(why));
        report_stopped(entry, Ending { pause: Some(pause), ..ending }, out);
        self.rest_until(key, now.checked_add(pause).unwrap_or(now));
    }

    /// A process says that it is ready; again and again, if it likes.
    pub(super) fn ready(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let Progress::Running { stop_signal, .. } = entry.progress else { return };
        if entry.ready_at.is_some() || entry.lapse.is_some() {
            return;
        }
        entry.ready_at = Some(now);
        entry.streak.ready();
        self.end_start_clock(key);
        self.changed(key);
        let beats = self.registry.get(key).is_some_and(|entry| {
            entry.worker.ready().is_some() && entry.worker.heartbeat().is_some()
        });
        if beats && stop_signal.is_none() {
            self.begin_pulse(key, now);
            out.push(Action::ReadBeats { keys: vec![key], look: Look::First });
        }
    }

    /// Ends the pause of a worker, and forgets its failures. Nothing happens to any other.
    pub(super) fn restart_requested(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        match entry.progress {
            Progress::Resting { due } => {
                entry.streak.clear();
                if let Some((_, due)) = entry.culprit.as_deref_mut() {
                    *due = now;
                }
                // During a reset it still waits for the end of the reset.
                if self.crashed.is_none() {
                    self.timers.remove(due, Due::Restart(key.into()));
                    self.restart_at(key, now, now);
                }
            }
            Progress::Clearing { restart: Some(_) } => {
                entry.streak.clear();
                let progress = Progress::Clearing { restart: Some(now) };
                self.registry.set_progress(key, progress);
            }
            Progress::Clearing { restart: None }
            | Progress::Running { .. }
            | Progress::Unstarted => {}
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
