//! What the end of a worker process leads to.
//!
//! The first row that fits, for each choice of [`RestartOn`]; with `Never` as U wherever another
//! one says R or N:
//!
//! | end | `OnFailure` | `OnAbnormal` | `Always` |
//! |---|---|---|---|
//! | the cluster stops | U | U | U |
//! | during a reset: the end was requested, or it is a job | U | U | U |
//! | during a reset: it is recycled | N | N | N |
//! | during a reset: exit 0 | U | U | N |
//! | during a reset: any other | N | N | N |
//! | a crash that leaves shared state in doubt | X | X | X |
//! | the end was requested | U | U | U |
//! | it is recycled | N | N | N |
//! | it was silent, its start timed out | R | R | R |
//! | exit 0 | U | U | R; first delay after a run of a second |
//! | one of the final codes | U | U | U |
//! | exit 1, the program could not be executed | R | U | R |
//! | another code, a signal | R | R | R |
//!
//! U: unregister. R: a failure. N: start at once, however often it has failed. X: reset. In doubt
//! is what a worker with `SHMEM_ACCESS` leaves that ends with its clean-up mark set, by an exit
//! code from 2 up, or by a signal, unless it is the very one that a request made us send. The
//! SIGABRT of silence is none, nor is the SIGKILL that follows it, or a start that timed out.

use super::lapse::{Lapse, reported};
use super::registry::Entry;
use super::stop_level::StopLevel;
use bgw_core::{ExitCause, NotStarted, Recycled, RestartOn, RestartPolicy, StopSignal};
use std::time::Duration;

/// From this length on, a run that ends with exit 0 has done its work.
const WORTHWHILE: Duration = Duration::from_secs(1);

/// What the cluster does while a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Normal service, draining included.
    Normal,
    /// All workers quit, to begin anew.
    Resetting,
    /// All workers end.
    Stopping,
}

/// What becomes of a worker whose process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes off the list.
    Unregister,
    /// A failure: it is restarted after its pause, or given up.
    Failure,
    /// It has done its work and does it again after its first delay.
    Repeat,
    /// It is started again as soon as workers start.
    AtOnce,
    /// The same, and its next run takes its place for this reason.
    Replace(Recycled),
    /// It ends while its group stops, and starts again with the others.
    InRound,
    /// Its end leaves shared state in doubt: all workers quit, and the slots are made anew.
    Reset,
}

/// How a process ended, as far as the table asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct HowEnded {
    pub(super) cause: ExitCause,
    pub(super) ran_for: Duration,
    /// It left its clean-up mark behind.
    pub(super) dirty: bool,
    /// What it had been sent: a death by that very signal is no crash.
    pub(super) sent: Option<StopLevel>,
    /// What it was sent that for, if nobody had asked for its end.
    pub(super) lapse: Option<Lapse>,
}

/// The table: what an end leads to.
pub(super) fn judge(entry: &Entry, service: Service, end: HowEnded) -> Verdict {
    let in_doubt = leaves_doubt(entry, end);
    let cause = reported(end.cause, end.lapse);
    let on = match entry.worker.restart() {
        RestartPolicy::Never => None,
        RestartPolicy::Fixed(_) | RestartPolicy::Backoff { .. } => Some(entry.worker.restart_on()),
    };
    match (service, on, entry.recycled) {
        (Service::Stopping, ..) => Verdict::Unregister,
        (Service::Resetting, None, _) => Verdict::Unregister,
        // A job's outcome is asked for by its handle, which a reset makes stale.
        (Service::Resetting, Some(_), _) if entry.terminate || entry.worker.job().is_some() => {
            Verdict::Unregister
        }
        (Service::Resetting, Some(_), Some(why)) => Verdict::Replace(why),
        (Service::Resetting, Some(RestartOn::Always), None) => Verdict::AtOnce,
        (Service::Resetting, Some(_), None) if cause.is_clean() => Verdict::Unregister,
        (Service::Resetting, Some(_), None) => Verdict::AtOnce,
        (Service::Normal, ..) if in_doubt => Verdict::Reset,
        (Service::Normal, ..) if entry.terminate => Verdict::Unregister,
        (Service::Normal, None, _) => Verdict::Unregister,
        (Service::Normal, Some(_), Some(why)) => Verdict::Replace(why),
        (Service::Normal, Some(on), None) => by_policy(entry, on, end),
    }
}

/// True for an end that leaves shared state in doubt.
pub(super) fn leaves_doubt(entry: &Entry, end: HowEnded) -> bool {
    let stopped = died_of(end.cause, end.sent, entry.worker.stop());
    // SIGKILL that only its own lapse has brought hit it in the middle of its work.
    let unasked = end.lapse.is_some() && !entry.terminate && end.sent > Some(StopLevel::Terminate);
    let excused = stopped && !unasked;
    entry.shares_memory() && !excused && (end.dirty || end.cause.is_crash())
}

fn by_policy(entry: &Entry, on: RestartOn, end: HowEnded) -> Verdict {
    match (reported(end.cause, end.lapse), on) {
        (ExitCause::Exited(0), RestartOn::Always) if end.ran_for >= WORTHWHILE => Verdict::Repeat,
        (ExitCause::Exited(0), RestartOn::Always) => Verdict::Failure,
        (ExitCause::Exited(0), _) => Verdict::Unregister,
        (ExitCause::Exited(code), _) if is_final(entry, code) => Verdict::Unregister,
        (
            ExitCause::Exited(1) | ExitCause::NotStarted(NotStarted::ExecFailed { .. }),
            RestartOn::OnAbnormal,
        ) => Verdict::Unregister,
        _ => Verdict::Failure,
    }
}

/// True for an exit code after which the worker is not restarted.
fn is_final(entry: &Entry, code: u8) -> bool {
    entry.worker.final_codes().any(|last| last == code)
}

fn died_of(cause: ExitCause, sent: Option<StopLevel>, stop: StopSignal) -> bool {
    let ExitCause::Signaled { signal, .. } = cause else { return false };
    let signal = i32::from(signal);
    match sent {
        Some(StopLevel::Terminate) => signal == stop.number(),
        Some(StopLevel::Abort) => false,
        Some(StopLevel::Quit) => signal == libc::SIGQUIT,
        // It may have been about to end by its stop signal, which came before.
        Some(StopLevel::Kill) => signal == libc::SIGKILL || signal == stop.number(),
        None => false,
    }
}
