//! `await_jobs`: an async program that has its jobs done by workers, all awaited on one thread.
//!
//! It registers jobs, one of which hangs, and awaits their ends with a deadline. A job that is too
//! slow is terminated. Meanwhile the events of the cluster come as a stream.

use bgw_backend::{
    Backend, BackgroundWorker, Event, EventKind, Events, EventsError, EventsFrom, Handle, Worker,
    WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::Postmaster;
use clap::Parser;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Has jobs done by workers, and awaits them.
#[derive(Parser)]
struct Options {
    /// The number of jobs.
    #[arg(long, default_value_t = 100)]
    jobs: u32,
}

/// A job, in a process of its own. Job 0 hangs.
fn job(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    if worker.main_arg() == 0 {
        worker.sleep(None)?;
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let options = Options::parse();
    // Before the runtime, while the program has one thread.
    let mut launched = Postmaster::builder()
        .max_workers(options.jobs)
        .function("job", entry(job))
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&backend, options.jobs))
}

async fn run(backend: &Backend, jobs: u32) -> Result<(), Error> {
    let mut events = backend.events(EventsFrom::Now)?;
    let mut tasks = JoinSet::new();
    for number in 0..jobs {
        let job = BackgroundWorker::builder("job").function("job").main_arg(number.into());
        tasks.spawn(finish(number, backend.register(&job.build()?)?));
    }
    let (all, ended) = tokio::join!(tasks.join_all(), count_ends(&mut events, jobs));
    let late = all.into_iter().collect::<Result<Vec<Option<u32>>, Error>>()?;
    let mut late: Vec<u32> = late.into_iter().flatten().collect();
    late.sort_unstable();
    println!("await_jobs: ok, {} jobs, too slow: {late:?}", ended?);
    Ok(())
}

/// Awaits the end of a job. Returns its number if it had to be terminated.
async fn finish(number: u32, job: Handle) -> Result<Option<u32>, Error> {
    let (status, late) = match timeout(Duration::from_secs(2), job.ended()).await {
        Ok(status) => (status?, None),
        Err(_) => {
            job.terminate()?;
            (job.ended().await?, Some(number))
        }
    };
    match status {
        WorkerStatus::Stopped(Some(_)) => Ok(late),
        other => Err(format!("job {job}: {other}").into()),
    }
}

/// Awaits the events of `jobs` ends.
async fn count_ends(events: &mut Events, jobs: u32) -> Result<u32, EventsError> {
    let mut ended = 0;
    while ended < jobs {
        let Event { kind, .. } = events.recv().await?;
        ended += u32::from(kind == EventKind::Unregistered);
    }
    Ok(ended)
}
