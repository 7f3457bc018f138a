//! `counter`: the program of the front page, the README of this workspace.

use bgw_backend::{Backend, BackgroundWorker, RestartPolicy, Worker, WorkerError, entry};
use bgw_postmaster::Postmaster;
use std::{thread, time::Duration};

/// The main function of a worker. It runs in a process of its own.
fn count(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate(); // a request to stop ends the loop below
    worker.unblock_signals()?;
    let mut counted = worker.main_arg();
    while !worker.should_stop() {
        println!("{}: {counted}", worker.name());
        counted += 1;
        worker.sleep(Some(Duration::from_millis(500)))?; // a signal ends it early
    }
    println!("{}: asked to stop", worker.name());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Log lines of the postmaster and of all workers go where the program's own lines go.
    tracing_subscriber::fmt().with_target(false).with_writer(std::io::stderr).init();

    // Early in main, while the program has one thread.
    let mut launched =
        Postmaster::builder().max_workers(64).function("count", entry(count)).build()?.launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;

    // At any later time, from any thread, from a worker, or from another program.
    let worker = BackgroundWorker::builder("counter 1")
        .function("count")
        .main_arg(100)
        .restart(RestartPolicy::after_secs(5)) // if it fails or crashes
        .build()?;
    let handle = backend.register(&worker)?;
    println!("{handle}: {}", handle.wait_for_startup()?);

    thread::sleep(Duration::from_secs(2));
    handle.terminate()?;
    println!("{handle}: {}", handle.wait_for_end()?);
    Ok(())
}
