//! Where the cells of a queue lie, and what its header says.
//!
//! | cells | what | written by |
//! |---|---|---|
//! | 0 to 15 | header: magic, version, tag, words of the buffer, longest message, total cells, hash | the creator |
//! | 16 | words written | the sender |
//! | 24, 25 | the sender's state, its announcement | the sender; the receiver clears the latter |
//! | 32 | words read | the receiver |
//! | 40, 41 | the receiver's state, its announcement | the receiver; the sender clears the latter |
//! | 48 on | the buffer | the sender |
//!
//! The two positions have cache lines of their own, and those two lines are not one pair of lines,
//! which some processors fetch together. Standing and announcement change rarely, so looking at
//! them after each piece stays in the looker's cache.

#[cfg(not(loom))]
use crate::error::AttachError;
use crate::header;
use crate::primitive::AtomicU64;

const MAGIC: u64 = u64::from_be_bytes(*b"shmqueue");
const VERSION: u64 = 1;
/// The longest buffer and the longest message, in bytes: 1 GiB.
pub const MAX_BYTES: usize = 1 << 30;

#[cfg(not(loom))]
const HEADER: usize = 16;
pub(super) const WRITTEN: usize = 16;
pub(super) const SENDER: usize = 24;
pub(super) const READ: usize = 32;
pub(super) const RECEIVER: usize = 40;
pub(super) const BUFFER: usize = 48;

/// Settings of a new queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Bytes of the buffer, 1 to [`MAX_BYTES`], rounded up to a multiple of 8. Each message takes 8
    /// bytes more than its own length rounded up to 8. Longer messages pass in pieces.
    pub buffer: usize,
    /// The longest message in bytes, 0 to [`MAX_BYTES`]. A receiver never allocates more, whatever
    /// a corrupted queue says.
    pub max_message: usize,
    /// A number that stands for the meaning of the messages: attach refuses any other.
    pub tag: u64,
}

impl QueueOptions {
    /// How many bytes a queue of these sizes takes, for a segment that is to hold it; `None` if the
    /// sizes are out of range.
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        Layout::new(self.buffer, self.max_message).map(|layout| layout.total() * 8)
    }
}

/// The sizes of a queue, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Words of the buffer.
    pub(super) words: usize,
    pub(super) max_message: usize,
}

impl Layout {
    pub(super) const fn new(buffer: usize, max_message: usize) -> Option<Self> {
        if buffer == 0 || buffer > MAX_BYTES || max_message > MAX_BYTES {
            return None;
        }
        Some(Self { words: buffer.div_ceil(8), max_message })
    }

    /// How many words are copied, at most, before the other side sees them, so that both sides copy
    /// at the same time: a quarter of the buffer, and at least 4 KiB.
    pub(super) fn piece(&self) -> usize {
        (self.words / 4).max(512)
    }

    /// Total cells.
    pub(super) const fn total(&self) -> usize {
        BUFFER + self.words
    }

    fn fields(&self, tag: u64) -> [u64; 5] {
        [VERSION, tag, self.words as u64, self.max_message as u64, self.total() as u64]
    }

    /// Turns zeroed cells that no other process has yet into a queue.
    pub(super) fn write(&self, cells: &[AtomicU64], tag: u64) {
        header::write(cells, MAGIC, self.fields(tag));
    }

    /// The layout of a queue that another process made.
    ///
    /// # Errors
    /// The first field that does not fit, by name.
    #[cfg(not(loom))]
    pub(super) fn check(cells: &[AtomicU64], tag: u64) -> Result<Self, AttachError> {
        let header = header::Found::new(cells, HEADER)?;
        header.expect(0, "magic of a queue", MAGIC)?;
        header.expect(1, "layout version", VERSION)?;
        header.expect(2, "tag", tag)?;
        let limit = MAX_BYTES as u64;
        let words = header.number(3, "words of the buffer", limit / 8)?;
        let max_message = header.number(4, "longest message", limit)?;
        let no_layout =
            AttachError::Header { field: "words of the buffer", expected: 1, found: words };
        // Both fit: they are at most the limit.
        let layout = Self::new(words as usize * 8, max_message as usize).ok_or(no_layout)?;
        header.expect(5, "total cells", layout.total() as u64)?;
        header.expect_hash(layout.fields(tag))?;
        if cells.len() < layout.total() {
            return Err(header::too_short(cells, layout.total()));
        }
        Ok(layout)
    }
}
