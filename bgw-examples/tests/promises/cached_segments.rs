//! The promise: a worker of a pool caches a segment, mapped, that its jobs use again and again, and
//! nobody notices but by the time it takes. What it caches and does not use it does not hold.
//!
//! Would catch: a job that finds the bytes of another segment, or of before; memory that stays, or
//! counts, since an idle worker knows of it; memory that goes while a job uses it.

use crate::support::{Cluster, PATIENCE, kill, read_note, wait_until_asleep, write_note};
use bgw_backend::{
    Bytes, Pid, Pool, PoolJob, PoolOptions, Segment, SegmentError, SegmentHandle, Worker,
    WorkerError, pooled,
};
use bgw_core::Attachment;
use process_test::{Signal, Test, tests, wait_until};
use std::sync::atomic::Ordering;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_segment_that_comes_back_stays_mapped_and_has_what_was_written_since => [J10, J15],
        what_is_only_cached_is_gone_with_the_last_who_holds_it => [J10],
        a_segment_that_a_job_uses_is_held_until_it_ends => [J10],
        of_many_segments_a_few_are_cached_and_each_job_finds_its_own => [J10],
        a_segment_that_is_passed_to_who_caches_it_waits_until_it_is_mapped => [J10],
        a_worker_that_is_killed_caches_nothing => [J10],
        whatever_others_write_into_its_cells_a_worker_finds_its_segments => [J12],
    ]
}

/// What a job gets: bytes, and a note that it waits for, or none.
type Input = (Bytes, String);
/// What it gives back: its worker, and the first word of its bytes.
type Output = (u32, u64);

/// Reads the first word, where it lies, and adds one to the next. With a note, in the middle of
/// it, it waits for that.
fn looks(worker: &mut Worker, (bytes, note): Input) -> Result<Output, WorkerError> {
    let mapped = bytes.map(&worker.backend())?;
    if !note.is_empty() {
        write_note(&format!("{note}-began"), "")?;
        read_note(&note);
    }
    let mut word = [0; 8];
    mapped.read(0, &mut word)?;
    mapped.segment().memory().cells()[1].fetch_add(1, Ordering::Relaxed);
    Ok((std::process::id(), u64::from_le_bytes(word)))
}

const BUDGET: u64 = 8 << 20;
/// More than half of it.
const LARGE: u64 = 5 << 20;

struct Fixture {
    cluster: Cluster,
    pool: Pool<Input, Output>,
    worker: Pid,
    /// How many segments the worker has open at first.
    before: usize,
}

impl Fixture {
    /// A cluster, and a pool of one worker.
    fn new() -> Self {
        let cluster = Cluster::with(|builder| {
            builder.max_workers(8).segment_bytes(BUDGET).call("looks", pooled(looks))
        });
        let options = PoolOptions::new("looks").workers(1..=1);
        let pool = cluster.backend.create_pool(&options).unwrap();
        let mut fixture = Self { cluster, pool, worker: Pid::this(), before: 0 };
        fixture.find_worker();
        fixture
    }

    /// Has a segment looked at once, which nobody caches.
    fn find_worker(&mut self) {
        let segment = self.segment(4096);
        let (pid, word) = output(&self.submit(&segment, ""));
        assert_eq!(word, 0);
        drop(segment);
        self.worker = Pid::new(pid).unwrap();
        self.before = self.open();
    }

    fn segment(&self, bytes: u64) -> Segment {
        self.cluster.backend.create_segment(bytes).unwrap()
    }

    fn submit(&self, segment: &Segment, note: &str) -> PoolJob<Output> {
        let bytes = Bytes::in_segment(segment, 0..segment.len()).unwrap();
        self.pool.submit(&(bytes, note.to_owned())).unwrap()
    }

    /// Runs a job after `word` was written, which it is to find.
    #[track_caller]
    fn run(&self, segment: &Segment, word: u64) {
        segment.write(0, &word.to_le_bytes()).unwrap();
        assert_eq!(output(&self.submit(segment, "")), (self.worker.get(), word));
    }

    /// Has the worker keep the segment: it maps it twice.
    #[track_caller]
    fn have_cached(&self, segment: &Segment) {
        let before = self.open();
        (1..=2).for_each(|word| self.run(segment, word));
        assert_eq!(self.open(), before + 1);
    }

    /// How many segments and other regions the worker has open.
    fn open(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.worker)).unwrap();
        let targets = all.filter_map(|one| std::fs::read_link(one.ok()?.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("memfd:shmem-slots")).count()
    }

    fn is_gone(&self, handle: SegmentHandle) -> bool {
        match self.cluster.backend.segment(handle) {
            Err(SegmentError::Gone { segment }) => segment == handle,
            found => found.is_err(),
        }
    }

    fn wait_until_unmapped(&self) {
        wait_until("the worker has unmapped it", PATIENCE, || self.open() == self.before);
    }
}

#[track_caller]
fn output<T: bgw_backend::CallValue + PartialEq + std::fmt::Debug>(job: &PoolJob<T>) -> T {
    job.wait_timeout(PATIENCE).unwrap().into_output().unwrap()
}

/// Would fail if a job found old bytes, or if the segment were mapped for each job.
fn a_segment_that_comes_back_stays_mapped_and_has_what_was_written_since() {
    let fixture = Fixture::new();
    let segment = fixture.segment(4096);
    fixture.have_cached(&segment);
    // What is cached is used without the postmaster.
    kill(fixture.cluster.launched.pid(), Signal::SIGSTOP);
    for word in 3..100 {
        fixture.run(&segment, word);
    }
    kill(fixture.cluster.launched.pid(), Signal::SIGCONT);
    assert_eq!(fixture.open(), fixture.before + 1);
    assert_eq!(segment.memory().cells()[1].load(Ordering::Relaxed), 99);
    drop(segment);
    fixture.wait_until_unmapped();
    fixture.cluster.end();
}

/// Would fail if a segment, its memory or its share of the budget stayed with an idle worker.
fn what_is_only_cached_is_gone_with_the_last_who_holds_it() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        let segment = fixture.segment(LARGE);
        let handle = segment.handle();
        fixture.have_cached(&segment);
        drop(segment);
        // What the worker has told on its own connection has no order with that.
        wait_until("it is gone", PATIENCE, || fixture.is_gone(handle));
        drop(fixture.segment(LARGE));
        fixture.wait_until_unmapped();
    }
    fixture.cluster.end();
}

/// Would fail if memory that is cached went, or was another's, while a job uses it.
fn a_segment_that_a_job_uses_is_held_until_it_ends() {
    let fixture = Fixture::new();
    let segment = fixture.segment(LARGE);
    let handle = segment.handle();
    fixture.have_cached(&segment);
    segment.write(0, &77_u64.to_le_bytes()).unwrap();
    let job = fixture.submit(&segment, "go");
    read_note("go-began");
    drop(segment);
    assert!(!fixture.is_gone(handle), "a job uses it");
    let refused = fixture.cluster.backend.create_segment(LARGE);
    assert!(matches!(refused, Err(SegmentError::Full { .. })), "{refused:?}");
    write_note("go", "").unwrap();
    assert_eq!(output(&job), (fixture.worker.get(), 77));
    wait_until("it is gone", PATIENCE, || fixture.is_gone(handle));
    fixture.wait_until_unmapped();
    fixture.cluster.end();
}

/// Would fail if a worker cached all that it has seen, or took one for another.
fn of_many_segments_a_few_are_cached_and_each_job_finds_its_own() {
    let fixture = Fixture::new();
    let segments: Vec<Segment> = (0..6).map(|_| fixture.segment(4096)).collect();
    for round in 0..20 {
        for (number, segment) in (0..).zip(&segments) {
            fixture.run(segment, round * 100 + number);
        }
        assert!(fixture.open() <= fixture.before + 4);
    }
    assert_eq!(fixture.open(), fixture.before + 4);
    let handles: Vec<SegmentHandle> = segments.iter().map(Segment::handle).collect();
    drop(segments);
    // Those that the worker gave up for others it drops on its own connection.
    for handle in handles {
        wait_until("it is gone", PATIENCE, || fixture.is_gone(handle));
    }
    fixture.wait_until_unmapped();
    fixture.cluster.end();
}

/// Would fail if a pass to a worker that caches the segment were no hold, or one for ever.
fn a_segment_that_is_passed_to_who_caches_it_waits_until_it_is_mapped() {
    let fixture = Fixture::new();
    let segment = fixture.segment(4096);
    let handle = segment.handle();
    let bytes = Bytes::in_segment(&segment, 0..8).unwrap();
    fixture.have_cached(&segment);
    segment.write(0, &5_u64.to_le_bytes()).unwrap();
    segment.pass_to(fixture.worker).unwrap();
    drop(segment);
    fixture.cluster.backend.ping().unwrap();
    let job = fixture.pool.submit(&(bytes, String::new())).unwrap();
    assert_eq!(output(&job), (fixture.worker.get(), 5));
    wait_until("it is gone", PATIENCE, || fixture.is_gone(handle));
    fixture.wait_until_unmapped();
    fixture.cluster.end();
}

/// Would fail if what a dead worker has cached stayed, or cached its successor from caching.
fn a_worker_that_is_killed_caches_nothing() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        let segment = fixture.segment(LARGE);
        let handle = segment.handle();
        fixture.have_cached(&segment);
        kill(fixture.worker, Signal::SIGKILL);
        drop(segment);
        wait_until("it is gone", PATIENCE, || fixture.is_gone(handle));
        fixture.find_worker();
    }
    fixture.cluster.end();
}

/// Would fail if a worker believed its cells more than what it has mapped itself, or if a segment
/// were lost to the budget by what others write there.
fn whatever_others_write_into_its_cells_a_worker_finds_its_segments() {
    /// Where `cached_cells.rs` of bgw-core has them.
    const CELLS: std::ops::Range<usize> = 12..16;
    let fixture = Fixture::new();
    let hostile = Attachment::connect(&fixture.cluster.folder, false, None).unwrap();
    let cells = hostile.slots().writable_cells().unwrap();
    let segments: Vec<Segment> = (0..2).map(|_| fixture.segment(4096)).collect();
    let words: Vec<u64> = segments
        .iter()
        .flat_map(|segment| (1..=3).map(|what| segment.handle().to_bits() << 2 | what))
        .chain([0, 1, u64::MAX])
        .collect();
    let slots = hostile.slots().capacity();
    for (round, word) in (0..).zip(words.iter().cycle().take(40)) {
        for (number, segment) in (0..).zip(&segments) {
            fixture.run(segment, round * 10 + number);
            for (slot, place) in (0..slots).flat_map(|slot| CELLS.map(move |place| (slot, place))) {
                cells.slot_cell(slot, place).unwrap().store(*word, Ordering::SeqCst);
            }
        }
    }
    // It sleeps, on cells that say anything, and still takes the next job.
    wait_until_asleep(fixture.worker);
    for segment in &segments {
        (1..=3).for_each(|word| fixture.run(segment, word));
    }
    let handles: Vec<SegmentHandle> = segments.iter().map(Segment::handle).collect();
    drop(segments);
    for handle in handles {
        wait_until("it is gone", PATIENCE, || fixture.is_gone(handle));
    }
    fixture.cluster.end();
}
