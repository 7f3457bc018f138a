//! `primes`: counts prime numbers by typed calls, each in a worker of its own.
//!
//! A range goes in, a count comes out. One of the calls dies each time: the program sees how, and
//! calls again. It exits with 0 when it has the count of every part.

use bgw_backend::{Backend, Call, CallError, Outcome, Worker, WorkerError, call};
use bgw_examples::logging;
use bgw_postmaster::Postmaster;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::Duration;

/// Counts the prime numbers below a limit.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The limit.
    #[arg(long, default_value_t = 200_000)]
    below: u64,
    /// How many calls share the work.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    parts: u64,
}

/// What one call counts.
#[derive(Clone, Serialize, Deserialize)]
struct Part {
    from: u64,
    below: u64,
    /// The first try of one part dies, to show what its caller sees.
    dies: bool,
}

/// Runs in a worker.
fn count(worker: &mut Worker, part: Part) -> Result<u64, WorkerError> {
    worker.unblock_signals()?;
    if part.from > part.below {
        return Err("the range ends before it begins".into());
    }
    if part.dies {
        std::process::abort();
    }
    Ok((part.from..part.below).filter(|&number| is_prime(number)).count() as u64)
}

fn is_prime(number: u64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

fn main() -> Result<(), Box<dyn Error>> {
    logging::to_stderr("error");
    let Arguments { below, parts } = Arguments::parse();
    let mut launched =
        Postmaster::builder().max_workers(64).call("count", call(count)).build()?.launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;

    let step = below.div_ceil(parts);
    let parts = (0..parts).map(|at| Part {
        from: (at * step).min(below),
        below: ((at + 1) * step).min(below),
        dies: at == 0,
    });
    let parts: Vec<Part> = parts.collect();
    // All of them run at once.
    let calls = parts.iter().map(|part| submit(&backend, part));
    let calls = calls.collect::<Result<Vec<_>, _>>()?;
    let mut total = 0;
    for (part, call) in parts.into_iter().zip(calls) {
        let count = match call.wait()? {
            Outcome::Output { value, .. } => value,
            other => {
                println!("{} to {}: {other}", part.from, part.below);
                submit(&backend, &Part { dies: false, ..part.clone() })?.wait()?.into_output()?
            }
        };
        println!("{} to {}: {count}", part.from, part.below);
        total += count;
    }
    println!("primes: ok, {total} below {below}");
    Ok(())
}

fn submit(backend: &Backend, part: &Part) -> Result<Call<u64>, CallError> {
    let worker = bgw_backend::BackgroundWorker::builder(format!("from {}", part.from));
    backend.call_as(worker, "count", part, Some(Duration::from_secs(60)))
}
