//! A child's first steps: a process of its own that ends with the postmaster.

use super::launch::ChildContext;
use crate::fault;
use crate::sys::placements::Placements;
use crate::sys::signals;
use bgw_core::internals::{WorkerRecord, early_code, flag, process};
use bgw_core::{BackgroundWorker, WorkerResult};
use rustix::process::Signal;
use shmem_slots::Key;
use std::io;
use std::time::Instant;

/// Descriptors, session, and the signal for the postmaster's death.
pub(super) fn settle(
    context: &ChildContext<'_>,
    death: Signal,
    placements: &Placements,
) -> WorkerResult {
    // First of all: until then the child shares the postmaster's descriptor table.
    context.floor.close_above(placements)?;
    fault::step("child:closed")?;
    // Without the C library: each page of code that a child maps costs more than the call.
    rustix::process::setsid()?;
    fault::step("child:before_death_signal")?;
    end_with_postmaster(context, death)
}

/// Has the kernel send `death` when the postmaster dies. Fails if it has died already.
pub(super) fn end_with_postmaster(context: &ChildContext<'_>, death: Signal) -> WorkerResult {
    if signals::die_with(context.attachment.postmaster(), death)? {
        return Ok(());
    }
    Err("the postmaster died during the start".into())
}

/// How many bytes of the region a spare maps ahead: all of a small one, the first slots of a large
/// one.
const REHEARSED_REGION: usize = 256 << 10;
/// No cluster has as many slots.
const NO_SLOT: Key = Key { index: u32::MAX, generation: 0 };

/// Makes the kernel copy, ahead of time, the pages that a worker's start writes to, and map the
/// code that it runs: runs as much of a start as has no effect.
#[inline(never)]
pub(super) fn rehearse(context: &ChildContext<'_>) -> WorkerResult {
    let mut stack = [0u8; 16 << 10];
    std::hint::black_box(&mut stack).fill(1);
    let mut heap = vec![0u8; 16 << 10];
    std::hint::black_box(&mut heap).fill(1);
    let worker = BackgroundWorker::builder("spare").function("spare").build()?;
    let record = WorkerRecord::encode(&worker, context.attachment.postmaster());
    std::hint::black_box(record.decode()?);
    std::hint::black_box(context.functions.index_of(&worker));
    // Most workers read the clock soon; the fork does not map the kernel's clock page.
    std::hint::black_box(Instant::now());
    // An older kernel maps the region page by page, later.
    let slots = context.attachment.slots();
    let _ = slots.region().populate(REHEARSED_REGION);
    // Errors: there is no such slot.
    let _ = (slots.read(NO_SLOT), slots.set_flags(NO_SLOT, flag::STARTED));
    early_code::map_early_code();
    // Each exit flushes both. The spare may have a copy of what the postmaster has not written yet,
    // which is not its own to write.
    drop((io::stdout().lock(), io::stderr().lock()));
    process::rehearse()?;
    Ok(())
}
