//! Why a description is invalid.

use std::time::Duration;

/// Why a description is invalid: the field, its value, the limit.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWorker {
    /// A text is too long.
    #[error("{field} is {len} bytes long, the limit is {limit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A text is empty.
    #[error("{field} is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A text that is shown holds a control character: below 0x20, or 0x7f to 0x9f.
    #[error(
        "{field} holds a control character ({code:#04x} at byte {at}), which could forge log lines and titles"
    )]
    ControlCharacter {
        /// The field.
        field: &'static str,
        /// Its place, in bytes.
        at: usize,
        /// Its code point.
        code: u32,
    },
    /// A text that goes to the system holds a NUL byte.
    #[error("{field} holds a NUL byte at {at}")]
    NulByte {
        /// The field.
        field: &'static str,
        /// Its place, in bytes.
        at: usize,
    },
    /// The flags hold bits without a meaning.
    #[error("flags holds unknown bits {bits:#x}")]
    UnknownFlags {
        /// The bits.
        bits: u32,
    },
    /// A worker with a database connection has no `SHMEM_ACCESS`.
    #[error("flags holds DATABASE_CONNECTION without SHMEM_ACCESS, which it needs")]
    DatabaseWithoutSharedMemory,
    /// A worker with a database connection would start too early.
    #[error(
        "start_time is PostmasterStart, but a worker with DATABASE_CONNECTION cannot start before ConsistentState"
    )]
    DatabaseAtPostmasterStart,
    /// The restart interval is too long.
    #[error("restart is after {interval:?}, the limit is {limit:?}")]
    RestartOutOfRange {
        /// The interval.
        interval: Duration,
        /// The limit.
        limit: Duration,
    },
    /// A number is out of its range.
    #[error("{field} is {value}, the limit is {limit}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        limit: &'static str,
    },
    /// A value that does not go with the rest of the description.
    #[error("{field} is {value}, which needs {needs}")]
    Unfit {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What the description would have to be.
        needs: &'static str,
    },
    /// A worker would never be given up: its restarts take longer than the limit looks back.
    #[error(
        "give_up is {restarts} restarts in {within:?}, which cannot happen: the first {restarts} delays take {sum:?}; the limit is a time above that"
    )]
    UnreachableLimit {
        /// How many restarts.
        restarts: u32,
        /// The time in which they are counted.
        within: Duration,
        /// How long so many restarts take at least.
        sum: Duration,
    },
    /// A parallel worker would be restarted.
    #[error("restart must be Never for a worker with CLASS_PARALLEL")]
    ParallelMustNeverRestart,
    /// There is nothing to run.
    #[error("entry is missing: name a function, a library or a command")]
    NoEntryPoint,
}

shmem_slots::debug_as_chain!(InvalidWorker);

impl InvalidWorker {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::TooLong { field, .. }
            | Self::Empty { field }
            | Self::ControlCharacter { field, .. }
            | Self::NulByte { field, .. }
            | Self::OutOfRange { field, .. }
            | Self::Unfit { field, .. } => field,
            Self::UnreachableLimit { .. } => "give_up",
            Self::UnknownFlags { .. } | Self::DatabaseWithoutSharedMemory => "flags",
            Self::DatabaseAtPostmasterStart => "start_time",
            Self::RestartOutOfRange { .. } | Self::ParallelMustNeverRestart => "restart",
            Self::NoEntryPoint => "entry",
        }
    }
}
