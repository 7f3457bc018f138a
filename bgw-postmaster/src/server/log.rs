//! A note of the rules becomes a log line.

use crate::child::worker_label;
use crate::failure_log::log_failure;
use crate::rules::{Note, Subject};
use crate::slot_table::SlotTable;
use bgw_core::{BackgroundWorker, Pid, WorkerHandle};
use std::{fmt, io};

#[inline(never)]
pub(super) fn log(note: &Note, slots: &SlotTable) {
    let who = |subject| Named { subject, slots };
    match note {
        Note::Registering(worker) => tracing::debug!("registering {}", who(worker)),
        Note::Unregistering(worker) => tracing::debug!("unregistering {}", who(worker)),
        Note::Forgetting(name) => {
            tracing::debug!("unregistering background worker \"{name}\", which has no slot now");
        }
        Note::Exited(worker, kind, cause) if cause.is_clean() => {
            tracing::debug!("{} {cause} ({})", Kind(kind, worker), Which(who(worker)));
        }
        Note::Exited(worker, kind, cause) => {
            tracing::info!("{} {cause} ({})", Kind(kind, worker), Which(who(worker)));
        }
        Note::GivenUp(worker, cause, limit) => {
            tracing::error!("giving up {}, which {cause}: {limit}", who(worker));
        }
        Note::Recycling(worker, why) => tracing::info!("recycling {}: {why}", who(worker)),
        Note::TerminatingOthers(worker, kind, cause) => {
            let what = if cause.is_crash() { "crashed" } else { LEFT_EARLY };
            tracing::warn!(
                "terminating any other active worker processes, because {} {what} ({})",
                Kind(kind, worker),
                Which(who(worker))
            );
        }
        Note::Reinitialising => tracing::info!("all workers have ended; making the slots anew"),
        Note::ForkFailed(worker, errno) => {
            let error = io::Error::from_raw_os_error(*errno);
            tracing::error!("could not fork worker process for {}: {error}", who(worker));
        }
        Note::ShuttingDown(mode) => tracing::info!("received {mode} shutdown request"),
        Note::KillingAll(count) => {
            tracing::warn!("killing {count} workers that did not quit in time");
        }
        Note::Refused(worker, why) => tracing::info!("refusing {}: {why}", who(worker)),
        Note::DependencyLost(worker, target) => tracing::info!(
            "not starting {}: \"{target}\", which it starts after, has ended for good",
            who(worker)
        ),
        Note::GroupLeft(worker) => {
            tracing::info!("{} ended; stopping what it has started", who(worker));
        }
        Note::KillRequested(worker) => {
            tracing::info!("killing {}, as requested", who(worker));
        }
        Note::Silent(worker, silent_for) => {
            tracing::warn!("aborting {}: it is silent for {silent_for:?}", who(worker));
        }
        Note::Late(worker) => {
            tracing::warn!("stopping {}: it is not ready in time", who(worker));
        }
        Note::Killing(worker) => {
            tracing::warn!("killing {}: its grace time is over", who(worker));
        }
    }
}

/// The clean-up mark is set in spite of an exit with 0 or 1.
const LEFT_EARLY: &str = "exited before its main had returned, by std::process::exit or the like, \
                          and may have left shared state half done";

/// A worker by its name, its handle and its process.
struct Named<'a> {
    subject: &'a Subject,
    slots: &'a SlotTable,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { name, key, pid } = self.subject;
        write!(f, "background worker \"{name}\" (handle {}", self.slots.handle(*key))?;
        match pid {
            Some(pid) => write!(f, ", PID {pid})"),
            None => f.write_str(")"),
        }
    }
}

/// Which of the workers of a type it is, where its process is named already.
struct Which<'a>(Named<'a>);

impl fmt::Display for Which<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named { subject, slots } = self.0;
        write!(f, "\"{}\", handle {}", subject.name, slots.handle(subject.key))
    }
}

/// A worker by its type and its process, as PostgreSQL's log names it.
struct Kind<'a>(&'a str, &'a Subject);

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "background worker \"{}\"", self.0)?;
        self.1.pid.map_or(Ok(()), |pid| write!(f, " (PID {pid})"))
    }
}

/// A process is about to be started for a worker.
pub(super) fn starting(worker: &BackgroundWorker, handle: impl FnOnce() -> WorkerHandle) {
    tracing::debug!(
        "starting background worker process \"{}\" (handle {})",
        worker.name(),
        handle()
    );
}

/// Lines of output were lost; 0: nobody knows how many.
pub(super) fn output_lost(handle: WorkerHandle, lines: u64, why: &str) {
    match lines {
        0 => tracing::error!("output of worker {handle} may be lost: {why}"),
        _ => tracing::error!("{lines} lines of output of worker {handle} are lost: {why}"),
    }
}

/// A child ended before it became its program.
pub(super) fn exec_failure(
    worker: &BackgroundWorker,
    handle: WorkerHandle,
    pid: Pid,
    failure: &str,
) {
    let label = worker_label(worker, handle, pid.get());
    log_failure(&format!("{label} ends: {failure}"));
}
