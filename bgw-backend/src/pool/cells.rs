//! What lies in the pool's region beside its jobs: settings, who its workers are, and counts.
//!
//! | cell | what |
//! |---|---|
//! | 0 | 1 once the pool takes no more; workers sleep on it |
//! | 1 | the least workers, and the most |
//! | 2, 3 | idle time and launch interval, in nanoseconds |
//! | 4 | when a worker was launched last, by the monotonic clock |
//! | 5 | how many workers there are |
//! | 6, 7 | raised when a cell becomes free, and how many sleep for that |
//! | 8 to 15 | reserve and weight of each class |
//! | 16 | attempts to start, and the length of the name |
//! | 17 to 28 | the name of the function |
//! | 29 | how long a worker may take after its stop signal, see [`grace_code`] |
//! | 30 | 1 once somebody has seen that all workers were given up |
//! | 32 to 39 | counts of what submitters learn, by [`Count`] |
//! | 64 on | 64 for each worker: counts, by [`Count`], and the two histograms |
//!
//! The eight cells of a taker are the worker's place: a word, and the runs that it names. Those of
//! a submitter have its pid.
//!
//! Trust. Any values are settings: they are clamped where they are used.

use super::place::Run;
use bgw_core::{Grace, Pid};
use shmem_slots::jobs::Jobs;
use shmem_slots::{CellRef, Region};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) const DRAINING: usize = 0;
const LIMITS: usize = 1;
const IDLE: usize = 2;
const INTERVAL: usize = 3;
pub(super) const LAUNCHED_AT: usize = 4;
pub(super) const WORKERS: usize = 5;
pub(super) const FREED: usize = 6;
pub(super) const WAIT_FOR_ROOM: usize = 7;
const CLASSES: usize = 8;
const NAME_LEN: usize = 16;
const NAME: usize = 17;
/// The longest name of a function, in bytes.
const NAME_BYTES: usize = 96;
const GRACE: usize = 29;
pub(super) const GIVEN_UP: usize = 30;
const COUNTS: usize = 32;
/// Whoever waits tries to start a worker no more often than that.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);
/// The longest grace of a worker, in milliseconds: a day.
const MAX_GRACE: u64 = 86_400_000;
const BLOCKS: usize = 64;
const BLOCK: usize = 64;
/// Buckets of a histogram.
pub(super) const BUCKETS: usize = 24;
const WAITED: usize = 8;
const RAN: usize = WAITED + BUCKETS;
/// In a worker's block: it has a job.
const BUSY: usize = 60;

/// How many shared cells a pool of so many workers needs.
pub(super) const fn needed(workers: u32) -> u32 {
    (BLOCKS + workers as usize * BLOCK) as u32
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Output = 0,
    Failed = 1,
    Died = 2,
    Cancelled = 3,
    NotStarted = 4,
    GivenUp = 5,
}

/// What the pool was made with, as far as the region says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) function: String,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) idle: Duration,
    pub(super) interval: Duration,
    pub(super) attempts: u32,
    pub(super) grace: Grace,
    /// Reserve and weight.
    pub(super) classes: Vec<(u32, u32)>,
}

/// A grace as a number.
fn grace_code(grace: Grace) -> u64 {
    match grace {
        Grace::Bounded => 0,
        Grace::OfCluster => 1,
        Grace::Forever => 2,
        Grace::After(time) => 3 + u64::try_from(time.as_millis()).unwrap_or(MAX_GRACE),
    }
}

/// A grace out of any number.
fn grace_of(code: u64) -> Grace {
    match code {
        0 => Grace::Bounded,
        1 => Grace::OfCluster,
        2 => Grace::Forever,
        more => Grace::After(Duration::from_millis((more - 3).min(MAX_GRACE))),
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The cells of a pool.
#[derive(Clone, Copy)]
pub(super) struct PoolCells<'a>(pub(super) &'a Jobs<Region>);

impl<'a> PoolCells<'a> {
    /// One that every pool has; `None` in a region that is none.
    pub(super) fn get(self, number: usize) -> Option<&'a AtomicU64> {
        self.0.shared_cells().get(number)
    }

    pub(super) fn load(self, number: usize) -> u64 {
        self.get(number).map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    fn store(self, number: usize, value: u64) {
        if let Some(cell) = self.get(number) {
            cell.store(value, Ordering::Release);
        }
    }

    /// In a region that nobody else has yet.
    pub(super) fn write(self, settings: &Settings) {
        self.store(LIMITS, u64::from(settings.min) << 32 | u64::from(settings.max));
        self.store(IDLE, nanos(settings.idle));
        self.store(INTERVAL, nanos(settings.interval));
        self.store(GRACE, grace_code(settings.grace));
        for (number, &(reserve, weight)) in settings.classes.iter().enumerate() {
            self.store(CLASSES + number, u64::from(reserve) << 32 | u64::from(weight));
        }
        let name = settings.function.as_bytes();
        self.store(NAME_LEN, u64::from(settings.attempts) << 32 | name.len() as u64);
        for (number, bytes) in name.chunks(8).take(NAME_BYTES / 8).enumerate() {
            let mut word = [0; 8];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            self.store(NAME + number, u64::from_ne_bytes(word));
        }
    }

    /// Whatever the cells hold, values that the pool can have.
    pub(super) fn settings(self) -> Settings {
        let takers = self.0.options().takers;
        let limits = self.load(LIMITS);
        let max = (limits as u32).clamp(1, takers);
        let named = self.load(NAME_LEN);
        let mut name: Vec<u8> = Vec::with_capacity(NAME_BYTES);
        for number in 0..NAME_BYTES / 8 {
            name.extend(self.load(NAME + number).to_ne_bytes());
        }
        name.truncate((named as u32 as usize).min(NAME_BYTES));
        Settings {
            function: String::from_utf8(name).unwrap_or_default(),
            min: ((limits >> 32) as u32).min(max),
            max,
            idle: Duration::from_nanos(self.load(IDLE)),
            interval: Duration::from_nanos(self.load(INTERVAL)).max(LEAST_INTERVAL),
            attempts: ((named >> 32) as u32).clamp(1, 100),
            grace: grace_of(self.load(GRACE)),
            classes: (0..self.0.options().classes as usize)
                .map(|class| self.load(CLASSES + class))
                .map(|cell| ((cell >> 32) as u32, (cell as u32).max(1)))
                .collect(),
        }
    }

    /// True once the pool takes no more.
    pub(super) fn is_draining(self) -> bool {
        self.load(DRAINING) != 0
    }

    /// A cell, to wait on.
    pub(super) fn watch(self, number: usize) -> Option<CellRef<'a>> {
        self.get(number).map(CellRef::from)
    }

    /// The place of a worker.
    pub(super) fn place(self, worker: u32) -> Option<&'a [AtomicU64]> {
        self.0.taker_cells(worker)
    }

    /// The run that has the worker's place, or had it last.
    pub(super) fn run(self, worker: u32) -> Option<Run> {
        Run::read(self.place(worker)?)
    }

    pub(super) fn set_pid(self, submitter: u32, pid: Pid) {
        if let Some(cell) = self.0.submitter_cells(submitter).and_then(<[_]>::first) {
            cell.store(u64::from(pid.get()), Ordering::Release);
        }
    }

    pub(super) fn pid(self, submitter: u32) -> Option<Pid> {
        let cell = self.0.submitter_cells(submitter)?.first()?;
        Pid::new(u32::try_from(cell.load(Ordering::Acquire)).ok()?)
    }

    /// Counts what a submitter has learnt.
    pub(super) fn count(self, what: Count) {
        if let Some(cell) = self.get(COUNTS + what as usize) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds to a cell that this worker alone writes.
    fn add(self, worker: u32, number: usize) {
        if let Some(cell) = self.get(BLOCKS + worker as usize * BLOCK + number) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Counts a job that this worker has ended.
    pub(super) fn job_ended(self, worker: u32, what: Count, waited: u64, ran: u64) {
        self.add(worker, what as usize);
        self.add(worker, WAITED + bucket(waited));
        self.add(worker, RAN + bucket(ran));
    }

    /// Counts a job whose submitter is gone.
    pub(super) fn job_given_up(self, worker: u32) {
        self.add(worker, Count::GivenUp as usize);
    }

    /// Says whether this worker has a job.
    pub(super) fn set_busy(self, worker: u32, busy: bool) {
        self.store(BLOCKS + worker as usize * BLOCK + BUSY, u64::from(busy));
    }

    /// True if the worker says that it has a job.
    pub(super) fn is_busy(self, worker: u32) -> bool {
        self.load(BLOCKS + worker as usize * BLOCK + BUSY) == 1
    }

    /// How often `what` was counted, by submitters and workers.
    pub(super) fn total(self, what: Count) -> u64 {
        self.load(COUNTS + what as usize).wrapping_add(self.sum(what as usize))
    }

    fn sum(self, number: usize) -> u64 {
        let workers = 0..self.0.options().takers as usize;
        let block = |worker| self.load(BLOCKS + worker * BLOCK + number);
        workers.map(block).fold(0, u64::wrapping_add)
    }

    /// The buckets of the times that jobs have waited.
    pub(super) fn waited(self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.sum(WAITED + bucket))
    }

    /// The buckets of the times that jobs have run.
    pub(super) fn ran(self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.sum(RAN + bucket))
    }
}

/// The bucket of a time in nanoseconds: the first ends at 1,024 ns, each other at twice the one
/// before, and the last has no end.
fn bucket(nanos: u64) -> usize {
    let above = (nanos >> 10).checked_ilog2().map_or(0, |log| log as usize + 1);
    above.min(BUCKETS - 1)
}

/// Where a bucket ends; `None` for the last.
pub(super) fn end_of(bucket: usize) -> Option<Duration> {
    (bucket + 1 < BUCKETS).then(|| Duration::from_nanos(1024 << bucket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shmem_slots::jobs::JobsOptions;

    fn jobs() -> Jobs<Region> {
        Jobs::create(&JobsOptions {
            classes: 2,
            jobs: 4,
            room: 64,
            takers: 3,
            submitters: 2,
            shared_cells: needed(3),
            tag: 1,
        })
        .unwrap()
    }

    #[test]
    fn a_grace_comes_back_and_any_number_is_one() {
        let times = [0, 1, MAX_GRACE].map(|millis| Grace::After(Duration::from_millis(millis)));
        let others = [Grace::Bounded, Grace::OfCluster, Grace::Forever];
        for grace in times.into_iter().chain(others) {
            assert_eq!(grace_of(grace_code(grace)), grace);
        }
        assert_eq!(grace_of(u64::MAX), times[2]);
    }

    #[test]
    fn settings_come_back_and_any_cells_are_some() {
        let jobs = jobs();
        let cells = PoolCells(&jobs);
        let settings = Settings {
            function: "x".repeat(95),
            min: 1,
            max: 3,
            idle: Duration::from_millis(7),
            interval: Duration::from_millis(9),
            attempts: 4,
            grace: Grace::After(Duration::from_millis(5)),
            classes: vec![(0, 1), (2, 5)],
        };
        cells.write(&settings);
        assert_eq!(cells.settings(), settings);
        for noise in [0, u64::MAX, 0xff00_ff00_ff00_ff00] {
            for cell in jobs.shared_cells() {
                cell.store(noise, Ordering::Relaxed);
            }
            let any = cells.settings();
            assert!((1..=3).contains(&any.max) && any.min <= any.max && any.attempts <= 100);
            assert!(any.classes.iter().all(|&(_, weight)| weight > 0));
            let _ = (cells.waited(), cells.total(Count::Died), cells.run(2), cells.pid(1));
        }
    }

    #[test]
    fn a_time_is_in_the_bucket_that_ends_behind_it() {
        for nanos in [0, 1, 1023, 1024, 5_000, 1 << 20, (1 << 33) - 1, 1 << 33, u64::MAX] {
            let bucket = bucket(nanos);
            let time = Duration::from_nanos(nanos);
            assert!(end_of(bucket).is_none_or(|end| time < end), "{nanos}");
            assert!(bucket == 0 || end_of(bucket - 1).is_some_and(|end| time >= end), "{nanos}");
        }
    }
}
