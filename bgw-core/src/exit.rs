//! How a worker ended. PostgreSQL forgets it; a slot keeps it.

use crate::pid::Pid;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Why a worker did not run, or not this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotStarted {
    /// Its termination was requested before its start.
    Terminated,
    /// The fork failed with this error number.
    ForkFailed {
        /// The error number.
        errno: i32,
    },
    /// Its program could not be executed: `execve` failed with this error number.
    ExecFailed {
        /// The error number.
        errno: i32,
    },
    /// The postmaster refused the registration, and logged why: it allows no worker of this kind, or
    /// the description was invalid.
    Refused,
    /// The postmaster was shutting down.
    ShuttingDown,
    /// The cluster was being reset after a crash.
    ClusterReset,
}

/// How a worker's last process ended, or why it did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitCause {
    /// It exited with this code.
    Exited(u8),
    /// A signal ended it.
    Signaled {
        /// Which.
        signal: u8,
        /// It left a core dump.
        core_dumped: bool,
    },
    /// It did not run.
    NotStarted(NotStarted),
}

impl ExitCause {
    /// Exit code 0: done, never restarted.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// Exit code 1: failed, restarted by its policy.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Exited(1))
    }

    /// Another exit code, or a signal.
    #[must_use]
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::Exited(2..) | Self::Signaled { .. })
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with exit code {code}"),
            Self::Signaled { signal, core_dumped } => {
                let name = nix::sys::signal::Signal::try_from(i32::from(*signal));
                let name = name.map_or("unknown", |signal| signal.as_str());
                let core = if *core_dumped { " (core dumped)" } else { "" };
                write!(f, "was terminated by signal {signal}: {name}{core}")
            }
            Self::NotStarted(NotStarted::Terminated) => {
                f.write_str("was never started: it was terminated first")
            }
            Self::NotStarted(NotStarted::ForkFailed { errno }) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "could not be started: fork failed: {error}")
            }
            Self::NotStarted(NotStarted::ExecFailed { errno }) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "could not be started: executing its program failed: {error}")
            }
            Self::NotStarted(NotStarted::Refused) => {
                f.write_str("was never started: the postmaster refused it; see its log")
            }
            Self::NotStarted(NotStarted::ShuttingDown) => {
                f.write_str("was never started: the postmaster was shutting down")
            }
            Self::NotStarted(NotStarted::ClusterReset) => {
                f.write_str("was not started: the cluster was being reset")
            }
        }
    }
}

/// The report of one end of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// How it ended.
    pub cause: ExitCause,
    /// The process that ended; `None` if there was none.
    pub pid: Option<Pid>,
    /// How many times it had been started after the first.
    pub restarts: u32,
    /// This end was requested: by terminate, by a shutdown, or by a crash reset.
    pub requested: bool,
    /// The registration ended with it. Otherwise the worker will be restarted.
    pub unregistered: bool,
    /// When it ended, by the wall clock. For display: the clock may be set.
    pub ended_at: SystemTime,
    /// How long the process ran.
    pub ran_for: Duration,
    /// CPU time in user mode, including that of its reaped children.
    pub user_time: Duration,
    /// CPU time in the kernel, likewise.
    pub system_time: Duration,
    /// The largest resident size of the process, in KiB.
    pub max_rss_kib: u64,
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        if self.requested {
            f.write_str(", as requested")?;
        }
        if !self.unregistered {
            f.write_str(", will be restarted")?;
        }
        Ok(())
    }
}
