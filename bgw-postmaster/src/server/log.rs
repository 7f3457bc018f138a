//! A note of the rules becomes a log line.

use crate::child::worker_label;
use crate::failure_log::log_failure;
use crate::rules::Note;
use bgw_core::{BackgroundWorker, Pid, WorkerHandle};
use std::io;

pub(super) fn log(note: &Note) {
    match note {
        Note::Registering(name) => tracing::debug!("registering background worker \"{name}\""),
        Note::Unregistering(name) => tracing::debug!("unregistering background worker \"{name}\""),
        Note::Exited(kind, pid, cause) if cause.is_clean() => {
            tracing::debug!("background worker \"{kind}\" (PID {pid}) {cause}");
        }
        Note::Exited(kind, pid, cause) => {
            tracing::info!("background worker \"{kind}\" (PID {pid}) {cause}");
        }
        Note::TerminatingOthers(kind) => tracing::warn!(
            "terminating all other workers because background worker \"{kind}\" crashed"
        ),
        Note::Reinitialising => tracing::info!("all workers have ended; making the slots anew"),
        Note::ForkFailed(name, errno) => {
            let error = io::Error::from_raw_os_error(*errno);
            tracing::error!("could not fork worker process \"{name}\": {error}");
        }
        Note::ShuttingDown(mode) => tracing::info!("received {mode} shutdown request"),
        Note::KillingAll(count) => {
            tracing::warn!("killing {count} workers that did not quit in time");
        }
        Note::GroupLeft(name, pid) => tracing::info!(
            "background worker \"{name}\" (PID {pid}) ended; stopping what it has started"
        ),
        Note::Killing(name) => {
            tracing::warn!("killing background worker \"{name}\": its grace time is over");
        }
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
