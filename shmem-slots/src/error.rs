//! What can go wrong, one enum for each kind of operation.

use crate::word::{Key, Snapshot};
use std::io;

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

/// Why no slot could be claimed.
#[derive(thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// All slots are taken.
    #[error(
        "all slots are taken: {in_use} of {capacity}; wait for one to be freed, or create more"
    )]
    Full {
        /// How many slots there are.
        capacity: u32,
        /// How many are taken. The rest are retired.
        in_use: u32,
    },
    /// The region cannot be written.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// A slot's word cannot hold this owner.
    #[error("owner {owner} cannot own a slot: it must be 1 to {limit}")]
    BadOwner {
        /// The owner.
        owner: u32,
        /// The largest possible one.
        limit: u32,
    },
}

/// The slot was taken away from its claimer by a sweep or a reset.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("slot {} was taken away while it was being filled; claim another one", .key.index)]
pub struct ClaimLost {
    /// The tenancy that did not begin.
    pub key: Key,
}

/// Why a payload could not be read.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The tenancy has not begun, is over, or ended during the copy.
    #[error("this use of the slot has not begun or is over; its request can no longer be read")]
    Stale,
    /// The file of the region was truncated; see [`Memory::check`](crate::Memory::check).
    #[error("the file of the region was truncated; create a new region")]
    Damaged,
}

/// Why there is no report to read.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportError {
    /// The manager has written no report on this tenancy.
    #[error("there is no report yet; wait for the slot to end")]
    NotYet,
    /// The slot has had other tenants since. If there was a report, a later one overwrote it.
    #[error(
        "the report was overwritten by that of a later tenant; read it before releasing the slot"
    )]
    Overwritten,
    /// There is no such slot, or this tenancy of it has never begun.
    #[error("there never was such a use of the slot; the key belongs to another array")]
    Unknown,
    /// The file of the region was truncated; see [`Memory::check`](crate::Memory::check).
    #[error("the file of the region was truncated; create a new region")]
    Damaged,
}

/// Why flags could not be set.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlagError {
    /// The tenancy has not begun or is over.
    #[error("this use of the slot has not begun or is over; there is nobody to set flags for")]
    Stale,
    /// The region cannot be written.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The word changed at each of 64 tries.
    #[error("the slot changed at each of 64 tries to set its flags; some process corrupts it")]
    Contended,
}

/// Why the manager could not write to a slot.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManageError {
    /// The word was not what the manager had left there. It was written over.
    #[error("slot {index} held {found:?}, which its manager did not write; it was overwritten")]
    Corrupt {
        /// The slot.
        index: u32,
        /// What its word said.
        found: Snapshot,
    },
    /// There is no such slot, or a value does not fit into a word.
    #[error("slot {index} or its new value is out of range")]
    OutOfRange {
        /// The slot.
        index: u32,
    },
    /// The region cannot be written.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
}

/// Why a region could not be created.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The sizes are out of range.
    #[error("{capacity} slots are out of range (1 to {limit}), or the region would be too large")]
    Size {
        /// The requested capacity.
        capacity: u32,
        /// The largest capacity.
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
        /// The largest number of either.
        limit: usize,
    },
    /// A size of a job queue is out of range.
    #[error("a size of the job queue is out of range, see JobsOptions")]
    JobsSize,
    /// The sizes of a ring are out of range.
    #[error(
        "a ring of {entries} entries is out of range (1 to {limit}), or its values are longer than 64 KiB"
    )]
    RingSize {
        /// The requested entries.
        entries: u32,
        /// The largest number of entries.
        limit: u32,
    },
    /// The segment that was to hold it is too small.
    #[error("the segment has {found} bytes, and {expected} are needed")]
    SegmentSize {
        /// Its size.
        found: usize,
        /// The size that is needed.
        expected: usize,
    },
    /// The segment that was to hold it could not be mapped.
    #[error("the segment could not be mapped")]
    Segment(#[source] AttachError),
    /// A system call failed.
    #[error("{call} failed while creating the region")]
    System {
        /// The call.
        call: &'static str,
        /// The error that it returned.
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
        /// The field.
        field: &'static str,
        /// What it should be, or its limit.
        expected: u64,
        /// The value that was found.
        found: u64,
    },
    /// The file is shorter than its header says.
    #[error("the region is {found} bytes long, its header needs {expected}")]
    Short {
        /// The length that the header needs.
        expected: u64,
        /// The length of the file.
        found: u64,
    },
    /// The path names a directory, a device, a pipe or a socket.
    #[error("the path names no regular file; name the file that the region was created in")]
    NotAFile,
    /// Another process could shrink the file.
    #[error(
        "the region is not sealed against shrinking; only a sealed memfd is attached by descriptor"
    )]
    Unsealed,
    /// A system call failed.
    #[error("{call} failed while attaching the region")]
    System {
        /// The call.
        call: &'static str,
        /// The error that it returned.
        #[source]
        source: io::Error,
    },
}

crate::debug_as_chain!(
    NotWritable,
    ClaimError,
    ClaimLost,
    ReadError,
    ReportError,
    FlagError,
    ManageError,
    CreateError,
    AttachError
);
