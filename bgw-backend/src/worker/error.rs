//! Why a worker's main ends.

use crate::connection::DatabaseError;
use crate::error::{LatchError, RegisterError, SignalsError, TerminateError, WaitError};
use crate::interrupt::Interrupt;
use bgw_core::{AskError, AttachError, InvalidWorker, Pid};
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
    /// The postmaster did not do what it was asked for.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A postmaster could not be connected to.
    #[error(transparent)]
    Connect(#[from] AttachError),
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

from_others!(io::Error, SideError, SendError, ReceiveError, String, &str);

/// Why a worker could not drop its privileges. It may have dropped some of them: end it.
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
