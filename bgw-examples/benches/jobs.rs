//! What jobs are for, measured from outside: a worker handed over to a spare, a pooled job, a
//! segment, a worker forked from a template. `cargo xtask bench --report` has them beside their
//! limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_backend::{
    Backend, BackgroundWorker, Bytes, PoolOptions, ShutdownMode, Worker, WorkerError, WorkerStatus,
    entry, pooled,
};
use bgw_postmaster::{Launched, Postmaster};
use criterion::Criterion;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many jobs are open at a time in the second benchmark of pooled jobs.
const IN_FLIGHT: usize = 64;
const SEGMENT: u64 = 1 << 20;
/// The next spare is forked a millisecond after one was used.
const SPARE_ASLEEP: Duration = Duration::from_millis(5);

fn sleeper(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Writes the first word of its bytes, where they lie.
fn touch(worker: &mut Worker, bytes: Bytes) -> Result<(), WorkerError> {
    bytes.map(&worker.backend())?.write(0, &[1; 8])?;
    Ok(())
}

fn launch(folder: &TempDir) -> (Launched, Backend) {
    let mut launched = Postmaster::builder()
        .max_workers(16)
        .runtime_dir(folder.path())
        .segment_bytes(64 << 20)
        .warm_spares(2)
        .direct_starts(true)
        .template("loaded", || Ok::<_, std::io::Error>(vec![1_u8; 1 << 20]))
        .function("sleeper", entry(sleeper))
        .call("echo", pooled(|_: &mut Worker, number: u64| Ok::<_, WorkerError>(number)))
        .call("touch", pooled(touch))
        .build()
        .unwrap()
        .launch()
        .unwrap();
    let backend = Backend::over(launched.take_control().unwrap()).unwrap();
    (launched, backend)
}

/// Starts a worker and returns how long that took. Then it is ended.
fn start(backend: &Backend, worker: &BackgroundWorker) -> Duration {
    let begin = Instant::now();
    let handle = backend.register(worker).unwrap();
    assert!(matches!(handle.wait_for_startup().unwrap(), WorkerStatus::Started(_)));
    let took = begin.elapsed();
    handle.wait_for_ready().unwrap();
    handle.terminate().unwrap();
    handle.wait_for_shutdown().unwrap();
    took
}

fn starts(criterion: &mut Criterion, backend: &Backend) {
    let builder = || BackgroundWorker::builder("sleeper").function("sleeper");
    let mut group = criterion.benchmark_group("register to wait_for_startup returned");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    let spare = builder().build().unwrap();
    group.bench_function("handed over to a spare", |bench| {
        bench.iter_custom(|rounds| {
            let round = |_| {
                std::thread::sleep(SPARE_ASLEEP);
                start(backend, &spare)
            };
            (0..rounds).map(round).sum()
        });
    });
    let forked = builder().template("loaded").build().unwrap();
    group.bench_function("forked from a template", |bench| {
        bench.iter_custom(|rounds| (0..rounds).map(|_| start(backend, &forked)).sum());
    });
    group.finish();
}

fn pooled_jobs(criterion: &mut Criterion, backend: &Backend) {
    let options = PoolOptions::new("echo").workers(2..=2);
    let pool = backend.create_pool::<u64, u64>(&options).unwrap();
    let mut group = criterion.benchmark_group("a pooled job");
    group.measurement_time(Duration::from_secs(2));
    group.bench_function("submitted and waited for", |bench| {
        bench.iter(|| pool.submit(&7).unwrap().wait().unwrap().into_output().unwrap());
    });
    group.bench_function("64 in flight", |bench| {
        bench.iter_custom(|count| {
            let begin = Instant::now();
            for done in pool.map(0..count).at_once(IN_FLIGHT) {
                let (number, outcome) = done.unwrap();
                assert_eq!(outcome.into_output().unwrap(), number as u64);
            }
            begin.elapsed()
        });
    });
    group.finish();
}

fn segments(criterion: &mut Criterion, backend: &Backend) {
    let options = PoolOptions::new("touch").workers(1..=1);
    let pool = backend.create_pool::<Bytes, ()>(&options).unwrap();
    let mut group = criterion.benchmark_group("a segment of 1 MiB");
    group.measurement_time(Duration::from_secs(2));
    group.bench_function("made and dropped", |bench| {
        bench.iter(|| drop(backend.create_segment(SEGMENT).unwrap()));
    });
    let segment = backend.create_segment(SEGMENT).unwrap();
    group.bench_function("mapped and dropped", |bench| {
        bench.iter(|| drop(backend.segment(segment.handle()).unwrap()));
    });
    let bytes = Bytes::in_segment(&segment, 0..segment.len()).unwrap();
    group.bench_function("used by a pooled job, in place", |bench| {
        bench.iter(|| pool.submit(&bytes).unwrap().wait().unwrap().into_output().unwrap());
    });
    group.finish();
}

fn main() {
    let folder = TempDir::new().unwrap();
    let (launched, backend) = launch(&folder);
    let mut criterion = Criterion::default().configure_from_args();
    starts(&mut criterion, &backend);
    pooled_jobs(&mut criterion, &backend);
    segments(&mut criterion, &backend);
    launched.shutdown(ShutdownMode::Fast).unwrap();
    drop(backend);
    launched.wait().unwrap();
    criterion.final_summary();
}
