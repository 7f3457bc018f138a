//! What is to be done.

use super::event::ProcessEnd;
use super::registry::{Entry, NotifyTarget, Progress, StopSignal};
use bgw_core::{ExitCause, Pid, ShutdownMode, StartTime};
use shmem_slots::Key;

/// An order to the server. Actions are performed in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Publish that the worker runs, and wake its waiters.
    ReportStarted(Key, Pid),
    /// Publish that the worker has not started after all.
    ReportUnstarted(Key),
    /// Publish that the worker has ended and will be restarted, and wake its waiters.
    ReportStopped(Key, Ending),
    /// Publish how the worker ended for good, free its slot, and wake its waiters.
    Unregister(Key, Ending),
    /// Send SIGUSR1 to a notify target. Always after the fact is published.
    Notify(NotifyTarget, News),
    /// Send a worker a signal to end.
    Stop(Key, StopSignal),
    /// Send SIGHUP to every worker.
    ForwardReload,
    /// All processes have ended: make the slots anew. [`super::Event::SlotsReset`] answers.
    ResetSlots,
    /// Publish the phase.
    PublishPhase(StartTime),
    /// Log a line.
    Log(Note),
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Started,
    Ended,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Exit code, signal, or why it never ran.
    pub(crate) cause: ExitCause,
    /// How many times it was started after the first.
    pub(crate) restarts: u32,
    /// Its end was requested.
    pub(crate) requested: bool,
    /// The process, if the worker ran in one.
    pub(crate) process: Option<ProcessEnd>,
}

impl Ending {
    /// A process of `entry` ended. If it never became the worker's program, the worker did not run.
    pub(super) fn of_process(entry: &Entry, end: ProcessEnd) -> Self {
        let ran = !matches!(end.cause, ExitCause::NotStarted(_));
        Self { process: ran.then_some(end), ..Self::without_process(entry, end.cause) }
    }

    /// `entry` ended without a process.
    pub(super) fn without_process(entry: &Entry, cause: ExitCause) -> Self {
        let stopped = matches!(entry.progress, Progress::Running { stop_signal: Some(_), .. });
        let requested = entry.terminate || stopped;
        Self { cause, restarts: entry.restarts, requested, process: None }
    }
}

/// A log line. It holds the worker's name, because the worker may be off the list by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A worker was put on the list: its name.
    Registering(Box<str>),
    /// A worker was taken off the list: its name.
    Unregistering(Box<str>),
    /// A worker process ended: the worker's type.
    Exited(Box<str>, Pid, ExitCause),
    /// All workers get SIGQUIT because one of this type crashed.
    TerminatingOthers(Box<str>),
    /// The last process has ended; the slots are made anew.
    Reinitialising,
    /// A fork failed: the worker's name, the error number.
    ForkFailed(Box<str>, i32),
    /// A shutdown begins.
    ShuttingDown(ShutdownMode),
    /// Those that did not quit in time are killed: how many.
    KillingAll(usize),
    /// A worker that did not end in its grace time is killed: its name.
    Killing(Box<str>),
}
