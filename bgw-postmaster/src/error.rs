//! Errors of building, starting and running a postmaster. Each says what failed, where, and what to
//! do.

use crate::folder::Unfit;
use bgw_core::{RelationError, debug_as_chain};
use std::io;
use std::path::PathBuf;

/// Why a postmaster could not be built.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Slots cannot be reserved so.
    #[error("reserve for class \"{name}\": {reason}")]
    Reserve {
        /// The class, escaped.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A metric cannot be declared so.
    #[error("metric \"{name}\": {reason}")]
    Metric {
        /// Its name, escaped.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A named group is not valid.
    #[error("group \"{name}\": {reason}")]
    Group {
        /// Its name, escaped.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A template is not valid.
    #[error("template \"{name}\": {reason}")]
    Template {
        /// Its name, escaped.
        name: String,
        /// What is wrong.
        reason: String,
    },
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
        /// Both settings together.
        found: u32,
        /// The upper limit.
        limit: u32,
    },
    /// The number of events to keep is out of range.
    #[error("events is {found}; it must be {least} to {most}, or 0 to keep none")]
    Events {
        /// What was asked for.
        found: u32,
        /// The lower limit.
        least: u32,
        /// The upper limit.
        most: u32,
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
    /// The process may not have so many descriptors open.
    #[error(
        "a postmaster with {warm_spares} warm_spares needs {more} descriptors above {highest}, the highest that is open here, and RLIMIT_NOFILE allows {limit} in all; raise the hard limit, open fewer descriptors before, or ask for fewer spares"
    )]
    Descriptors {
        /// How many spares were asked for.
        warm_spares: usize,
        /// The highest number that is open in this process. A postmaster opens its own above.
        highest: i32,
        /// The fewest descriptors that it needs there.
        more: u64,
        /// The hard limit: all numbers are below.
        limit: u64,
    },
    /// Two descriptors have one name.
    #[error("two descriptors are called \"{name}\"; names must differ")]
    DuplicateDescriptor {
        /// The name.
        name: String,
    },
    /// The shared region could not be created.
    #[error(
        "creating the shared region for {slots} slots failed; lower max_workers if memory is short"
    )]
    Region {
        /// How many slots it was to have.
        slots: u32,
        /// What failed.
        #[source]
        source: shmem_slots::CreateError,
    },
    /// Another postmaster holds the folder, or what is left of the cluster of one that was killed.
    /// That is ended within some 5 seconds, stopped processes included; the folder is free then.
    #[error(
        "{path} is in use by another postmaster, or by what is left of one that was killed; the latter is ended within 5 seconds or so: try again then, or end the postmaster that {path}/postmaster.pid names, or choose another folder"
    )]
    InUse {
        /// The runtime folder.
        path: PathBuf,
    },
    /// The folder for outputs cannot be used.
    #[error("output folder {path} {why}")]
    OutputDirRefused {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// A step with the folder for outputs failed.
    #[error("{step} output folder {path} failed; choose one that this user may write to")]
    OutputDir {
        /// What was tried: "creating", say.
        step: &'static str,
        /// The folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The folder cannot be a runtime folder.
    #[error("runtime folder {path} {why}")]
    RuntimeDirRefused {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// The runtime folder cannot be used.
    #[error("{step} {path} failed; choose a runtime folder that this user may write to")]
    RuntimeDir {
        /// What was tried: "creating", say.
        step: &'static str,
        /// The folder, or the file in it.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("{call} failed while building a postmaster")]
    System {
        /// The call.
        call: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The kernel lacks a system call, or refuses it to this process.
    #[error("a postmaster cannot run here")]
    Kernel(#[from] shmem_slots::futex::Unsupported),
    /// The C library is too old.
    #[error("a postmaster cannot run with this C library")]
    Libc(#[from] crate::sys::libc_version::UnsupportedLibc),
}

/// Why a static worker was not registered.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StaticError {
    /// A static worker has a notify target, and there is no backend that could be one.
    #[error(
        "static worker \"{name}\" names a notify target; only workers registered by a backend can"
    )]
    NotifyTarget {
        /// The worker.
        name: String,
    },
    /// A static worker is given a descriptor.
    #[error(
        "give: static worker \"{name}\" is given the descriptor \"{descriptor}\"; only workers registered by a backend can, and descriptor(name, …) of the builder passes one to all workers"
    )]
    Given {
        /// The worker.
        name: String,
        /// The descriptor.
        descriptor: String,
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
    /// Its output is to go to a file, and there is no folder for those.
    #[error(
        "output: static worker \"{name}\" names the file \"{file}\", and there is no folder for it; set output_dir"
    )]
    NoOutputDir {
        /// The worker.
        name: String,
        /// The file.
        file: String,
    },
    /// Its output is to go to a descriptor that there is not.
    #[error(
        "output: static worker \"{name}\" names the descriptor \"{descriptor}\", which descriptor(name, …) of the builder does not pass"
    )]
    UnknownDescriptor {
        /// The worker.
        name: String,
        /// The descriptor.
        descriptor: String,
    },
    /// There is no such group.
    #[error(
        "static worker \"{name}\" names group \"{group}\", which this postmaster does not have"
    )]
    UnknownGroup {
        /// The worker.
        name: String,
        /// The group.
        group: String,
    },
    /// No slots are reserved for its class.
    #[error(
        "static worker \"{name}\" is of class \"{class}\", which this postmaster reserves no slots for; reserve(class, n) does"
    )]
    UnknownClass {
        /// The worker.
        name: String,
        /// The class.
        class: String,
    },
    /// It does not go together with the static workers before it.
    #[error("static worker \"{name}\" is refused")]
    Relation {
        /// The worker.
        name: String,
        /// Why the relation is refused.
        #[source]
        source: RelationError,
    },
    /// Static workers take all slots of its class already.
    #[error(
        "static worker \"{name}\" is one too many: all {capacity} slots of its class are taken; raise max_workers or max_parallel_workers"
    )]
    NoFreeSlot {
        /// The worker.
        name: String,
        /// How many slots there are.
        capacity: u32,
    },
}

/// Why a postmaster could not run, or had to stop.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The calling process is a worker.
    #[error(
        "this process is background worker \"{name}\", and a worker cannot become a postmaster; launch the postmaster from the program itself, or run a command that launches it"
    )]
    InsideWorker {
        /// The worker.
        name: String,
    },
    /// The process has more than one thread.
    #[error(
        "the process has {threads} threads; a postmaster forks from a process with one thread only: call launch() early in main, before threads or an async runtime start"
    )]
    Threads {
        /// The number of threads.
        threads: u64,
    },
    /// The ring of events could not be created.
    #[error("creating the ring of events failed")]
    Events(#[source] shmem_slots::CreateError),
    /// A system call failed.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

impl BuildError {
    pub(crate) fn of_output_dir(path: PathBuf, unfit: Unfit) -> Self {
        match unfit {
            Unfit::Refused(why) => Self::OutputDirRefused { path, why },
            Unfit::Failed(step, source) => Self::OutputDir { step, path, source },
        }
    }
}

debug_as_chain!(BuildError, StaticError, RunError);

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a program whose `main` returns one of these prints field names, or drops the
    /// source.
    #[test]
    fn an_error_that_main_returns_reads_as_a_sentence() {
        let full = || io::Error::from_raw_os_error(libc::EMFILE);
        let cases: [(Box<dyn std::error::Error>, &str); 4] = [
            (
                Box::new(BuildError::RuntimeDir {
                    step: "locking",
                    path: "/run/x/postmaster.lock".into(),
                    source: full(),
                }),
                "locking /run/x/postmaster.lock failed; choose a runtime folder that this user may \
                 write to: Too many open files (os error 24)",
            ),
            (
                Box::new(RunError::System { what: "set_robust_list", source: full() }),
                "set_robust_list failed: Too many open files (os error 24)",
            ),
            (
                Box::new(RunError::Threads { threads: 3 }),
                "the process has 3 threads; a postmaster forks from a process with one thread only: \
                 call launch() early in main, before threads or an async runtime start",
            ),
            (
                Box::new(StaticError::NotifyTarget { name: "w".into() }),
                "static worker \"w\" names a notify target; only workers registered by a backend can",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(format!("{error:?}"), text);
        }
    }
}
