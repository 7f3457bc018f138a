//! The guide's worker that cannot do its work, and what its restart policy makes of it.

use bgw_backend::{
    Backend, BackgroundWorker, RestartPolicy, ShutdownMode, Worker, WorkerError, entry,
};
use bgw_postmaster::Postmaster;
use std::time::Duration;

fn fetch(_: &mut Worker) -> Result<(), WorkerError> {
    Err("there is no connection".into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let postmaster = Postmaster::builder().function("fetch", entry(fetch)).build()?;
    let mut launched = postmaster.launch()?;
    let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
    let worker = BackgroundWorker::builder("fetcher")
        .function("fetch")
        .restart(RestartPolicy::backoff(Duration::from_millis(50), Duration::from_secs(30)))
        .give_up(4, Duration::from_secs(60))
        .build()?;
    println!("delays: {:?}", worker.schedule().collect::<Vec<_>>());
    println!("{}", backend.register(&worker)?.wait_for_end()?);
    launched.shutdown(ShutdownMode::Fast)?;
    launched.wait()?;
    Ok(())
}
