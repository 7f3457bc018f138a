//! What lies in shared memory, and how the bits of a slot read.
//!
//! [`WorkerSlots`] is the slot array with the payloads of this crate: a [`WorkerRecord`] written by
//! the backend that registers, a [`ReportRecord`] written by the postmaster when a worker ends.
//! [`cluster_cells`] gives names to the cells beside the slots.
//!
//! | who | may write |
//! |---|---|
//! | the backend that claimed a slot | its record, until it publishes |
//! | any backend | [`flag::TERMINATE`] of a published slot |
//! | the worker of a slot | [`flag::READY`], and its cells in [`cluster_cells`] |
//! | the postmaster | everything of a published slot |
//!
//! The postmaster writes the fact first and tells the waiters second. It publishes `Stopped` (or
//! frees the slot) *before* it reaps the process. So whoever opens a pidfd by the pid of a slot and
//! then still finds the slot unchanged has the right process: a pid is not used again before it is
//! reaped.

pub(crate) mod cached_cells;
mod clock_record;
pub(crate) mod cluster_cells;
pub(crate) mod corrupt;
pub(crate) mod event_record;
mod gift_record;
pub(crate) mod layout;
pub(crate) mod metric_cells;
mod output_record;
pub(crate) mod postmaster_cells;
pub(crate) mod record;
mod recycle_record;
mod relations_record;
pub(crate) mod report;
mod restart_record;
mod returned_cells;
mod returned_record;
pub(crate) mod run_cells;
pub(crate) mod run_state;
pub(crate) mod slot_classes;
mod surroundings_record;
pub(crate) mod taker_cells;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use cluster_cells::ClusterCells;
pub(crate) use corrupt::CorruptRecord;
pub(crate) use event_record::{EVENTS_TAG, EventRing};
pub(crate) use layout::{LAYOUT_TAG, WorkerSlots};
pub(crate) use record::WorkerRecord;
pub(crate) use run_cells::said;
pub(crate) use run_state::{RunState, flag, run_state};
