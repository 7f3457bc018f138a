//! What follows from the end of a worker process.

use super::action::{Action, Note};
use super::cluster::{Cluster, report_stopped};
use super::ending::{Ending, Exit};
use super::registry::Progress;
use super::verdict::{HowEnded, Service, Verdict, judge};
use bgw_core::{NotStarted, Pid, Recycled};
use shmem_slots::Key;
use std::time::{Duration, Instant};

impl Cluster {
    // Out of line, for the reason in `step.rs`.
    #[inline(never)]
    pub(super) fn child_exited(
        &mut self,
        key: Key,
        exit: Exit,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        if entry.beside() == Some(exit.end.pid) {
            return self.beside_exited(key, exit, now, out);
        }
        let Progress::Running { stop_signal, .. } = entry.progress else { return };
        let kind = entry.worker.worker_type().into();
        out.push(Action::Log(Note::Exited(entry.subject(), kind, exit.end.cause)));
        let how = HowEnded {
            cause: exit.end.cause,
            ran_for: exit.end.ran_for,
            dirty: exit.dirty,
            sent: stop_signal,
            lapse: entry.lapse,
        };
        let end = exit.end;
        let service = self.service();
        let verdict = judge(entry, service, how);
        let in_service = service == Service::Normal;
        let verdict = if in_service { self.in_round(key, verdict) } else { verdict };
        self.forget_limits(key);
        // One that was told to end has not done what it was for.
        if end.cause.is_clean() && stop_signal.is_none() {
            self.done(key);
        }
        let kill_at = self.stop_clock(key);
        self.end_start_clock(key);
        self.end_pulse(key);
        if exit.group_left {
            self.group_left(key, end.pid, kill_at, now, out);
        }
        let exit = match self.registry.get(key).and_then(|entry| entry.overlap) {
            None => exit,
            Some(_) => match self.ended_with_another(key, exit, verdict, now, out) {
                Some(exit) => exit,
                None => return,
            },
        };
        if verdict == Verdict::Unregister {
            self.ended_for_good(key, end, exit.group_left, out);
        } else {
            self.stays(key, exit, how, verdict, now, out);
        }
        if !exit.group_left {
            self.tell_next(key, now, out);
        }
        self.finish_if_all_ended(out);
    }

    /// A run has ended that has a second process, or was to have one. `None`: that is the worker's
    /// process now. Else what is left of the worker holds up what follows, as its process group
    /// does.
    #[cold]
    #[inline(never)]
    fn ended_with_another(
        &mut self,
        key: Key,
        exit: Exit,
        verdict: Verdict,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Option<Exit> {
        if self.takes_over(key, verdict) && self.take_over(key, exit, verdict, now, out) {
            return None;
        }
        self.end_beside(key, now, out);
        let is_left = self.registry.get(key).is_some_and(|entry| entry.beside().is_some());
        Some(Exit { group_left: exit.group_left || is_left, ..exit })
    }

    /// What follows for a worker that does not go off the list, or not for certain.
    #[inline(never)]
    fn stays(
        &mut self,
        key: Key,
        exit: Exit,
        how: HowEnded,
        verdict: Verdict,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let end = exit.end;
        match verdict {
            Verdict::Unregister => self.ended_for_good(key, end, exit.group_left, out),
            Verdict::Failure => self.failed(key, exit, now, out),
            Verdict::Repeat => {
                let delay = self.registry.get(key).and_then(|entry| entry.worker.delay(1));
                self.restart_after(key, exit, delay.unwrap_or_default(), now, out);
                self.begin_round(key, now);
            }
            Verdict::InRound => self.waits_for_round(key, exit, now, out),
            Verdict::Replace(why) => self.replaced(key, exit, why, now, out),
            Verdict::AtOnce => self.starts_after_reset(key, end, now, out),
            Verdict::Reset => self.begin_reset(key, exit, how, now, out),
        }
    }

    pub(super) const fn service(&self) -> Service {
        if self.crashed.is_some() {
            Service::Resetting
        } else if self.is_stopping() {
            Service::Stopping
        } else {
            Service::Normal
        }
    }

    /// Counts a failure: a pause, or it is given up.
    fn failed(&mut self, key: Key, exit: Exit, now: Instant, out: &mut Vec<Action>) {
        let given_up =
            self.count_failure(key, exit.end, now, out) || self.group_fails(key, exit, now, out);
        if given_up {
            return self.ended_for_good(key, exit.end, exit.group_left, out);
        }
        let Some(entry) = self.registry.get(key) else { return };
        let pause = entry.streak.pause(&entry.worker, exit.random);
        self.restart_after(key, exit, pause, now, out);
        self.begin_round(key, now);
    }

    /// Its next run is the one after this, as if this one went on: it is not a restart.
    fn replaced(
        &mut self,
        key: Key,
        exit: Exit,
        why: Recycled,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.started_before = false;
        entry.recycled = None;
        let pause = self.crashed.is_none().then_some(Duration::ZERO);
        let ending = entry.ending_of_process(exit.end);
        let ending = Ending { pause, recycled: Some(why), ..ending };
        if self.crashed.is_some() {
            report_stopped(entry, ending, out);
            return self.registry.set_progress(key, Progress::Resting { due: now });
        }
        self.rests(key, ending, exit.group_left, now, now, out);
    }

    fn restart_after(
        &mut self,
        key: Key,
        exit: Exit,
        pause: Duration,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let ending = Ending { pause: Some(pause), ..entry.ending_of_process(exit.end) };
        // A pause is at most a day and a half, so the clock reaches so far.
        let due = now.checked_add(pause).unwrap_or(now);
        self.rests(key, ending, exit.group_left, due, now, out);
    }

    /// It has ended so, and starts at `due`, or once what it has left behind has ended.
    pub(super) fn rests(
        &mut self,
        key: Key,
        ending: Ending,
        group_left: bool,
        due: Instant,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        report_stopped(entry, ending, out);
        if group_left {
            self.registry.set_clearing(key, ending, Some(due));
        } else {
            self.restart_at(key, due, now);
        }
    }

    /// As if the start had not happened: it is tried again, and does not count as a restart.
    pub(super) fn start_lost(&mut self, key: Key, pid: Pid, now: Instant, out: &mut Vec<Action>) {
        if self.registry.get(key).is_some_and(|entry| entry.beside() == Some(pid)) {
            self.beside_lost(key, out);
            self.end_clearing(key, now, out);
            return self.finish_if_all_ended(out);
        }
        let Some(entry) = self.registry.get_mut(key).filter(|entry| entry.pid().is_some()) else {
            return;
        };
        entry.started_before = entry.restarts > 0;
        entry.run = entry.run.wrapping_sub(1);
        entry.restarts = entry.restarts.saturating_sub(1);
        let terminate = entry.terminate;
        self.forget_limits(key);
        self.stop_clock(key);
        self.end_start_clock(key);
        self.end_pulse(key);
        self.registry.set_progress(key, Progress::Unstarted);
        if terminate {
            self.drop_unstarted(key, NotStarted::Terminated, out);
            self.tell_next(key, now, out);
        } else if self.is_stopping() {
            self.drop_unstarted(key, NotStarted::ShuttingDown, out);
            self.tell_next(key, now, out);
        } else {
            out.push(Action::ReportUnstarted(key));
            self.enqueue(key);
        }
        self.finish_if_all_ended(out);
    }
}
