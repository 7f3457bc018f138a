//! Where the cells of a queue lie, and its header. Pure but for the loads and stores of the header.
//!
//! | cells | what | written by |
//! |---|---|---|
//! | 0 to 15 | header: magic, version, tag, words of the buffer, longest message, cells in all, hash | the creator |
//! | 16 | words written | the sender |
//! | 24, 25 | the sender's standing, its announcement | the sender; the receiver takes the latter back |
//! | 32 | words read | the receiver |
//! | 40, 41 | the receiver's standing, its announcement | the receiver; the sender takes the latter back |
//! | 48 and on | the buffer | the sender |
//!
//! The two positions have cache lines of their own, and the two lines do not lie in one pair of lines
//! (which some processors fetch together). Standing and announcement change rarely, so the look at
//! them after each piece stays in the looker's cache.

#[cfg(not(loom))]
use crate::cell::load_acquire;
#[cfg(not(loom))]
use crate::error::AttachError;
use crate::header::hash;
use crate::primitive::{AtomicU64, Ordering};

const MAGIC: u64 = u64::from_be_bytes(*b"shmqueue");
const VERSION: u64 = 1;
/// The longest buffer and the longest message, in bytes: 1 GiB.
pub const MAX_BYTES: usize = 1 << 30;

pub(super) const WRITTEN: usize = 16;
pub(super) const SENDER: usize = 24;
pub(super) const READ: usize = 32;
pub(super) const RECEIVER: usize = 40;
pub(super) const BUFFER: usize = 48;

/// What a new queue is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Bytes of the buffer, 1 to [`MAX_BYTES`], rounded up to a multiple of 8. Each message takes 8
    /// bytes besides its own, which are rounded up likewise. Longer messages pass in pieces.
    pub buffer: usize,
    /// The longest message in bytes, 0 to [`MAX_BYTES`]: what a receiver is ready to allocate,
    /// whatever a spoilt queue says.
    pub max_message: usize,
    /// A number that stands for what the messages mean: attach refuses another one.
    pub tag: u64,
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

    /// How many words are copied before the other side is shown them, at most: so that both sides copy
    /// at the same time. A quarter of the buffer; less than 4 KiB is not worth it.
    pub(super) fn piece(&self) -> usize {
        (self.words / 4).max(512)
    }

    /// Cells in all.
    pub(super) const fn total(&self) -> usize {
        BUFFER + self.words
    }

    fn fields(&self, tag: u64) -> [u64; 5] {
        [VERSION, tag, self.words as u64, self.max_message as u64, self.total() as u64]
    }

    /// Makes a queue out of zeroed cells that nobody else has yet. The magic is stored last.
    pub(super) fn write(&self, cells: &[AtomicU64], tag: u64) {
        let fields = self.fields(tag);
        let values = fields.into_iter().chain([hash(fields)]);
        for (cell, value) in cells.iter().skip(1).zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
        if let Some(cell) = cells.first() {
            cell.store(MAGIC, Ordering::Release);
        }
    }

    /// The layout of a queue that somebody else made.
    ///
    /// # Errors
    /// The first field that does not fit, by name.
    #[cfg(not(loom))]
    pub(super) fn check(cells: &[AtomicU64], tag: u64) -> Result<Self, AttachError> {
        let short = |expected: usize| AttachError::Short {
            expected: expected as u64 * 8,
            found: cells.len() as u64 * 8,
        };
        let header = cells.get(..WRITTEN).ok_or_else(|| short(BUFFER))?;
        let found = |at: usize| header.get(at).map_or(0, load_acquire);
        let expect = |at: usize, field: &'static str, expected: u64| {
            let found = found(at);
            if found == expected {
                return Ok(());
            }
            Err(AttachError::Header { field, expected, found })
        };
        expect(0, "magic of a queue", MAGIC)?;
        expect(1, "layout version", VERSION)?;
        expect(2, "tag", tag)?;
        let size = |at: usize, field: &'static str, limit: usize| {
            let found = found(at);
            let size = usize::try_from(found).ok().filter(|&size| size <= limit);
            size.ok_or(AttachError::Header { field, expected: limit as u64, found })
        };
        let words = size(3, "words of the buffer", MAX_BYTES / 8)?;
        let max_message = size(4, "longest message", MAX_BYTES)?;
        let layout = Self::new(words * 8, max_message).ok_or(AttachError::Header {
            field: "words of the buffer",
            expected: 1,
            found: words as u64,
        })?;
        expect(5, "cells in all", layout.total() as u64)?;
        expect(6, "layout hash", hash(layout.fields(tag)))?;
        if cells.len() < layout.total() {
            return Err(short(layout.total()));
        }
        Ok(layout)
    }
}
