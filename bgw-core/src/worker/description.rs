//! A valid description of a worker.

use super::limits::EXTRA_LEN;
use super::policy::{EntryPoint, RestartPolicy, StartTime, WorkerFlags};
use crate::pid::Pid;

/// A valid description of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackgroundWorker {
    pub(super) name: String,
    pub(super) worker_type: String,
    pub(super) flags: WorkerFlags,
    pub(super) start_time: StartTime,
    pub(super) restart: RestartPolicy,
    pub(super) entry: EntryPoint,
    pub(super) main_arg: u64,
    pub(super) extra: [u8; EXTRA_LEN],
    pub(super) notify: Option<Pid>,
    pub(super) tag: String,
}

impl BackgroundWorker {
    /// Its name.
    #[doc(alias = "bgw_name")]
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type: the same for all workers of a kind. Its name if none was given.
    #[doc(alias = "bgw_type")]
    #[must_use]
    pub fn worker_type(&self) -> &str {
        &self.worker_type
    }

    /// What it may touch, and how it is treated.
    #[doc(alias = "bgw_flags")]
    #[must_use]
    pub const fn flags(&self) -> WorkerFlags {
        self.flags
    }

    /// True if it belongs to the parallel class.
    #[must_use]
    pub const fn is_parallel(&self) -> bool {
        self.flags.contains(WorkerFlags::CLASS_PARALLEL)
    }

    /// The earliest phase in which it may run.
    #[doc(alias = "bgw_start_time")]
    #[must_use]
    pub const fn start_time(&self) -> StartTime {
        self.start_time
    }

    /// Whether it is restarted.
    #[doc(alias = "bgw_restart_time")]
    #[must_use]
    pub const fn restart(&self) -> RestartPolicy {
        self.restart
    }

    /// What it runs.
    #[doc(alias = "bgw_function_name")]
    #[must_use]
    pub const fn entry(&self) -> &EntryPoint {
        &self.entry
    }

    /// Its argument.
    #[doc(alias = "bgw_main_arg")]
    #[must_use]
    pub const fn main_arg(&self) -> u64 {
        self.main_arg
    }

    /// Its extra bytes.
    #[doc(alias = "bgw_extra")]
    #[must_use]
    pub const fn extra(&self) -> &[u8; EXTRA_LEN] {
        &self.extra
    }

    /// The process that gets SIGUSR1 when it starts and ends.
    #[doc(alias = "bgw_notify_pid")]
    #[must_use]
    pub const fn notify(&self) -> Option<Pid> {
        self.notify
    }

    /// The name of the resource that it uses; empty for none.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}
