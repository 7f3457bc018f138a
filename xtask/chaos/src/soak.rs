//! A soak: so many registrations, one after the other from several threads, and what the postmaster
//! keeps of them: its memory and its descriptors must be flat.
//!
//! One worker in ten fails and has a long restart pause in which it is terminated: a timer that
//! outlives its worker would be memory that grows.

use crate::actor::{HUNG, with_sources};
use crate::job::QUICK;
use crate::{invariants, processes};
use bgw_backend::{
    Backend, BackgroundWorker, Handle, RegisterError, RestartPolicy, ShutdownMode, WorkerStatus,
};
use bgw_postmaster::Postmaster;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SLOTS: u32 = 32;
const THREADS: u64 = 4;
/// What the postmaster's anonymous memory may grow after the first tenth, in KiB.
const MAY_GROW: u64 = 128;

/// Registers `count` workers. Prints what it measured; true when all is flat.
pub(crate) fn run(count: u64) -> Result<bool, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let run = folder.path().join("run");
    let builder = Postmaster::builder().runtime_dir(&run).max_workers(SLOTS);
    let builder =
        builder.function("act", |_| Ok(())).function("fail", |_| Err("on purpose".into()));
    let mut launched = builder
        .build()
        .map_err(|error| with_sources(&error))?
        .launch()
        .map_err(|error| with_sources(&error))?;
    let control = launched.take_control().ok_or("there is no control socket")?;
    let backend = Backend::over(control).map_err(|error| with_sources(&error))?;
    let postmaster = launched.pid().get();
    let descriptors = processes::descriptors(postmaster);
    let done = AtomicU64::new(0);
    let began = Instant::now();
    let samples = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(|| register(&run, &done, count))).collect();
        let samples = sample(postmaster, &done, count, || threads.iter().all(|t| t.is_finished()));
        for thread in threads {
            thread.join().map_err(|_| "a registering thread panicked".to_owned())??;
        }
        Ok::<_, String>(samples)
    })?;
    let left = backend.workers().len();
    let mut descriptors_at_end = 0;
    // Pidfds are closed after the ends are told.
    let flat = invariants::until("the descriptors are as in the beginning", || {
        descriptors_at_end = processes::descriptors(postmaster);
        if descriptors_at_end == descriptors { Ok(()) } else { Err(String::new()) }
    });
    launched.shutdown(ShutdownMode::Fast).map_err(|error| error.to_string())?;
    launched.wait().map_err(|error| error.to_string())?;
    let (first, last) = (samples.first().copied(), samples.last().copied());
    let (Some(first), Some(last)) = (first, last) else {
        return Err("nothing was measured".into());
    };
    let flat = flat.is_ok() && last <= first + MAY_GROW && left == 0;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!(
        "{count} registrations, {rate:.0} a second; postmaster: {first} KiB after a tenth, {last} at the end; \
         {descriptors} descriptors in the beginning, {descriptors_at_end} at the end"
    );
    println!("chaos: soak {}, {count} registrations", if flat { "ok" } else { "failed" });
    Ok(flat)
}

/// The postmaster's memory, in KiB, after each tenth of the registrations.
fn sample(postmaster: u32, done: &AtomicU64, count: u64, finished: impl Fn() -> bool) -> Vec<u64> {
    let mut samples = Vec::new();
    for tenth in 1..=10 {
        while done.load(Ordering::Relaxed) < count * tenth / 10 && !finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        samples.push(processes::memory(postmaster));
    }
    samples
}

fn register(folder: &Path, done: &AtomicU64, count: u64) -> Result<(), String> {
    let backend = Backend::connect(folder).map_err(|error| with_sources(&error))?;
    let quick = QUICK.describe(None).map_err(|error| error.to_string())?;
    let paused = BackgroundWorker::builder("fail").function("fail");
    let paused = paused.restart(RestartPolicy::after_secs(3600)).build();
    let paused = paused.map_err(|error| error.to_string())?;
    loop {
        let number = done.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(());
        }
        let pauses = number.is_multiple_of(10);
        let handle = again(&backend, if pauses { &paused } else { &quick })?;
        ended(&handle)?;
        if pauses {
            handle.terminate().map_err(|error| with_sources(&error))?;
            while matches!(handle.status(), WorkerStatus::Stopped(Some(report)) if !report.unregistered)
            {
                std::thread::yield_now();
            }
        }
    }
}

/// Registers as soon as there is a slot.
fn again(backend: &Backend, worker: &BackgroundWorker) -> Result<Handle, String> {
    loop {
        match backend.register(worker) {
            Ok(handle) => return Ok(handle),
            Err(RegisterError::NoFreeSlot { .. }) => std::thread::yield_now(),
            Err(error) => return Err(with_sources(&error)),
        }
    }
}

fn ended(handle: &Handle) -> Result<(), String> {
    match handle.wait_for_shutdown_timeout(HUNG) {
        Ok(WorkerStatus::Stopped(_)) => Ok(()),
        Ok(status) => Err(format!("{handle} is {status:?}")),
        Err(error) => Err(format!("{handle}: {error}")),
    }
}
