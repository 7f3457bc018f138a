//! The slot array of a cluster, and the tag of its layout.

use super::record::WorkerRecord;
use super::report::ReportRecord;
use shmem_slots::{Region, Slots};

/// The slot array of a cluster.
pub type WorkerSlots = Slots<WorkerRecord, ReportRecord, Region>;

/// How many liveness words there are. The workers share word 0; session `n` has word
/// `1 + n % (LIVENESS_WORDS - 1)`.
pub(super) const LIVENESS_WORDS: u32 = 512;

/// The shared cells, by number: see `cluster_cells`.
pub(super) const INCARNATION: u32 = 0;
pub(super) const PHASE: u32 = 1;
pub(super) const REGISTRABLE: u32 = 2;
pub(super) const GENERAL_SLOTS: u32 = 3;
pub(super) const CHANGES: u32 = 8;
pub(super) const LIVENESS: u32 = 16;

/// How many shared cells a region has.
pub(super) const REGION_CELLS: u32 = LIVENESS + LIVENESS_WORDS;

/// Changes with the layout of what lies in a region. Attaching refuses another one.
pub const LAYOUT_TAG: u64 = {
    const VERSION: u64 = 1;
    let record = size_of::<WorkerRecord>() as u64;
    let report = size_of::<ReportRecord>() as u64;
    let cells = REGION_CELLS as u64;
    assert!(record < 1 << 16 && report < 1 << 16 && cells < 1 << 16);
    VERSION << 48 | record << 32 | report << 16 | cells
};
