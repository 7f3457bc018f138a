//! Segments that a worker caches, mapped for its next job, in further cells of its berth.
//!
//! A worker of a pool that maps the same segment again and again caches the mapping, and what the
//! postmaster knows as its hold. Each has a cell, whose word says whether the segment is in use:
//!
//! | from | to | by |
//! |---|---|---|
//! | anything | used | the worker, which has just mapped the segment and then says where it caches it |
//! | used | idle | the worker, which has dropped it |
//! | idle | used | the worker, which needs it again |
//! | idle | empty | the postmaster, when nobody else holds the segment: the hold is gone |
//! | used | recalled | the postmaster, in the same case: the worker is to drop it for real |
//! | any | empty | the worker, which gives it up |
//!
//! Each change names the segment, so it fails in a cell that has another one by now. After "idle
//! to empty" the postmaster wakes the worker, which sleeps on its cells, to unmap the segment.
//!
//! Crash. A worker that ends at any step holds nothing: its session closes. Cells that it leaves
//! behind name nobody's hold.
//!
//! Trust. Who writes "used" holds the segment, as everybody may who maps it. Who empties a cell has
//! the worker map its segment anew.

use super::cluster_cells::ClusterCells;
use super::postmaster_cells::PostmasterCells;
use crate::segment::SegmentHandle;
use shmem_slots::futex::{self, Half, Watch};
use std::sync::atomic::{AtomicU64, Ordering};

const CACHED: usize = 12;

/// How many segments a worker can cache.
pub const CACHED_SEGMENTS: usize = 4;

/// How often the postmaster tries to change a cell. Each further try needs another change by the
/// worker meanwhile.
const TRIES: u32 = 16;

/// Where a worker says what it does with a segment that it caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedCell {
    /// The berth of the worker.
    pub berth: u32,
    /// Which of its cells.
    pub number: u32,
}

/// What a worker does with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Idle,
    Used,
    /// In use, and not to be cached any more.
    Recalled,
}

/// The word of a cell; 0 if it is empty. A segment's number fits: the postmaster counts them.
const fn word(segment: SegmentHandle, what: Use) -> u64 {
    let what = match what {
        Use::Idle => 1,
        Use::Used => 2,
        Use::Recalled => 3,
    };
    segment.to_bits() << 2 | what
}

impl<'a> ClusterCells<'a> {
    fn cached_cell(&self, cell: CachedCell) -> Option<&'a AtomicU64> {
        let number = usize::try_from(cell.number).ok().filter(|&number| number < CACHED_SEGMENTS);
        self.writable(cell.berth, CACHED + number?)
    }

    fn change_cached(&self, cell: CachedCell, from: u64, to: u64) -> bool {
        let found = self.cached_cell(cell);
        found.is_some_and(|found| {
            found.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        })
    }

    /// The worker caches a segment in this cell, and uses it now. False if there is no such cell.
    #[must_use]
    pub fn cache_segment(&self, cell: CachedCell, segment: SegmentHandle) -> bool {
        let found = self.cached_cell(cell);
        found.inspect(|found| found.store(word(segment, Use::Used), Ordering::SeqCst)).is_some()
    }

    /// The worker uses the segment that it caches there again. False: it is not to use it, and
    /// gives it up.
    #[must_use]
    pub fn use_cached(&self, cell: CachedCell, segment: SegmentHandle) -> bool {
        self.change_cached(cell, word(segment, Use::Idle), word(segment, Use::Used))
    }

    /// The worker has used it, and caches it. False: it is not to cache it, and gives it up.
    #[must_use]
    pub fn end_use(&self, cell: CachedCell, segment: SegmentHandle) -> bool {
        self.change_cached(cell, word(segment, Use::Used), word(segment, Use::Idle))
    }

    /// The worker caches nothing there any more.
    pub fn give_up_cached(&self, cell: CachedCell) {
        if let Some(found) = self.cached_cell(cell) {
            found.store(0, Ordering::SeqCst);
        }
    }

    /// A watch that ends a wait when the segment that is idle there is to be given up. `None`: it
    /// is to be given up.
    #[must_use]
    pub fn watch_cached(&self, cell: CachedCell, segment: SegmentHandle) -> Option<Watch<'a>> {
        let (found, idle) = (self.cached_cell(cell)?, word(segment, Use::Idle));
        let is_idle = found.load(Ordering::Acquire) == idle;
        is_idle.then(|| Watch { cell: found.into(), half: Half::Low, seen: idle as u32 })
    }
}

impl PostmasterCells {
    /// Takes a segment back from a worker that caches it there. False if it uses it, and gives it
    /// up afterwards, or caches it there no more, which it says by other means.
    #[must_use]
    pub fn recall_segment(&self, cell: CachedCell, segment: SegmentHandle) -> bool {
        let cells = self.cluster();
        let [idle, used, recalled] =
            [Use::Idle, Use::Used, Use::Recalled].map(|what| word(segment, what));
        for _ in 0..TRIES {
            if cells.change_cached(cell, idle, 0) {
                if let Some(found) = cells.cached_cell(cell) {
                    futex::wake_all(found);
                }
                return true;
            }
            if cells.change_cached(cell, used, recalled) {
                return false;
            }
            let now = cells.cached_cell(cell).map_or(0, |found| found.load(Ordering::SeqCst));
            if now != idle && now != used {
                return false;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: CachedCell = CachedCell { berth: 1, number: 3 };
    const ONE: SegmentHandle = SegmentHandle::from_bits(0x9f3a_21c4_0000_0007);
    const OTHER: SegmentHandle = SegmentHandle::from_bits(0x9f3a_21c4_0000_0008);

    #[test]
    fn a_segment_is_taken_back_when_it_is_idle_and_never_while_it_is_used() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let worker = cells.cluster();
        assert!(worker.cache_segment(CELL, ONE) && worker.end_use(CELL, ONE));
        assert!(worker.watch_cached(CELL, ONE).is_some());
        assert!(worker.use_cached(CELL, ONE) && !worker.use_cached(CELL, ONE));
        assert!(worker.end_use(CELL, ONE) && cells.recall_segment(CELL, ONE));
        assert!(worker.watch_cached(CELL, ONE).is_none());
        assert!(!worker.use_cached(CELL, ONE) && !cells.recall_segment(CELL, ONE));
        // In use: it is told, and does not cache it.
        assert!(worker.cache_segment(CELL, ONE));
        assert!(!cells.recall_segment(CELL, ONE) && !cells.recall_segment(CELL, ONE));
        assert!(!worker.end_use(CELL, ONE));
        worker.give_up_cached(CELL);
        assert!(!cells.recall_segment(CELL, ONE));
    }

    #[test]
    fn a_cell_that_has_another_segment_by_now_is_left_alone() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let worker = cells.cluster();
        assert!(worker.cache_segment(CELL, OTHER));
        assert!(!cells.recall_segment(CELL, ONE) && worker.end_use(CELL, OTHER));
        assert!(!cells.recall_segment(CELL, ONE) && !worker.use_cached(CELL, ONE));
        assert!(worker.use_cached(CELL, OTHER) && worker.end_use(CELL, OTHER));
        // Cells that there are not cache nothing, and no other cell changes.
        for wrong in
            [CachedCell { number: CACHED_SEGMENTS as u32, ..CELL }, CachedCell { berth: 2, ..CELL }]
        {
            assert!(!worker.cache_segment(wrong, ONE) && !cells.recall_segment(wrong, ONE));
            assert!(!worker.end_use(wrong, ONE) && worker.watch_cached(wrong, ONE).is_none());
        }
        assert_eq!(worker.status_text(1), None);
        assert_eq!(worker.said(1), 0);
    }

    /// Breaks if a worker uses what the postmaster has taken, or both give it up, or nobody.
    #[test]
    fn of_a_worker_and_a_postmaster_at_once_exactly_one_has_it() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        for _ in 0..2_000 {
            let worker = cells.cluster();
            assert!(worker.cache_segment(CELL, ONE) && worker.end_use(CELL, ONE));
            let (taken, given_up) = std::thread::scope(|scope| {
                let taker = scope.spawn(|| cells.recall_segment(CELL, ONE));
                let user = scope.spawn(|| {
                    let used = cells.cluster().use_cached(CELL, ONE);
                    used && !cells.cluster().end_use(CELL, ONE)
                });
                (taker.join().unwrap(), user.join().unwrap())
            });
            let still = worker.use_cached(CELL, ONE);
            assert_eq!(u32::from(taken) + u32::from(given_up), 1, "{still}");
            assert!(!still);
        }
    }
}
