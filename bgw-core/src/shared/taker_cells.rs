//! Cells of direct starts: who registers a worker gives it to a spare without the postmaster.
//!
//! | cells | written by | read by |
//! |---|---|---|
//! | sleepers: a bit for each spare that may be given a worker | postmaster; who gives clears a bit first | who registers |
//! | a cell for each spare: what it was given | who gives, by one swap; postmaster | the spare, postmaster |
//!
//! Both are hints: a spare checks what it finds, and the postmaster believes the page that it
//! shares with that spare alone. See `shmem_slots::taker`.

use super::cluster_cells::{ClusterCells, SLOT_CLEANUP_MARK, SLOT_STARTED_AT};
use super::layout::{CHANGES, MOST_TAKERS, SLEEPERS, TAKER, TAKER_CELLS};
use super::postmaster_cells::PostmasterCells;
use crate::worker::output::Output;
use crate::worker::{BackgroundWorker, EntryPoint};
use shmem_slots::taker::TakerCell;
use shmem_slots::{Key, futex};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many spares are tried. More often than that, others have been faster.
const TRIES: u32 = 8;

/// True for a worker that needs nothing of the postmaster at its start: a function of the common
/// slots, without a template, a notify target, a submitter that waits for its
/// outcome, descriptors, an output, a clock, limits or relations to others.
#[must_use]
pub fn may_start_directly(worker: &BackgroundWorker) -> bool {
    let needs_timer = worker.ready().is_some()
        || worker.recycle().is_some()
        || worker.start_timeout().is_some()
        || worker.heartbeat().is_some();
    let has_relations =
        worker.is_unique() || worker.group().is_some() || worker.after().next().is_some();
    matches!(worker.entry(), EntryPoint::Function(_))
        && worker.template().is_none()
        && worker.class().is_none()
        && !worker.is_parallel()
        && worker.notify().is_none()
        && worker.gifts().is_empty()
        && worker.surroundings().is_none()
        && *worker.output() == Output::Inherit
        // It ends with its submitter, which the postmaster must know first.
        && worker.job().is_none()
        && !needs_timer
        && !has_relations
}

impl<'a> ClusterCells<'a> {
    fn shared(&self, cell: u32) -> Option<&'a AtomicU64> {
        self.slots().writable_cells().ok()?.shared_cell(cell)
    }

    /// The cell of spare `number`; `None` beyond the last one, and in a region that is attached
    /// read-only.
    #[must_use]
    pub fn taker(&self, number: u32) -> Option<TakerCell<'a>> {
        let cell = (number < MOST_TAKERS).then_some(TAKER + number * TAKER_CELLS)?;
        self.shared(cell).map(TakerCell::new)
    }

    /// The sleepers among the spares that have had a worker, or have had none.
    fn sleepers(&self, used: bool) -> u32 {
        SLEEPERS + u32::from(used)
    }

    /// True if a spare may be given a worker, one whose process may serve again or another one.
    #[must_use]
    pub fn has_sleepers(&self, reusable: bool) -> bool {
        let any = |used| {
            self.slots().shared_cell(self.sleepers(used)).is_some_and(|cell| cell.load() != 0)
        };
        any(false) || (reusable && any(true))
    }

    /// Gives an offered slot to a spare and wakes it. False: there is none; the postmaster is to be
    /// rung.
    #[must_use]
    pub fn give_to_sleeper(&self, key: Key, reusable: bool) -> bool {
        let kinds = if reusable { &[true, false][..] } else { &[false] };
        kinds.iter().any(|&used| self.give_to(key, used))
    }

    fn give_to(&self, key: Key, used: bool) -> bool {
        let Some(sleepers) = self.shared(self.sleepers(used)) else { return false };
        for _ in 0..TRIES {
            let bits = sleepers.load(Ordering::Relaxed);
            if bits == 0 {
                return false;
            }
            let number = bits.trailing_zeros();
            // Before the swap, so that the bit of its next sleep is not cleared.
            let before = sleepers.fetch_and(!(1 << number), Ordering::AcqRel);
            let is_mine = before & (1 << number) != 0;
            if is_mine && self.taker(number).is_some_and(|taker| taker.give(key)) {
                return true;
            }
        }
        false
    }

    /// In a spare that has accepted slot `index`: what the postmaster does before a start of
    /// `worker`.
    pub fn begin_own_life(&self, index: u32, worker: &BackgroundWorker) {
        if let Some(cell) = self.writable(index, SLOT_CLEANUP_MARK) {
            cell.store(0, Ordering::Release);
        }
        self.clear_run(index, worker);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        if let Some(cell) = self.writable(index, SLOT_STARTED_AT) {
            cell.store(u64::try_from(now).unwrap_or(0), Ordering::Release);
        }
    }

    /// In a spare that has accepted slot `index`: tells the waits that watch the count of changes.
    /// True if bells are to be rung, which the postmaster does.
    #[must_use]
    pub fn tell_change(&self, index: u32) -> bool {
        if let Some(cell) = self.shared(CHANGES) {
            cell.fetch_add(1, Ordering::AcqRel);
            futex::wake_all(cell);
        }
        self.interest(Self::interest_of(index)).is_some_and(|interest| interest.is_asked())
    }
}

impl PostmasterCells {
    /// Lets processes give a worker to spare `number`, which sleeps.
    pub fn open_taker(&self, number: u32, used: bool) {
        let cells = self.cluster();
        if let (Some(taker), Some(bits)) = (cells.taker(number), cells.shared(cells.sleepers(used)))
        {
            taker.open();
            bits.fetch_or(1 << number, Ordering::AcqRel);
        }
    }

    /// Spare `number` is given nothing any more. Returns what it was given since it was opened.
    #[must_use = "the slot is to be looked after"]
    pub fn close_taker(&self, number: u32) -> Option<Key> {
        let cells = self.cluster();
        for used in [false, true] {
            if let Some(bits) = cells.shared(cells.sleepers(used)).filter(|_| number < MOST_TAKERS)
            {
                bits.fetch_and(!(1 << number), Ordering::AcqRel);
            }
        }
        cells.taker(number)?.close()
    }

    /// What spare `number` was given.
    #[must_use]
    pub fn given_to_taker(&self, number: u32) -> Option<Key> {
        self.cluster().taker(number)?.given()
    }
}

/// What a wait for many workers sees; for tests.
#[cfg(test)]
fn changes(cells: &ClusterCells<'_>) -> u64 {
    cells.slots().shared_cell(CHANGES).map_or(0, shmem_slots::CellRef::load)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::builder::BackgroundWorkerBuilder;
    use crate::worker::job::Orphaned;
    use crate::worker::{StartTime, WorkerFlags};

    const KEY: Key = Key { index: 1, generation: 3 };

    #[test]
    fn a_spare_is_given_one_worker_and_a_used_one_only_what_is_reusable() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let cluster = cells.cluster();
        assert!(!cluster.has_sleepers(true) && !cluster.give_to_sleeper(KEY, true));
        cells.open_taker(0, true);
        cells.open_taker(63, false);
        assert!(cluster.give_to_sleeper(KEY, false));
        assert_eq!((cells.given_to_taker(0), cells.given_to_taker(63)), (None, Some(KEY)));
        assert!(!cluster.has_sleepers(false) && cluster.has_sleepers(true));
        assert!(!cluster.give_to_sleeper(KEY, false) && cluster.give_to_sleeper(KEY, true));
        assert!(!cluster.has_sleepers(true));
        assert_eq!(
            [0, 63, 0].map(|number| cells.close_taker(number)),
            [Some(KEY), Some(KEY), None]
        );
        assert_eq!(cells.close_taker(MOST_TAKERS), None);
    }

    /// Whatever lies in the cells of spares: an answer, and the bits run out.
    #[test]
    fn any_bits_of_sleepers_and_cells_are_an_answer() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let cluster = cells.cluster();
        for number in 0..SLEEPERS + 2 + TAKER_CELLS * MOST_TAKERS {
            if number >= SLEEPERS {
                cluster.shared(number).unwrap().store(u64::MAX, Ordering::Relaxed);
            }
        }
        for _ in 0..100 {
            assert!(!cluster.give_to_sleeper(KEY, true), "every cell is taken");
        }
        assert!(!cluster.has_sleepers(true));
        let _ = cells.given_to_taker(5);
    }

    #[test]
    fn what_a_start_needs_of_the_postmaster_is_not_handed_over() {
        type Change = fn(BackgroundWorkerBuilder) -> BackgroundWorkerBuilder;
        let rows: [(bool, Change); 9] = [
            (true, |b| b),
            (true, |b| b.main_arg(7)),
            (true, |b| b.start_time(StartTime::ConsistentState)),
            (false, |b| b.class("c")),
            (false, |b| b.unique()),
            (false, |b| b.notify(crate::Pid::this())),
            (true, |b| b.flags(WorkerFlags::SHMEM_ACCESS)),
            (false, |b| b.job(Orphaned::GoOn)),
            (false, |b| b.flags(WorkerFlags::CLASS_PARALLEL | WorkerFlags::SHMEM_ACCESS)),
        ];
        for (at, (may, change)) in rows.into_iter().enumerate() {
            let worker = change(BackgroundWorker::builder("w").function("f")).build().unwrap();
            assert_eq!(may_start_directly(&worker), may, "row {at}");
        }
        let command = BackgroundWorker::builder("w").command("true", [""; 0]).build().unwrap();
        assert!(!may_start_directly(&command));
    }

    #[test]
    fn a_spare_that_starts_tells_of_the_change_as_the_postmaster_does() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let (cluster, before) = (cells.cluster(), changes(&cells.cluster()));
        assert!(!cluster.tell_change(1));
        assert_eq!(changes(&cluster), before + 1);
        let _ = cluster.interest(ClusterCells::interest_of(1)).unwrap().ask(2);
        assert!(cluster.tell_change(1));
        cluster.set_status_text(1, "of the tenant before");
        let worker = BackgroundWorker::builder("w").function("f").build().unwrap();
        cluster.begin_own_life(1, &worker);
        assert_eq!(cluster.status_text(1), None);
        assert!(cluster.started_at(1).is_some());
    }
}
