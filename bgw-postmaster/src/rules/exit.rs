//! What follows from the end of a worker.

use super::{Action, Cluster, Ending, Note};
use crate::registry::{Entry, Progress, Told};
use bgw_core::{ExitCause, RestartPolicy};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// What is to become of a worker that ended in normal service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes off the list.
    Unregister,
    /// It is started again after this time.
    RestartAfter(Duration),
    /// Its end puts shared state in doubt: everybody quits, and the slots are made anew.
    Reset,
}

/// The rule, as a table:
///
/// | end | asked for | shares memory | policy | verdict |
/// |---|---|---|---|---|
/// | clean-up mark left | any | yes | any | `Reset` |
/// | exit 0 | any | any | any | `Unregister` |
/// | exit 1 | yes | any | any | `Unregister` |
/// | exit 1 | no | any | never | `Unregister` |
/// | exit 1 | no | any | after n | `RestartAfter(n)` |
/// | other code, or signal | by that signal of ours | any | any | as exit 1 |
/// | other code, or signal | no | yes | any | `Reset` |
/// | other code, or signal | no | no | | as exit 1 |
///
/// `told` is what we told the worker to do: a death by the very signal that we sent at somebody's
/// request is no crash.
#[must_use]
pub fn judge(entry: &Entry, cause: ExitCause, dirty: bool, told: Option<Told>) -> Verdict {
    let ours = died_as_told(cause, told);
    if entry.shares_memory() && !ours && (dirty || cause.is_crash()) {
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

/// True when the worker died by the signal that we had sent it.
fn died_as_told(cause: ExitCause, told: Option<Told>) -> bool {
    let ExitCause::Signaled { signal, .. } = cause else { return false };
    match told {
        Some(Told::Terminate) => i32::from(signal) == libc::SIGTERM,
        Some(Told::Quit) => i32::from(signal) == libc::SIGQUIT,
        Some(Told::Die) => i32::from(signal) == libc::SIGKILL,
        None => false,
    }
}

impl Cluster {
    pub(super) fn child_exited(
        &mut self,
        key: Key,
        cause: ExitCause,
        dirty: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let told = match entry.progress {
            Progress::Running { told, .. } => told,
            Progress::Unstarted | Progress::Resting { .. } => return,
        };
        out.push(Action::Log(Note::Exited(entry.worker.worker_type().into(), cause)));
        let verdict = judge(entry, cause, dirty, told);
        if self.crashed {
            self.ended_during_reset(key, cause, now, out);
        } else if self.is_stopping() {
            self.unregister(key, cause, out);
        } else {
            match verdict {
                Verdict::Unregister => self.unregister(key, cause, out),
                Verdict::RestartAfter(interval) => {
                    self.restart_after(key, cause, interval, now, out)
                }
                Verdict::Reset => self.begin_reset(key, cause, now, out),
            }
        }
        self.finish_if_all_gone(out);
    }

    fn unregister(&mut self, key: Key, cause: ExitCause, out: &mut Vec<Action>) {
        if let Some(entry) = self.registry.remove(key) {
            self.told_gone(&entry, cause, out);
        }
    }

    fn restart_after(
        &mut self,
        key: Key,
        cause: ExitCause,
        interval: Duration,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        out.push(Action::ReportStopped(key, Ending::of(entry, cause)));
        out.extend(entry.notify.map(Action::Notify));
        if interval.is_zero() {
            self.registry.set_progress(key, Progress::Unstarted);
            self.enqueue(key);
        } else {
            self.rest(key, now + interval);
        }
    }
}
