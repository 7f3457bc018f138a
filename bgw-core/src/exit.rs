//! How a worker ended. PostgreSQL forgets it; a slot keeps it.

use crate::asked_by::AskedBy;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::returned::{LastWords, Returned};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Why a worker did not run at all, or did not run this time.
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
    /// The postmaster refused the registration: it allows no worker of this kind, it has no group
    /// or template of the name, or the description was invalid. It logs why, and the
    /// [last words](ExitReport::last_words) of the report say it.
    Refused,
    /// The postmaster was shutting down.
    ShuttingDown,
    /// The cluster was being reset after a crash.
    ClusterReset,
    /// Another unique worker has its name.
    NameTaken,
    /// A worker that it was to start after has ended for good.
    Dependency,
    /// Its group was given up.
    GroupGivenUp,
    /// Its [template](crate::BackgroundWorkerBuilder::template) could not be loaded, or could not
    /// fork. The [last words](ExitReport::last_words) of the report name the template, and say why.
    TemplateFailed,
}

/// How a worker's last process ended, or why it did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitCause {
    /// It exited with this code.
    Exited(u8),
    /// A signal ended it.
    Signaled {
        /// The number of the signal.
        signal: u8,
        /// It left a core dump.
        core_dumped: bool,
    },
    /// It had not beaten for too long, although its description has a
    /// [`heartbeat`](crate::BackgroundWorkerBuilder::heartbeat), and was aborted.
    Hung {
        /// How long before that the last beat was seen.
        silent_for: Duration,
    },
    /// It was not ready within its
    /// [`start_timeout`](crate::BackgroundWorkerBuilder::start_timeout), and was stopped.
    StartTimedOut,
    /// It did not run.
    NotStarted(NotStarted),
}

impl ExitCause {
    /// Exit code 0: the worker has done its work.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// Exit code 1: an error that the worker has reported.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Exited(1))
    }

    /// Another exit code, a signal, or an end that the postmaster brought about because the worker
    /// was late or silent.
    #[must_use]
    pub const fn is_crash(self) -> bool {
        matches!(
            self,
            Self::Exited(2..) | Self::Signaled { .. } | Self::Hung { .. } | Self::StartTimedOut
        )
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
            Self::Hung { silent_for } => {
                write!(f, "was silent for {silent_for:?}, and was aborted")
            }
            Self::StartTimedOut => f.write_str("was not ready in time, and was stopped"),
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
                f.write_str("was never started: the postmaster refused it")
            }
            Self::NotStarted(NotStarted::ShuttingDown) => {
                f.write_str("was never started: the postmaster was shutting down")
            }
            Self::NotStarted(NotStarted::ClusterReset) => {
                f.write_str("was not started: the cluster was being reset")
            }
            Self::NotStarted(NotStarted::NameTaken) => {
                f.write_str("was never started: another unique worker has its name")
            }
            Self::NotStarted(NotStarted::Dependency) => {
                f.write_str("was not started: a worker that it starts after has ended for good")
            }
            Self::NotStarted(NotStarted::GroupGivenUp) => {
                f.write_str("was not started: its group was given up")
            }
            Self::NotStarted(NotStarted::TemplateFailed) => {
                f.write_str("was not started: its template failed")
            }
        }
    }
}

/// The limit that a worker was given up at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GivenUp {
    /// It failed after as many restarts in this time as
    /// [`give_up`](crate::BackgroundWorkerBuilder::give_up) allows.
    Restarts {
        /// The number of restarts that are allowed.
        count: u32,
        /// The time in which they are counted.
        within: Duration,
    },
    /// It failed as often before it was ever ready as
    /// [`start_attempts`](crate::BackgroundWorkerBuilder::start_attempts) allows.
    StartAttempts {
        /// The number of attempts that are allowed.
        count: u32,
    },
    /// It failed after as many restarts in its group in this time as the group's intensity allows.
    Group {
        /// The number of restarts that are allowed.
        count: u32,
        /// The time in which they are counted.
        within: Duration,
    },
    /// Another member of its group failed once too often, and the whole group was given up.
    WithGroup {
        /// The member that failed.
        failed: WorkerHandle,
    },
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restarts { count, within } => {
                write!(f, "it reached give_up({count}, {within:?})")
            }
            Self::StartAttempts { count } => {
                write!(f, "it reached start_attempts({count})")
            }
            Self::Group { count, within } => {
                write!(f, "its group reached intensity({count}, {within:?})")
            }
            Self::WithGroup { failed } => {
                write!(f, "its group reached its intensity when worker {failed} failed")
            }
        }
    }
}

/// Why a worker that ran well was replaced by its next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recycled {
    /// It had done its [jobs](crate::Recycle::jobs).
    Jobs,
    /// Its [lifetime](crate::Recycle::lifetime) was over.
    Lifetime,
    /// It used as much [memory](crate::Recycle::rss) as its limit allows.
    Memory,
    /// It was rolled.
    Roll,
}

impl Recycled {
    /// Its number in shared memory.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Jobs => 1,
            Self::Lifetime => 2,
            Self::Memory => 3,
            Self::Roll => 4,
        }
    }

    /// The reason of a number; `None` for any other number.
    pub(crate) const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Jobs),
            2 => Some(Self::Lifetime),
            3 => Some(Self::Memory),
            4 => Some(Self::Roll),
            _ => None,
        }
    }
}

impl fmt::Display for Recycled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jobs => "it had done its jobs",
            Self::Lifetime => "its lifetime was over",
            Self::Memory => "it used too much memory",
            Self::Roll => "it was rolled",
        })
    }
}

/// The report of one end of a worker.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// How it ended.
    pub cause: ExitCause,
    /// The process that ended; `None` if there was none.
    pub pid: Option<Pid>,
    /// How many times it had been started after the first.
    pub restarts: u32,
    /// Who asked for this end; `None` if nobody did: the worker ended by itself, or a stranger's
    /// signal ended it. It may have ended by itself just before it was told.
    pub asked_by: Option<AskedBy>,
    /// The postmaster's SIGKILL ended it: the time that it had to end was over, or somebody called
    /// `kill`. Its process group was killed with it.
    pub killed: bool,
    /// The registration ended with it. Otherwise the worker will be restarted, or its next run
    /// takes its place (`recycled`), which is no restart.
    pub unregistered: bool,
    /// A crash reset ended the registration. A worker that is restarted after the reset has another
    /// handle then; `Handle::crash_reset` of `bgw-backend` says which, and whose crash it was.
    pub reset: bool,
    /// How many failures there were in a row, including this end if it is one. A [good
    /// run](crate::BackgroundWorkerBuilder::reset_after) begins a new count, as does a crash reset
    /// for all but its culprit.
    pub streak: u32,
    /// How long after its end the worker is restarted; `None` if it is not, or as soon as a crash
    /// reset is over. It is restarted later if what it has started does not end in time.
    pub pause: Option<Duration>,
    /// The limit that it was given up at: no request ended it, and no other run is granted. Only a
    /// new registration brings it back.
    pub given_up: Option<GivenUp>,
    /// Why the next run took its place, if that is how this one came to its end.
    pub recycled: Option<Recycled>,
    /// When it ended, by the wall clock. For display only, since the clock may be set.
    pub ended_at: SystemTime,
    /// How long the process ran. A process that serves one worker after another has a run for each:
    /// this and both CPU times are of this run alone.
    pub ran_for: Duration,
    /// CPU time in user mode, including that of its reaped children.
    pub user_time: Duration,
    /// CPU time in the kernel, likewise.
    pub system_time: Duration,
    /// The largest resident size of the process since it began, in KiB: also in runs before this
    /// one, if it served other workers.
    pub max_rss_kib: u64,
    /// How much memory was its own at its end, in KiB, if its
    /// [template](crate::BackgroundWorkerBuilder::template) has that measured: what it had copied
    /// of its template's by writing to it, and what it had made since. `None` if nothing was
    /// measured, or if the process did not come to its end in order: it was killed, or it called
    /// `exit`.
    pub copied_kib: Option<u64>,
    /// What the run gave back: its [result](Self::result), or its [last words](Self::last_words).
    pub returned: Returned,
}

impl ExitReport {
    /// True if somebody asked for this end.
    #[must_use]
    pub const fn requested(&self) -> bool {
        self.asked_by.is_some()
    }

    /// The result that the worker set last (`Worker::set_result` in `bgw-backend`), if the run
    /// ended well: by exit 0, and with its clean-up mark cleared. `None` if it set none, or ended
    /// in any other way.
    #[must_use]
    pub fn result(&self) -> Option<&[u8]> {
        self.returned.result()
    }

    /// Why the run ended, in the worker's own words: the error that its main returned, or the
    /// panic that ended it. `None` if it ended well, before its main had ended, or as a command or
    /// a library that does not say. If it was not started, the postmaster's words, if it says why.
    #[must_use]
    pub fn last_words(&self) -> Option<&LastWords> {
        self.returned.last_words()
    }

    /// When the worker is restarted, by the wall clock; `None` as for `pause`. For display: the
    /// pause itself is measured by a clock that nobody sets.
    #[must_use]
    pub fn next_start(&self) -> Option<SystemTime> {
        self.ended_at.checked_add(self.pause?)
    }
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        match self.asked_by {
            // It says that it was killed.
            Some(by @ AskedBy::Kill) => write!(f, ", as requested by {by}")?,
            Some(by) if self.killed => write!(f, " at the end of its grace, as requested by {by}")?,
            Some(by) => write!(f, ", as requested by {by}")?,
            None if self.killed => f.write_str(" since it did not end in time")?,
            None => {}
        }
        if self.reset && self.asked_by != Some(AskedBy::Reset) {
            f.write_str(", by a crash reset")?;
        }
        if let Some(why) = self.recycled {
            write!(f, ": {why}")?;
        }
        if let Some(limit) = self.given_up {
            write!(f, ", given up: {limit}")?;
        }
        if !self.unregistered && self.recycled.is_some() {
            f.write_str(", and its next run takes its place")?;
        } else if !self.unregistered {
            f.write_str(", will be restarted")?;
            if let Some(pause) = self.pause.filter(|pause| !pause.is_zero()) {
                write!(f, " in {pause:?}")?;
            }
        }
        Ok(())
    }
}
