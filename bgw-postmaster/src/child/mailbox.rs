//! The mailbox of a spare: a page that it shares with the postmaster alone.
//!
//! ```text
//!  IDLE ── give: record, then state (Release), then wake ──▶ GIVEN ── the spare wakes ──▶ TAKEN
//! ```
//!
//! Only the postmaster leaves `IDLE`, only the spare leaves `GIVEN`. A spare that ends before `TAKEN`
//! has not begun its worker. Afterwards the worker keeps the page; whatever it writes there counts as
//! taken.

use super::launch::Launch;
use crate::fault;
use crate::sys::shared_page::{CELLS, SharedPage};
use bgw_core::WorkerHandle;
use bgw_core::internals::{CorruptRecord, WorkerRecord};
use bytemuck::Zeroable;
use shmem_slots::futex::{self, Half, Watch};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const STATE: usize = 0;
const SLOT: usize = 8;
const GENERATION: usize = 9;
const INCARNATION: usize = 10;
const RESTARTS: usize = 11;
const MAIN: usize = 12;
const RECORD: usize = 13;
const RECORD_CELLS: usize = size_of::<WorkerRecord>() / size_of::<AtomicU64>();

const _: () = assert!(RECORD + RECORD_CELLS <= CELLS);

const IDLE: u64 = 0;
const GIVEN: u64 = 1;
const TAKEN: u64 = 2;

/// The page on which one spare sleeps.
#[derive(Debug)]
pub(crate) struct Mailbox(SharedPage);

impl Mailbox {
    /// Maps a new one, and touches it, so that the first launch does not wait for the page.
    pub(crate) fn new() -> io::Result<Self> {
        let mailbox = Self(SharedPage::new()?);
        mailbox.0.cells()[STATE].store(IDLE, Ordering::Relaxed);
        Ok(mailbox)
    }

    /// In the postmaster, after the fork: children forked from now on do not have it.
    pub(crate) fn hide_from_later_children(&self) -> io::Result<()> {
        self.0.hide_from_later_children()
    }

    /// In the postmaster: wakes the spare with a worker.
    pub(crate) fn give(
        &self,
        record: &WorkerRecord,
        main: Option<usize>,
        handle: WorkerHandle,
        restarts: u32,
    ) {
        let cells = self.0.cells();
        let words: &[u64] = bytemuck::cast_slice(bytemuck::bytes_of(record));
        for (cell, &word) in cells.iter().skip(RECORD).zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
        cells[SLOT].store(u64::from(handle.slot()), Ordering::Relaxed);
        cells[GENERATION].store(handle.generation(), Ordering::Relaxed);
        cells[INCARNATION].store(u64::from(handle.incarnation()), Ordering::Relaxed);
        cells[RESTARTS].store(u64::from(restarts), Ordering::Relaxed);
        // No table has `u64::MAX` functions.
        cells[MAIN].store(main.map_or(u64::MAX, |index| index as u64), Ordering::Relaxed);
        cells[STATE].store(GIVEN, Ordering::Release);
        futex::wake_all(&cells[STATE]);
    }

    /// In the postmaster: true unless the spare has been given a worker and has not woken for it.
    pub(crate) fn was_taken(&self) -> bool {
        self.0.cells()[STATE].load(Ordering::Acquire) != GIVEN
    }

    /// In the spare: sleeps until it is given a worker, and takes it.
    pub(super) fn sleep(&self) -> io::Result<Launch> {
        let cells = self.0.cells();
        let state = &cells[STATE];
        while state.load(Ordering::Acquire) != GIVEN {
            let watch = Watch { cell: state.into(), half: Half::Low, seen: IDLE as u32 };
            futex::wait_any(&[watch], None).map_err(io::Error::other)?;
        }
        fault::point("waking:woken");
        state.store(TAKEN, Ordering::Release);
        fault::point("waking:taken");
        let word = |at: usize| cells[at].load(Ordering::Relaxed);
        let mut record = WorkerRecord::zeroed();
        let words: &mut [u64] = bytemuck::cast_slice_mut(bytemuck::bytes_of_mut(&mut record));
        for (to, cell) in words.iter_mut().zip(cells.iter().skip(RECORD)) {
            *to = cell.load(Ordering::Relaxed);
        }
        let worker = record.decode().map_err(|error: CorruptRecord| io::Error::other(error))?;
        // `give` stored slot, incarnation and restarts from 32 bits each.
        let handle =
            WorkerHandle::new(word(SLOT) as u32, word(GENERATION), word(INCARNATION) as u32);
        let main = usize::try_from(word(MAIN)).ok();
        let restarts = word(RESTARTS) as u32;
        Ok(Launch { worker: Arc::new(worker), main, handle, restarts, exec_errno: None })
    }
}
