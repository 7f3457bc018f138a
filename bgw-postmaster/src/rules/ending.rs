//! How a worker ended.

use bgw_core::{AskedBy, ExitCause, GivenUp, Pid, Recycled};
use shmem_slots::Key;
use std::time::Duration;

/// How a process ended, and what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessEnd {
    pub(crate) pid: Pid,
    pub(crate) cause: ExitCause,
    pub(crate) ran_for: Duration,
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    pub(crate) max_rss_kib: u64,
    /// If it was measured.
    pub(crate) copied_kib: Option<u64>,
}

/// Whose crash resets the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Culprit {
    pub(crate) key: Key,
    pub(crate) pid: Pid,
    pub(crate) cause: ExitCause,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Exit code, signal, or why it never ran.
    pub(crate) cause: ExitCause,
    /// How many times it was started after the first.
    pub(crate) restarts: u32,
    /// Who asked for its end.
    pub(crate) asked_by: Option<AskedBy>,
    /// Our SIGKILL ended it.
    pub(crate) killed: bool,
    /// Its failures in a row.
    pub(crate) streak: u32,
    /// How long after this end it is restarted.
    pub(crate) pause: Option<Duration>,
    /// The limit that it was given up at.
    pub(crate) given_up: Option<GivenUp>,
    /// Why the next run takes its place.
    pub(crate) recycled: Option<Recycled>,
    /// The crash whose reset ends the registration.
    pub(crate) reset: Option<Culprit>,
    /// The process, if the worker ran in one.
    pub(crate) process: Option<ProcessEnd>,
}

/// The end of a worker's process, and what the postmaster found with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) end: ProcessEnd,
    /// It left its clean-up mark behind.
    pub(crate) dirty: bool,
    /// Other processes of its group live.
    pub(crate) group_left: bool,
    /// Any number, for the jitter of its pause.
    pub(crate) random: u32,
}
