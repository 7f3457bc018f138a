//! What can go wrong with a job queue, one enum for each kind of operation.

/// Why a job was not submitted. Nothing of it is left.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitError {
    /// There are as many jobs of this class as there can be.
    #[error("the queue has no room for another job of class {class}")]
    Full {
        /// The class.
        class: u32,
    },
    /// The input is longer than a room.
    #[error("an input of {len} bytes is too long, a room has {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The largest length that fits, in bytes.
        limit: usize,
    },
    /// There is no such class, or no such submitter.
    #[error("the queue has no class {class}, or no submitter {submitter}")]
    Unknown {
        /// The class.
        class: u32,
        /// The submitter.
        submitter: u32,
    },
    /// The shared cells hold what nobody writes.
    #[error("the job queue is corrupt; create another one")]
    Corrupt,
}

/// Why a taker got no job, although it did not find the queue empty.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakeError {
    /// There is no such class, or no such taker.
    #[error("the queue has no class {class}, or no taker {taker}")]
    Unknown {
        /// The class.
        class: u32,
        /// The taker.
        taker: u32,
    },
    /// The shared cells hold what nobody writes.
    #[error("the job queue is corrupt; create another one")]
    Corrupt,
}

/// Why a taker could not end its job.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndError {
    /// The output is longer than a room. The job goes on.
    #[error("an output of {len} bytes is too long, a room has {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The largest length that fits, in bytes.
        limit: usize,
    },
    /// The job is not the taker's, or not any more: the taker was taken for dead, or the cells hold
    /// what nobody writes.
    #[error("the job is not the taker's")]
    NotTaken,
}

crate::debug_as_chain!(SubmitError, TakeError, EndError);
