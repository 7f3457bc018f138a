//! The report of a slot: written by the manager while the slot is published, read by anybody, also
//! after the slot was freed, until it is claimed and reported on again.
//!
//! Two buffers and a count: report number n lies in buffer n mod 2. The manager fills the buffer that
//! is not current, then raises the count. A reader copies the current buffer and looks at the count
//! again: if it has moved on, the buffer may be being filled anew, and it tries again.
//!
//! Ordering. (W3) release fence before a buffer is filled, after the count before it was stored;
//! (R3) acquire fence after the copy, before the second look. As in `payload.rs`.
//!
//! Crash. A manager killed while it fills a buffer leaves the report before it intact.

use crate::cell::load_acquire;
use crate::error::ManageError;
use crate::fault;
use crate::memory::Memory;
use crate::payload::{from_words, words};
use crate::primitive::{Ordering, fence};
use crate::slots::Slots;
use crate::word::Key;
use bytemuck::Pod;

/// How often a reader tries. Each further try needs another report in the time of a copy.
const TRIES: u32 = 8;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// For the manager: writes a report on the tenancy of `key`.
    ///
    /// # Errors
    /// No such slot, or a region that cannot be written.
    pub fn write_report(&self, key: Key, report: &R) -> Result<(), ManageError> {
        self.memory.writable_cells()?;
        if key.index >= self.capacity() {
            return Err(ManageError::OutOfRange { index: key.index });
        }
        let count = self.report_count(key.index);
        let next = count.load(Ordering::Relaxed).wrapping_add(1);
        let buffer = self.layout.report(key.index, (next % 2) as usize);
        fence(Ordering::Release); // W3, pairs with R3
        self.cell(buffer).store(key.generation, Ordering::Relaxed);
        fault::point("report:half_written");
        for (at, word) in words(report).enumerate() {
            self.cell(buffer + 1 + at).store(word, Ordering::Relaxed);
        }
        fault::point("report:before_count");
        count.store(next, Ordering::Release);
        Ok(())
    }

    /// The last report on the tenancy of `key`; `None` when there is none (yet, or any more).
    #[must_use]
    pub fn read_report(&self, key: Key) -> Option<R> {
        if key.index >= self.capacity() {
            return None;
        }
        let count = self.report_count(key.index);
        if self.is_damaged() {
            return None;
        }
        for _ in 0..TRIES {
            let number = load_acquire(count);
            if number == 0 {
                return None;
            }
            let buffer = self.layout.report(key.index, (number % 2) as usize);
            let generation = self.cell(buffer).load(Ordering::Relaxed);
            let cells = 0..self.layout.shape.report_cells;
            let report =
                from_words(cells.map(|at| self.cell(buffer + 1 + at).load(Ordering::Relaxed)));
            fence(Ordering::Acquire); // R3, pairs with W3
            if count.load(Ordering::Relaxed) == number && !self.is_damaged() {
                return (generation == key.generation).then_some(report);
            }
        }
        None
    }
}
