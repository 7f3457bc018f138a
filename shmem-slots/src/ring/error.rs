//! What can go wrong with a ring.

/// Why a value could not be read: the ring holds what its writer does not write.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// Fewer values than this reader has read.
    #[error("the ring is corrupt: it counts {count} values, and value {next} was to be read next")]
    Count {
        /// The count found.
        count: u64,
        /// The number that the cursor stands at.
        next: u64,
    },
    /// An entry that the count covers holds an earlier value.
    #[error("the ring is corrupt: the entry of value {number} holds an earlier one")]
    Entry {
        /// The number that was to be read.
        number: u64,
    },
}

/// There is no such value yet.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error(
    "value {number} is not there yet, the next one is {next}; the number belongs to another ring"
)]
pub struct CursorError {
    /// The number asked for.
    pub number: u64,
    /// The number of the next value.
    pub next: u64,
}

crate::debug_as_chain!(RingError, CursorError);
