//! What can go wrong, and what to do about it.

use crate::word::{Key, Snapshot};
use std::io;

/// Why no slot could be claimed.
#[derive(thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// All slots are taken, each looked at.
    #[error(
        "all slots are taken: {in_use} of {capacity}; wait for one to be freed, or create more"
    )]
    Full {
        /// How many slots there are.
        capacity: u32,
        /// How many are taken (the rest are retired).
        in_use: u32,
    },
    /// The region cannot be written.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The owner cannot stand in a slot's word.
    #[error("owner {owner} cannot own a slot: it must be 1 to {limit}")]
    BadOwner {
        /// Who was named.
        owner: u32,
        /// The largest.
        limit: u32,
    },
}

/// The slot was taken away from its claimer: swept, or reset.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("slot {} was taken away while it was being filled; claim another one", .key.index)]
pub struct ClaimLost {
    /// Which tenancy it was.
    pub key: Key,
}

/// Why a payload could not be read.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// That tenancy is over, has not begun, or ended during the copy.
    #[error("that use of the slot is over; its key finds nothing any more")]
    Stale,
    /// The file of the region was truncated; see [`crate::Memory::check`].
    #[error("the file of the region was truncated; make a new region")]
    Damaged,
}

/// Why flags could not be set.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlagError {
    /// That tenancy is over or has not begun.
    #[error("that use of the slot is over; there is nobody to set flags for")]
    Stale,
    /// The region cannot be written.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The word changed at each of 64 tries.
    #[error("the slot changed at each of 64 tries to set its flags; somebody scribbles on it")]
    Contended,
}

/// Why the manager could not write to a slot.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManageError {
    /// The word was not what the manager left there. What the manager wrote stands.
    #[error("slot {index} held {found:?}, which its manager did not write")]
    Corrupt {
        /// Which slot.
        index: u32,
        /// What stood there.
        found: Snapshot,
    },
    /// No such slot, or a value that does not fit into a word.
    #[error("slot {index} or its new value is out of range")]
    OutOfRange {
        /// Which slot.
        index: u32,
    },
    /// The region cannot be written.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
}

/// Why a region cannot be written.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum NotWritable {
    /// It is attached read-only.
    #[error("the region is attached read-only; attach it for writing")]
    ReadOnly,
    /// Its file was truncated; see [`Memory::check`](crate::Memory::check).
    #[error("the file of the region was truncated; create a new region")]
    Damaged,
}

/// Why a region could not be made.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The sizes are out of range.
    #[error("{capacity} slots are out of range (1 to {limit}), or too large together")]
    Size {
        /// What was asked for.
        capacity: u32,
        /// The most.
        limit: u32,
    },
    /// The sizes of a queue are out of range.
    #[error(
        "a queue with a buffer of {buffer} bytes for messages of up to {max_message} bytes is out of range: 1 to {limit} for the buffer, 0 to {limit} for a message"
    )]
    QueueSize {
        /// Bytes of the buffer.
        buffer: usize,
        /// Bytes of the longest message.
        max_message: usize,
        /// The most of either.
        limit: usize,
    },
    /// A system call failed.
    #[error("{call} failed while creating the region")]
    System {
        /// Which.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a region could not be attached.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// A field of the header is not what this build expects.
    #[error("the region does not fit: {field} is {found:#x}, expected {expected:#x}")]
    Header {
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The file is shorter than its header says.
    #[error("the region is {found} bytes long, its header needs {expected}")]
    Short {
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// It is a directory, a device, a pipe or a socket.
    #[error("the path leads to no regular file; name the file that the region was created in")]
    NotAFile,
    /// Somebody could shrink it under our feet.
    #[error(
        "the region is not sealed against shrinking; only a sealed memfd is attached by descriptor"
    )]
    Unsealed,
    /// A system call failed.
    #[error("{call} failed while attaching the region")]
    System {
        /// Which.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

crate::debug_as_chain!(
    ClaimError,
    ClaimLost,
    NotWritable,
    ReadError,
    FlagError,
    ManageError,
    CreateError,
    AttachError
);
