//! What the server has to do.

use super::ending::{Culprit, Ending};
use super::pulse::Look;
use super::registry::NotifyTarget;
use super::stop_level::StopLevel;
use super::subject::Subject;
use bgw_core::{
    ExitCause, GivenUp, Pid, Recycled, RelationError, RollOutcome, ShutdownMode, StartTime,
};
use shmem_slots::Key;
use std::time::Duration;

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
    /// Publish that the worker has ended for good, and wake its waiters. Its slot is freed when the
    /// last process of its group has ended.
    ReportClearing(Key, Ending),
    /// Send a worker, and its process group, a signal to end.
    Stop(Key, StopLevel),
    /// The time of a start is over: look at what the worker has said since.
    /// [`super::Event::Ready`] or [`super::Event::StillStarts`] answers.
    LookAtStart(Key),
    /// Read the beats of workers. [`super::Event::BeatsRead`] answers.
    ReadBeats { keys: Vec<Key>, look: Look },
    /// Send what is left of a worker's process group a signal to end.
    StopGroup(Pid, StopLevel),
    /// Look how much memory a worker uses. [`super::Event::MemoryRead`] answers, unless it has
    /// ended.
    ReadMemory(Key),
    /// Tell readers of events that a next run has started beside the serving one.
    TellBesideStarted(Key, Pid),
    /// The next run is the worker's process from now on: publish that, and wake its waiters. The
    /// two processes change berths.
    HandOver { key: Key, pid: Pid, ready: bool },
    /// Publish how the second process of a worker has ended, but not that the worker has.
    ReportBeside(Key, Ending),
    /// Send the second process of a worker, and its process group, a signal to end.
    StopBeside(Key, StopLevel),
    /// The time of a start beside the serving run is over: look at what it has said since.
    /// [`super::Event::ReadyBeside`] or [`super::Event::BesideStillStarts`] answers.
    LookBeside(Key),
    /// The berth of the second process is free.
    FreeBerth(Key),
    /// Tell readers of events that a worker is to make place for its next run.
    TellRecycling(Key),
    /// Answer whoever asked for this roll: what became of each worker.
    RollEnded(u64, Vec<RollOutcome>),
    /// Send SIGHUP to every worker.
    ForwardReload,
    /// All processes have ended after this crash: make the slots anew.
    /// [`super::Event::SlotsReset`] answers.
    ResetSlots(Culprit),
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

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A worker was put on the list.
    Registering(Subject),
    /// A worker was taken off the list.
    Unregistering(Subject),
    /// A worker of this name was taken off the list: it has no slot after a reset.
    Forgetting(Box<str>),
    /// A worker process ended. With the worker's type.
    Exited(Subject, Box<str>, ExitCause),
    /// A worker that failed like this is not restarted any more.
    GivenUp(Subject, ExitCause, GivenUp),
    /// A worker is told to end for this reason, so that its next run takes its place.
    Recycling(Subject, Recycled),
    /// All workers get SIGQUIT because one of this type crashed.
    TerminatingOthers(Subject, Box<str>, ExitCause),
    /// The last process has ended; the slots are made anew.
    Reinitialising,
    /// A fork failed with this error number.
    ForkFailed(Subject, i32),
    /// A shutdown begins.
    ShuttingDown(ShutdownMode),
    /// Those that did not quit in time are killed: how many.
    KillingAll(usize),
    /// Somebody wants a worker killed.
    KillRequested(Subject),
    /// A worker that did not end in its grace time is killed.
    Killing(Subject),
    /// A worker that has been silent for so long is aborted.
    Silent(Subject, Duration),
    /// A worker that is not ready in time is stopped.
    Late(Subject),
    /// A worker is refused: it does not go together with those that are registered.
    Refused(Subject, Misfit),
    /// A worker is not started: the one of this name, which it starts after, has ended for good.
    DependencyLost(Subject, Box<str>),
    /// A worker ended, and processes of its group live.
    GroupLeft(Subject),
}

/// Why a worker does not go together with what the cluster has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error(transparent)]
    Relations(RelationError),
    #[error("group is \"{0}\", but the postmaster has no group of this name")]
    UnknownGroup(Box<str>),
    #[error("recycle is with an overlap, but the postmaster has an overlap of 0")]
    NoOverlap,
    #[error("template is \"{0}\", but the postmaster has none of this name")]
    UnknownTemplate(Box<str>),
}
