//! Why the bytes of a slot are no record.

use crate::worker::invalid::InvalidWorker;

/// Bytes in a slot that no encoder has written.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptRecord {
    /// A number has no meaning.
    #[error("{field} is {found}, which has no meaning")]
    Number {
        /// The field.
        field: &'static str,
        /// The number that was found in it.
        found: i64,
    },
    /// A text is not UTF-8.
    #[error("{field} is not UTF-8")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// The description is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidWorker),
}

shmem_slots::debug_as_chain!(CorruptRecord);
