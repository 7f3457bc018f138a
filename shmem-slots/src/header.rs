//! The header: what a region is, so that attach refuses what does not fit. Pure but for the stores.
//!
//! | cell | field |
//! |---|---|
//! | 0 | magic |
//! | 1 | layout version of this crate |
//! | 2 | tag of the upper layer |
//! | 3 | capacity |
//! | 4 | cells of a payload |
//! | 5 | cells of a report |
//! | 6 | shared cells |
//! | 7 | cells in all |
//! | 8 | hash of 1 to 7 |
//!
//! The very last cell of the region holds the end mark.
//!
//! The magic is stored last: a region that is half made has none. Read back, every field is
//! untrusted; what is used afterwards is computed anew from the checked values.

#[cfg(not(loom))]
use crate::cell::load_acquire;
#[cfg(not(loom))]
use crate::error::AttachError;
use crate::hints::Hints;
#[cfg(not(loom))]
use crate::layout::{HEADER, MAX_CAPACITY};
use crate::layout::{Layout, Shape};
use crate::primitive::{AtomicU64, Ordering};
use crate::slots::Options;
use crate::word::Snapshot;

const MAGIC: u64 = u64::from_be_bytes(*b"shmslots");
const VERSION: u64 = 1;
/// In the last cell. A file that was cut anywhere has none, also when it was made longer again.
#[cfg(not(loom))]
pub(crate) const END: u64 = u64::from_be_bytes(*b"slotsend");

pub(crate) const fn hash<const N: usize>(fields: [u64; N]) -> u64 {
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

fn fields(layout: &Layout, tag: u64) -> [u64; 7] {
    let Shape { capacity, payload_cells, report_cells, shared_cells } = layout.shape;
    [
        VERSION,
        tag,
        u64::from(capacity),
        payload_cells as u64,
        report_cells as u64,
        u64::from(shared_cells),
        layout.total as u64,
    ]
}

/// Makes a region out of zeroed cells that nobody else has yet. Touches only the header and the
/// hints, but for another first generation than 0.
pub(crate) fn write(cells: &[AtomicU64], layout: &Layout, options: &Options) {
    let fields = fields(layout, options.tag);
    for (cell, field) in cells.iter().skip(1).zip(fields) {
        cell.store(field, Ordering::Relaxed);
    }
    if let Some(cell) = cells.get(8) {
        cell.store(hash(fields), Ordering::Relaxed);
    }
    if options.first_generation != 0 {
        let word = Snapshot::vacant(options.first_generation).bits();
        for index in 0..options.capacity {
            if let Some(cell) = cells.get(layout.line(index, 0)) {
                cell.store(word, Ordering::Relaxed);
            }
        }
    }
    Hints::new(cells, &layout.free).set_all();
    #[cfg(not(loom))]
    if let Some(cell) = cells.get(layout.end()) {
        cell.store(END, Ordering::Relaxed);
    }
    if let Some(cell) = cells.first() {
        cell.store(MAGIC, Ordering::Release);
    }
}

/// True while the header says what it said when the region was made or attached.
pub(crate) fn is_intact(cells: &[AtomicU64], layout: &Layout) -> bool {
    // The tag is covered by the hash.
    let tag = cells.get(2).map_or(0, |cell| cell.load(Ordering::Relaxed));
    let fields = fields(layout, tag);
    let wanted = std::iter::once(MAGIC).chain(fields).chain(std::iter::once(hash(fields)));
    cells.iter().zip(wanted).all(|(cell, field)| cell.load(Ordering::Relaxed) == field)
}

/// The layout of a region that somebody else made, whose payloads must have the sizes of `wanted`
/// (its capacity and shared cells are the region's to say).
///
/// # Errors
/// The first field that does not fit, by name.
#[cfg(not(loom))]
pub(crate) fn check(cells: &[AtomicU64], wanted: Shape, tag: u64) -> Result<Layout, AttachError> {
    let short = |expected: usize| AttachError::Short {
        expected: expected as u64 * 8,
        found: cells.len() as u64 * 8,
    };
    let header = cells.get(..HEADER).ok_or_else(|| short(HEADER))?;
    let found = |at: usize| header.get(at).map_or(0, load_acquire);
    let expect = |at: usize, field: &'static str, expected: u64| {
        let found = found(at);
        if found == expected {
            return Ok(());
        }
        Err(AttachError::Header { field, expected, found })
    };
    expect(0, "magic", MAGIC)?;
    expect(1, "layout version", VERSION)?;
    expect(2, "tag", tag)?;
    expect(4, "payload size in words", wanted.payload_cells as u64)?;
    expect(5, "report size in words", wanted.report_cells as u64)?;
    let number = |at: usize, field: &'static str, limit: u32| {
        let found = found(at);
        u32::try_from(found).ok().filter(|&number| number <= limit).ok_or(AttachError::Header {
            field,
            expected: u64::from(limit),
            found,
        })
    };
    let capacity = number(3, "capacity", MAX_CAPACITY)?;
    let shared_cells = number(6, "shared cells", u32::MAX)?;
    let layout =
        Shape { capacity, shared_cells, ..wanted }.layout().ok_or(AttachError::Header {
            field: "capacity",
            expected: 1,
            found: u64::from(capacity),
        })?;
    expect(7, "cells in all", layout.total as u64)?;
    expect(8, "layout hash", hash(fields(&layout, tag)))?;
    if cells.len() < layout.total {
        return Err(short(layout.total));
    }
    let found = cells.get(layout.end()).map_or(0, load_acquire);
    if found != END {
        return Err(AttachError::Header { field: "end mark", expected: END, found });
    }
    Ok(layout)
}
