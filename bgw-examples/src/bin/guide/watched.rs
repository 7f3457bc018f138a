//! The guide's workers that hang, leak and finish, and what the events say of them.

use bgw_backend::{
    Backend, BackgroundWorker, EventKind, EventsFrom, Ready, Recycle, RestartPolicy, ShutdownMode,
    Worker, WorkerError, entry,
};
use bgw_postmaster::Postmaster;
use std::time::Duration;

/// Beats while it works, and then hangs.
fn hang(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    worker.ready();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(50)); // a piece of work
        worker.beat();
    }
    loop {
        std::thread::park();
    }
}

/// Does one job after the other, until it is told to end.
fn work(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(Some(Duration::from_millis(50)))?; // a job
        worker.job_done();
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let functions = Postmaster::builder().function("hang", entry(hang));
    let mut launched = functions.function("work", entry(work)).build()?.launch()?;
    let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
    let mut events = backend.events(EventsFrom::Now)?;

    let hangs = BackgroundWorker::builder("hangs")
        .function("hang")
        .ready(Ready::Call)
        .start_timeout(Duration::from_secs(10)) // stopped if it is not ready by then
        .heartbeat(Duration::from_millis(200)) // aborted if it does not beat as often
        .build()?;
    let leaks = BackgroundWorker::builder("leaks")
        .function("work")
        .ready(Ready::Call)
        .recycle(Recycle::new().jobs(8).lifetime(Duration::from_secs(3600)).rss(1 << 30).overlap())
        .restart(RestartPolicy::after_secs(1))
        .build()?;
    for (worker, last) in [(hangs, EventKind::Unregistered), (leaks, EventKind::Exited)] {
        backend.register(&worker)?;
        loop {
            let event = events.wait()?;
            println!("{event}");
            if event.kind == last {
                break;
            }
        }
    }
    launched.shutdown(ShutdownMode::Fast)?;
    launched.wait()?;
    Ok(())
}
