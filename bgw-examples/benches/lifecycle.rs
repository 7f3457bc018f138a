//! What the facility is for, measured from outside: start a worker, ask, stop it.
//!
//! Each figure has the kernel's own limit beside it, measured in the same run by the same means: a
//! bare fork to the child's first instruction, and fork + exit + wait. The postmaster is launched
//! before anything else, while this program is small and has one thread. The clock is monotonic and
//! the same for all processes; what a worker stamps is read from a shared slot of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_backend::{
    Backend, BackgroundWorker, Handle, ShutdownMode, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::{Launched, Postmaster};
use criterion::{BenchmarkId, Criterion, Throughput};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::wait::waitpid;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, fork};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Where a child stamps its first instruction.
static STAMP: std::sync::OnceLock<&'static AtomicU64> = std::sync::OnceLock::new();

fn stamp() -> &'static AtomicU64 {
    STAMP.get().copied().expect("mapped in main")
}

fn map_stamp() {
    let len = NonZeroUsize::new(4096).unwrap();
    let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new shared mapping of one page, which is never unmapped.
    let page = unsafe { mmap_anonymous(None, len, flags, MapFlags::MAP_SHARED) }.unwrap();
    // SAFETY: the page is zeroed, aligned, mapped for ever, and only touched atomically.
    STAMP.get_or_init(|| unsafe { page.cast::<AtomicU64>().as_ref() });
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

fn sleeper(worker: &mut Worker) -> Result<(), WorkerError> {
    stamp().store(now(), Ordering::Release);
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn describe(function: &str) -> BackgroundWorker {
    BackgroundWorker::builder(function).function(function).build().unwrap()
}

fn launch() -> (Launched, Backend) {
    let mut launched = Postmaster::builder()
        .max_workers(512)
        .runtime_dir(folder())
        .function("sleeper", entry(sleeper))
        .function("quick", |_| Ok(()))
        .build()
        .unwrap()
        .launch()
        .unwrap();
    let backend = Backend::over(launched.take_control().unwrap()).unwrap();
    (launched, backend)
}

fn started(handle: &Handle) {
    assert!(matches!(handle.wait_for_startup().unwrap(), WorkerStatus::Started(_)));
}

fn stop(handle: &Handle) {
    handle.terminate().unwrap();
    assert!(matches!(handle.wait_for_shutdown().unwrap(), WorkerStatus::Stopped(Some(_))));
}

/// A bare fork: to the child's first instruction, and until it is reaped. Returns both times.
fn bare_fork() -> (Duration, Duration) {
    stamp().store(0, Ordering::Release);
    let begin = now();
    // SAFETY: the child stores to a mapped atomic and leaves.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            stamp().store(now(), Ordering::Release);
            // SAFETY: always allowed.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).unwrap();
            let end = now();
            let first = stamp().load(Ordering::Acquire);
            assert!(first >= begin);
            (Duration::from_nanos(first - begin), Duration::from_nanos(end - begin))
        }
    }
}

fn start_and_stop(criterion: &mut Criterion, backend: &Backend) {
    let worker = describe("sleeper");
    let mut group = criterion.benchmark_group("one worker");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    let sum = |rounds: u64, mut round: Box<dyn FnMut() -> Duration + '_>| -> Duration {
        (0..rounds).map(|_| round()).sum()
    };
    group.bench_function("kernel: fork to first instruction", |bench| {
        bench.iter_custom(|rounds| sum(rounds, Box::new(|| bare_fork().0)));
    });
    group.bench_function("kernel: fork, exit, wait", |bench| {
        bench.iter_custom(|rounds| sum(rounds, Box::new(|| bare_fork().1)));
    });
    let start = |what: fn(u64, u64) -> u64| {
        let worker = &worker;
        move || {
            stamp().store(0, Ordering::Release);
            let begin = now();
            let handle = backend.register(worker).unwrap();
            started(&handle);
            let told = now();
            handle.wait_for_ready().unwrap();
            let time = what(begin, told);
            stop(&handle);
            Duration::from_nanos(time)
        }
    };
    group.bench_function("register to wait_for_startup returned", |bench| {
        bench.iter_custom(|rounds| sum(rounds, Box::new(start(|begin, told| told - begin))));
    });
    group.bench_function("register to the first line of the worker's main", |bench| {
        bench.iter_custom(|rounds| {
            sum(rounds, Box::new(start(|begin, _| stamp().load(Ordering::Acquire) - begin)))
        });
    });
    group.bench_function("terminate to wait_for_shutdown returned", |bench| {
        bench.iter_custom(|rounds| {
            sum(
                rounds,
                Box::new(|| {
                    let handle = backend.register(&worker).unwrap();
                    handle.wait_for_ready().unwrap();
                    let begin = now();
                    stop(&handle);
                    Duration::from_nanos(now() - begin)
                }),
            )
        });
    });
    group.finish();
}

fn throughput(criterion: &mut Criterion, backend: &Backend) {
    let worker = describe("quick");
    let mut group = criterion.benchmark_group("workers that exit at once");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    for in_flight in [1usize, 4, 32] {
        group.bench_function(BenchmarkId::new("in flight", in_flight), |bench| {
            bench.iter_custom(|rounds| {
                let begin = now();
                let mut waiting = std::collections::VecDeque::new();
                for _ in 0..rounds {
                    if waiting.len() >= in_flight {
                        let oldest: Handle = waiting.pop_front().unwrap();
                        assert!(matches!(
                            oldest.wait_for_shutdown().unwrap(),
                            WorkerStatus::Stopped(_)
                        ));
                    }
                    waiting.push_back(backend.register(&worker).unwrap());
                }
                for handle in waiting {
                    handle.wait_for_shutdown().unwrap();
                }
                Duration::from_nanos(now() - begin)
            });
        });
        group.bench_function(BenchmarkId::new("kernel: fork, exit, wait", in_flight), |bench| {
            bench.iter_custom(|rounds| {
                let begin = now();
                let mut running = std::collections::VecDeque::new();
                for _ in 0..rounds {
                    if running.len() >= in_flight {
                        waitpid(running.pop_front(), None).unwrap();
                    }
                    // SAFETY: the child leaves at once.
                    match unsafe { fork() }.unwrap() {
                        // SAFETY: always allowed.
                        ForkResult::Child => unsafe { libc::_exit(0) },
                        ForkResult::Parent { child } => running.push_back(child),
                    }
                }
                for child in running {
                    waitpid(child, None).unwrap();
                }
                Duration::from_nanos(now() - begin)
            });
        });
    }
    group.finish();
}

fn status(criterion: &mut Criterion, backend: &Backend) {
    let handle = backend.register(&describe("sleeper")).unwrap();
    handle.wait_for_ready().unwrap();
    let mut group = criterion.benchmark_group("status of a live handle");
    let word = AtomicU64::new(1);
    group.bench_function("kernel: one acquire load", |bench| {
        bench.iter(|| std::hint::black_box(&word).load(Ordering::Acquire));
    });
    group.bench_function("alone", |bench| {
        bench.iter(|| assert!(matches!(handle.status(), WorkerStatus::Started(_))));
    });
    // Another process registers and waits all the time.
    let stop_registering = shared_flag();
    // SAFETY: the child uses a backend of its own and leaves by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // SAFETY: always allowed.
            unsafe { libc::_exit(register_until(stop_registering)) }
        }
        ForkResult::Parent { child } => {
            group.bench_function("while another process registers", |bench| {
                bench.iter(|| assert!(matches!(handle.status(), WorkerStatus::Started(_))));
            });
            stop_registering.store(true, Ordering::Release);
            waitpid(child, None).unwrap();
        }
    }
    group.finish();
    stop(&handle);
}

fn shared_flag() -> &'static AtomicBool {
    let len = NonZeroUsize::new(4096).unwrap();
    let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new shared mapping of one page, which is never unmapped.
    let page = unsafe { mmap_anonymous(None, len, flags, MapFlags::MAP_SHARED) }.unwrap();
    // SAFETY: zero is false, and the page is only touched atomically.
    unsafe { page.cast::<AtomicBool>().as_ref() }
}

fn register_until(stop: &AtomicBool) -> i32 {
    let Ok(backend) = Backend::connect(folder()) else { return 1 };
    while !stop.load(Ordering::Acquire) {
        match backend.register(&describe("quick")).map(|handle| handle.wait_for_shutdown()) {
            Ok(Ok(_)) => {}
            _ => return 1,
        }
    }
    0
}

/// The folder of the control socket, by the pid of this program (a forked child has another).
static FOLDER: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();

fn folder() -> &'static std::path::Path {
    FOLDER.get_or_init(|| std::env::temp_dir().join(format!("bgw-bench-{}", std::process::id())))
}

fn main() {
    map_stamp();
    let (launched, backend) = launch();
    let mut criterion = Criterion::default().configure_from_args();
    status(&mut criterion, &backend);
    start_and_stop(&mut criterion, &backend);
    throughput(&mut criterion, &backend);
    launched.shutdown(ShutdownMode::Fast).unwrap();
    drop(backend);
    launched.wait().unwrap();
    std::fs::remove_dir_all(folder()).unwrap();
    criterion.final_summary();
}
