//! The first step of `GUIDE.md`: one worker.

use bgw_backend::{Backend, BackgroundWorker, Worker, WorkerError, entry};
use bgw_postmaster::Postmaster;
use std::process;

/// The main function of a worker. It runs in a process of its own.
fn square(worker: &mut Worker) -> Result<(), WorkerError> {
    let number = worker.main_arg();
    println!("worker {}: {number} squared is {}", process::id(), number * number);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_target(false).with_writer(std::io::stderr).init();
    let mut launched = Postmaster::builder().function("square", entry(square)).build()?.launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;
    println!("program {}, postmaster {}", process::id(), launched.pid());

    let worker = BackgroundWorker::builder("square 7").function("square").main_arg(7).build()?;
    let handle = backend.register(&worker)?;
    println!("{}: {}", worker.name(), handle.wait_for_end()?);
    Ok(())
}
