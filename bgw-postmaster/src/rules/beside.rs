//! The second process of a worker: how it is made to end, and what follows from its end.

use super::action::{Action, News, Note};
use super::cluster::Cluster;
use super::ending::{Culprit, Ending, Exit};
use super::lapse::Lapse;
use super::overlap::{Cause, Overlap};
use super::registry::{Entry, Progress};
use super::start::FORK_RETRY;
use super::stop_level::StopLevel;
use super::terminate::BOUNDED_GRACE;
use super::verdict::{HowEnded, Service, leaves_doubt};
use bgw_core::internals::brake;
use bgw_core::{AskedBy, ExitCause, Recycled};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// SIGKILL, as a report has it.
const SIGKILL: u8 = libc::SIGKILL as u8;

impl Cluster {
    /// Tells the second process to end, unless it was told as strictly before, and kills it after
    /// the grace, or sooner if it was to be. What has no process is given up.
    pub(super) fn stop_beside(
        &mut self,
        key: Key,
        level: StopLevel,
        grace: Option<Duration>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.quit_beside(key, level, out);
        if let Some(grace) = grace {
            self.kill_beside_after(key, grace, now);
        }
    }

    /// Kills a second process that was told to end in order `grace` from now, unless it is killed
    /// sooner.
    pub(super) fn kill_beside_after(&mut self, key: Key, grace: Duration, now: Instant) {
        let Some(at) = now.checked_add(grace) else { return };
        // A deadline changes no berth.
        self.update_overlap(key, &mut Vec::new(), |overlap| {
            let Some(process) = overlap.process_mut() else { return };
            if process.told == Some(StopLevel::Terminate) {
                process.kill_at = process.kill_at.into_iter().chain([at]).min();
            }
        });
    }

    /// The same without a clock of its own.
    pub(super) fn quit_beside(&mut self, key: Key, level: StopLevel, out: &mut Vec<Action>) {
        let Some(overlap) = self.registry.get(key).and_then(|entry| entry.overlap) else { return };
        if overlap.process().is_none() {
            return self.set_overlap(key, None, out);
        }
        self.update_overlap(key, out, |overlap| {
            if let Some(process) = overlap.process_mut() {
                process.told = process.told.max(Some(level));
            }
        });
        if overlap.process().is_some_and(|process| process.told < Some(level)) {
            out.push(Action::StopBeside(key, level));
        }
    }

    /// The same in order, within the grace of the worker, or [`BOUNDED_GRACE`].
    pub(super) fn end_beside(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let grace = self.registry.get(key).and_then(|entry| self.grace_of(&entry.worker));
        let grace = grace.filter(|&grace| now.checked_add(grace).is_some());
        let grace = Some(grace.unwrap_or(BOUNDED_GRACE));
        self.stop_beside(key, StopLevel::Terminate, grace, now, out);
    }

    /// A deadline of the second process has passed.
    pub(super) fn beside_due(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get(key) else { return };
        match entry.overlap {
            Some(Overlap::Pausing { cause, due }) if due <= now => {
                self.set_overlap(key, Some(Overlap::Due(cause)), out);
            }
            Some(Overlap::Starting { next, clock: Some(clock), .. })
                if next.told.is_none() && clock.due <= now =>
            {
                out.push(Action::LookBeside(key));
            }
            Some(
                Overlap::Starting { next: process, .. } | Overlap::Leaving { former: process, .. },
            ) if process.kill_at.is_some_and(|at| at <= now) => {
                out.push(Action::Log(Note::Killing(entry.subject_of(process.pid))));
                self.update_overlap(key, out, |overlap| {
                    if let Some(process) = overlap.process_mut() {
                        process.kill_at = None;
                    }
                });
                self.stop_beside(key, StopLevel::Kill, None, now, out);
            }
            _ => {}
        }
    }

    /// The next run has not said that it is ready. It has asked for time until `until`, if it has
    /// asked.
    pub(super) fn beside_still_starts(
        &mut self,
        key: Key,
        until: Option<Instant>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(Overlap::Starting { next, clock: Some(clock), .. }) = entry.overlap else {
            return;
        };
        if next.told.is_some() {
            return;
        }
        let later = clock.due.max(until.unwrap_or(clock.due)).min(clock.end);
        if later > now {
            return self.update_overlap(key, out, |overlap| {
                if let Overlap::Starting { clock: Some(clock), .. } = overlap {
                    clock.due = later;
                }
            });
        }
        out.push(Action::Log(Note::Late(entry.subject_of(next.pid))));
        self.stop_late(key, now, out);
    }

    /// The next run is not ready in time, and is stopped.
    pub(super) fn stop_late(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        self.update_overlap(key, out, |overlap| {
            if let Overlap::Starting { late, .. } = overlap {
                *late = true;
            }
        });
        self.end_beside(key, now, out);
    }

    /// The next run could not be started.
    pub(super) fn beside_not_started(
        &mut self,
        key: Key,
        random: u32,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(Overlap::Lent(cause)) = self.registry.get(key).and_then(|entry| entry.overlap)
        else {
            return;
        };
        self.try_again(key, cause, random, now, out);
    }

    /// Another next run after a pause; none if the worker is rolled, or does not serve on.
    fn try_again(
        &mut self,
        key: Key,
        cause: Cause,
        random: u32,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let serves = matches!(entry.progress, Progress::Running { stop_signal: None, .. });
        let goes_on = serves && !entry.terminate && self.service() == Service::Normal;
        let next = (goes_on && cause.why != Recycled::Roll).then(|| {
            let failures = cause.failures.saturating_add(1);
            let pause = Self::pause_beside(entry, failures, random).max(FORK_RETRY);
            let due = now.checked_add(pause).unwrap_or(now);
            Overlap::Pausing { cause: Cause { failures, ..cause }, due }
        });
        self.set_overlap(key, next, out);
    }

    /// A next run that was given to a spare which died before it took it: another one is started.
    pub(super) fn beside_lost(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(Overlap::Starting { cause, next, .. }) = entry.overlap else { return };
        if next.told.is_some() || !self.accepts_workers() {
            return self.set_overlap(key, None, out);
        }
        self.set_overlap(key, Some(Overlap::Lent(cause)), out);
        self.enqueue(key);
    }

    /// The second process has ended.
    #[cold]
    #[inline(never)]
    pub(super) fn beside_exited(
        &mut self,
        key: Key,
        exit: Exit,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(overlap) = entry.overlap else { return };
        let Some(&process) = overlap.process() else { return };
        let kind = entry.worker.worker_type().into();
        out.push(Action::Log(Note::Exited(entry.subject_of(process.pid), kind, exit.end.cause)));
        let late = matches!(overlap, Overlap::Starting { late: true, .. });
        let how = HowEnded {
            cause: exit.end.cause,
            ran_for: exit.end.ran_for,
            dirty: exit.dirty,
            sent: process.told,
            lapse: late.then_some(Lapse::Late),
        };
        let in_doubt = self.service() == Service::Normal && leaves_doubt(entry, how);
        let ending = ending_of(entry, overlap, exit, self.crashed);
        out.push(Action::ReportBeside(key, ending));
        let notify = entry.notify.filter(|_| matches!(overlap, Overlap::Leaving { .. }));
        out.extend(notify.map(|target| Action::Notify(target, News::Ended)));
        match overlap {
            Overlap::Starting { cause, .. } if !in_doubt && (late || process.told.is_none()) => {
                self.try_again(key, cause, exit.random, now, out);
            }
            Overlap::Leaving { again: Some(why), .. } => {
                self.set_overlap(key, None, out);
                self.begin_overlap(key, why, out);
            }
            _ => self.set_overlap(key, None, out),
        }
        if exit.group_left {
            self.beside_left_group(key, exit, process.kill_at, now, out);
        }
        if in_doubt {
            self.beside_crashed(key, exit, ending, now, out);
        }
        self.end_clearing(key, now, out);
        self.finish_if_all_ended(out);
    }

    /// Processes of its group live. Their clock is none of the run that serves.
    fn beside_left_group(
        &mut self,
        key: Key,
        exit: Exit,
        kill_at: Option<Instant>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let before = self.registry.get(key).and_then(|entry| entry.kill_at);
        self.group_left(key, exit.end.pid, kill_at, now, out);
        if let Some(entry) = self.registry.get_mut(key) {
            entry.kill_at = before;
        }
    }

    /// A crash of the second process leaves shared state in doubt: all quit, the serving run, too.
    /// The worker is the culprit: it starts with the others, or pauses as the brake has it.
    fn beside_crashed(
        &mut self,
        key: Key,
        exit: Exit,
        ending: Ending,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let culprit = Culprit { key, pid: exit.end.pid, cause: ending.cause };
        self.crashed = Some(culprit);
        if let Some(entry) = self.registry.get_mut(key) {
            let (subject, kind) = (entry.subject(), entry.worker.worker_type().into());
            out.push(Action::Log(Note::TerminatingOthers(subject, kind, ending.cause)));
            // It counts for no limit: the run that serves has done nothing.
            entry.streak.fork_failed();
            let brake = brake(entry.streak.failures);
            let pause = (!brake.is_zero()).then(|| entry.worker.spread(brake, exit.random));
            let due = pause.and_then(|pause| now.checked_add(pause)).unwrap_or(now);
            entry.culprit = Some(Box::new((Ending { pause, ..ending }, due)));
        }
        self.quit_for_reset(now, out);
    }
}

/// How a second process ended.
fn ending_of(entry: &Entry, overlap: Overlap, exit: Exit, reset: Option<Culprit>) -> Ending {
    let told = overlap.process().and_then(|process| process.told);
    let cause = match overlap {
        Overlap::Starting { late: true, .. } => {
            super::lapse::reported(exit.end.cause, Some(Lapse::Late))
        }
        _ => exit.end.cause,
    };
    let killed = told == Some(StopLevel::Kill)
        && matches!(exit.end.cause, ExitCause::Signaled { signal: SIGKILL, .. });
    let (restarts, recycled) = match overlap {
        Overlap::Leaving { why, restarts, .. } => (restarts, Some(why)),
        _ => (entry.restarts, None),
    };
    let asked = recycled.map(|_| AskedBy::Recycle);
    let ran = !matches!(exit.end.cause, ExitCause::NotStarted(_));
    Ending {
        cause,
        restarts,
        asked_by: entry.asked_by.max(asked),
        killed,
        streak: entry.streak.failures,
        pause: recycled.filter(|_| reset.is_none() && !entry.terminate).map(|_| Duration::ZERO),
        given_up: None,
        recycled,
        reset,
        process: ran.then_some(exit.end),
    }
}
