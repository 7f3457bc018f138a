//! The slot array of a cluster, and the tag of its layout.
//!
//! Who touches which cache line:
//!
//! | line | written by | read by |
//! |---|---|---|
//! | slot word, one line a slot | claimer once, postmaster at each change | whoever asks |
//! | payload | claimer, before it publishes | postmaster once, views |
//! | slot cells, one line a berth | the worker, setters of its latch | the worker, the postmaster at its end |
//! | own annex, 1.5 KiB a berth | the worker, if it gives something back | the postmaster at its end |
//! | report, two buffers a slot | postmaster at an end | waiters afterwards |
//! | hint bitmaps | claimers, the postmaster | the same |
//! | count of changes | postmaster at each change | waits for many workers |
//! | interests, one cell for some slots | who waits for many workers, postmaster at a change | the same |
//! | values of metrics, whole lines a berth | the worker | who reads metrics, the postmaster at its end |
//! | incarnation, phase | postmaster, rarely | backends at registration |
//!
//! So a process that registers writes to no line that others read when they ask for another
//! worker's status.

use super::record::WorkerRecord;
use super::report::ReportRecord;
use super::slot_classes::MOST_CLASSES;
use shmem_slots::bells::BELLS;
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
/// How many slots are common, and in the upper half how many are not for the parallel class.
pub(super) const SLOT_COUNTS: u32 = 3;
pub(super) const WAITING: u32 = 4;
pub(super) const CHANGES: u32 = 8;
pub(super) const LIVENESS: u32 = 16;
pub(super) const BELL: u32 = LIVENESS + LIVENESS_WORDS;
pub(super) const INTEREST: u32 = BELL + BELLS;

/// How many interest cells there are: slot `n` has number `n % INTERESTS`.
pub(super) const INTERESTS: u32 = 1024;

/// What is reserved: for each class its number of slots, then its name.
pub(super) const CLASS: u32 = INTEREST + INTERESTS;
pub(super) const CLASS_CELLS: u32 = 1 + CLASS_NAME_CELLS;
pub(super) const CLASS_NAME_CELLS: u32 = 4;

/// How many metrics there are, and in the upper half how many banks a slot has for them.
pub(super) const METRICS: u32 = CLASS + CLASS_CELLS * MOST_CLASSES as u32;

/// Which spares may be given a worker by who registers it: a bit for each that has had none, and
/// in the next cell for each that has.
pub(super) const SLEEPERS: u32 = (METRICS + 1).next_multiple_of(8);
/// Where they are given it: a cell for each, in a line of its own.
pub(super) const TAKER: u32 = SLEEPERS + 8;
pub(super) const TAKER_CELLS: u32 = 8;

/// How many shared cells a region has, beside those of metrics, which come after them.
pub(super) const REGION_CELLS: u32 = TAKER + TAKER_CELLS * MOST_TAKERS;

/// How many spares can be given a worker by who registers it.
pub const MOST_TAKERS: u32 = 64;

/// Changes with the layout of what lies in a region. Attaching refuses another one.
pub const LAYOUT_TAG: u64 = {
    const VERSION: u64 = 20;
    let record = size_of::<WorkerRecord>() as u64;
    let report = size_of::<ReportRecord>() as u64;
    let cells = REGION_CELLS as u64;
    assert!(record < 1 << 16 && report < 1 << 16 && cells < 1 << 16);
    VERSION << 48 | record << 32 | report << 16 | cells
};
