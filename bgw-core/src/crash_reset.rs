//! Why a handle from before a crash reset answers `Stopped`.

use crate::exit::ExitCause;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use std::fmt;

/// The crash reset that ended a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashReset {
    /// The worker whose crash led to the reset. Its report can be read by this handle.
    pub culprit: WorkerHandle,
    /// The process that crashed.
    pub pid: Pid,
    /// How that process ended.
    pub cause: ExitCause,
    /// The handle under which the worker goes on; `None` if it was not restarted, and while the
    /// reset is still under way.
    pub successor: Option<WorkerHandle>,
}

impl CrashReset {
    /// For the postmaster, which causes it.
    #[must_use]
    pub const fn new(culprit: WorkerHandle, pid: Pid, cause: ExitCause) -> Self {
        Self { culprit, pid, cause, successor: None }
    }
}

impl fmt::Display for CrashReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { culprit, pid, cause, successor } = self;
        write!(f, "the cluster was reset because worker {culprit} (PID {pid}) {cause}")?;
        match successor {
            Some(successor) => write!(f, "; its successor is {successor}"),
            None => Ok(()),
        }
    }
}
