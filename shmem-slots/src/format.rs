//! What a region of slots says about itself: its header and its end mark.
//!
//! | cell | field |
//! |---|---|
//! | 0 | magic |
//! | 1 | layout version of this crate |
//! | 2 | tag of the layer above |
//! | 3 | capacity |
//! | 4 | cells of a payload |
//! | 5 | cells of a report |
//! | 6 | shared cells |
//! | 7 | cells of an annex |
//! | 8 | spare sets of slot cells |
//! | 9 | total cells |
//! | 10 | hash of 1 to 9 |
//! | 15 | not checked: how many ends somebody kept, see `keep.rs` |
//!
//! The very last cell of the region holds the end mark.

#[cfg(not(loom))]
use crate::cell::load_acquire;
#[cfg(not(loom))]
use crate::error::AttachError;
use crate::header;
use crate::hints::Hints;
#[cfg(not(loom))]
use crate::layout::HEADER;
use crate::layout::{Layout, WORD};
#[cfg(not(loom))]
use crate::options::MAX_CAPACITY;
use crate::options::{Options, Shape};
use crate::primitive::{AtomicU64, Ordering};
use crate::word::Snapshot;

const MAGIC: u64 = u64::from_be_bytes(*b"shmslots");
const VERSION: u64 = 7;
/// In the last cell. A file that was cut anywhere has no such mark, even if it was extended again.
#[cfg(not(loom))]
pub(crate) const END: u64 = u64::from_be_bytes(*b"slotsend");

fn fields(layout: &Layout, tag: u64) -> [u64; 9] {
    let Shape { capacity, payload_cells, report_cells, shared_cells, annex_cells, spare_sets } =
        layout.shape;
    [
        VERSION,
        tag,
        u64::from(capacity),
        payload_cells as u64,
        report_cells as u64,
        u64::from(shared_cells),
        u64::from(annex_cells),
        u64::from(spare_sets),
        layout.total as u64,
    ]
}

/// Turns zeroed cells that no other process has yet into a region. Touches only the header and the
/// hints, unless slots begin with another generation than 0.
pub(crate) fn write(cells: &[AtomicU64], layout: &Layout, options: &Options) {
    if options.first_generation != 0 {
        let word = Snapshot::vacant(options.first_generation).bits();
        for index in 0..options.capacity {
            if let Some(cell) = cells.get(layout.line(index, WORD)) {
                cell.store(word, Ordering::Relaxed);
            }
        }
    }
    Hints::new(cells, &layout.free).set_all();
    restore(cells, layout, options.tag);
}

/// Writes header and end mark.
pub(crate) fn restore(cells: &[AtomicU64], layout: &Layout, tag: u64) {
    #[cfg(not(loom))]
    if let Some(cell) = cells.get(layout.end()) {
        cell.store(END, Ordering::Relaxed);
    }
    header::write(cells, MAGIC, fields(layout, tag));
}

/// What a region says of itself.
pub(crate) type Said = header::Said<9>;

/// What the header says of a region that was made or attached just now.
pub(crate) fn said(cells: &[AtomicU64], layout: &Layout) -> Said {
    let tag = cells.get(2).map_or(0, |cell| cell.load(Ordering::Relaxed));
    Said::new(MAGIC, fields(layout, tag))
}

/// True while the header is `said`, that of a region with `tag`.
pub(crate) fn is_intact(cells: &[AtomicU64], said: &Said, tag: u64) -> bool {
    said.field(2) == Some(tag) && said.is_in(cells)
}

/// The layout of a region that another process made. Its payloads must have the sizes of `wanted`;
/// its capacity, its cells and its annexes are taken from the region.
///
/// # Errors
/// The first field that does not fit, by name.
#[cfg(not(loom))]
pub(crate) fn check(cells: &[AtomicU64], wanted: Shape, tag: u64) -> Result<Layout, AttachError> {
    let header = header::Found::new(cells, HEADER)?;
    header.expect(0, "magic", MAGIC)?;
    header.expect(1, "layout version", VERSION)?;
    header.expect(2, "tag", tag)?;
    header.expect(4, "payload size in words", wanted.payload_cells as u64)?;
    header.expect(5, "report size in words", wanted.report_cells as u64)?;
    // Both fit: they are at most the limit.
    let capacity = header.number(3, "capacity", u64::from(MAX_CAPACITY))? as u32;
    let shared_cells = header.number(6, "shared cells", u64::from(u32::MAX))? as u32;
    let annex_cells = header.number(7, "cells of an annex", u64::from(u32::MAX))? as u32;
    let spare_sets = header.number(8, "spare sets", u64::from(MAX_CAPACITY))? as u32;
    let shape = Shape { capacity, shared_cells, annex_cells, spare_sets, ..wanted };
    let no_layout =
        AttachError::Header { field: "capacity", expected: 1, found: u64::from(capacity) };
    let layout = shape.layout().ok_or(no_layout)?;
    header.expect(9, "total cells", layout.total as u64)?;
    header.expect_hash(fields(&layout, tag))?;
    if cells.len() < layout.total {
        return Err(header::too_short(cells, layout.total));
    }
    let found = cells.get(layout.end()).map_or(0, load_acquire);
    if found != END {
        return Err(AttachError::Header { field: "end mark", expected: END, found });
    }
    Ok(layout)
}
