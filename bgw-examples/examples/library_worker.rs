//! Workers in a shared library. Build it with `cargo build -p bgw-examples --examples`, and
//! register a worker with `.library("…/liblibrary_worker.so", "count_ticks")`.

use bgw_backend::{BackgroundWorker, Worker, WorkerError, export_worker};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Wakes up each `main_arg` milliseconds, until it is asked to stop.
fn tick(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    let nap = Duration::from_millis(worker.main_arg());
    while !worker.should_stop() {
        worker.sleep(Some(nap))?;
    }
    Ok(())
}

/// Registers another worker of this library, whose path is in its extra bytes, and terminates it.
fn start_another(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let path = String::from_utf8_lossy(worker.extra()).trim_end_matches('\0').to_owned();
    let other = BackgroundWorker::builder("another")
        .library(path, "count_ticks")
        .main_arg(1000)
        .build()
        .map_err(|error| error.to_string())?;
    let handle = worker.backend().register(&other)?;
    handle.wait_for_ready()?;
    handle.terminate()?;
    let ended = handle.wait_for_shutdown()?;
    if ended.to_string().contains("exit code 0") {
        Ok(())
    } else {
        Err(format!("the other worker: {ended}").into())
    }
}

/// Says hello on the connection that it is given.
fn greet(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.backend().ping()?;
    let mut conn = UnixStream::from(worker.take("conn")?);
    conn.write_all(b"from Rust")?;
    worker.take("conn").map_or_else(|error| Err(error.into()), |_| Ok(()))
}

fn fail(_: &mut Worker) -> Result<(), WorkerError> {
    Err("this worker of a library fails on purpose".into())
}

fn panic(worker: &mut Worker) -> Result<(), WorkerError> {
    // Fails always: an example of a defect.
    assert!(worker.name().is_empty(), "this worker of a library panics");
    Ok(())
}

/// Gives back the sum of the numbers up to its argument.
fn sum(worker: &mut Worker) -> Result<(), WorkerError> {
    let sum: u64 = (1..=worker.main_arg()).sum();
    worker.set_result(&sum.to_le_bytes())?;
    Ok(())
}

export_worker!(count_ticks, tick);
export_worker!(register_another, start_another);
export_worker!(greets, greet);
export_worker!(fails, fail);
export_worker!(panics, panic);
export_worker!(sums, sum);
