//! A worker's own counters and gauges.

use super::error::MetricError;
use crate::worker::Worker;
use bgw_core::internals::add_to_counter;
use bgw_core::{Attachment, MetricKind, WorkerProcess};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The cell of one metric of this worker: in its slot, or for a gauge in its berth.
#[derive(Clone)]
struct Cell {
    attachment: Arc<Attachment>,
    number: u32,
}

impl Cell {
    fn of(me: &WorkerProcess, name: &str, wanted: MetricKind) -> Result<Self, MetricError> {
        let cells = me.attachment.cells();
        let declared = cells.metrics();
        let found = (0..).zip(&declared).find_map(|(number, metric)| {
            metric.as_ref().filter(|metric| metric.name() == name).map(|metric| (number, metric))
        });
        if let Some((_, metric)) = found
            && metric.kind() != wanted
        {
            return Err(MetricError::OtherKind { name: name.to_owned(), kind: metric.kind() });
        }
        let row = if wanted == MetricKind::Gauge { me.berth.index } else { me.handle.slot() };
        let number = found.and_then(|(number, _)| cells.metric_cell(row, &me.worker, number));
        let unknown = || {
            let names: Vec<&str> = declared.iter().flatten().map(bgw_core::Metric::name).collect();
            let declared = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            MetricError::Unknown { name: name.to_owned(), declared }
        };
        Ok(Self { attachment: Arc::clone(&me.attachment), number: number.ok_or_else(unknown)? })
    }

    /// A worker's region can be written to.
    #[inline]
    fn get(&self) -> Option<&AtomicU64> {
        self.attachment.slots().writable_cells().ok()?.shared_cell(self.number)
    }
}

/// A counter of this worker; from [`Worker::counter`]. Any thread of it may add. Keep it no longer
/// than the worker: what is added later counts for its slot all the same.
#[derive(Clone)]
pub struct Counter {
    cell: Cell,
}

impl Counter {
    /// Adds `by`. One relaxed addition to a cell that no other worker writes to; nobody is woken.
    /// Whoever reads afterwards finds it, also if the worker is killed in the next instruction. A
    /// slot counts up to 2^53, and stays there.
    #[inline]
    pub fn add(&self, by: u64) {
        if let Some(cell) = self.cell.get() {
            add_to_counter(cell, by);
        }
    }
}

/// A gauge of this worker; from [`Worker::gauge`]. It is 0 when its run starts, and counts while
/// that lives. While a worker has two runs, since one takes the
/// [place](bgw_core::Recycle::overlap) of the other, each has its own, and both count.
#[derive(Clone)]
pub struct Gauge {
    cell: Cell,
}

impl Gauge {
    /// Sets it. One relaxed store.
    #[inline]
    pub fn set(&self, value: i64) {
        if let Some(cell) = self.cell.get() {
            cell.store(value as u64, Ordering::Relaxed);
        }
    }

    /// Adds `by`, which may be negative. One relaxed addition; it wraps.
    #[inline]
    pub fn add(&self, by: i64) {
        if let Some(cell) = self.cell.get() {
            cell.fetch_add(by as u64, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.cell.number).finish()
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").field(&self.cell.number).finish()
    }
}

impl Worker {
    /// The counter that the postmaster's builder declares under this name. Look it up once, before
    /// the work; adding is cheap, looking up is not.
    ///
    /// ```
    /// use bgw_backend::{Worker, WorkerError};
    ///
    /// fn resize(worker: &mut Worker) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     let done = worker.counter("images_resized")?;
    ///     for image in 0..worker.main_arg() {
    ///         // ... resize it ...
    ///         done.add(1);
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = bgw_backend::entry(resize);
    /// ```
    ///
    /// # Errors
    /// [`MetricError`].
    #[doc(alias = "pgstat_count")]
    pub fn counter(&self, name: &str) -> Result<Counter, MetricError> {
        Cell::of(self.process(), name, MetricKind::Counter).map(|cell| Counter { cell })
    }

    /// The gauge that the postmaster's builder declares under this name.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauge(&self, name: &str) -> Result<Gauge, MetricError> {
        Cell::of(self.process(), name, MetricKind::Gauge).map(|cell| Gauge { cell })
    }
}
