//! How a worker ended.

use bgw_core::{ExitCause, Pid};
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
