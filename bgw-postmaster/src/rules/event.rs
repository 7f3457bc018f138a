//! What happened.

use super::ending::ProcessEnd;
use super::registry::NotifyTarget;
use bgw_core::{BackgroundWorker, Pid, ShutdownMode, StartTime};
use shmem_slots::Key;
use std::collections::HashMap;

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
        /// Other processes of its group live.
        group_left: bool,
    },
    /// The last process of a group has ended whose leader, a worker, had ended before.
    GroupEnded { leader: Pid },
    /// A spare that was given the worker died before it took it: the worker has not begun.
    StartLost { key: Key },
    /// The slots were made anew after a crash. Maps old keys to new ones; a worker that is missing got
    /// no slot.
    SlotsReset { new_keys: HashMap<Key, Key> },
    /// The embedding program reports that the cluster has reached a phase.
    PhaseReached(StartTime),
    /// A shutdown was requested.
    ShutdownRequested(ShutdownMode),
    /// The program that launched the postmaster has gone.
    LauncherGone,
    /// A program attached.
    SessionOpened,
    /// An attached program closed its connection.
    SessionClosed,
    /// A deadline has passed.
    Tick,
    /// SIGHUP, or the same by message.
    ReloadRequested,
}
