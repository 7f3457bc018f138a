//! The status of a worker.

use crate::exit::ExitReport;
use crate::pid::Pid;
use std::fmt;

/// The status of a handle's worker. May be out of date the moment it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "BgwHandleStatus")]
pub enum WorkerStatus {
    /// Registered; the postmaster has not tried to start it yet.
    ///
    /// May follow [`WorkerStatus::Started`] where there are warm spares: if a spare that was given
    /// the worker dies before it has taken it, the worker has not begun, and starts in another
    /// process. The notify target was told of the first start, and is told of the next one.
    #[doc(alias = "BGWH_NOT_YET_STARTED")]
    NotYetStarted,
    /// A process runs for it. Its main may not have been reached.
    #[doc(alias = "BGWH_STARTED")]
    Started(Pid),
    /// No process runs for it: it ended, will be restarted, or never ran. Carries the report of its
    /// last end.
    ///
    /// `None` means that there is no report: the slot's later tenants have overwritten it, or the
    /// handle belongs to another postmaster. It says nothing about how the worker ended; a clean
    /// exit is `Some` of a report whose cause [is clean](crate::ExitCause::is_clean).
    #[doc(alias = "BGWH_STOPPED")]
    Stopped(Option<ExitReport>),
    /// The postmaster has died. Only waits and views return this.
    #[doc(alias = "BGWH_POSTMASTER_DIED")]
    PostmasterDied,
}

impl fmt::Display for WorkerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetStarted => f.write_str("not yet started"),
            Self::Started(pid) => write!(f, "started (pid {pid})"),
            Self::Stopped(None) => f.write_str("stopped; its report is gone"),
            Self::Stopped(Some(report)) => write!(f, "stopped: {report}"),
            Self::PostmasterDied => f.write_str("the postmaster died"),
        }
    }
}
