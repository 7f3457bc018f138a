//! What can go wrong with a pool, one enum for each kind of request.

use crate::calls::CallError;
use crate::error::WaitError;
use crate::segment::SegmentError;
use bgw_core::ExitReport;
use std::io;

/// Why a pool was not created or opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// A setting is out of range.
    #[error("a pool cannot have {field} {value}: {allowed}")]
    Options {
        /// The setting.
        field: &'static str,
        /// What was asked for.
        value: String,
        /// The values that are allowed.
        allowed: &'static str,
    },
    /// The function does not exist, has other types or is not a pooled one, or its workers could
    /// not be registered.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The pool's segment could not be made or mapped.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// As many processes have the pool open as can have it open.
    #[error("{limit} processes have the pool open, no more can")]
    TooManySubmitters {
        /// The largest number of processes that can have it open.
        limit: u32,
    },
    /// This process cannot show others that it lives.
    #[error("the pool's file cannot be opened through /proc")]
    Members(#[source] io::Error),
}

/// Why a job was not submitted. Nothing of it is left.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// There are as many jobs of the class as there can be, and none was over in time.
    #[error("the pool has as many jobs of class {class} as it can have")]
    Full {
        /// The class.
        class: u32,
    },
    /// The pool has no such class.
    #[error("the pool has no class {class}")]
    UnknownClass {
        /// The class.
        class: u32,
    },
    /// The pool takes no more: somebody drains it.
    #[error("the pool is being drained")]
    Draining,
    /// Its workers died at their start, and none is left.
    #[error("the pool's workers were given up: the last one {report}")]
    GivenUp {
        /// How the last one ended.
        report: Box<ExitReport>,
    },
    /// The postmaster has died.
    #[error("the postmaster has died")]
    PostmasterDied,
    /// The input cannot be encoded.
    #[error("the input of \"{function}\" cannot be encoded")]
    Encode {
        /// The function.
        function: String,
        /// The format's error.
        #[source]
        source: postcard::Error,
    },
    /// The input does not fit into the job's cell, and there is no segment for it.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The wait for room was interrupted.
    #[error("a signal interrupted the wait for room in the pool")]
    Interrupted,
    /// The pool's region holds what nobody writes.
    #[error("the pool is corrupt; create another one")]
    Corrupt,
    /// This process is a forked child of the one that opened the pool.
    #[error(
        "this process is a forked child of the one that opened the pool; it must open it itself"
    )]
    ForkedChild,
    /// The wait for room failed.
    #[error("the wait for room in the pool failed")]
    Wait(#[source] shmem_slots::futex::WaitError),
}

/// Why a [`Map`](crate::Map) has ended before its inputs did.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// An input was not submitted. All before it were, and their outcomes were yielded.
    #[error("input {place} was not submitted")]
    Submit {
        /// The number of the input, from 0.
        place: usize,
        /// Why it could not be submitted.
        #[source]
        source: SubmitError,
    },
    /// The wait for an outcome failed, or the outcome is of another type.
    #[error("there is no outcome of input {place}")]
    Wait {
        /// The number of the input, from 0; of one of those waited for.
        place: usize,
        /// Why the wait failed.
        #[source]
        source: WaitError,
    },
}

bgw_core::debug_as_chain!(MapError, PoolError, SubmitError);
