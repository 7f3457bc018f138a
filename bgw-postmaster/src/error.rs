//! Errors of building, starting and running a postmaster.

use std::io;
use std::path::PathBuf;

/// Why a postmaster could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The calling process is a worker.
    #[error(
        "this process is background worker \"{name}\", and a worker cannot become a postmaster; launch the postmaster from the program itself, or run a command that launches it"
    )]
    InsideWorker {
        /// The worker.
        name: String,
    },
    /// The number of slots is out of range.
    #[error(
        "max_workers and max_parallel_workers are {found} together; max_workers must be at least 1, both together at most {limit}"
    )]
    MaxWorkers {
        /// What was asked for.
        found: u32,
        /// The most there can be.
        limit: u32,
    },
    /// Two functions have one name.
    #[error("two functions are called \"{name}\"; names must differ")]
    DuplicateFunction {
        /// The name.
        name: String,
    },
    /// No worker could name this function.
    #[error(
        "function name \"{name}\" is empty, longer than {limit} bytes, or holds a control character"
    )]
    FunctionName {
        /// The name.
        name: String,
        /// The longest, in bytes.
        limit: usize,
    },
    /// Two descriptors have one name.
    #[error("two descriptors are called \"{name}\"; names must differ")]
    DuplicateDescriptor {
        /// The name.
        name: String,
    },
    /// The shared region could not be made.
    #[error("creating the shared region failed")]
    Region(#[source] shmem_slots::CreateError),
    /// Another postmaster, or a worker of it, holds the folder.
    #[error(
        "{path} is in use: a postmaster, or a worker that outlived one, still holds it; end it first, or choose another folder"
    )]
    InUse {
        /// The runtime folder.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel is too old.
    #[error("this kernel will not do")]
    Kernel(#[from] shmem_slots::futex::Unsupported),
}

/// Why a static worker was not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StaticError {
    /// A static worker has nobody to notify.
    #[error(
        "static worker \"{name}\" names a notify target; only workers registered by a backend can"
    )]
    NotifyTarget {
        /// The worker.
        name: String,
    },
    /// There is no such function.
    #[error(
        "static worker \"{name}\" names function \"{function}\", which this postmaster does not have"
    )]
    UnknownFunction {
        /// The worker.
        name: String,
        /// The function.
        function: String,
    },
    /// All slots are spoken for.
    #[error(
        "static worker \"{name}\" is one too many: all {capacity} slots are taken; raise max_workers"
    )]
    NoFreeSlot {
        /// The worker.
        name: String,
        /// How many slots there are.
        capacity: u32,
    },
}

/// Why a postmaster could not run, or ended in disorder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The process has more than one thread.
    #[error(
        "the process has {threads} threads; a postmaster forks from a process with one thread only: call launch() early in main, before threads or an async runtime start"
    )]
    Threads {
        /// How many.
        threads: u64,
    },
    /// A system call failed.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
