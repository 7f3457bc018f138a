//! The description of a worker: what to run, when, and what becomes of it when it ends.
//!
//! [`BackgroundWorker`] is always valid: it comes from its [builder](BackgroundWorker::builder) or
//! from a slot that was decoded, and both go through the one validation in `validate.rs`.

mod builder;
mod entry_kinds;
pub(crate) mod limits;
mod validate;

pub use builder::BackgroundWorkerBuilder;
pub use entry_kinds::EntryKinds;
pub use validate::InvalidWorker;
pub(crate) use validate::{Draft, validate};

use crate::pid::Pid;
use bitflags::bitflags;
use std::time::Duration;

bitflags! {
    /// What a worker may touch, and how it is treated.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct WorkerFlags: u32 {
        /// It works on state that it shares with others, so that its crash puts that state in doubt:
        /// the cluster is reset then. Without it (the default) a worker is isolated: its crash
        /// touches nobody.
        #[doc(alias = "BGWORKER_SHMEM_ACCESS")]
        const SHMEM_ACCESS = 0x1;
        /// It may connect to a database. Needs `SHMEM_ACCESS`.
        #[doc(alias = "BGWORKER_BACKEND_DATABASE_CONNECTION")]
        const DATABASE_CONNECTION = 0x2;
        /// It belongs to the parallel class, which has a cap of its own. Must never be restarted.
        #[doc(alias = "BGWORKER_CLASS_PARALLEL")]
        const CLASS_PARALLEL = 0x10;
        /// It may be ended for the sake of a resource that it uses, named by its tag.
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

    /// The other way round; `None` for any other number.
    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::PostmasterStart),
            1 => Some(Self::ConsistentState),
            2 => Some(Self::RecoveryFinished),
            _ => None,
        }
    }
}

/// Whether a worker that failed is started again. Exit 0 ends its registration in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[doc(alias = "bgw_restart_time")]
pub enum RestartPolicy {
    /// Never: its first end is its last.
    #[default]
    #[doc(alias = "BGW_NEVER_RESTART")]
    Never,
    /// After this time (0 to a day, in whole milliseconds; what is below one is dropped).
    After(Duration),
}

impl RestartPolicy {
    /// After so many seconds; 0: at once.
    #[must_use]
    #[doc(alias = "BGW_DEFAULT_RESTART_INTERVAL")]
    pub const fn after_secs(seconds: u32) -> Self {
        Self::After(Duration::from_secs(seconds as u64))
    }
}

/// What a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryPoint {
    /// A function that the postmaster was told about, by its name.
    Function(String),
    /// A function of a library that is loaded in the child.
    #[doc(alias = "bgw_library_name")]
    Library {
        /// The library's path.
        path: String,
        /// The function's name.
        function: String,
    },
    /// A program.
    Command {
        /// Its path, or a name to be looked for in `PATH`.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// A valid description of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackgroundWorker {
    name: String,
    worker_type: String,
    flags: WorkerFlags,
    start_time: StartTime,
    restart: RestartPolicy,
    entry: EntryPoint,
    main_arg: u64,
    extra: [u8; limits::EXTRA_LEN],
    notify: Option<Pid>,
    tag: String,
}

impl BackgroundWorker {
    /// Begins a description with the worker's name, as it is shown in logs and process titles.
    pub fn builder(name: impl Into<String>) -> BackgroundWorkerBuilder {
        BackgroundWorkerBuilder::new(name.into())
    }

    /// Its name.
    #[doc(alias = "bgw_name")]
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of worker that it is, the same for all workers of a kind; its name if none was given.
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

    /// True when it belongs to the parallel class.
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

    /// Whether it is started again.
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
    pub const fn extra(&self) -> &[u8; limits::EXTRA_LEN] {
        &self.extra
    }

    /// Who is to be told by SIGUSR1 when it starts and ends.
    #[doc(alias = "bgw_notify_pid")]
    #[must_use]
    pub const fn notify(&self) -> Option<Pid> {
        self.notify
    }

    /// The resource that it uses; empty for none.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}
