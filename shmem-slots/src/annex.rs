//! Annexes: room for what few slots need.
//!
//! A slot has one beside each of its report buffers (`report.rs`), and one that is its tenant's
//! own, which the protocol of the slots never touches. So has each spare set of slot cells. The
//! layer above says in a slot cell what the own one holds: the tenant stores there first, and into
//! that cell last.

use crate::memory::Memory;
use crate::primitive::AtomicU64;
use crate::side_cells::WritableCells;
use crate::slots::Slots;
use crate::words;
use bytemuck::Pod;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// The cells of annex `which` of slot `index`.
    pub(crate) fn annex_cells(&self, index: u32, which: usize) -> &[AtomicU64] {
        // In range, as in `cell`.
        &self.memory.cells().0[self.layout.annex(index, which)]
    }

    /// Copies bytes out of the own annex of set `index`, from cell `from` on, by relaxed loads.
    /// Bytes that do not lie in it stay as they are.
    pub fn read_own_annex(&self, index: u32, from: usize, bytes: &mut [u8]) {
        if index < self.sets() {
            let cells = self.memory.cells().0.get(self.layout.own_annex(index));
            words::load(cells.and_then(|cells| cells.get(from..)).unwrap_or_default(), bytes);
        }
    }
}

impl WritableCells<'_> {
    /// Copies `bytes` into the own annex of set `index`, from cell `from` on, by relaxed stores.
    /// The rest of the last cell becomes zero. Bytes that do not fit in are dropped.
    pub fn write_own_annex(self, index: u32, from: usize, bytes: &[u8]) {
        let range = self.own_annex(index).unwrap_or_default();
        let cells = self.cells().get(range).unwrap_or_default();
        words::store(cells.get(from..).unwrap_or_default(), bytes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::options::Options;
    use crate::{Heap, Slots};

    #[test]
    fn an_own_annex_gives_back_what_was_stored_and_nothing_lands_beyond_it() {
        let options = Options {
            capacity: 2,
            tag: 0,
            shared_cells: 0,
            annex_cells: 3,
            spare_sets: 0,
            first_generation: 0,
        };
        let slots: Slots<[u64; 2], [u64; 2], Heap> = Slots::heap(&options).unwrap();
        slots.writable_cells().unwrap().write_own_annex(0, 1, &[7; 40]);
        let mut all = [1; 40];
        slots.read_own_annex(0, 0, &mut all);
        assert_eq!(all[..8], [0; 8]);
        assert_eq!(all[8..24], [7; 16]);
        assert_eq!(all[24..], [1; 16], "there is no more of it");
        for (index, from) in [(1, 0), (2, 0), (0, 3), (0, usize::MAX)] {
            let mut other = [3; 8];
            slots.read_own_annex(index, from, &mut other);
            let expected = if index == 1 { [0; 8] } else { [3; 8] };
            assert_eq!(other, expected, "{index}, {from}");
            slots.writable_cells().unwrap().write_own_annex(index, from.max(3), &[9; 8]);
        }
        slots.read_own_annex(1, 0, &mut all);
        assert_eq!(all[..24], [0; 24]);
    }
}
