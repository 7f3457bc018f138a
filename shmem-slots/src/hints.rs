//! A tree of bitmaps: which slots may be free, which may have changed, which may be ended and
//! unread.
//!
//! Level 0 has one bit a slot. A bit of level n+1 says that a cell of level n may have a bit set. A
//! wrong hint costs time and never correctness: whoever follows one looks at the slot's word.
//!
//! | operation | order |
//! |---|---|
//! | `set` | the leaf first, then each level above, always all of them |
//! | `clear` | the leaf; if its cell became 0, the bit above; then the cell is loaded again, and if a bit was set meanwhile, the bit above is set again |
//!
//! Ordering (H1). All of these are read-modify-writes with AcqRel. Let a clearer clear a bit above
//! a cell while a setter sets a bit in the cell and then the bit above. If the setter's write above
//! comes after the clearer's, the bit above stays set. If it comes before, the clearer's write
//! synchronizes with it, so the clearer's second load of the cell sees the setter's bit.
//!
//! Crash. A setter killed between two levels leaves a bit that is not found from above until the
//! next `set` in that cell. The users of a tree say why that is harmless for them. A clearer killed
//! before its second load may leave the same.
//!
//! Trust. A walk visits each leaf bit at most once and ignores bits beyond the capacity, so any
//! bits cost one bounded pass.

use crate::layout::{MAX_LEVELS, TreePlan};
use crate::primitive::{AtomicU64, Ordering};
use std::ops::Range;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Hints<'a> {
    cells: &'a [AtomicU64],
    plan: &'a TreePlan,
}

impl<'a> Hints<'a> {
    pub(crate) const fn new(cells: &'a [AtomicU64], plan: &'a TreePlan) -> Self {
        Self { cells, plan }
    }

    /// The cell that holds bit `bit` of `level`.
    fn cell(&self, level: usize, bit: usize) -> &'a AtomicU64 {
        // In range: the layout gives each level one cell for 64 bits, `bit` is below the capacity
        // on level 0 and below the number of cells of the level beneath on the others; the
        // region was checked for all cells of the layout when it was created or attached.
        &self.cells[self.plan.starts[level] + bit / 64]
    }

    /// Hints at slot `index`.
    pub(crate) fn set(&self, index: u32) {
        let mut bit = index as usize;
        for level in 0..self.plan.levels {
            self.cell(level, bit).fetch_or(1 << (bit % 64), Ordering::AcqRel); // H1
            bit /= 64;
        }
    }

    /// Takes the hint at slot `index` back. The caller then looks at the slot once more.
    pub(crate) fn clear(&self, index: u32) {
        let mut bit = index as usize;
        let before = self.cell(0, bit).fetch_and(!(1 << (bit % 64)), Ordering::AcqRel);
        let mut empty = before & !(1 << (bit % 64)) == 0;
        for level in 1..self.plan.levels {
            if !empty {
                return;
            }
            let below = self.cell(level - 1, bit);
            bit /= 64;
            let mask = 1 << (bit % 64);
            let before = self.cell(level, bit).fetch_and(!mask, Ordering::AcqRel); // H1
            empty = before & !mask == 0;
            if below.load(Ordering::Acquire) != 0 {
                self.set_above(level, bit);
                return;
            }
        }
    }

    fn set_above(&self, level: usize, mut bit: usize) {
        for level in level..self.plan.levels {
            self.cell(level, bit).fetch_or(1 << (bit % 64), Ordering::AcqRel);
            bit /= 64;
        }
    }

    /// True if no bit is set: one load.
    pub(crate) fn is_empty(&self) -> bool {
        self.cell(self.plan.levels - 1, 0).load(Ordering::Acquire) == 0
    }

    /// Hints at all slots.
    pub(crate) fn set_all(&self) {
        let mut bits = self.plan.capacity as usize;
        for level in 0..self.plan.levels {
            let mut first = 0;
            while first < bits {
                let count = (bits - first).min(64);
                let value = if count == 64 { u64::MAX } else { (1 << count) - 1 };
                self.cell(level, first).store(value, Ordering::Release);
                first += 64;
            }
            bits = bits.div_ceil(64);
        }
    }

    /// Takes all hints back.
    pub(crate) fn clear_all(&self) {
        let mut bits = self.plan.capacity as usize;
        for level in 0..self.plan.levels {
            for first in (0..bits).step_by(64) {
                self.cell(level, first).store(0, Ordering::Release);
            }
            bits = bits.div_ceil(64);
        }
    }

    /// Visits the slots that are hinted at, in ascending order, until `visit` returns a value. Each
    /// cell is loaded once, when the walk reaches it.
    pub(crate) fn find<V>(&self, visit: impl FnMut(u32) -> Option<V>) -> Option<V> {
        self.find_in(0..self.plan.capacity, visit)
    }

    /// Visits the slots of `range` alone; cells outside of it are not loaded.
    pub(crate) fn find_in<V>(
        &self,
        range: Range<u32>,
        mut visit: impl FnMut(u32) -> Option<V>,
    ) -> Option<V> {
        let (start, end) = (range.start as usize, range.end.min(self.plan.capacity) as usize);
        // The bits of a cell of `level` whose slots overlap the range.
        let within = |level: usize, base: usize, bits: u64| {
            let slots = 6 * level as u32;
            let from = (start >> slots).saturating_sub(base);
            let to = end.div_ceil(1 << slots).saturating_sub(base);
            let upto = |count: usize| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
            bits & upto(to) & !upto(from)
        };
        // The bits left to visit in the current cell of each level, and the bit it begins with.
        let mut left = [0u64; MAX_LEVELS];
        let mut base = [0usize; MAX_LEVELS];
        let top = self.plan.levels - 1;
        left[top] = within(top, 0, self.cell(top, 0).load(Ordering::Acquire));
        let mut level = top;
        loop {
            if left[level] == 0 {
                if level == top {
                    return None;
                }
                level += 1;
                continue;
            }
            let bit = base[level] + left[level].trailing_zeros() as usize;
            left[level] &= left[level] - 1;
            if level == 0 {
                // Below the capacity, so it fits.
                let index = u32::try_from(bit).ok().filter(|&index| index < self.plan.capacity);
                if let Some(value) = index.and_then(&mut visit) {
                    return Some(value);
                }
            } else if bit < self.cells_of(level - 1) {
                level -= 1;
                base[level] = bit * 64;
                let bits = self.cell(level, bit * 64).load(Ordering::Acquire);
                left[level] = within(level, base[level], bits);
            }
        }
    }

    fn cells_of(&self, level: usize) -> usize {
        let mut cells = (self.plan.capacity as usize).div_ceil(64);
        for _ in 0..level {
            cells = cells.div_ceil(64);
        }
        cells
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::options::Shape;

    fn with_tree(capacity: u32, test: impl FnOnce(Hints<'_>)) {
        let shape = Shape {
            capacity,
            payload_cells: 1,
            report_cells: 1,
            shared_cells: 0,
            annex_cells: 0,
            spare_sets: 0,
        };
        let layout = shape.layout().unwrap();
        let cells: Vec<AtomicU64> = (0..layout.lines).map(|_| AtomicU64::new(0)).collect();
        test(Hints::new(&cells, &layout.free));
    }

    fn all(hints: Hints<'_>) -> Vec<u32> {
        let mut found = Vec::new();
        hints.find(|index| {
            found.push(index);
            None::<()>
        });
        found
    }

    #[test]
    fn what_is_set_is_found_in_order_and_what_is_cleared_is_not() {
        for capacity in [1, 8, 64, 65, 4096, 4097, 65_536, 300_000] {
            with_tree(capacity, |hints| {
                assert!(hints.is_empty());
                let some: Vec<u32> = [0, capacity / 3, capacity / 2, capacity - 1]
                    .into_iter()
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter()
                    .collect();
                for &index in &some {
                    hints.set(index);
                }
                assert_eq!(all(hints), some);
                for &index in &some {
                    hints.clear(index);
                }
                assert!(hints.is_empty());
                assert_eq!(all(hints), []);
                hints.set_all();
                assert_eq!(all(hints).len(), capacity as usize);
                hints.clear_all();
                assert!(hints.is_empty());
            });
        }
    }

    #[test]
    fn a_walk_of_a_range_finds_its_slots_and_no_others() {
        for capacity in [64, 65, 4097, 300_000] {
            with_tree(capacity, |hints| {
                hints.set_all();
                let edges = [0, 1, 63, 64, 65, 4095, 4096, 4097, capacity / 2, capacity];
                for start in edges.into_iter().filter(|&edge| edge <= capacity) {
                    for end in edges.into_iter().filter(|&edge| (start..=capacity).contains(&edge))
                    {
                        let mut found = Vec::new();
                        hints.find_in(start..end, |index| {
                            found.push(index);
                            None::<()>
                        });
                        assert!(
                            found.iter().copied().eq(start..end),
                            "{start}..{end} of {capacity}"
                        );
                    }
                }
            });
        }
    }

    #[test]
    fn bits_beyond_the_capacity_are_ignored() {
        with_tree(70, |hints| {
            for cell in hints.cells {
                cell.store(u64::MAX, Ordering::Relaxed);
            }
            assert_eq!(all(hints), (0..70).collect::<Vec<_>>());
        });
    }
}
