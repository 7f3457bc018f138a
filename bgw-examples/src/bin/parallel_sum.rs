//! `parallel_sum`: a leader puts numbers into a segment, and workers sum up a part each.
//!
//! The numbers are written once and copied to nobody: each worker maps the segment by its handle,
//! as in a parallel query of PostgreSQL. The same sum is made by one worker, by two and so on, and
//! a table shows what each number of them gains. It exits with 0 when all sums are right.

use bgw_backend::{Backend, BackgroundWorker, SegmentHandle, Worker, WorkerError, call};
use bgw_examples::logging;
use bgw_postmaster::Postmaster;
use clap::Parser;
use std::error::Error;
use std::time::{Duration, Instant};

/// Sums up the numbers from 1 to a limit, by more and more workers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many numbers there are.
    #[arg(long, default_value_t = 8_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    numbers: u64,
    /// How many workers run at a time, at most.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
}

/// Where a part of the numbers lies: the segment, the first of them, how many.
type Part = (u64, u64, u64);

/// Bytes of a number.
const WIDTH: u64 = 8;

/// Runs in a worker.
fn sum(worker: &mut Worker, (segment, first, count): Part) -> Result<u64, WorkerError> {
    worker.unblock_signals()?;
    let numbers = worker.backend().segment(SegmentHandle::from_bits(segment))?;
    let mut buffer = [0; 64 << 10];
    let (mut at, end) = (first * WIDTH, (first + count) * WIDTH);
    let mut sum = 0u64;
    while at < end {
        let len = (end - at).min(buffer.len() as u64) as usize;
        let bytes = &mut buffer[..len];
        numbers.read(at as usize, bytes)?;
        let (words, _) = bytes.as_chunks();
        sum = words.iter().fold(sum, |sum, &word| sum.wrapping_add(u64::from_le_bytes(word)));
        at += len as u64;
    }
    Ok(sum)
}

fn main() -> Result<(), Box<dyn Error>> {
    logging::to_stderr("error");
    let Arguments { numbers, workers } = Arguments::parse();
    let mut launched =
        Postmaster::builder().max_workers(64).call("sum", call(sum)).build()?.launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;

    let segment = backend.create_segment(numbers * WIDTH)?;
    for number in 0..numbers {
        segment.write((number * WIDTH) as usize, &(number + 1).to_le_bytes())?;
    }
    let expected = numbers * (numbers + 1) / 2;
    let mut alone = None;
    println!("workers  milliseconds  speed-up");
    for count in (0..).map(|power| 1 << power).take_while(|&count| count <= workers) {
        let begun = Instant::now();
        let total = sum_by(&backend, segment.handle(), numbers, count)?;
        let took = begun.elapsed().as_secs_f64();
        let speed_up = *alone.get_or_insert(took) / took;
        println!("{count:7}  {:12.2}  {speed_up:8.2}", took * 1e3);
        if total != expected {
            return Err(format!("{count} workers found {total}, not {expected}").into());
        }
    }
    println!("parallel_sum: ok, {expected}");
    Ok(())
}

/// The sum of all numbers, by `count` workers at once.
fn sum_by(
    backend: &Backend,
    segment: SegmentHandle,
    numbers: u64,
    count: u64,
) -> Result<u64, Box<dyn Error>> {
    let step = numbers.div_ceil(count);
    let calls = (0..count).map(|at| {
        let first = (at * step).min(numbers);
        let part: Part = (segment.to_bits(), first, step.min(numbers - first));
        let worker = BackgroundWorker::builder(format!("sum {at}"));
        backend.call_as::<_, u64>(worker, "sum", &part, Some(Duration::from_secs(60)))
    });
    let calls = calls.collect::<Result<Vec<_>, _>>()?;
    let mut total = 0u64;
    for call in calls {
        total = total.wrapping_add(call.wait()?.into_output()?);
    }
    Ok(total)
}
