//! The report of a slot: the manager writes it, any process reads it, also after the tenant has ended.
//!
//! A slot has two buffers. Each holds a number, the generation that the report is about, and the
//! report. Report number n of a slot lies in buffer n mod 2, so the report before it stays whole
//! while n is written. A count holds the number of the last report that was begun. It grows by one
//! with each report of the slot, through all its tenancies and resets. A buffer that is being written
//! has number 0.
//!
//! | | manager | reader, for each buffer, the newer one first |
//! |---|---|---|
//! | 1 | stores the count n, and number 0 in the buffer | loads the number (R3): not 0 |
//! | 2 | release fence (W3) | copies generation and report; the generation is the key's |
//! | 3 | stores generation and report | acquire fence (R4) |
//! | 4 | stores number n, a release (W4) | loads the number again: the same |
//!
//! A reader that finds nothing in either buffer starts over if the count has changed meanwhile.
//!
//! Ordering. (W4) pairs with (R3): a reader that sees number n sees report n. (W3) pairs with (R4):
//! a reader that copied anything of a later report sees number 0 or something later at its second
//! load. No number comes twice, so no reader takes another report for the one that it began to copy;
//! in particular not the next tenant's after a reset.
//!
//! So a report can be read until the slot's second report after it.
//!
//! Crash. A manager killed while it writes a report leaves the one before it.

use crate::cell::load_acquire;
use crate::error::{ManageError, ReportError};
use crate::fault;
use crate::memory::Memory;
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::slots::Slots;
use crate::word::Key;
use crate::words;
use bytemuck::Pod;

/// How often a reader tries. Each further try needs another report during the copy, so only
/// corruption uses them up.
const TRIES: u32 = 8;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Writes a report on the tenancy of `key`. For the manager.
    ///
    /// # Errors
    /// No such slot, or a region that cannot be written.
    pub fn write_report(&self, key: Key, report: &R) -> Result<(), ManageError> {
        self.memory.writable_cells()?;
        if key.index >= self.capacity() {
            return Err(ManageError::OutOfRange { index: key.index });
        }
        let count = self.report_count(key.index);
        // Not 0, which a count out of a corrupted cell may lead to.
        let number = count.load(Ordering::Relaxed).wrapping_add(1).max(1);
        let buffer = self.layout.report(key.index, (number % 2) as usize);
        count.store(number, Ordering::Relaxed);
        self.cell(buffer).store(0, Ordering::Relaxed);
        fence(Ordering::Release); // W3, pairs with R4
        self.cell(buffer + 1).store(key.generation, Ordering::Relaxed);
        fault::point("report:half_written");
        words::store(self.report_cells(buffer), bytemuck::bytes_of(report));
        fault::point("report:before_number");
        self.cell(buffer).store(number, Ordering::Release); // W4, pairs with R3
        Ok(())
    }

    /// Copies the last report on the tenancy of `key`.
    ///
    /// # Errors
    /// [`ReportError`]: there is none yet, it was overwritten, there never was such a tenancy, or the
    /// region is damaged.
    pub fn read_report(&self, key: Key) -> Result<R, ReportError> {
        let word = self.snapshot(key.index).ok_or(ReportError::Unknown)?;
        if word.generation() < key.generation {
            return Err(if self.is_damaged() {
                ReportError::Damaged
            } else {
                ReportError::Unknown
            });
        }
        for _ in 0..TRIES {
            let count = load_acquire(self.report_count(key.index));
            let newer_first = [count, count.wrapping_add(1)];
            let found = newer_first.iter().find_map(|number| self.copy_report(key, number % 2));
            if self.is_damaged() {
                return Err(ReportError::Damaged);
            }
            if let Some(report) = found {
                return Ok(report);
            }
            // Unchanged: both buffers were looked at while they held the last two reports.
            if load_acquire(self.report_count(key.index)) == count {
                break;
            }
        }
        let over = word.generation() != key.generation;
        Err(if over { ReportError::Overwritten } else { ReportError::NotYet })
    }

    /// The cells of the report itself in the buffer that begins at cell `buffer`.
    fn report_cells(&self, buffer: usize) -> &[AtomicU64] {
        let start = buffer + 2;
        // In range, as in `cell`.
        &self.memory.cells().0[start..start + self.layout.shape.report_cells]
    }

    /// The report in one buffer, if it is about the tenancy of `key` and stays there during the copy.
    fn copy_report(&self, key: Key, which: u64) -> Option<R> {
        let buffer = self.layout.report(key.index, which as usize);
        let number = load_acquire(self.cell(buffer)); // R3, pairs with W4
        let generation = self.cell(buffer + 1).load(Ordering::Relaxed);
        if number == 0 || generation != key.generation {
            return None;
        }
        let mut report = R::zeroed();
        words::load(self.report_cells(buffer), bytemuck::bytes_of_mut(&mut report));
        fence(Ordering::Acquire); // R4, pairs with W3
        (self.cell(buffer).load(Ordering::Relaxed) == number).then_some(report)
    }
}
