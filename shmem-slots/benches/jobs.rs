//! What a job costs through the queue, beside a bare ring each way for each worker: shared memory,
//! a head, a tail, and a futex for who sleeps; no names, no order over several submitters, nothing
//! left when a process dies. Two workers, empty jobs of 8 bytes, one at a time and 64 in flight.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{Criterion, criterion_group, criterion_main};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use shmem_slots::Segment;
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::jobs::{JobKey, Jobs, JobsOptions};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

const WORKERS: usize = 2;
const IN_FLIGHT: usize = 64;

/// Workers, which are killed at the end.
struct Workers(Vec<Pid>);

impl Workers {
    fn fork(work: impl Fn(usize)) -> Self {
        Self(
            (0..WORKERS)
                .map(|number| {
                    // SAFETY: criterion's process has one thread here, and the child only works.
                    match unsafe { fork() }.unwrap() {
                        ForkResult::Child => loop {
                            work(number);
                        },
                        ForkResult::Parent { child } => child,
                    }
                })
                .collect(),
        )
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for &worker in &self.0 {
            kill(worker, Signal::SIGKILL).unwrap();
            waitpid(worker, None).unwrap();
        }
    }
}

/// One direction of a bare ring: who sleeps sets a flag, who adds looks at it.
struct Ring<'a>(&'a [AtomicU64]);

const SLOTS: usize = 256;
const RING: usize = SLOTS + 32;

impl Ring<'_> {
    /// Cells: head, tail, and the futex, on lines of their own.
    fn send(&self, value: u64) {
        let tail = self.0[8].load(Ordering::Relaxed);
        self.0[32 + tail as usize % SLOTS].store(value, Ordering::Relaxed);
        self.0[8].store(tail + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.0[16].load(Ordering::Relaxed) != 0 {
            self.0[16].store(0, Ordering::Relaxed);
            futex::wake_one(&self.0[16]);
        }
    }

    fn try_receive(&self) -> Option<u64> {
        let head = self.0[0].load(Ordering::Relaxed);
        if head == self.0[8].load(Ordering::Acquire) {
            return None;
        }
        let value = self.0[32 + head as usize % SLOTS].load(Ordering::Relaxed);
        self.0[0].store(head + 1, Ordering::Release);
        Some(value)
    }

    fn receive(&self) -> u64 {
        loop {
            if let Some(value) = self.try_receive() {
                return value;
            }
            self.0[16].store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let empty = self.0[0].load(Ordering::Relaxed) == self.0[8].load(Ordering::Acquire);
            if empty {
                let watch = Watch { cell: (&self.0[16]).into(), half: Half::Low, seen: 1 };
                futex::wait_any(&[watch], None).unwrap();
            }
            self.0[16].store(0, Ordering::Relaxed);
        }
    }
}

/// `count` jobs through the bare rings, `flight` of them open at a time.
fn bare(segment: &Segment, count: u64, flight: usize) {
    let ring = |number: usize| Ring(&segment.cells()[number * RING..(number + 1) * RING]);
    let mut open = VecDeque::new();
    for number in 0..count {
        if open.len() == flight {
            let worker: usize = open.pop_front().unwrap();
            ring(worker * 2 + 1).receive();
        }
        let worker = number as usize % WORKERS;
        ring(worker * 2).send(number);
        open.push_back(worker);
    }
    for worker in open {
        ring(worker * 2 + 1).receive();
    }
}

/// The same through the queue.
fn queued(jobs: &Jobs, count: u64, flight: usize) {
    let (mut open, mut output) = (VecDeque::new(), Vec::with_capacity(64));
    let mut finish = |key: JobKey| {
        while jobs.collect(key, &mut output).is_none() {
            if let Some(watches) = jobs.watches(key) {
                futex::wait_any(&watches, None).unwrap();
            }
        }
        key.index
    };
    let mut near = 0;
    for number in 0..count {
        if open.len() == flight {
            near = finish(open.pop_front().unwrap());
        }
        open.push_back(jobs.submit(0, 0, near, &number.to_le_bytes(), &[]).unwrap());
        near = near.wrapping_add(1);
    }
    for key in open {
        finish(key);
    }
}

fn job_queue() -> Jobs {
    let options = JobsOptions {
        classes: 1,
        jobs: 128,
        room: 64,
        takers: WORKERS as u32,
        submitters: 1,
        shared_cells: 0,
        tag: 0,
    };
    Jobs::create(&options).unwrap()
}

fn timed(run: impl Fn(u64)) -> impl Fn(u64) -> Duration {
    move |iterations| {
        let begin = Instant::now();
        run(iterations);
        begin.elapsed()
    }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a job");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, flight) in [("one at a time", 1), ("64 in flight", IN_FLIGHT)] {
        {
            let bytes = (RING * WORKERS * 2 * 8) as u64;
            let segment = Segment::attach(Segment::create_file(bytes).unwrap()).unwrap();
            let ring = |number: usize| Ring(&segment.cells()[number * RING..(number + 1) * RING]);
            let _workers =
                Workers::fork(|worker| ring(worker * 2 + 1).send(ring(worker * 2).receive()));
            let run = timed(|count| bare(&segment, count, flight));
            group.bench_function(format!("{name}: bare rings"), |bench| bench.iter_custom(&run));
        }
        let jobs = job_queue();
        let _workers = Workers::fork(|worker| {
            let me = worker as u32;
            let mut bytes = Vec::with_capacity(64);
            match jobs.take(0, me, |_| false).unwrap() {
                Some(key) => {
                    jobs.read(key, &mut bytes);
                    jobs.end(key, me, 0, &bytes).unwrap();
                }
                None => drop(jobs.wait_for_job(&[0], me, &[], None).unwrap()),
            }
        });
        let run = timed(|count| queued(&jobs, count, flight));
        group.bench_function(format!("{name}: job queue"), |bench| bench.iter_custom(&run));
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
