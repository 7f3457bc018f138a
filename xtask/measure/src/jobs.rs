//! The functions of pooled jobs: one does nothing, one works for a while, one gets bytes.

use crate::clock::now;
use bgw_backend::{Bytes, Worker, WorkerError};
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

/// Reads the first word of the bytes, where they lie, and writes the last one.
pub(crate) fn in_place(worker: &mut Worker, bytes: Bytes) -> Result<Bytes, WorkerError> {
    let mapped = bytes.map(&worker.backend())?;
    let mut word = [0; 8];
    mapped.read(0, &mut word)?;
    mapped.write(mapped.len().saturating_sub(word.len()), &word)?;
    Ok(bytes)
}

/// Keeps the processor busy for 10 µs.
pub(crate) fn work() {
    let until = now() + WORK.as_nanos() as u64;
    while now() < until {
        std::hint::spin_loop();
    }
}
