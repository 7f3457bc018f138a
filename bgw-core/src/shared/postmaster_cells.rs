//! What only the postmaster writes beside the slots.
//!
//! There is one [`PostmasterCells`] for a region: the process that creates the region makes it, and
//! attaching gives none. Backends and workers have [`ClusterCells`], which cannot write these
//! cells.

use super::cluster_cells::{ClusterCells, SLOT_STARTED_AT};
use super::layout::{
    BELL, CHANGES, CLASS, CLASS_CELLS, CLASS_NAME_CELLS, INCARNATION, INTEREST, INTERESTS,
    LAYOUT_TAG, LIVENESS, METRICS, PHASE, REGISTRABLE, SLOT_COUNTS, WAITING, WorkerSlots,
};
use super::returned_record::ANNEX_CELLS;
use super::slot_classes::{MOST_CLASSES, SlotClasses};
use crate::metric::Metric;
use crate::sys::robust::{self, HeldLiveness};
use crate::worker::{EntryKinds, StartTime};
use shmem_slots::bells::{Interest, Requests};
use shmem_slots::{CellRef, CreateError, Options, WritableCells, futex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{SystemTime, UNIX_EPOCH};

/// The slots and cells of a new region, for the process that created it.
#[derive(Debug)]
pub struct PostmasterCells {
    slots: Arc<WorkerSlots>,
    classes: SlotClasses,
    metrics: Vec<Metric>,
    /// What it has written into the first shared cells, whatever others have made of them.
    own: [AtomicU64; OWN],
}

/// How many cells of the cluster can be restored, from the incarnation to whether somebody waits.
const OWN: usize = WAITING as usize + 1;
const _: () = assert!(INCARNATION == 0 && PHASE < WAITING && REGISTRABLE < WAITING);

impl PostmasterCells {
    /// Creates a region with `general` slots, and `parallel` slots for the parallel class behind
    /// them.
    ///
    /// # Errors
    /// More slots than a region can have, or a failing system call.
    pub fn create(general: u32, parallel: u32) -> Result<Self, CreateError> {
        Self::create_with(SlotClasses::new(general, parallel, Vec::new()), 0)
    }

    /// Creates a region with the slots of these classes, and berths for `overlap` runs beside those
    /// of the slots.
    ///
    /// # Errors
    /// As [`PostmasterCells::create`].
    pub fn create_with(classes: SlotClasses, overlap: u32) -> Result<Self, CreateError> {
        Self::create_for(classes, Vec::new(), overlap)
    }

    /// The same with room for these metrics.
    ///
    /// # Errors
    /// As [`PostmasterCells::create`].
    pub fn create_for(
        classes: SlotClasses,
        metrics: Vec<Metric>,
        overlap: u32,
    ) -> Result<Self, CreateError> {
        let options = Options {
            capacity: classes.general().saturating_add(classes.parallel()),
            tag: LAYOUT_TAG,
            // More than there can be, if they are too many.
            shared_cells: Self::cells_for(&metrics, &classes, overlap).unwrap_or(u32::MAX),
            annex_cells: ANNEX_CELLS,
            spare_sets: overlap,
            first_generation: 0,
        };
        let own = std::array::from_fn(|_| AtomicU64::new(0));
        let counts = u64::from(classes.general()) << 32 | u64::from(classes.common());
        let cells = Self { slots: Arc::new(WorkerSlots::create(&options)?), classes, metrics, own };
        cells.publish(SLOT_COUNTS, counts);
        cells.write_reserved();
        cells.write_metrics();
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

    pub(super) fn store(&self, cell: u32, value: u64) {
        if let Some(cell) = self.writable().and_then(|cells| cells.shared_cell(cell)) {
            cell.store(value, Ordering::Release);
        }
    }

    fn publish(&self, cell: u32, value: u64) {
        if let Some(own) = self.own.get(cell as usize) {
            own.store(value, Ordering::Relaxed);
        }
        self.store(cell, value);
    }

    /// False if another process has overwritten the header of the region, or a cell of the cluster
    /// that is the postmaster's.
    #[must_use]
    pub fn are_intact(&self) -> bool {
        let found = (0..).map(|cell| self.slots.shared_cell(cell).map(CellRef::load));
        let intact = self
            .own
            .iter()
            .zip(found)
            .all(|(own, found)| found == Some(own.load(Ordering::Relaxed)));
        let metrics = self.slots.shared_cell(METRICS).map(CellRef::load);
        intact && metrics == Some(self.metrics_cell()) && self.slots.header_is_intact(LAYOUT_TAG)
    }

    /// Writes all of these again.
    pub fn restore(&self) {
        for (cell, own) in (0..).zip(&self.own) {
            self.store(cell, own.load(Ordering::Relaxed));
        }
        self.write_reserved();
        self.write_metrics();
        // The creator of a region maps it for writing.
        let _ = self.slots.restore_header(LAYOUT_TAG);
    }

    fn write_reserved(&self) {
        let mut reserved = self.classes.reserved();
        for class in (0..MOST_CLASSES as u32).map(|number| CLASS + number * CLASS_CELLS) {
            let (name, count) = reserved.next().unwrap_or_default();
            self.store(class, count.into());
            let mut bytes = name.bytes();
            for place in 1..=CLASS_NAME_CELLS {
                let word = [(); 8].map(|()| bytes.next().unwrap_or(0));
                self.store(class + place, u64::from_le_bytes(word));
            }
        }
    }

    /// Which slots whose are, whatever the shared cells say.
    #[must_use]
    pub const fn classes(&self) -> &SlotClasses {
        &self.classes
    }

    /// The metrics that were declared, whatever the shared cells say.
    #[must_use]
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// The incarnation that was begun last, whatever the shared cell says.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.own.first().map_or(0, |own| own.load(Ordering::Relaxed)) as u32
    }

    /// Begins an incarnation of the slots. Handles of other incarnations answer `Stopped`.
    pub fn set_incarnation(&self, incarnation: u32) {
        self.publish(INCARNATION, u64::from(incarnation));
    }

    /// Publishes the phase of the cluster.
    pub fn set_phase(&self, phase: StartTime) {
        self.publish(PHASE, u64::from(phase.code()));
    }

    /// Publishes what backends may register besides functions.
    pub fn set_registrable(&self, kinds: EntryKinds) {
        self.publish(REGISTRABLE, u64::from(kinds.bits()));
    }

    /// Publishes whether somebody waits for a slot. Look for free slots afterwards.
    pub fn set_waiting(&self, waits: bool) {
        self.publish(WAITING, u64::from(waits));
        fence(Ordering::SeqCst);
    }

    /// Counts a change of the word of slot `index`, wakes the waits that watch the count, and rings
    /// the bells of those who asked for that slot. After the change.
    pub fn count_change(&self, index: u32) {
        self.add_change();
        self.ring_bells(index);
    }

    /// Counts a change of any slots, and rings the bells of all who asked for a slot.
    pub fn count_change_of_all(&self) {
        self.add_change();
        let requests = (0..INTERESTS).filter_map(|number| Some(self.interest(number)?.take()));
        self.ring(requests.fold(Requests::default(), Requests::and));
    }

    /// Rings the bells of those who asked for slot `index`: something about its worker has changed.
    pub fn ring_bells(&self, index: u32) {
        if let Some(interest) = self.interest(index) {
            self.ring(interest.take());
        }
    }

    fn add_change(&self) {
        if let Some(cell) = self.writable().and_then(|cells| cells.shared_cell(CHANGES)) {
            cell.fetch_add(1, Ordering::AcqRel);
            futex::wake_all(cell);
        }
    }

    fn interest(&self, index: u32) -> Option<Interest<'_>> {
        let cell = self.writable()?.shared_cell(INTEREST + index % INTERESTS)?;
        Some(Interest::new(cell))
    }

    fn ring(&self, requests: Requests) {
        let cells = self.writable().map_or(&[][..], WritableCells::shared_cells);
        requests.ring(cells.get(BELL as usize..INTEREST as usize).unwrap_or(&[]));
    }

    /// Publishes when the process of berth `index` was started, by the wall clock.
    pub fn set_started_at(&self, index: u32, at: SystemTime) {
        let nanos = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        if let Some(cell) =
            self.writable().and_then(|cells| cells.slot_cell(index, SLOT_STARTED_AT))
        {
            cell.store(u64::try_from(nanos).unwrap_or(0), Ordering::Release);
        }
    }

    /// All liveness words.
    #[must_use]
    pub fn liveness_words(&self) -> &[AtomicU64] {
        liveness_words(&self.slots)
    }

    /// Has the kernel mark all liveness words when the calling thread ends. The region stays mapped
    /// as long as the result lives.
    ///
    /// Call it once, in the postmaster's only thread, after the last fork that makes it what it is:
    /// a child does not inherit it. Dropping the result tells the cluster that the postmaster is
    /// gone, although the process lives.
    ///
    /// # Errors
    /// The error of `set_robust_list`.
    pub fn hold_liveness(&self) -> io::Result<HeldLiveness> {
        robust::hold(Arc::clone(&self.slots), liveness_words)
    }
}

fn liveness_words(slots: &WorkerSlots) -> &[AtomicU64] {
    let cells = slots.writable_cells().map_or(&[][..], WritableCells::shared_cells);
    cells.get(LIVENESS as usize..BELL as usize).unwrap_or(&[])
}
