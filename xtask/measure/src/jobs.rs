//! The functions of pooled jobs: one does nothing, one works for a while, two get bytes.

use crate::clock::now;
use bgw_backend::{Bytes, Worker, WorkerError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The bytes of a job that copies them.
pub(crate) const COPIED: usize = 64 << 20;
/// A worker's own memory, which it uses again.
static OWN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
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

/// Has this process's own memory, which it uses again.
pub(crate) fn with_own(work: impl FnOnce(&mut Vec<u8>)) {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.resize(COPIED, 0);
    work(&mut own);
}

/// Copies the bytes out, and back.
pub(crate) fn copied(worker: &mut Worker, bytes: Bytes) -> Result<Bytes, WorkerError> {
    let mapped = bytes.map(&worker.backend())?;
    let mut done = Ok(());
    with_own(|own| done = mapped.read(0, own).and_then(|()| mapped.write(0, own)));
    done?;
    Ok(bytes)
}

/// Keeps the processor busy for 10 µs.
pub(crate) fn work() {
    let until = now() + WORK.as_nanos() as u64;
    while now() < until {
        std::hint::spin_loop();
    }
}
