//! What follows from the end of a worker process.

use super::action::{Action, Note};
use super::cluster::{Cluster, report_stopped};
use super::ending::ProcessEnd;
use super::registry::{Entry, Progress, StopSignal};
use super::timers::Due;
use bgw_core::{ExitCause, NotStarted, RestartPolicy};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// What becomes of a worker that ended in normal service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes off the list.
    Unregister,
    /// It is started again after this time.
    RestartAfter(Duration),
    /// Its end leaves shared state in doubt: all workers quit, and the slots are made anew.
    Reset,
}

/// The rule, as a table:
///
/// | end | requested | shares memory | policy | verdict |
/// |---|---|---|---|---|
/// | clean-up mark left | any | yes | any | `Reset` |
/// | exit 0 | any | any | any | `Unregister` |
/// | exit 1 | yes | any | any | `Unregister` |
/// | exit 1 | no | any | never | `Unregister` |
/// | exit 1 | no | any | after n | `RestartAfter(n)` |
/// | other code, or signal | by the stop signal we sent | any | any | as exit 1 |
/// | other code, or signal | no | yes | any | `Reset` |
/// | other code, or signal | no | no | | as exit 1 |
///
/// `sent` is the stop signal that the worker was sent: a death by that very signal is no crash.
pub(super) fn judge(
    entry: &Entry,
    cause: ExitCause,
    dirty: bool,
    sent: Option<StopSignal>,
) -> Verdict {
    let stopped = died_of(cause, sent);
    if entry.shares_memory() && !stopped && (dirty || cause.is_crash()) {
        return Verdict::Reset;
    }
    if cause.is_clean() || entry.terminate {
        return Verdict::Unregister;
    }
    match entry.worker.restart() {
        RestartPolicy::Never => Verdict::Unregister,
        RestartPolicy::After(interval) => Verdict::RestartAfter(interval),
    }
}

fn died_of(cause: ExitCause, sent: Option<StopSignal>) -> bool {
    let ExitCause::Signaled { signal, .. } = cause else { return false };
    let number = match sent {
        Some(StopSignal::Terminate) => libc::SIGTERM,
        Some(StopSignal::Quit) => libc::SIGQUIT,
        Some(StopSignal::Kill) => libc::SIGKILL,
        None => return false,
    };
    i32::from(signal) == number
}

impl Cluster {
    pub(super) fn child_exited(
        &mut self,
        key: Key,
        end: ProcessEnd,
        (dirty, group_left): (bool, bool),
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let Progress::Running { stop_signal, .. } = entry.progress else { return };
        out.push(Action::Log(Note::Exited(entry.worker.worker_type().into(), end.pid, end.cause)));
        let verdict = judge(entry, end.cause, dirty, stop_signal);
        if let Some(at) = self.registry.get_mut(key).and_then(|entry| entry.kill_at.take()) {
            self.timers.remove(at, Due::Kill(key.into()));
        }
        if group_left {
            self.group_left(key, end.pid, now, out);
        }
        if self.crashed {
            self.ended_during_reset(key, end, group_left, now, out);
        } else if self.is_stopping() {
            self.ended_for_good(key, end, group_left, out);
        } else {
            match verdict {
                Verdict::Unregister => self.ended_for_good(key, end, group_left, out),
                Verdict::RestartAfter(interval) => {
                    self.restart_after(key, end, (interval, group_left), now, out);
                }
                Verdict::Reset => self.begin_reset(key, end, group_left, now, out),
            }
        }
        self.finish_if_all_ended(out);
    }

    fn restart_after(
        &mut self,
        key: Key,
        end: ProcessEnd,
        (interval, group_left): (Duration, bool),
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let ending = entry.ending_of_process(end);
        report_stopped(entry, ending, out);
        // An interval is at most a day, so the clock reaches so far.
        let due = now.checked_add(interval).unwrap_or(now);
        if group_left {
            self.registry.set_progress(key, Progress::Clearing { ending, restart: Some(due) });
        } else {
            self.restart_at(key, due, now);
        }
    }

    /// As if the start had not happened: it is tried again, and does not count as a restart.
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
        self.finish_if_all_ended(out);
    }
}
