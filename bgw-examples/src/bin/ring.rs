//! `ring`: messages of every size through N workers in a ring, by queues in shared memory.
//!
//! Exits with 0 when every message has come back unchanged. Otherwise it prints the reason and
//! exits with 1: a worker that cannot start, one that died (which, and how), a message that was
//! changed.

use bgw_backend::{Backend, ShutdownMode};
use bgw_examples::{logging, ring};
use bgw_postmaster::Postmaster;
use clap::Parser;
use std::num::{NonZeroU16, NonZeroU32};
use std::process::ExitCode;
use std::time::Instant;

/// Passes messages of every size round a ring of workers, and checks what comes back.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many workers form the ring, at most 63.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u16).range(1..=63))]
    workers: u16,
    /// How many messages go round. Many are under way at a time.
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// The size of each queue's buffer, in bytes. Messages have from 0 to five times as many bytes.
    #[arg(long, default_value = "4096")]
    buffer: NonZeroU32,
    /// How many workers the postmaster accepts. By default as many as the ring has.
    #[arg(long)]
    max_workers: Option<NonZeroU16>,
}

fn main() -> ExitCode {
    logging::to_stderr("warn");
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ring: {}", shmem_slots::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), ring::Failure> {
    let buffer = usize::try_from(arguments.buffer.get())?;
    let ring = ring::Ring::create(usize::from(arguments.workers), buffer)?;
    let max_workers = arguments.max_workers.map_or(arguments.workers, NonZeroU16::get);
    let mut launched = Postmaster::builder()
        .max_workers(u32::from(max_workers))
        .function(ring::FUNCTION, ring.function())
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
    let passed = pass(&ring, &backend, arguments.messages);
    // After a failure, too: the workers that are left must end.
    let ended = launched.shutdown(ShutdownMode::Fast);
    drop(backend);
    let ended = ended.and_then(|()| launched.wait());
    let report = passed?;
    ended?;
    println!("ring: ok, {report}");
    Ok(())
}

fn pass(ring: &ring::Ring, backend: &Backend, messages: u64) -> Result<String, ring::Failure> {
    let handles = ring.start(backend)?;
    for (number, handle) in (1..).zip(&handles) {
        println!("worker {number}: {}", handle.status());
    }
    let begin = Instant::now();
    let bytes = ring.run(&handles, messages)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (rate, megabytes) = (messages as f64 / seconds, bytes as f64 / 1e6);
    let workers = handles.len();
    Ok(format!(
        "{messages} messages ({megabytes:.1} MB) through {workers} workers, {rate:.0} messages/s"
    ))
}
