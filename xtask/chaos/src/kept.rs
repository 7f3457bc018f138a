//! Promises that the product does not keep yet. What breaks one of them is counted or avoided, not
//! reported. Each becomes `true` with the change that keeps it, and then goes.

/// D01: the registrant's first look at an ended worker finds its report.
pub(crate) const EVERY_END_IS_TOLD: bool = false;

/// D03: a worker that ignores SIGTERM is killed after its grace time in a shutdown, too.
pub(crate) const GRACE_IN_SHUTDOWN: bool = true;

/// A worker that is terminated in its restart pause takes its timer with it.
pub(crate) const TIMERS_GO: bool = false;

/// D08: a reset does not replace the report of a worker in its restart pause, and each look at a handle
/// from before it says the same.
pub(crate) const RESET_KEEPS_REPORTS: bool = false;

/// D05: a stopped worker ends with its postmaster, too.
#[cfg(feature = "fault")]
pub(crate) const STOPPED_WORKERS_END: bool = false;
