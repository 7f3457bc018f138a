//! Why a worker's main ends.

use crate::connection::DatabaseError;
use crate::error::{
    EventsError, LatchError, RegisterError, SignalsError, TerminateError, WaitError,
};
use crate::interrupt::Interrupt;
use crate::segment::SegmentError;
use bgw_core::{AskError, AttachError, FromEnvError, InvalidWorker, Pid, RESULT_LIMIT, TakeError};
use shmem_slots::OutOfSegment;
use shmem_slots::queue::{ReceiveError, SendError, SideError};
use std::error::Error;
use std::io;

/// Why a worker's main ends. Returned from it, the error is logged and becomes exit code 1.
///
/// Every error of this crate converts to it by `?`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A signal or the postmaster's death ended a wait, a check or a statement.
    #[error(transparent)]
    Interrupted(#[from] Interrupt),
    /// A wait failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The database connection could not be opened, or a statement failed.
    #[error(transparent)]
    Database(DatabaseError),
    /// A signal handler or the signal mask could not be set.
    #[error(transparent)]
    Signals(#[from] SignalsError),
    /// The worker could not drop its privileges.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// A result could not be set.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// A worker could not be described.
    #[error(transparent)]
    Invalid(#[from] InvalidWorker),
    /// A worker could not be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A worker could not be terminated.
    #[error(transparent)]
    Terminate(#[from] TerminateError),
    /// A worker's latch could not be set.
    #[error(transparent)]
    Latch(#[from] LatchError),
    /// Events could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The postmaster did not carry out a request.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A postmaster could not be connected to.
    #[error(transparent)]
    Connect(#[from] AttachError),
    /// A descriptor that the worker was given could not be taken.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// This process could not become the worker of its command.
    #[error(transparent)]
    FromEnv(#[from] FromEnvError),
    /// A segment could not be made or mapped.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Anything else that the worker's own code reports.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

bgw_core::debug_as_chain!(WorkerError);

impl From<DatabaseError> for WorkerError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Interrupted(interrupt) => interrupt.into(),
            other => Self::Database(other),
        }
    }
}

impl From<bgw_core::WaitError> for WorkerError {
    fn from(error: bgw_core::WaitError) -> Self {
        Self::Wait(error.into())
    }
}

impl From<Box<dyn Error + Send + Sync>> for WorkerError {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::Other(error)
    }
}

/// Errors of other libraries that a worker's code often meets, and plain texts.
macro_rules! from_others {
    ($($other:ty),*) => {$(
        impl From<$other> for WorkerError {
            fn from(error: $other) -> Self {
                Self::Other(error.into())
            }
        }
    )*};
}

from_others!(io::Error, SideError, SendError, ReceiveError, OutOfSegment, String, &str);

/// Why a worker's result could not be set.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultError {
    /// It is too long.
    #[error(
        "a result of {len} bytes is too long; it can have {RESULT_LIMIT}, so put more into memory that both sides share"
    )]
    TooLong {
        /// How long.
        len: usize,
    },
    /// This process was forked from the worker.
    #[error("this process was forked from worker process {worker}; let that one set its result")]
    NotTheWorker {
        /// The worker.
        worker: Pid,
    },
}

bgw_core::debug_as_chain!(ResultError);

/// Why a worker could not drop its privileges. It may have dropped some of them, so return the
/// error from its main.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("there is no user \"{name}\"; name one by its name or its number")]
    NoUser {
        /// The name.
        name: String,
    },
    /// There is no such group.
    #[error("there is no group \"{name}\"; name one by its name or its number")]
    NoGroup {
        /// The name.
        name: String,
    },
    /// Backends of this cluster may register commands or libraries, which run with the postmaster's
    /// privileges. The worker would keep them that way.
    #[error(
        "backends of this cluster may register commands or libraries, so a worker cannot drop its privileges; build the postmaster without allow_commands and allow_libraries"
    )]
    CommandsAllowed,
    /// A system call failed. `EPERM`: the worker has no privilege to drop.
    #[error("{call} failed while dropping privileges")]
    System {
        /// The call.
        call: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The postmaster has died.
    #[error("postmaster {pid} died while its worker dropped privileges")]
    PostmasterDied {
        /// Its pid.
        pid: Pid,
    },
}

bgw_core::debug_as_chain!(PrivilegeError);
