//! The counters and gauges of workers, in cells of the region.
//!
//! ```text
//! number of metrics and banks │ definitions │ values: a bank a class in each berth │ floors: slot
//! ```
//!
//! | cell | writer | read by |
//! |---|---|---|
//! | definition of a metric | postmaster, once | who asks for it by name, who reads all |
//! | value: of a slot's counters, or a berth's gauges, for the worker's class | the worker | the same, the postmaster at an end |
//! | floor of a counter | postmaster, at the end of a run | who reads all |
//!
//! **A value is never taken back.** A counter goes on where the slot's last worker has left it. So
//! a sum over all slots holds the living and the dead, whatever is restarted or reset, and no
//! reader can meet a run that is counted twice or not at all: nothing moves. A slot that workers of
//! several classes may have keeps a value for each class. Two processes of a worker add to one
//! counter.
//!
//! **A gauge is one process's.** It lies where that has its cells, so of two processes of a worker
//! each has its own, and both count. It is set to 0 when its process ends. That of a serving run
//! counts only while the slot's word says that it runs.
//!
//! Trust. Any member may write any value. At the end of a run the postmaster takes the value into
//! its own memory if that is more than before ([`kept`]), publishes it as the floor, and puts the
//! value right. So what was counted by ended runs is not lost when a value is overwritten, and no
//! value counts for more than [`COUNTER_LIMIT`]. Where both are overwritten, the sum says less
//! until the postmaster writes them again ([`restored`]): at the end of a run in that slot, in a
//! crash reset, and when it finds that somebody has scribbled.

use super::cluster_cells::ClusterCells;
use super::layout::{METRICS, REGION_CELLS, WorkerSlots};
use super::postmaster_cells::PostmasterCells;
use super::slot_classes::{MOST_CLASSES, SlotClass, SlotClasses};
use crate::metric::{HELP_LIMIT, MOST_METRICS, Metric, MetricKind, NAME_LIMIT};
use crate::worker::BackgroundWorker;
use shmem_slots::CellRef;
use std::sync::atomic::{AtomicU64, Ordering};

const NAME_CELLS: u32 = 8;
const HELP_CELLS: u32 = 16;
const _: () = assert!(NAME_LIMIT < NAME_CELLS as usize * 8 && HELP_LIMIT < HELP_CELLS as usize * 8);
const DEFINITION_CELLS: u32 = 1 + NAME_CELLS + HELP_CELLS;
const LINE: u32 = 8;

const COUNTER: u64 = 1;
const GAUGE: u64 = 2;

/// The largest value that a counter of one slot reaches. All numbers up to it are exact as a float,
/// which is what Prometheus reads.
pub(crate) const COUNTER_LIMIT: u64 = 1 << 53;

/// Where the cells lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricPlan {
    metrics: u32,
    banks: u32,
    /// How many slots there are.
    capacity: u32,
    /// How many berths.
    berths: u32,
}

impl MetricPlan {
    /// What `cell` says, of a region with so many slots and berths, made possible.
    fn read(cell: u64, capacity: u32, berths: u32) -> Self {
        let most = MOST_CLASSES as u32 + 1;
        Self {
            metrics: (cell as u32).min(MOST_METRICS),
            banks: ((cell >> 32) as u32).clamp(1, most),
            capacity,
            berths,
        }
    }

    /// With berths for `overlap` runs beside those of the slots.
    fn new(metrics: usize, classes: &SlotClasses, overlap: u32) -> Self {
        let banks = 1 + classes.reserved().count() as u64;
        let capacity = classes.general().saturating_add(classes.parallel());
        Self::read(banks << 32 | metrics as u64, capacity, capacity.saturating_add(overlap))
    }

    const fn cell(self) -> u64 {
        (self.banks as u64) << 32 | self.metrics as u64
    }

    /// How many metrics there are.
    #[must_use]
    pub const fn metrics(self) -> u32 {
        self.metrics
    }

    /// How many banks a slot has.
    #[must_use]
    pub const fn banks(self) -> u32 {
        self.banks
    }

    const fn definition(metric: u32) -> u32 {
        REGION_CELLS + metric * DEFINITION_CELLS
    }

    /// Cells of the values of one slot, or berth, in whole lines: no two share one.
    const fn stride(self) -> u32 {
        (self.metrics * self.banks).div_ceil(LINE) * LINE
    }

    /// The first value. Shared cells begin on a line.
    const fn values(self) -> u32 {
        Self::definition(self.metrics).div_ceil(LINE) * LINE
    }

    /// How many shared cells a region with these metrics has; `None` if they are too many.
    fn all(self) -> Option<u32> {
        if self.metrics == 0 {
            return Some(REGION_CELLS);
        }
        let floors = self.stride().checked_mul(self.capacity)?;
        self.floors()?.checked_add(floors)
    }

    /// The first floor.
    fn floors(self) -> Option<u32> {
        self.values().checked_add(self.stride().checked_mul(self.berths)?)
    }

    /// The number of a value among all of them; of a counter, that of its floor, too.
    fn place(self, row: u32, bank: u32, metric: u32) -> Option<u32> {
        if bank >= self.banks || metric >= self.metrics {
            return None;
        }
        self.stride().checked_mul(row)?.checked_add(bank * self.metrics + metric)
    }

    /// The shared cell of a value: `row` is the slot of a counter, the berth of a gauge.
    #[must_use]
    pub fn value(self, row: u32, bank: u32, metric: u32) -> Option<u32> {
        let place = self.place(row, bank, metric).filter(|_| row < self.berths);
        self.values().checked_add(place?)
    }

    fn floor(self, slot: u32, bank: u32, metric: u32) -> Option<u32> {
        let place = self.place(slot, bank, metric).filter(|_| slot < self.capacity);
        self.floors()?.checked_add(place?)
    }
}

/// The bank of workers of this class, in any slot that they may have.
#[must_use]
pub const fn bank_of(class: SlotClass) -> u32 {
    match class {
        SlotClass::Common | SlotClass::Parallel => 0,
        SlotClass::Reserved(number) => 1 + number as u32,
    }
}

/// What ended runs have counted, after another end: `before`, and what the value says now.
const fn kept(before: u64, value: u64) -> u64 {
    let value = counted(value, 0);
    if before > value { before } else { value }
}

/// What is written into a value and its floor after somebody may have scribbled, by what ended runs
/// have counted; `None`: it is right. A value may say more, which a living run has counted; a floor
/// may not.
const fn restored(kept: u64, value: u64, floor: u64) -> (Option<u64>, Option<u64>) {
    let value = if value < kept { Some(kept) } else { None };
    let floor = if floor != kept { Some(kept) } else { None };
    (value, floor)
}

/// What a value counts for, beside its floor.
const fn counted(value: u64, floor: u64) -> u64 {
    let most = if value > floor { value } else { floor };
    if most > COUNTER_LIMIT { COUNTER_LIMIT } else { most }
}

/// Adds to a counter. One relaxed addition; only a counter at its limit costs more.
#[inline]
pub fn add_to_counter(cell: &AtomicU64, by: u64) {
    let by = by.min(COUNTER_LIMIT);
    if cell.fetch_add(by, Ordering::Relaxed) > COUNTER_LIMIT - by {
        stay_at_limit(cell);
    }
}

#[cold]
fn stay_at_limit(cell: &AtomicU64) {
    cell.store(COUNTER_LIMIT, Ordering::Relaxed);
}

impl ClusterCells<'_> {
    /// Where the cells of metrics lie.
    #[must_use]
    pub fn metric_plan(&self) -> MetricPlan {
        let cell = self.slots().shared_cell(METRICS).map_or(0, CellRef::load);
        MetricPlan::read(cell, self.slots().capacity(), self.slots().sets())
    }

    /// The metrics that were declared. `None` in the place of one that is overwritten.
    #[must_use]
    pub fn metrics(&self) -> Vec<Option<Metric>> {
        (0..self.metric_plan().metrics).map(|metric| self.metric(metric)).collect()
    }

    fn metric(&self, metric: u32) -> Option<Metric> {
        let start = MetricPlan::definition(metric);
        let kind = match self.slots().shared_cell(start)?.load() {
            COUNTER => MetricKind::Counter,
            GAUGE => MetricKind::Gauge,
            _ => return None,
        };
        let text = |start: u32, cells: u32| {
            let words = (start..start + cells).map(|cell| self.slots().shared_cell(cell));
            let bytes = words.flat_map(|word| word.map_or(0, CellRef::load).to_le_bytes());
            String::from_utf8(bytes.take_while(|&byte| byte != 0).collect()).ok()
        };
        let name = text(start + 1, NAME_CELLS)?;
        let metric = Metric::new(name, text(start + 1 + NAME_CELLS, HELP_CELLS)?, kind);
        metric.objection().is_none().then_some(metric)
    }

    /// The shared cell in which `worker` keeps metric number `metric`: `row` is its slot for a
    /// counter, its berth for a gauge.
    #[must_use]
    pub fn metric_cell(&self, row: u32, worker: &BackgroundWorker, metric: u32) -> Option<u32> {
        let class = self.slot_classes().of(worker)?;
        self.metric_plan().value(row, bank_of(class), metric)
    }

    /// What the counter of a slot counts for: at least what its ended runs have counted.
    #[must_use]
    pub fn counter(&self, plan: MetricPlan, slot: u32, bank: u32, metric: u32) -> u64 {
        let load = |cell: Option<u32>| {
            cell.and_then(|cell| self.slots().shared_cell(cell)).map_or(0, CellRef::load)
        };
        // The value first: a floor is never above a value of the same time.
        let value = load(plan.value(slot, bank, metric));
        counted(value, load(plan.floor(slot, bank, metric)))
    }

    /// What the gauge of the process in a berth says.
    #[must_use]
    pub fn gauge(&self, plan: MetricPlan, berth: u32, bank: u32, metric: u32) -> i64 {
        let cell = plan.value(berth, bank, metric).and_then(|cell| self.slots().shared_cell(cell));
        cell.map_or(0, CellRef::load) as i64
    }
}

impl PostmasterCells {
    /// How many shared cells a region for these metrics has.
    pub(super) fn cells_for(
        metrics: &[Metric],
        classes: &SlotClasses,
        overlap: u32,
    ) -> Option<u32> {
        MetricPlan::new(metrics.len(), classes, overlap).all()
    }

    fn own_metric_plan(&self) -> MetricPlan {
        MetricPlan::new(self.metrics().len(), self.classes(), self.cluster().overlap())
    }

    /// The number that says how many metrics there are.
    pub(super) fn metrics_cell(&self) -> u64 {
        self.own_metric_plan().cell()
    }

    /// Writes the definitions.
    pub(super) fn write_metrics(&self) {
        for (number, metric) in (0..).zip(self.metrics()) {
            let start = MetricPlan::definition(number);
            let kind = match metric.kind {
                MetricKind::Counter => COUNTER,
                MetricKind::Gauge => GAUGE,
            };
            self.store(start, kind);
            let texts = [(1, NAME_CELLS, &metric.name), (1 + NAME_CELLS, HELP_CELLS, &metric.help)];
            for (first, cells, text) in texts {
                let mut bytes = text.bytes();
                for cell in start + first..start + first + cells {
                    let word = [(); 8].map(|()| bytes.next().unwrap_or(0));
                    self.store(cell, u64::from_le_bytes(word));
                }
            }
        }
        self.store(METRICS, self.metrics_cell());
    }

    /// A process of the worker in slot `slot` has ended, whichever worker it was; it had berth
    /// `berth`. `keep` gives the place in which the postmaster keeps what a value, by its number,
    /// has counted to.
    pub fn end_metrics(
        &self,
        slot: u32,
        berth: u32,
        mut keep: impl FnMut(usize, &dyn Fn(u64) -> u64) -> u64,
    ) {
        if self.metrics().is_empty() {
            return;
        }
        let plan = self.own_metric_plan();
        for bank in 0..plan.banks {
            for (number, metric) in (0..).zip(self.metrics()) {
                let row = match metric.kind {
                    MetricKind::Counter => slot,
                    MetricKind::Gauge => berth,
                };
                let Some((place, value)) =
                    plan.place(row, bank, number).zip(plan.value(row, bank, number))
                else {
                    continue;
                };
                let seen = self.slots().shared_cell(value).map_or(0, CellRef::load);
                match metric.kind {
                    MetricKind::Gauge if seen == 0 => {}
                    MetricKind::Gauge => self.store(value, 0),
                    MetricKind::Counter => {
                        let kept = keep(place as usize, &|before| kept(before, seen));
                        if kept != seen
                            && let Some(cell) = writable(self.slots(), value)
                        {
                            // A process that the worker has left may count on.
                            let order = Ordering::Relaxed;
                            let _ = cell.compare_exchange(seen, kept, order, order);
                        }
                        if let Some(floor) = plan.floor(slot, bank, number)
                            && self.slots().shared_cell(floor).map(CellRef::load) != Some(kept)
                        {
                            self.store(floor, kept);
                        }
                    }
                }
            }
        }
    }
}

impl PostmasterCells {
    /// Writes again what ended runs have counted, wherever something else is said. `kept` gives
    /// that for a value, by its number.
    pub fn restore_counters(&self, kept: impl Fn(usize) -> u64) {
        let plan = self.own_metric_plan();
        let counters = || {
            let all = (0..).zip(self.metrics());
            all.filter(|(_, metric)| metric.kind == MetricKind::Counter).map(|(number, _)| number)
        };
        let of_slot = |slot| (0..plan.banks).map(move |bank| (slot, bank));
        for (slot, bank) in (0..plan.capacity).flat_map(of_slot) {
            for metric in counters() {
                let cells = plan.value(slot, bank, metric).zip(plan.floor(slot, bank, metric));
                let place = plan.place(slot, bank, metric);
                let Some(((value, floor), place)) = cells.zip(place) else { continue };
                let load = |cell| self.slots().shared_cell(cell).map_or(0, CellRef::load);
                let seen = load(value);
                let (right, right_floor) = restored(kept(place as usize), seen, load(floor));
                if let Some((right, cell)) = right.zip(writable(self.slots(), value)) {
                    // A worker may count on.
                    let order = Ordering::Relaxed;
                    let _ = cell.compare_exchange(seen, right, order, order);
                }
                if let Some(right) = right_floor {
                    self.store(floor, right);
                }
            }
        }
    }
}

fn writable(slots: &WorkerSlots, cell: u32) -> Option<&AtomicU64> {
    slots.writable_cells().ok()?.shared_cell(cell)
}

#[cfg(test)]
mod tests;
