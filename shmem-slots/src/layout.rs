//! Where each cell lies. Pure.
//!
//! A region is an array of 64-bit cells. Each of its parts begins on a cache line:
//!
//! | part | cells | touched by |
//! |---|---|---|
//! | header | 16, the last of them counts ends | attach; the manager |
//! | shared cells | as requested | the layer above |
//! | hint trees: free, changed, ended | about 1/64 of a cell a slot each | claim, publish, manager |
//! | holds | 8, the first of them counts those in use; then one a hold | waiters, manager |
//! | slot lines | 8 a slot: word, payload length, report count, when it ended | whoever looks |
//! | slot cells | 8 a set: one for each slot, then the spare ones | the layer above |
//! | reports | three buffers a slot | the manager, waiters |
//! | payload heads | the first 512 bytes of `T` a slot | the claimer, readers |
//! | payload tails | the rest of `T` a slot | the same, where it is not zero |
//! | further slot cells | 24 a set | the layer above |
//! | annexes | four a slot, as large as requested: its reports' and its tenant's own; one a spare set | who has more to say |
//! | end | 8, the last of them the end mark | regions in named files: a truncation removes it |
//!
//! Tails, further cells and annexes lie apart, so that what few slots use costs no memory until it
//! is used.

use crate::options::Shape;
use std::ops::Range;

/// Cells in a cache line.
pub(crate) const LINE: usize = 8;
/// The slot cells that do not lie in the line of their set.
const FURTHER: usize = 3 * LINE;
/// All slot cells of a set.
pub(crate) const SLOT_CELLS: usize = LINE + FURTHER;
/// Cells of the header.
pub(crate) const HEADER: usize = 16;
/// The header cell in which the manager counts the ends that somebody keeps.
pub(crate) const ENDS: usize = HEADER - 1;
/// How many holds of waiters there can be at a time.
pub const HOLDS: u32 = if cfg!(loom) { 2 } else { 4096 };
/// Report buffers of a slot: the last two reports, and the one that a reset has set aside.
pub(crate) const REPORT_BUFFERS: usize = 3;
/// The annex that is the tenant's own comes after those of the report buffers.
pub(crate) const OWN_ANNEX: usize = REPORT_BUFFERS;
/// Annexes of a slot.
const ANNEXES: usize = REPORT_BUFFERS + 1;
/// The largest number of levels that a hint tree has: 64 to the power of 4 is beyond any capacity.
pub(crate) const MAX_LEVELS: usize = 4;

/// Places in a slot's line.
pub(crate) const WORD: usize = 0;
pub(crate) const PAYLOAD_LEN: usize = 1;
pub(crate) const REPORT_COUNT: usize = 2;
pub(crate) const ENDED_AT: usize = 3;

/// One hint tree: the first cell of each level, leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreePlan {
    pub(crate) levels: usize,
    pub(crate) starts: [usize; MAX_LEVELS],
    pub(crate) capacity: u32,
}

/// The first cell of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    pub(crate) shared: usize,
    pub(crate) free: TreePlan,
    pub(crate) changed: TreePlan,
    pub(crate) ended: TreePlan,
    pub(crate) holds: usize,
    pub(crate) lines: usize,
    pub(crate) slot_cells: usize,
    pub(crate) reports: usize,
    pub(crate) heads: usize,
    pub(crate) tails: usize,
    pub(crate) further: usize,
    pub(crate) annexes: usize,
    pub(crate) total: usize,
}

const fn aligned(cell: usize) -> usize {
    cell.div_ceil(LINE) * LINE
}

impl TreePlan {
    const fn at(start: usize, capacity: u32) -> (Self, usize) {
        let mut starts = [0; MAX_LEVELS];
        let mut next = start;
        let mut level = 0;
        let mut bits = capacity as usize;
        loop {
            starts[level] = next;
            let cells = bits.div_ceil(64);
            next = aligned(next + cells);
            level += 1;
            if cells == 1 || level == MAX_LEVELS {
                break;
            }
            bits = cells;
        }
        (Self { levels: level, starts, capacity }, next)
    }
}

impl Shape {
    /// The layout, or `None` when the capacity is out of range or the sizes overflow.
    pub(crate) fn layout(self) -> Option<Layout> {
        if !self.capacity_is_valid() {
            return None;
        }
        let (slots, sets) = (self.capacity as usize, self.sets() as usize);
        let shared = HEADER;
        let trees = aligned(shared.checked_add(self.shared_cells as usize)?);
        let (free, next) = TreePlan::at(trees, self.capacity);
        let (changed, next) = TreePlan::at(next, self.capacity);
        let (ended, holds) = TreePlan::at(next, self.capacity);
        let lines = aligned(holds + LINE + HOLDS as usize);
        let parts = |start: usize, count: usize, cells: usize| {
            Some(aligned(start.checked_add(count.checked_mul(cells)?)?))
        };
        let part = |start: usize, cells: usize| parts(start, slots, cells);
        let slot_cells = part(lines, LINE)?;
        let reports = parts(slot_cells, sets, LINE)?;
        let heads = part(reports, self.report_buffer().checked_mul(REPORT_BUFFERS)?)?;
        let tails = part(heads, self.head())?;
        let further = part(tails, self.tail())?;
        let annexes = parts(further, sets, FURTHER)?;
        let annex = self.annex_cells as usize;
        let spare = annexes.checked_add(slots.checked_mul(ANNEXES)?.checked_mul(annex)?)?;
        let total = parts(spare, self.spare_sets as usize, annex)?;
        let total = total.checked_add(LINE)?;
        total.checked_mul(8)?;
        let shape = self;
        Some(Layout {
            shape,
            shared,
            free,
            changed,
            ended,
            holds,
            lines,
            slot_cells,
            reports,
            heads,
            tails,
            further,
            annexes,
            total,
        })
    }
}

impl Layout {
    #[inline]
    pub(crate) const fn line(&self, index: u32, place: usize) -> usize {
        self.lines + index as usize * LINE + place
    }

    /// The cell of hold `number`, which is below [`HOLDS`].
    pub(crate) const fn hold(&self, number: u32) -> usize {
        self.holds + LINE + number as usize
    }

    /// The cell of the end mark: the last one.
    #[cfg(not(loom))]
    pub(crate) const fn end(&self) -> usize {
        self.total - 1
    }

    /// `place` is below [`SLOT_CELLS`].
    pub(crate) const fn slot_cell(&self, index: u32, place: usize) -> usize {
        match place.checked_sub(LINE) {
            None => self.slot_cells + index as usize * LINE + place,
            Some(further) => self.further + index as usize * FURTHER + further,
        }
    }

    /// The cells of the head of slot `index`'s payload.
    pub(crate) const fn head(&self, index: u32) -> Range<usize> {
        let len = self.shape.head();
        let start = self.heads + index as usize * len;
        start..start + len
    }

    /// The cells of its tail.
    pub(crate) const fn tail(&self, index: u32) -> Range<usize> {
        let len = self.shape.tail();
        let start = self.tails + index as usize * len;
        start..start + len
    }

    /// The first cell (its number) of report buffer `which` of slot `index`.
    pub(crate) const fn report(&self, index: u32, which: usize) -> usize {
        self.reports + (index as usize * REPORT_BUFFERS + which) * self.shape.report_buffer()
    }

    /// The cells of annex `which` of slot `index`: that of a report buffer, or [`OWN_ANNEX`].
    pub(crate) const fn annex(&self, index: u32, which: usize) -> Range<usize> {
        self.annex_at(index as usize * ANNEXES + which)
    }

    /// The own annex of set `index`.
    pub(crate) const fn own_annex(&self, index: u32) -> Range<usize> {
        match index.checked_sub(self.shape.capacity) {
            None => self.annex(index, OWN_ANNEX),
            Some(spare) => self.annex_at(self.shape.capacity as usize * ANNEXES + spare as usize),
        }
    }

    const fn annex_at(&self, number: usize) -> Range<usize> {
        let len = self.shape.annex_cells as usize;
        let start = self.annexes + number * len;
        start..start + len
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::options::MAX_CAPACITY;

    fn shape(capacity: u32) -> Shape {
        Shape {
            capacity,
            payload_cells: 200,
            report_cells: 7,
            shared_cells: 20,
            annex_cells: 13,
            spare_sets: 3,
        }
    }

    #[test]
    fn parts_do_not_overlap_and_begin_on_a_line() {
        for capacity in [1, 7, 8, 64, 65, 4096, 65_536, MAX_CAPACITY] {
            let layout = shape(capacity).layout().unwrap();
            let (slots, last) = (capacity as usize, capacity + 2);
            let bounds = [
                layout.shared,
                layout.free.starts[0],
                layout.changed.starts[0],
                layout.ended.starts[0],
                layout.holds,
                layout.lines,
                layout.slot_cells,
                layout.reports,
                layout.heads,
                layout.tails,
                layout.further,
                layout.annexes,
                layout.total,
            ];
            assert!(bounds.is_sorted(), "{bounds:?}");
            assert!(bounds.iter().all(|start| start % LINE == 0), "{bounds:?}");
            assert!(layout.hold(HOLDS - 1) < layout.lines);
            assert_eq!(layout.line(capacity - 1, 7) + 1, layout.lines + slots * LINE);
            assert!(layout.line(capacity - 1, 7) < layout.slot_cells);
            assert!(layout.slot_cell(last, 7) < layout.reports);
            assert!(layout.report(capacity - 1, REPORT_BUFFERS - 1) + 9 <= layout.heads);
            assert!(layout.head(capacity - 1).end <= layout.tails);
            assert!(layout.tail(capacity - 1).end <= layout.further);
            assert_eq!(layout.slot_cell(0, 8), layout.further);
            assert!(layout.slot_cell(last, SLOT_CELLS - 1) < layout.annexes);
            assert_eq!(layout.annex(0, 0).start, layout.annexes);
            assert_eq!(layout.annex(0, 1).start, layout.annex(0, 0).end);
            assert_eq!(layout.own_annex(capacity - 1), layout.annex(capacity - 1, OWN_ANNEX));
            assert_eq!(layout.own_annex(capacity).start, layout.own_annex(capacity - 1).end);
            assert!(layout.own_annex(last).end <= layout.total - LINE);
        }
    }

    #[test]
    fn trees_have_as_many_levels_as_they_need() {
        for (capacity, levels) in [(1, 1), (64, 1), (65, 2), (4096, 2), (4097, 3), (65_536, 3)] {
            assert_eq!(shape(capacity).layout().unwrap().free.levels, levels, "{capacity}");
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert_eq!(shape(0).layout(), None);
        assert_eq!(shape(MAX_CAPACITY + 1).layout(), None);
        let huge = Shape { payload_cells: usize::MAX / 2, ..shape(8) };
        assert_eq!(huge.layout(), None);
    }
}
