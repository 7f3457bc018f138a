//! What is to be done.

use super::ending::Ending;
use super::registry::{NotifyTarget, StopSignal};
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
    /// Publish that the worker has ended for good, and wake its waiters. Its slot is freed when the last
    /// process of its group has ended.
    ReportClearing(Key, Ending),
    /// Send a worker, and its process group, a signal to end.
    Stop(Key, StopSignal),
    /// Send what is left of a worker's process group a signal to end.
    StopGroup(Pid, StopSignal),
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
    /// A worker ended, and processes of its group live: the worker's name.
    GroupLeft(Box<str>, Pid),
}
