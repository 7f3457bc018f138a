//! Where the cells of a ring lie, and what its header says.
//!
//! | cells | what |
//! |---|---|
//! | 0 to 15 | header: magic, version, tag, entries, cells of a value, total cells, hash |
//! | 16 | the count: how many values were appended |
//! | 32 on | the entries: a number and a value each, in whole cache lines |
//!
//! The writer writes them all. The count has a pair of lines of its own: sleeping readers look at
//! it, and the writer's next value lies elsewhere.

#[cfg(not(loom))]
use crate::error::AttachError;
use crate::header;
use crate::primitive::AtomicU64;

const MAGIC: u64 = u64::from_be_bytes(*b"shm-ring");
const VERSION: u64 = 1;
/// The largest number of entries of a ring.
pub const MAX_ENTRIES: u32 = 1 << 20;
/// The largest number of cells of a value: 64 KiB.
const MAX_VALUE: usize = 1 << 13;

#[cfg(not(loom))]
const HEADER: usize = 16;
pub(super) const COUNT: usize = 16;
const ENTRIES: usize = 32;
const LINE: usize = 8;

/// Settings of a new ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// How many values the ring keeps, 1 to [`MAX_ENTRIES`].
    pub entries: u32,
    /// A number that stands for the meaning of the values: attach refuses any other.
    pub tag: u64,
}

/// The sizes of a ring, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) entries: u32,
    /// Cells of a value.
    pub(super) value: usize,
}

impl Layout {
    /// `None`: out of range.
    pub(super) const fn new(entries: u32, value_bytes: usize) -> Option<Self> {
        let value = value_bytes.div_ceil(8);
        if entries == 0 || entries > MAX_ENTRIES || value > MAX_VALUE {
            return None;
        }
        Some(Self { entries, value })
    }

    /// Cells from one entry to the next: its number and its value.
    const fn stride(&self) -> usize {
        (1 + self.value).next_multiple_of(LINE)
    }

    /// Total cells.
    pub(super) const fn total(&self) -> usize {
        ENTRIES + self.entries as usize * self.stride()
    }

    /// The first cell of the entry of value `number`.
    pub(super) const fn entry(&self, number: u64) -> usize {
        // Less than the entries, so it fits. They are never 0.
        ENTRIES + (number % self.entries as u64) as usize * self.stride()
    }

    fn fields(&self, tag: u64) -> [u64; 5] {
        [VERSION, tag, u64::from(self.entries), self.value as u64, self.total() as u64]
    }

    /// Turns zeroed cells that no other process has yet into a ring.
    pub(super) fn write(&self, cells: &[AtomicU64], tag: u64) {
        header::write(cells, MAGIC, self.fields(tag));
    }

    /// The layout of a ring that another process made, of values of `value_bytes` bytes.
    ///
    /// # Errors
    /// The first field that does not fit, by name.
    #[cfg(not(loom))]
    pub(super) fn check(
        cells: &[AtomicU64],
        value_bytes: usize,
        tag: u64,
    ) -> Result<Self, AttachError> {
        let header = header::Found::new(cells, HEADER)?;
        header.expect(0, "magic of a ring", MAGIC)?;
        header.expect(1, "layout version", VERSION)?;
        header.expect(2, "tag", tag)?;
        // It fits: it is at most the limit.
        let entries = header.number(3, "entries", u64::from(MAX_ENTRIES))? as u32;
        let none = AttachError::Header { field: "entries", expected: 1, found: u64::from(entries) };
        let layout = Self::new(entries, value_bytes).ok_or(none)?;
        header.expect(4, "value size in words", layout.value as u64)?;
        header.expect(5, "total cells", layout.total() as u64)?;
        header.expect_hash(layout.fields(tag))?;
        if cells.len() < layout.total() {
            return Err(header::too_short(cells, layout.total()));
        }
        Ok(layout)
    }
}
