//! How a worker is made to end: a terminate request, stop signals, and SIGKILL when its time is
//! over.
//!
//! The time is the grace of the worker, or the cluster's if it has none of its own. It begins with
//! the first request. A later request, of whatever kind, makes it shorter or leaves it as it is.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::registry::Progress;
use super::stop_level::StopLevel;
use super::timers::Due;
use bgw_core::{AskedBy, BackgroundWorker, Grace, NotStarted};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// A grace of "for ever", where nobody would wait for ever.
pub(super) const BOUNDED_GRACE: Duration = Duration::from_secs(60);

impl Cluster {
    /// Its end is requested by `by`.
    pub(super) fn terminate_requested(
        &mut self,
        key: Key,
        by: AskedBy,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if entry.terminate {
            return;
        }
        entry.terminate = true;
        entry.ask(by);
        let clearing = matches!(entry.progress, Progress::Clearing { .. });
        if entry.pid().is_some() {
            self.terminate_running(key, now, out);
        } else if self.crashed.is_none() && !clearing {
            self.drop_unstarted(key, NotStarted::Terminated, out);
        }
    }

    /// SIGKILL now, also to what is left of its group. A worker without a process is terminated.
    pub(super) fn kill_requested(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if entry.asked_by < Some(AskedBy::Kill) {
            out.push(Action::Log(Note::KillRequested(entry.subject())));
        }
        entry.ask(AskedBy::Kill);
        if entry.pid().is_some() {
            entry.terminate = true;
            self.stop(key, StopLevel::Kill, out);
            return self.stop_beside(key, StopLevel::Kill, None, now, out);
        }
        self.stop_beside(key, StopLevel::Kill, None, now, out);
        let left = self.groups.iter().filter(|&(_, &of)| of == key);
        out.extend(left.map(|(&leader, _)| Action::StopGroup(leader, StopLevel::Kill)));
        self.terminate_requested(key, AskedBy::Kill, now, out);
    }

    /// How long a worker may take after its stop signal; `None`: for ever.
    pub(super) fn grace_of(&self, worker: &BackgroundWorker) -> Option<Duration> {
        match worker.grace() {
            Grace::OfCluster => self.policy.terminate_grace,
            Grace::Bounded => Some(self.policy.terminate_grace.unwrap_or(BOUNDED_GRACE)),
            Grace::Forever => None,
            Grace::After(grace) => Some(grace),
        }
    }

    /// The stop signal now, and SIGKILL after the grace, if there is one.
    pub(super) fn terminate_running(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        self.stop(key, StopLevel::Terminate, out);
        let grace = self.registry.get(key).and_then(|entry| self.grace_of(&entry.worker));
        self.kill_after(key, grace, now);
        self.stop_beside(key, StopLevel::Terminate, grace, now, out);
    }

    /// The same for a running worker whose end nobody has asked for.
    pub(super) fn stop_unasked(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        self.stop(key, StopLevel::Terminate, out);
        self.kill_in_the_end(key, now);
    }

    /// Kills a worker that was told to end in order after its grace, or after [`BOUNDED_GRACE`] if
    /// that is for ever.
    pub(super) fn kill_in_the_end(&mut self, key: Key, now: Instant) {
        let grace = self.registry.get(key).and_then(|entry| self.grace_of(&entry.worker));
        // Beyond the clock is for ever, too.
        let grace = grace.filter(|&grace| now.checked_add(grace).is_some());
        let grace = grace.unwrap_or(BOUNDED_GRACE);
        self.kill_after(key, Some(grace), now);
        self.kill_beside_after(key, grace, now);
    }

    /// Kills a worker that was told to end in order `grace` from now, unless it is killed sooner.
    /// `None`: never. One that quits has no grace.
    pub(super) fn kill_after(&mut self, key: Key, grace: Option<Duration>, now: Instant) {
        // What the clock cannot reach is for ever.
        let Some(at) = grace.and_then(|grace| now.checked_add(grace)) else { return };
        let Some(entry) = self.registry.get_mut(key) else { return };
        let told = matches!(
            entry.progress,
            Progress::Running { stop_signal: Some(StopLevel::Terminate), .. }
        );
        if !told || entry.kill_at.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = entry.kill_at.replace(at) {
            self.timers.remove(before, Due::Kill(key.into()));
        }
        self.timers.add(at, Due::Kill(key.into()));
    }

    /// Kills a worker that was aborted `grace` from now.
    pub(super) fn kill_silent_after(&mut self, key: Key, grace: Duration, now: Instant) {
        // An abort grace is a minute at most, so the clock reaches so far.
        let at = now.checked_add(grace).unwrap_or(now);
        if let Some(entry) = self.registry.get_mut(key) {
            entry.kill_at = Some(at);
            self.timers.add(at, Due::Kill(key.into()));
        }
    }

    /// The process of a worker has ended. Returns when it was to be killed.
    pub(super) fn stop_clock(&mut self, key: Key) -> Option<Instant> {
        let at = self.registry.get_mut(key)?.kill_at.take()?;
        self.timers.remove(at, Due::Kill(key.into()));
        Some(at)
    }

    /// Sends a running worker a stop signal, unless it was sent one as strict before.
    pub(super) fn stop(&mut self, key: Key, signal: StopLevel, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if let Progress::Running { stop_signal: sent, .. } = &mut entry.progress {
            if sent.is_none_or(|sent| sent < signal) {
                *sent = Some(signal);
                out.push(Action::Stop(key, signal));
                self.end_start_clock(key);
                self.end_pulse(key);
            }
        }
    }

    /// Somebody asks for the end of every running worker.
    pub(super) fn ask_all(&mut self, by: AskedBy) {
        for key in self.registry.keys() {
            if let Some(entry) = self.registry.get_mut(key).filter(|entry| entry.pid().is_some()) {
                entry.ask(by);
            }
        }
    }

    /// Sends every running worker a stop signal.
    pub(super) fn stop_all(&mut self, signal: StopLevel, out: &mut Vec<Action>) {
        for key in self.registry.keys() {
            self.stop(key, signal, out);
            // They are killed together with all others.
            self.quit_beside(key, signal, out);
        }
    }

    /// The grace time of one worker is over.
    pub(super) fn kill_due(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get(key) else { return };
        let Progress::Running { stop_signal: sent, .. } = entry.progress else { return };
        if sent.is_some_and(|sent| sent < StopLevel::Kill) {
            out.push(Action::Log(Note::Killing(entry.subject())));
            self.stop(key, StopLevel::Kill, out);
        }
    }

    /// The time of all workers is over.
    pub(super) fn kill_all_due(&mut self, out: &mut Vec<Action>) {
        let ending = self.crashed.is_some() || self.is_stopping();
        if !ending || self.all_ended() {
            return;
        }
        if self.registry.running() > 0 {
            out.push(Action::Log(Note::KillingAll(self.registry.running())));
        }
        self.stop_all(StopLevel::Kill, out);
        let groups = self.groups.keys();
        out.extend(groups.map(|&leader| Action::StopGroup(leader, StopLevel::Kill)));
    }
}
