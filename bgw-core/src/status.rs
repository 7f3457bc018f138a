//! How a worker is.

use crate::exit::ExitReport;
use crate::pid::Pid;
use std::fmt;

/// The answer to "how is the worker of this handle?". May be out of date the moment it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "BgwHandleStatus")]
pub enum WorkerStatus {
    /// Registered; the postmaster has not tried to start it yet.
    #[doc(alias = "BGWH_NOT_YET_STARTED")]
    NotYetStarted,
    /// A process runs for it. Its main may not have been reached.
    #[doc(alias = "BGWH_STARTED")]
    Started(Pid),
    /// No process runs for it: it ended, will be restarted, or never ran. With the report of its
    /// last end, as long as its slot was not used again.
    #[doc(alias = "BGWH_STOPPED")]
    Stopped(Option<ExitReport>),
    /// The postmaster is gone; only a wait says so.
    #[doc(alias = "BGWH_POSTMASTER_DIED")]
    PostmasterDied,
}

impl fmt::Display for WorkerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetStarted => f.write_str("not yet started"),
            Self::Started(pid) => write!(f, "started (pid {pid})"),
            Self::Stopped(None) => f.write_str("stopped"),
            Self::Stopped(Some(report)) => write!(f, "stopped: {report}"),
            Self::PostmasterDied => f.write_str("the postmaster died"),
        }
    }
}
