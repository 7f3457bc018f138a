//! A crash that leaves shared state in doubt: all workers quit, the slots are made anew.
//!
//! From the crash on no worker starts and no registration is accepted. All processes get SIGQUIT;
//! those that remain after [`QUIT_GRACE`] are killed. A second crash meanwhile is part of the same
//! reset. When the last process has ended, workers that never restart are forgotten and the others
//! start at once, their failures forgotten. The culprit keeps its own: it may be given up, and from
//! its sixth failure in a row on it pauses, so that it cannot keep the cluster in resets. Their
//! notify targets are forgotten: they belonged to the incarnation before.

use super::action::{Action, Note};
use super::cluster::{Cluster, QUIT_GRACE, report_stopped, unregister};
use super::ending::{Culprit, Ending, Exit, ProcessEnd};
use super::lapse::reported;
use super::members::Members;
use super::registry::{Entry, Progress};
use super::stop_level::StopLevel;
use super::timers::Due;
use super::verdict::{HowEnded, Service, Verdict, judge};
use bgw_core::internals::brake;
use bgw_core::{AskedBy, ExitCause, NotStarted};
use shmem_slots::Key;
use std::collections::HashMap;
use std::time::Instant;

impl Cluster {
    /// The worker of `key` crashed.
    pub(super) fn begin_reset(
        &mut self,
        key: Key,
        exit: Exit,
        how: HowEnded,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let cause = reported(how.cause, how.lapse);
        self.crashed = Some(Culprit { key, pid: exit.end.pid, cause });
        if let Some(entry) = self.registry.get_mut(key) {
            // A crash is its end, whatever it was told.
            entry.recycled = None;
            let (subject, kind) = (entry.subject(), entry.worker.worker_type().into());
            out.push(Action::Log(Note::TerminatingOthers(subject, kind, cause)));
            let starts_again = judge(entry, Service::Resetting, how) == Verdict::AtOnce;
            if starts_again && !self.count_failure(key, exit.end, now, out) {
                self.blame(key, exit, now, out);
            } else {
                self.ended_for_good(key, exit.end, exit.group_left, out);
            }
        }
        self.quit_for_reset(now, out);
    }

    /// All that run quit.
    pub(super) fn quit_for_reset(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.ask_all(AskedBy::Reset);
        self.stop_all(StopLevel::Quit, out);
        self.timers.add_after(now, QUIT_GRACE, Due::KillAll);
    }

    /// The culprit starts with the others; from its sixth failure in a row on, it pauses as the
    /// brake has it, whatever its policy.
    fn blame(&mut self, key: Key, exit: Exit, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let brake = brake(entry.streak.failures);
        let pause = (!brake.is_zero()).then(|| entry.worker.spread(brake, exit.random));
        let ending = Ending { pause, ..entry.ending_of_process(exit.end) };
        let due = pause.and_then(|pause| now.checked_add(pause));
        entry.culprit = Some(Box::new((ending, due.unwrap_or(now))));
        report_stopped(entry, ending, out);
        self.registry.set_progress(key, Progress::Resting { due: now });
    }

    /// A worker that ends during the reset, and stays on the list.
    pub(super) fn starts_after_reset(
        &mut self,
        key: Key,
        end: ProcessEnd,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        report_stopped(entry, entry.ending_of_process(end), out);
        self.registry.set_progress(key, Progress::Resting { due: now });
    }

    /// The last process has ended.
    pub(super) fn reset_slots(&mut self, culprit: Culprit, out: &mut Vec<Action>) {
        for key in self.registry.keys() {
            // A job would have another handle, under which nobody waits for its outcome.
            let stays = |entry: &Entry| {
                !entry.never_restarts() && !entry.terminate && entry.worker.job().is_none()
            };
            if !self.registry.get(key).is_some_and(stays) {
                self.drop_unstarted(key, NotStarted::ClusterReset, out);
            }
        }
        out.push(Action::Log(Note::Reinitialising));
        out.push(Action::ResetSlots(culprit));
    }

    /// The slots are new. A worker without a key is dropped: its end was requested meanwhile, or
    /// there is no slot for it (the generations of its own are used up, or shared memory was
    /// overwritten). The phases begin again.
    pub(super) fn slots_reset(
        &mut self,
        new_keys: &HashMap<Key, Key>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.crashed = None;
        self.start_queue.clear();
        self.timers.clear();
        self.end_all_pulses();
        self.phase = self.policy.initial_phase;
        let mut all = Vec::new();
        self.named.iter_mut().for_each(Members::clear);
        for old in self.registry.take_all() {
            let Some(&key) = new_keys.get(&old.key) else {
                out.push(Action::Log(Note::Forgetting(old.worker.name().into())));
                continue;
            };
            let mut entry = Entry {
                terminate: old.terminate,
                restarts: old.restarts,
                started_before: old.started_before,
                streak: old.streak,
                registered_at: old.registered_at,
                done: old.done,
                registered: old.registered,
                ..Entry::new(key, old.worker, None)
            };
            if old.culprit.is_none() {
                entry.streak.clear();
            }
            if entry.terminate {
                let cause = ExitCause::NotStarted(NotStarted::Terminated);
                unregister(&entry, entry.ending_without_process(cause), out);
            } else {
                self.registry.insert(entry);
                self.join(key);
                all.push((key, old.culprit));
            }
        }
        self.start_in_order();
        for (key, culprit) in all {
            self.begins_anew(key, culprit, now, out);
        }
        out.push(Action::PublishPhase(self.phase));
    }

    /// All start at once but a culprit in its pause.
    fn begins_anew(
        &mut self,
        key: Key,
        culprit: Option<Box<(Ending, Instant)>>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        match culprit.map(|culprit| *culprit).filter(|&(_, due)| due > now) {
            Some((ending, due)) => {
                out.push(Action::ReportStopped(key, ending));
                self.rest_until(key, due);
            }
            None => self.enqueue(key),
        }
    }
}
