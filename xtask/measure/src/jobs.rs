//! The functions of pooled jobs: one does nothing, one works for a while.

use crate::clock::now;
use bgw_backend::{Worker, WorkerError};
use std::time::Duration;

/// How long the longer jobs take.
const WORK: Duration = Duration::from_micros(10);

pub(crate) fn empty(_: &mut Worker, input: u64) -> Result<u64, WorkerError> {
    Ok(input)
}

pub(crate) fn works(_: &mut Worker, input: u64) -> Result<u64, WorkerError> {
    work();
    Ok(input)
}

/// Keeps the processor busy for 10 µs.
pub(crate) fn work() {
    let until = now() + WORK.as_nanos() as u64;
    while now() < until {
        std::hint::spin_loop();
    }
}
