//! The parts of a description: flags, start time, restart policy, entry point.

use bitflags::bitflags;
use std::time::Duration;

bitflags! {
    /// What a worker may touch, and how it is treated.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct WorkerFlags: u32 {
        /// The worker works on state that it shares with others. Its crash puts that state in
        /// doubt, so the cluster is reset. Without this flag (the default) a worker is isolated:
        /// its crash affects no other.
        ///
        /// A worker with this flag that leaves while its main runs, by [`std::process::exit`] say,
        /// has crashed, whatever its exit code: nothing shows that it left the shared state in
        /// order. The cluster is reset, and the log says that this was why. Return from main
        /// instead.
        #[doc(alias = "BGWORKER_SHMEM_ACCESS")]
        const SHMEM_ACCESS = 0x1;
        /// The worker may connect to a database. Needs `SHMEM_ACCESS`.
        #[doc(alias = "BGWORKER_BACKEND_DATABASE_CONNECTION")]
        const DATABASE_CONNECTION = 0x2;
        /// The worker belongs to the parallel class, which has a cap of its own. It must never be
        /// restarted.
        #[doc(alias = "BGWORKER_CLASS_PARALLEL")]
        const CLASS_PARALLEL = 0x10;
        /// The worker may be terminated to free a resource that it uses, named by its tag.
        #[doc(alias = "BGWORKER_INTERRUPTIBLE")]
        const INTERRUPTIBLE = 0x20;
    }
}

/// The earliest phase of the cluster in which a worker may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[doc(alias = "BgWorkerStartTime")]
pub enum StartTime {
    /// As soon as the postmaster runs.
    #[doc(alias = "BgWorkerStart_PostmasterStart")]
    PostmasterStart,
    /// As soon as the cluster is consistent and can be read.
    #[doc(alias = "BgWorkerStart_ConsistentState")]
    ConsistentState,
    /// In normal service only.
    #[default]
    #[doc(alias = "BgWorkerStart_RecoveryFinished")]
    RecoveryFinished,
}

impl StartTime {
    /// Its number in shared memory and messages.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::PostmasterStart => 0,
            Self::ConsistentState => 1,
            Self::RecoveryFinished => 2,
        }
    }

    /// The start time of a number; `None` for any other number.
    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::PostmasterStart),
            1 => Some(Self::ConsistentState),
            2 => Some(Self::RecoveryFinished),
            _ => None,
        }
    }
}

/// Whether a worker that fails is restarted, and after how long. Exit code 0 ends its registration,
/// unless it is restarted [always](RestartOn::Always).
///
/// Times are whole milliseconds, at most a day; the rest of a millisecond is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[doc(alias = "bgw_restart_time")]
pub enum RestartPolicy {
    /// Never: the worker runs at most once.
    #[default]
    #[doc(alias = "BGW_NEVER_RESTART")]
    Never,
    /// After this time, which may be 0.
    ///
    /// Below a second a brake holds: the worker is restarted after this time five times in a row,
    /// then ever more slowly, down to twice a minute. A
    /// [good run](crate::BackgroundWorkerBuilder::reset_after) lifts it. It does not hold with
    /// [`give_up`](crate::BackgroundWorkerBuilder::give_up) or
    /// [`unbraked`](crate::BackgroundWorkerBuilder::unbraked).
    Fixed(Duration),
    /// After `min`, then after ever longer delays, up to `max`, until a [good
    /// run](crate::BackgroundWorkerBuilder::reset_after).
    Backoff {
        /// The first delay, from 1 ms on.
        min: Duration,
        /// The longest delay.
        max: Duration,
        /// How many times as long each delay is as the one before: 1.0 to 10.0, in thousandths.
        factor: f64,
    },
}

impl RestartPolicy {
    /// After this many seconds; 0 means at once.
    #[must_use]
    #[doc(alias = "BGW_DEFAULT_RESTART_INTERVAL")]
    pub const fn after_secs(seconds: u32) -> Self {
        Self::Fixed(Duration::from_secs(seconds as u64))
    }

    /// After `min`, then twice as long each time, up to `max`.
    #[must_use]
    pub const fn backoff(min: Duration, max: Duration) -> Self {
        Self::Backoff { min, max, factor: 2.0 }
    }
}

/// Which ends are followed by a restart, if the worker has a policy that restarts it.
///
/// | end | `OnFailure` | `OnAbnormal` | `Always` |
/// |---|---|---|---|
/// | exit 0 | | | restarted |
/// | exit 1, a program that cannot be executed | restarted | | restarted |
/// | another exit code, a signal, a failed fork | restarted | restarted | restarted |
///
/// None follows an end that was requested, or one of the
/// [final codes](crate::BackgroundWorkerBuilder::final_codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum RestartOn {
    /// Every end but exit 0, as in PostgreSQL.
    #[default]
    OnFailure,
    /// Ends that no program chooses: crashes.
    OnAbnormal,
    /// Every end. Exit 0 after a second or more does not count as a failure: the next run starts
    /// after the first delay, however often the worker has failed before.
    Always,
}

impl RestartOn {
    /// Its number in shared memory.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::OnFailure => 1,
            Self::OnAbnormal => 2,
            Self::Always => 3,
        }
    }

    /// That of a number; `None` for any other number.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::OnFailure),
            2 => Some(Self::OnAbnormal),
            3 => Some(Self::Always),
            _ => None,
        }
    }
}

/// How a worker reports that it is ready, if its description declares that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ready {
    /// It calls `Worker::ready()`. Not for commands.
    Call,
    /// It sends `READY=1` to the socket that `NOTIFY_SOCKET` names, as programs written for systemd
    /// do. For commands, of a postmaster that has a runtime folder.
    ///
    /// | message | meaning |
    /// |---|---|
    /// | `READY=1` | it is ready |
    /// | `STATUS=…` | how it is: `WorkerInfo::status_text` of `bgw-backend`, 127 bytes |
    /// | `WATCHDOG=1` | it is alive, as a [`heartbeat`](crate::BackgroundWorkerBuilder::heartbeat) asks; `WATCHDOG_USEC` tells the interval |
    /// | `WATCHDOG=trigger` | it hangs, and is aborted as if it were silent |
    /// | `EXTEND_TIMEOUT_USEC=…` | it needs so much more time to start |
    ///
    /// A message counts if it comes from the process itself, or from those that
    /// [`notify_from`](crate::BackgroundWorkerBuilder::notify_from) names, and is 4 KiB at most.
    /// Anything else in it is ignored.
    Notify,
    /// It writes a newline to this descriptor, from 3 to 63, as programs written for s6 do. For
    /// commands.
    ///
    /// The command finds a pipe under this number, open for writing. Text before the newline is
    /// ignored. A run that writes 4,096 bytes without a newline, or closes the pipe without one,
    /// never becomes ready. Once that is decided the postmaster closes its end of the pipe, so the
    /// command should close its own: a later write fails with EPIPE.
    ///
    /// If the program that embeds the postmaster has something open under this number, the command
    /// does not get that.
    ///
    /// ```
    /// use bgw_core::{BackgroundWorker, Ready};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let script = "load-everything && echo >&3 && exec 3>&- && serve";
    /// let server = BackgroundWorker::builder("server")
    ///     .command("/bin/sh", ["-c", script])
    ///     .ready(Ready::Newline(3))
    ///     .start_timeout(Duration::from_secs(30))
    ///     .build()?;
    /// assert_eq!(server.ready(), Some(Ready::Newline(3)));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "notification-fd")]
    Newline(u8),
}

/// What a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryPoint {
    /// A function of the program, under the name that the postmaster knows.
    Function(String),
    /// A function of a library that the child loads.
    #[doc(alias = "bgw_library_name")]
    Library {
        /// The library's path.
        path: String,
        /// The function's name.
        function: String,
    },
    /// A program.
    Command {
        /// Its path, or a name that is looked for in `PATH`.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
}
