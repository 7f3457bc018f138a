//! Why a worker's main ends.

use crate::answer::AnswerError;
#[cfg(feature = "serde")]
use crate::calls::CallError;
use crate::connection::DatabaseError;
use crate::error::{
    EventsError, LatchError, NotWritable, RegisterError, SignalsError, TerminateError, WaitError,
};
use crate::interrupt::Interrupt;
use crate::metrics::MetricError;
use crate::outcome::NoOutput;
#[cfg(feature = "serde")]
use crate::pool::{MapError, PoolError, SubmitError};
use crate::rolling::RollError;
use crate::segment::SegmentError;
use crate::templates::ReforkError;
use bgw_core::{
    AskError, AttachError, FromEnvError, InvalidWorker, Pid, RESULT_LIMIT, RelationError, TakeError,
};
use shmem_slots::OutOfSegment;
use shmem_slots::queue::{ReceiveError, SendError, SideError};
use std::error::Error;
use std::io;

/// Why a worker's main ends. Returned from it, the error is logged and becomes exit code 1.
///
/// Every error of this crate converts to it by `?`, as do texts and [`io::Error`]. For the errors
/// of other crates there is [`WorkerError::other`]. A main may also return any other error:
/// [`entry`](crate::entry) takes it.
///
/// ```
/// use bgw_backend::{Worker, WorkerError};
/// use std::error::Error;
///
/// fn count(worker: &mut Worker) -> Result<(), WorkerError> {
///     worker.counter("counted")?.add(1); // an error of this crate
///     let number: u64 = "12".parse().map_err(WorkerError::other)?; // another one
///     if number > 10 {
///         return Err("too many".into());
///     }
///     Ok(())
/// }
///
/// fn parse(_: &mut Worker) -> Result<(), Box<dyn Error + Send + Sync>> {
///     let _: u64 = "12".parse()?; // any error
///     Ok(())
/// }
/// # let _ = (bgw_backend::entry(count), bgw_backend::entry(parse));
/// ```
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

impl WorkerError {
    /// The error of another crate.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

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
from_others!(
    AnswerError,
    MetricError,
    NoOutput,
    NotWritable,
    ReforkError,
    RelationError,
    RollError
);
#[cfg(feature = "serde")]
from_others!(CallError, MapError, PoolError, SubmitError);

/// Why a worker's result could not be set.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultError {
    /// It is too long.
    #[error(
        "a result of {len} bytes is too long; it can have {RESULT_LIMIT}, so put more into memory that both sides share"
    )]
    TooLong {
        /// The length of the result, in bytes.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Would not compile if one of them did not.
    #[test]
    fn every_error_of_this_crate_becomes_that_of_a_worker() {
        const fn converts<E: Into<WorkerError>>() {}
        converts::<AnswerError>();
        converts::<AskError>();
        converts::<AttachError>();
        converts::<DatabaseError>();
        converts::<EventsError>();
        converts::<FromEnvError>();
        converts::<Interrupt>();
        converts::<InvalidWorker>();
        converts::<LatchError>();
        converts::<MetricError>();
        converts::<NoOutput>();
        converts::<NotWritable>();
        converts::<PrivilegeError>();
        converts::<ReforkError>();
        converts::<RegisterError>();
        converts::<RelationError>();
        converts::<ResultError>();
        converts::<RollError>();
        converts::<SegmentError>();
        converts::<SignalsError>();
        converts::<TakeError>();
        converts::<TerminateError>();
        converts::<WaitError>();
        #[cfg(feature = "serde")]
        {
            converts::<CallError>();
            converts::<MapError>();
            converts::<PoolError>();
            converts::<SubmitError>();
        }
    }

    #[test]
    fn an_error_of_another_crate_keeps_its_text() {
        let error = WorkerError::other("x".parse::<u64>().unwrap_err());
        assert_eq!(error.to_string(), "invalid digit found in string");
    }
}
