//! What happened.

use super::registry::NotifyTarget;
use bgw_core::{BackgroundWorker, ExitCause, Pid, ShutdownMode, StartTime};
use shmem_slots::Key;
use std::collections::HashMap;
use std::time::Duration;

/// What happened. Closed on purpose: nothing else moves the postmaster.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A new slot was found, its contents copied and checked.
    Registered {
        key: Key,
        /// The checked copy.
        worker: Box<BackgroundWorker>,
        /// Who gets SIGUSR1; resolved to a living process.
        notify: Option<NotifyTarget>,
        /// Its end was requested before the postmaster saw it.
        terminate: bool,
    },
    /// A backend requested the end of a worker.
    TerminateRequested(Key),
    /// A fork succeeded.
    Forked { key: Key, pid: Pid },
    /// A fork failed.
    ForkFailed { key: Key, errno: i32 },
    /// A worker process ended.
    ChildExited {
        key: Key,
        end: ProcessEnd,
        /// It left its clean-up mark behind.
        dirty: bool,
    },
    /// A spare that was given the worker died before it took it: the worker has not begun.
    StartLost { key: Key },
    /// The slots were made anew after a crash. Maps old keys to new ones; a worker that is missing got
    /// no slot.
    SlotsReset { new_keys: HashMap<Key, Key> },
    /// The embedding program reports that the cluster has reached a phase.
    PhaseReached(StartTime),
    /// A shutdown was requested.
    ShutdownRequested(ShutdownMode),
    /// A program attached.
    SessionOpened,
    /// An attached program closed its connection.
    SessionClosed,
    /// A deadline has passed.
    Tick,
    /// SIGHUP, or the same by message.
    ReloadRequested,
}

/// How a process ended, and what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessEnd {
    pub(crate) pid: Pid,
    pub(crate) cause: ExitCause,
    pub(crate) ran_for: Duration,
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    pub(crate) max_rss_kib: u64,
}
