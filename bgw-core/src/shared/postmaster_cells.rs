//! What only the postmaster writes beside the slots.
//!
//! There is one [`PostmasterCells`] for a region: the process that creates the region makes it, and
//! attaching gives none. Backends and workers have [`ClusterCells`], which cannot write these cells.

use super::cluster_cells::{ClusterCells, SLOT_STARTED_AT};
use super::layout::{
    CHANGES, GENERAL_SLOTS, INCARNATION, LAYOUT_TAG, LIVENESS, PHASE, REGION_CELLS, REGISTRABLE,
    WorkerSlots,
};
use crate::sys::robust::{self, HeldLiveness};
use crate::worker::{EntryKinds, StartTime};
use shmem_slots::{CreateError, Options, WritableCells, futex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The slots and cells of a new region, for the process that created it.
#[derive(Debug)]
pub struct PostmasterCells {
    slots: Arc<WorkerSlots>,
    general: u32,
}

impl PostmasterCells {
    /// Creates a region with `general` slots, and `parallel` slots for the parallel class behind them.
    ///
    /// # Errors
    /// More slots than a region can have, or a failing system call.
    pub fn create(general: u32, parallel: u32) -> Result<Self, CreateError> {
        let options = Options {
            capacity: general.saturating_add(parallel),
            tag: LAYOUT_TAG,
            shared_cells: REGION_CELLS,
            first_generation: 0,
        };
        let cells = Self { slots: Arc::new(WorkerSlots::create(&options)?), general };
        cells.restore_general_slots();
        Ok(cells)
    }

    /// The slots.
    #[must_use]
    pub const fn slots(&self) -> &Arc<WorkerSlots> {
        &self.slots
    }

    /// What every process of the cluster reads.
    #[must_use]
    pub fn cluster(&self) -> ClusterCells<'_> {
        ClusterCells::new(&self.slots)
    }

    /// The creator of a region maps it for writing.
    fn writable(&self) -> Option<WritableCells<'_>> {
        self.slots.writable_cells().ok()
    }

    fn store(&self, cell: u32, value: u64) {
        if let Some(cell) = self.writable().and_then(|cells| cells.shared_cell(cell)) {
            cell.store(value, Ordering::Release);
        }
    }

    /// Begins an incarnation of the slots. Handles of other incarnations answer `Stopped`.
    pub fn set_incarnation(&self, incarnation: u32) {
        self.store(INCARNATION, u64::from(incarnation));
    }

    /// Publishes the phase of the cluster.
    pub fn set_phase(&self, phase: StartTime) {
        self.store(PHASE, u64::from(phase.code()));
    }

    /// Publishes what backends may register besides functions.
    pub fn set_registrable(&self, kinds: EntryKinds) {
        self.store(REGISTRABLE, u64::from(kinds.bits()));
    }

    /// Writes again how many slots are not for the parallel class, in case somebody wrote over it.
    pub fn restore_general_slots(&self) {
        self.store(GENERAL_SLOTS, u64::from(self.general));
    }

    /// Counts a change of a slot's word, and wakes the waits that watch the count. After the change.
    pub fn count_change(&self) {
        if let Some(cell) = self.writable().and_then(|cells| cells.shared_cell(CHANGES)) {
            cell.fetch_add(1, Ordering::AcqRel);
            futex::wake_all(cell);
        }
    }

    /// Publishes when the process of slot `index` was started, by the wall clock.
    pub fn set_started_at(&self, index: u32, at: SystemTime) {
        let nanos = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        if let Some(cell) =
            self.writable().and_then(|cells| cells.slot_cell(index, SLOT_STARTED_AT))
        {
            cell.store(u64::try_from(nanos).unwrap_or(0), Ordering::Release);
        }
    }

    /// Clears the clean-up mark of slot `index`: a mark that a crash left behind is not its next
    /// worker's.
    pub fn clear_cleanup_mark(&self, index: u32) {
        self.cluster().set_cleanup_mark(index, false);
    }

    /// All liveness words.
    #[must_use]
    pub fn liveness_words(&self) -> &[AtomicU64] {
        liveness_words(&self.slots)
    }

    /// Has the kernel mark all liveness words when the calling thread ends. The region stays mapped for
    /// the life of the process.
    ///
    /// Call it once, in the postmaster's only thread, after the last fork that makes it what it is: a
    /// child does not inherit it. Dropping the result tells the cluster that the postmaster is gone,
    /// although the process lives.
    ///
    /// # Errors
    /// The error of `set_robust_list`.
    pub fn hold_liveness(&self) -> io::Result<HeldLiveness> {
        let slots: &'static Arc<WorkerSlots> = Box::leak(Box::new(Arc::clone(&self.slots)));
        robust::hold(liveness_words(slots))
    }
}

fn liveness_words(slots: &WorkerSlots) -> &[AtomicU64] {
    let cells = slots.writable_cells().map_or(&[][..], WritableCells::shared_cells);
    cells.get(LIVENESS as usize..REGION_CELLS as usize).unwrap_or(&[])
}
