//! The postmaster under test and its workers.

use crate::clock::{cell, now, pin};
use crate::jobs;
use bgw_backend::{
    Backend, BackgroundWorker, Handle, ShutdownMode, StartTime, Worker, WorkerError, WorkerStatus,
    entry, pooled,
};
use bgw_postmaster::{Launched, Postmaster, PostmasterBuilder, Reuse, Template};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;

/// Any failure, with a message for the user.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The cell in which a worker stores the time of its first line.
pub(crate) const STAMP: usize = 0;

/// The template, where there is one.
const TEMPLATE: &str = "loaded";

/// A launched postmaster and its backend.
pub(crate) struct Cluster {
    pub(crate) launched: Launched,
    pub(crate) backend: Backend,
    folder: TempDir,
}

fn sleeper(worker: &mut Worker) -> std::result::Result<(), WorkerError> {
    cell(STAMP).store(now(), Ordering::Release);
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

impl Cluster {
    pub(crate) fn launch(slots: u32, spares: usize) -> Result<Self> {
        let builder = Postmaster::builder().max_workers(slots).warm_spares(spares);
        Self::with(builder.allow_commands(true))
    }

    /// As [`Cluster::launch`], with spares that who registers a worker may wake.
    pub(crate) fn launch_direct(slots: u32, spares: usize) -> Result<Self> {
        let builder = Postmaster::builder().max_workers(slots).warm_spares(spares);
        Self::with(builder.direct_starts(true))
    }

    /// With room for pools.
    pub(crate) fn launch_for_pools(slots: u32) -> Result<Self> {
        Self::with(Postmaster::builder().max_workers(slots).segment_bytes(128 << 20))
    }

    /// With a template that loads something, and forks so many workers ahead.
    pub(crate) fn launch_with_template(
        spares: usize,
        load: impl Fn() -> nix::Result<()> + 'static,
    ) -> Result<Self> {
        let settings = Template::new().spares(spares);
        Self::with(Postmaster::builder().max_workers(8).template_with(TEMPLATE, settings, load))
    }

    /// Starts only workers that may run in the first phase.
    pub(crate) fn launch_held(slots: u32) -> Result<Self> {
        let phase = StartTime::PostmasterStart;
        Self::with(Postmaster::builder().max_workers(slots).initial_phase(phase))
    }

    fn with(builder: PostmasterBuilder) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut launched = builder
            .runtime_dir(folder.path())
            .function("sleeper", entry(sleeper))
            .function("quick", |_| Ok(()))
            .call("empty", pooled(jobs::empty))
            .call("works", pooled(jobs::works))
            .call("in place", pooled(jobs::in_place))
            .call("copied", pooled(jobs::copied))
            .reusable_function("again", Reuse::new().lives(u32::MAX), |_| Ok(()))
            .build()?
            .launch()?;
        let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
        Ok(Self { launched, backend, folder })
    }

    /// The runtime folder, for programs that attach.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Pins the postmaster and all workers forked from now on.
    pub(crate) fn pin(&self, core: Option<usize>) -> Result<()> {
        Ok(pin(self.launched.pid().as_raw(), core)?)
    }

    /// The postmaster's CPU time, in nanoseconds.
    pub(crate) fn postmaster_cpu(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.launched.pid()))?;
        Ok(text.split(' ').next().unwrap_or_default().parse()?)
    }

    pub(crate) fn register(&self, worker: &BackgroundWorker) -> Result<Handle> {
        Ok(self.backend.register(worker)?)
    }

    /// Runs workers until no spare is left that was forked before this call.
    pub(crate) fn use_up_spares(&self, spares: usize) -> Result<()> {
        let worker = sleeping()?;
        for _ in 0..spares {
            let handle = self.register(&worker)?;
            started(&handle)?;
            stop(&handle)?;
            // A used one is replaced after a millisecond.
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn end(self) -> Result<()> {
        self.backend.shutdown(ShutdownMode::Fast)?;
        self.launched.wait()?;
        Ok(())
    }
}

/// A worker that stores the time of its first line and sleeps.
pub(crate) fn sleeping() -> Result<BackgroundWorker> {
    let worker = BackgroundWorker::builder("sleeper").function("sleeper");
    Ok(worker.start_time(StartTime::PostmasterStart).build()?)
}

/// The same, forked from the template.
pub(crate) fn of_template() -> Result<BackgroundWorker> {
    let worker = BackgroundWorker::builder("sleeper").function("sleeper").template(TEMPLATE);
    Ok(worker.start_time(StartTime::PostmasterStart).build()?)
}

/// A worker that exits at once, and whose process serves again.
pub(crate) fn again() -> Result<BackgroundWorker> {
    Ok(BackgroundWorker::builder("again").function("again").build()?)
}

/// A worker whose start phase is never reached.
pub(crate) fn held() -> Result<BackgroundWorker> {
    Ok(BackgroundWorker::builder("held").function("sleeper").build()?)
}

/// A worker that exits at once.
pub(crate) fn quick() -> Result<BackgroundWorker> {
    Ok(BackgroundWorker::builder("quick").function("quick").build()?)
}

pub(crate) fn started(handle: &Handle) -> Result<()> {
    match handle.wait_for_startup()? {
        WorkerStatus::Started(_) => Ok(()),
        other => Err(format!("a worker should run, and is: {other}").into()),
    }
}

pub(crate) fn stop(handle: &Handle) -> Result<()> {
    handle.terminate()?;
    match handle.wait_for_shutdown()? {
        WorkerStatus::Stopped(_) => Ok(()),
        other => Err(format!("a worker should have ended, and is: {other}").into()),
    }
}
