//! What a job costs through the queue: two workers, empty jobs of 8 bytes, one at a time and 64 in
//! flight. `cargo xtask bench --report` has pools beside their limit, a bare ring each way for each
//! worker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{Criterion, criterion_group, criterion_main};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use shmem_slots::futex;
use shmem_slots::jobs::{JobKey, Jobs, JobsOptions};
use std::collections::VecDeque;
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

/// `count` jobs, `flight` of them open at a time.
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
        group.bench_function(name, |bench| bench.iter_custom(&run));
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
