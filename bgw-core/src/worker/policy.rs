//! The parts of a description: flags, start time, restart policy, entry point.

use bitflags::bitflags;
use std::time::Duration;

bitflags! {
    /// What a worker may touch, and how it is treated.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct WorkerFlags: u32 {
        /// The worker works on state that it shares with others. Its crash puts that state in doubt, so
        /// the cluster is reset. Without this flag (the default) a worker is isolated: its crash
        /// affects no other.
        ///
        /// A worker with this flag that calls `exit` while its main runs has crashed, whatever its exit
        /// code: nothing shows that it left the shared state in order.
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

/// Whether a worker that fails is restarted. Exit code 0 ends its registration in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[doc(alias = "bgw_restart_time")]
pub enum RestartPolicy {
    /// Never: its first end is its last.
    #[default]
    #[doc(alias = "BGW_NEVER_RESTART")]
    Never,
    /// After this time: 0 to a day, in whole milliseconds. The rest is dropped.
    After(Duration),
}

impl RestartPolicy {
    /// After so many seconds; 0 for at once.
    #[must_use]
    #[doc(alias = "BGW_DEFAULT_RESTART_INTERVAL")]
    pub const fn after_secs(seconds: u32) -> Self {
        Self::After(Duration::from_secs(seconds as u64))
    }
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
