//! What happened.

use super::ending::Exit;
use super::pulse::{Beats, Look};
use super::registry::NotifyTarget;
use super::rolls::Roll;
use bgw_core::{BackgroundWorker, Pid, ShutdownMode, StartTime};
use shmem_slots::Key;
use std::collections::HashMap;
use std::time::Instant;

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
        /// When, as its registrant says, by any clock: orders those that have relations.
        registered_at: u64,
    },
    /// A backend requested the end of a worker.
    TerminateRequested(Key),
    /// The process that submitted a job has ended, and the job is to end with it.
    Orphaned(Key),
    /// A fork succeeded.
    Forked {
        key: Key,
        pid: Pid,
        /// Any number, for the limits of this run.
        random: u32,
    },
    /// A fork failed.
    ForkFailed {
        key: Key,
        errno: i32,
        /// A random number, for the jitter of its pause.
        random: u32,
    },
    /// The template that a worker is to be forked from has failed.
    TemplateFailed {
        key: Key,
        /// A random number, for the jitter of its pause.
        random: u32,
    },
    /// A worker process ended.
    ChildExited { key: Key, exit: Exit },
    /// A worker has said that it is ready.
    Ready(Key),
    /// A next run that started beside the serving one has said that it is ready.
    ReadyBeside(Key),
    /// One whose start takes long has not said so. It has asked for time until then.
    BesideStillStarts { key: Key, until: Option<Instant> },
    /// A worker says that it has done as many jobs as it is to do.
    JobsDone(Key),
    /// How many bytes of memory a worker uses.
    MemoryRead { key: Key, bytes: u64 },
    /// A worker says itself that it hangs.
    Hangs(Key),
    /// The beats of workers were read.
    BeatsRead { look: Look, beats: Vec<Beats> },
    /// A worker whose start takes long has not said that it is ready. It has asked for time until
    /// then.
    StillStarts { key: Key, until: Option<Instant> },
    /// A backend wants workers rolled, against whom there is no objection.
    RollRequested(Roll),
    /// A backend wants a worker killed now.
    KillRequested(Key),
    /// A backend wants a worker restarted now that is in its pause.
    RestartRequested(Key),
    /// The last process of a group has ended whose leader, a worker, had ended before.
    GroupEnded { leader: Pid },
    /// A spare that was given the worker died before it took it: the worker has not begun.
    StartLost { key: Key, pid: Pid },
    /// The slots were made anew after a crash. Maps old keys to new ones; a worker that is missing
    /// got no slot.
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
