//! A header: fields that say what a region is, so that attach refuses one that does not fit.
//!
//! | cell | holds |
//! |---|---|
//! | 0 | the magic |
//! | 1 to n | the fields |
//! | n + 1 | the hash of the fields |
//!
//! The magic is stored last: a region that is only half made has none. Read back, every field is
//! untrusted. Attach recomputes everything from the values that it has checked.

#[cfg(not(loom))]
use crate::cell::load_acquire;
#[cfg(not(loom))]
use crate::error::AttachError;
use crate::primitive::{AtomicU64, Ordering};

/// FNV-1a over the bytes of the fields.
const fn hash<const N: usize>(fields: [u64; N]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < fields.len() {
        let bytes = fields[at].to_le_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            hash = (hash ^ bytes[byte] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            byte += 1;
        }
        at += 1;
    }
    hash
}

/// Writes a header: into cells that no other process has yet, or over a spoiled one.
pub(crate) fn write<const N: usize>(cells: &[AtomicU64], magic: u64, fields: [u64; N]) {
    for (cell, value) in cells.iter().skip(1).zip(fields.into_iter().chain([hash(fields)])) {
        cell.store(value, Ordering::Relaxed);
    }
    if let Some(cell) = cells.first() {
        cell.store(magic, Ordering::Release);
    }
}

/// What a region was seen to say of itself: its magic, its fields, and their hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<const N: usize> {
    magic: u64,
    fields: [u64; N],
    hash: u64,
}

impl<const N: usize> Said<N> {
    pub(crate) const fn new(magic: u64, fields: [u64; N]) -> Self {
        Self { magic, fields, hash: hash(fields) }
    }

    /// The field of cell `at`.
    pub(crate) fn field(&self, at: usize) -> Option<u64> {
        self.fields.get(at.checked_sub(1)?).copied()
    }

    /// True if the cells hold exactly this header.
    pub(crate) fn is_in(&self, cells: &[AtomicU64]) -> bool {
        let wanted = [self.magic].into_iter().chain(self.fields).chain([self.hash]);
        cells.iter().zip(wanted).all(|(cell, field)| cell.load(Ordering::Relaxed) == field)
    }
}

/// The header of a region that another process made.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a>(&'a [AtomicU64]);

#[cfg(not(loom))]
impl<'a> Found<'a> {
    /// # Errors
    /// A region that is shorter than `header` cells.
    pub(crate) fn new(cells: &'a [AtomicU64], header: usize) -> Result<Self, AttachError> {
        cells.get(..header).map(Self).ok_or_else(|| too_short(cells, header))
    }

    fn field(self, at: usize) -> u64 {
        self.0.get(at).map_or(0, load_acquire)
    }

    /// # Errors
    /// Another value than `expected`; the error names the field.
    pub(crate) fn expect(
        self,
        at: usize,
        field: &'static str,
        expected: u64,
    ) -> Result<(), AttachError> {
        let found = self.field(at);
        if found == expected {
            return Ok(());
        }
        Err(AttachError::Header { field, expected, found })
    }

    /// # Errors
    /// A value above `limit`; the error names the field.
    pub(crate) fn number(
        self,
        at: usize,
        field: &'static str,
        limit: u64,
    ) -> Result<u64, AttachError> {
        let found = self.field(at);
        if found <= limit {
            return Ok(found);
        }
        Err(AttachError::Header { field, expected: limit, found })
    }

    /// # Errors
    /// Another hash than that of `fields`.
    pub(crate) fn expect_hash<const N: usize>(self, fields: [u64; N]) -> Result<(), AttachError> {
        self.expect(N + 1, "layout hash", hash(fields))
    }
}

/// The error for a region of fewer than `expected` cells.
#[cfg(not(loom))]
pub(crate) fn too_short(cells: &[AtomicU64], expected: usize) -> AttachError {
    AttachError::Short { expected: expected as u64 * 8, found: cells.len() as u64 * 8 }
}
