//! The report of a slot: the manager writes it, any process reads it, also after the tenant has
//! ended.
//!
//! A slot has two buffers. Each holds a number, the generation that the report is about, and the
//! report. Report number n of a slot lies in buffer n mod 2, so the report before it stays whole
//! while n is written. A count holds the number of the last report that was begun. It grows by one
//! with each report of the slot, through all its tenancies and resets. A buffer that is being
//! written has number 0.
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
//! load. No number comes twice, so no reader takes another report for the one that it began to
//! copy; in particular not the next tenant's after a reset.
//!
//! So a report can be read until the slot's second report after it.
//!
//! A third buffer holds the report that the manager has set aside for a tenant that a reset ends.
//! It stays until the manager sets aside a report of another tenant of the slot, however many
//! reports the slot gets meanwhile. Its numbers are its own and follow the same steps. A reader
//! looks there first, so the report set aside replaces the others of its tenant; and once more at
//! the end, for the case that it was set aside during the look.
//!
//! Each buffer has an annex beside it, for reports that have more to say than most. It is written
//! and copied together with the report, in the same steps. The report itself says how long it is,
//! so that a report without an annex costs nothing more.
//!
//! Crash. A manager killed while it writes a report leaves the one before it. One killed while it
//! sets a report aside leaves the slot's last two.

use crate::cell::load_acquire;
use crate::error::{ManageError, ReportError};
use crate::fault;
use crate::layout::REPORT_BUFFERS;
use crate::memory::Memory;
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::slots::Slots;
use crate::word::Key;
use crate::words;
use bytemuck::Pod;

/// The buffer of the report that was set aside.
const SET_ASIDE: u64 = REPORT_BUFFERS as u64 - 1;

/// How often a reader tries. Each further try needs another report during the copy, so only
/// corruption uses them up.
const TRIES: u32 = 8;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Writes a report on the tenancy of `key`. For the manager.
    ///
    /// # Errors
    /// No such slot, or a region that cannot be written.
    pub fn write_report(&self, key: Key, report: &R) -> Result<(), ManageError> {
        self.write_report_with(key, report, &[])
    }

    /// Like [`Slots::write_report`], with an annex. `report` says how long it is; what does not fit
    /// into the annex of a slot is dropped.
    ///
    /// # Errors
    /// As [`Slots::write_report`].
    pub fn write_report_with(&self, key: Key, report: &R, annex: &[u8]) -> Result<(), ManageError> {
        self.memory.writable_cells()?;
        if key.index >= self.capacity() {
            return Err(ManageError::OutOfRange { index: key.index });
        }
        let count = self.report_count(key.index);
        // Not 0, which a count out of a corrupted cell may lead to.
        let number = count.load(Ordering::Relaxed).wrapping_add(1).max(1);
        count.store(number, Ordering::Relaxed);
        self.fill_report(key, number % 2, number, report, annex);
        Ok(())
    }

    /// Sets a report on the tenancy of `key` aside before a reset, so that it can be read until the
    /// next reset. It replaces the report that was set aside for an earlier tenant of the slot. Of
    /// several for one tenancy the first stays. For the manager.
    ///
    /// # Errors
    /// As [`Slots::write_report`].
    pub fn set_report_aside(&self, key: Key, report: &R) -> Result<(), ManageError> {
        self.set_report_aside_with(key, report, &[])
    }

    /// Like [`Slots::set_report_aside`], with an annex, as [`Slots::write_report_with`] has it.
    ///
    /// # Errors
    /// As [`Slots::write_report`].
    pub fn set_report_aside_with(
        &self,
        key: Key,
        report: &R,
        annex: &[u8],
    ) -> Result<(), ManageError> {
        self.memory.writable_cells()?;
        if key.index >= self.capacity() {
            return Err(ManageError::OutOfRange { index: key.index });
        }
        let buffer = self.layout.report(key.index, SET_ASIDE as usize);
        let last = self.cell(buffer).load(Ordering::Relaxed);
        if last != 0 && self.cell(buffer + 1).load(Ordering::Relaxed) == key.generation {
            return Ok(());
        }
        let number = last.wrapping_add(1).max(1);
        self.fill_report(key, SET_ASIDE, number, report, annex);
        Ok(())
    }

    /// Drops what was set aside in slot `index` for a tenancy after `generation`: only corruption
    /// puts it there, before there is such a tenancy.
    pub(crate) fn drop_report_set_aside_after(&self, index: u32, generation: u64) {
        let buffer = self.layout.report(index, SET_ASIDE as usize);
        if self.cell(buffer + 1).load(Ordering::Relaxed) > generation {
            self.cell(buffer).store(0, Ordering::Relaxed);
        }
    }

    fn fill_report(&self, key: Key, which: u64, number: u64, report: &R, annex: &[u8]) {
        let buffer = self.layout.report(key.index, which as usize);
        self.cell(buffer).store(0, Ordering::Relaxed);
        fence(Ordering::Release); // W3, pairs with R4
        self.cell(buffer + 1).store(key.generation, Ordering::Relaxed);
        fault::point("report:half_written");
        words::store(self.report_cells(buffer), bytemuck::bytes_of(report));
        words::store(self.annex_cells(key.index, which as usize), annex);
        fault::point("report:before_number");
        self.cell(buffer).store(number, Ordering::Release); // W4, pairs with R3
    }

    /// Copies the last report on the tenancy of `key`.
    ///
    /// # Errors
    /// [`ReportError`]: there is none yet, it was overwritten, there never was such a tenancy, or
    /// the region is damaged.
    pub fn read_report(&self, key: Key) -> Result<R, ReportError> {
        self.find_report(key, |_, _| ()).map(|(report, ())| report)
    }

    /// Copies the last report on the tenancy of `key`, and its annex: as many bytes as `annex_len`
    /// finds in the report, at most a whole annex. Both belong to the same report.
    ///
    /// # Errors
    /// As [`Slots::read_report`].
    pub fn read_report_with(
        &self,
        key: Key,
        annex_len: impl Fn(&R) -> usize,
    ) -> Result<(R, Vec<u8>), ReportError> {
        self.find_report(key, |report, cells| {
            let mut annex = vec![0; annex_len(report).min(cells.len() * 8)];
            words::load(cells, &mut annex);
            annex
        })
    }

    /// Copies the report and what `besides` takes out of its annex.
    fn find_report<A>(
        &self,
        key: Key,
        besides: impl Fn(&R, &[AtomicU64]) -> A,
    ) -> Result<(R, A), ReportError> {
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
            let (newer, older) = (count % 2, count.wrapping_add(1) % 2);
            let places = [SET_ASIDE, newer, older, SET_ASIDE];
            let found = places.iter().find_map(|&place| self.copy_report(key, place, &besides));
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

    /// The report in one buffer, if it is about the tenancy of `key` and stays there during the
    /// copy.
    fn copy_report<A>(
        &self,
        key: Key,
        which: u64,
        besides: impl Fn(&R, &[AtomicU64]) -> A,
    ) -> Option<(R, A)> {
        let buffer = self.layout.report(key.index, which as usize);
        let number = load_acquire(self.cell(buffer)); // R3, pairs with W4
        let generation = self.cell(buffer + 1).load(Ordering::Relaxed);
        if number == 0 || generation != key.generation {
            return None;
        }
        let mut report = R::zeroed();
        words::load(self.report_cells(buffer), bytemuck::bytes_of_mut(&mut report));
        let annex = besides(&report, self.annex_cells(key.index, which as usize));
        fence(Ordering::Acquire); // R4, pairs with W3
        (self.cell(buffer).load(Ordering::Relaxed) == number).then_some((report, annex))
    }
}
