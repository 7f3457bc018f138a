//! What a running worker will give back, in the cell of its clean-up mark and in its slot's own
//! annex; and what of it the postmaster takes at its end.
//!
//! | bits of the cell | |
//! |---|---|
//! | 0 | the clean-up mark |
//! | 1 | which place has the result |
//! | 2 | the last words, or the value of a call, are final: the main has ended |
//! | 32 to 63 | the code of what there is (`returned_record.rs`) |
//!
//! | cells of the own annex | |
//! |---|---|
//! | 0 to 15, 16 to 31 | two places for the result |
//! | 32 to 191 | the last words, or the value of a call |
//!
//! The postmaster reads the cell at each end, for the mark. So a worker that gives nothing back
//! costs it nothing more. The cell is cleared before each start.
//!
//! Crash. A result goes into the place that has none, and counts once the cell says so, by one
//! swap: a process that ends in between has the result before. Last words are taken back before
//! others are written. A process counts as its slot's writer; the postmaster reads when it has
//! ended.
//!
//! Trust. The postmaster takes any bits and bytes; what no worker would have written is nothing. A
//! bit that has no meaning counts as the mark.

use super::cluster_cells::{ClusterCells, SLOT_CLEANUP_MARK};
use super::postmaster_cells::PostmasterCells;
use super::returned_record::{self, Code, Kind, RESULT_CELLS, WORDS};
use crate::exit::ExitCause;
use crate::returned::{LastWords, Returned};
use shmem_slots::CellRef;
use std::sync::atomic::Ordering;

const MARK: u64 = 1;
const PLACE: u64 = 2;
const FINAL: u64 = 4;
const CODE: u32 = 32;

/// How often a change of the cell is tried. Each further try needs another change by another thread
/// meanwhile.
const TRIES: u32 = 16;

fn code(cell: u64) -> Code {
    Code::from_bits((cell >> CODE) as u32).unwrap_or_default()
}

fn with_code(cell: u64, code: Code) -> u64 {
    cell & u64::from(u32::MAX) | u64::from(code.bits()) << CODE
}

/// True if the worker has left its clean-up mark behind.
const fn is_marked(cell: u64) -> bool {
    cell & (u32::MAX as u64) & !(PLACE | FINAL) != 0
}

/// What counts of what a worker has left in its cell and ended so.
///
/// | end | result | error, panic of the main | panic of any thread |
/// |---|---|---|---|
/// | exit 0, in order | yes | no | no |
/// | exit 0, with the mark | no | no | no |
/// | SIGABRT | no | yes | yes: it aborts the process where panics do not unwind |
/// | any other | no | yes | no |
///
/// The value of a call is passed on with all of them but exit 0 with the mark: whoever reads it
/// counts it with exit 0 alone.
fn that_counts(cell: u64, cause: ExitCause) -> Code {
    let Code { result, words } = code(cell);
    let clean = cause.is_clean();
    let aborted = matches!(cause, ExitCause::Signaled { signal, .. }
        if i32::from(signal) == libc::SIGABRT);
    let in_order = clean && !is_marked(cell);
    let counts = |&(kind, _): &(Kind, usize)| match kind {
        // Of a value that does not count, the segment it lies in is to be given back.
        Kind::Value => in_order || !clean,
        Kind::Error | Kind::Panic => !clean && (cell & FINAL != 0 || aborted),
    };
    Code { result: result.filter(|_| in_order), words: words.filter(counts) }
}

impl ClusterCells<'_> {
    fn change_cell(&self, index: u32, change: impl Fn(u64) -> Option<u64>) {
        let Some(cell) = self.writable(index, SLOT_CLEANUP_MARK) else { return };
        let mut seen = cell.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let Some(new) = change(seen) else { return };
            match cell.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn write_own_annex(&self, index: u32, from: usize, bytes: &[u8]) {
        if let Ok(cells) = self.slots().writable_cells() {
            cells.write_own_annex(index, from, bytes);
        }
    }

    pub(crate) fn set_cleanup_mark(&self, index: u32, needed: bool) {
        if let Some(cell) = self.writable(index, SLOT_CLEANUP_MARK) {
            // Two accesses: what another thread gives back between them is lost, the mark is not.
            let given = cell.load(Ordering::Relaxed) & !MARK;
            cell.store(given | if needed { MARK } else { 0 }, Ordering::Release);
        }
    }

    /// True if the run in berth `index` has left its clean-up mark behind.
    #[must_use]
    pub fn cleanup_needed(&self, index: u32) -> bool {
        self.returned_cell(index).is_some_and(|cell| is_marked(cell.load()))
    }

    fn returned_cell(&self, index: u32) -> Option<CellRef<'_>> {
        self.slots().slot_cell(index, SLOT_CLEANUP_MARK)
    }

    /// From here on `result` is what the run in berth `index` gives back, if it ends well. It has
    /// at most [`RESULT_LIMIT`](crate::RESULT_LIMIT) bytes. Calls `written` before that counts.
    pub(crate) fn set_result(&self, index: u32, result: &[u8], written: impl FnOnce()) {
        let seen = self.returned_cell(index).map_or(0, CellRef::load);
        let place = if seen & PLACE == 0 { PLACE } else { 0 };
        self.write_own_annex(index, place_of_result(place), result);
        written();
        self.change_cell(index, |cell| {
            let code = Code { result: Some(result.len()), ..code(cell) };
            Some(with_code(cell & !PLACE | place, code))
        });
    }

    /// Says why the run in berth `index` ends: for ever, if its main `has_ended`; else until its
    /// main says something else, or ends well. Does nothing after words for ever. Calls `written`
    /// before the words count. One thread of the worker at a time.
    pub fn set_last_words(
        &self,
        index: u32,
        words: &LastWords,
        has_ended: bool,
        written: impl FnOnce(),
    ) {
        let (kind, text) = returned_record::encode_words(words);
        self.say_why(index, kind, &text, has_ended, written);
    }

    /// Sets what a call gives back when its main has ended, at most
    /// `VALUE_LIMIT` bytes. Only final words replace it. Calls `written` before it counts.
    pub fn set_value(&self, index: u32, value: &[u8], written: impl FnOnce()) {
        self.say_why(index, Kind::Value, value, true, written);
    }

    fn say_why(
        &self,
        index: u32,
        kind: Kind,
        bytes: &[u8],
        has_ended: bool,
        written: impl FnOnce(),
    ) {
        let is_final = |cell: u64| {
            let replaceable = has_ended && matches!(code(cell).words, Some((Kind::Value, _)));
            cell & FINAL != 0 && !replaceable
        };
        if self.returned_cell(index).is_none_or(|cell| is_final(cell.load())) {
            return;
        }
        self.change_cell(index, |cell| Some(with_code(cell, Code { words: None, ..code(cell) })));
        self.write_own_annex(index, WORDS, bytes);
        written();
        self.change_cell(index, |cell| {
            let is_final = if has_ended { FINAL } else { 0 };
            let code = Code { words: Some((kind, bytes.len())), ..code(cell) };
            Some(with_code(cell | is_final, code))
        });
    }
}

const fn place_of_result(cell: u64) -> usize {
    if cell & PLACE == 0 { 0 } else { RESULT_CELLS }
}

impl PostmasterCells {
    /// Clears what an earlier process of berth `index` has left: it is not its next worker's.
    pub fn clear_returned(&self, index: u32) {
        if let Some(cell) = self.cluster().writable(index, SLOT_CLEANUP_MARK) {
            cell.store(0, Ordering::Release);
        }
    }

    /// What the run in berth `index`, which has ended by `cause`, gives back.
    #[must_use]
    pub fn returned(&self, index: u32, cause: ExitCause) -> Returned {
        let cells = self.cluster();
        let cell = cells.returned_cell(index).map_or(0, CellRef::load);
        if cell >> CODE == 0 {
            return Returned::NOTHING;
        }
        copy(&cells, index, cell, that_counts(cell, cause))
    }
}

#[cold]
fn copy(cells: &ClusterCells<'_>, index: u32, cell: u64, code: Code) -> Returned {
    let mut bytes = vec![0; code.len()];
    let (result, words) = bytes.split_at_mut(code.result.unwrap_or(0));
    cells.slots().read_own_annex(index, place_of_result(cell), result);
    cells.slots().read_own_annex(index, WORDS, words);
    returned_record::decode(code, &bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::returned::RESULT_LIMIT;

    const GOOD: ExitCause = ExitCause::Exited(0);
    const BAD: ExitCause = ExitCause::Exited(1);

    const fn signal(signal: i32) -> ExitCause {
        ExitCause::Signaled { signal: signal as u8, core_dumped: false }
    }

    fn cells() -> PostmasterCells {
        PostmasterCells::create(2, 0).unwrap()
    }

    #[test]
    fn a_result_counts_with_a_good_end_only_and_the_last_one_counts() {
        let cells = cells();
        for (at, result) in
            [&[][..], &[1], &[2; 127], &[3; RESULT_LIMIT], &[4; 3]].iter().enumerate()
        {
            let before = cells.returned(1, GOOD);
            let written = || assert_eq!(cells.returned(1, GOOD), before, "not before the swap");
            cells.cluster().set_result(1, result, written);
            assert_eq!(cells.returned(1, GOOD).result(), Some(*result), "result {at}");
        }
        for cause in [BAD, ExitCause::Exited(2), signal(9), signal(15), ExitCause::StartTimedOut] {
            assert!(cells.returned(1, cause).is_nothing(), "{cause}");
        }
        cells.cluster().set_cleanup_mark(1, true);
        assert!(cells.cluster().cleanup_needed(1) && cells.returned(1, GOOD).is_nothing());
        cells.cluster().set_cleanup_mark(1, false);
        assert!(!cells.cluster().cleanup_needed(1));
        assert_eq!(cells.returned(1, GOOD).result(), Some(&[4; 3][..]), "the mark takes nothing");
        assert!(cells.returned(0, GOOD).is_nothing() && cells.returned(2, GOOD).is_nothing());
        cells.clear_returned(1);
        assert!(cells.returned(1, GOOD).is_nothing(), "gone with its run");
    }

    #[test]
    fn last_words_of_a_main_count_unless_it_ends_well_and_stay() {
        let (cells, words) = (cells(), LastWords::of_error(&std::fmt::Error));
        let panic = LastWords::of_panic("caught", "a.rs:1:1");
        cells.cluster().set_last_words(0, &panic, false, || {});
        for (cause, said) in
            [(GOOD, None), (BAD, None), (signal(9), None), (signal(6), Some(&panic))]
        {
            assert_eq!(cells.returned(0, cause).last_words(), said, "{cause}");
        }
        let written = || assert!(cells.returned(0, signal(6)).is_nothing(), "never torn");
        cells.cluster().set_last_words(0, &words, true, written);
        for (has_ended, other) in [(false, &panic), (true, &panic)] {
            cells.cluster().set_last_words(0, other, has_ended, || panic!("they are final"));
        }
        for cause in [BAD, ExitCause::Exited(9), signal(9), signal(6), ExitCause::StartTimedOut] {
            assert_eq!(cells.returned(0, cause).last_words(), Some(&words), "{cause}");
        }
        assert!(cells.returned(0, GOOD).is_nothing());
        cells.cluster().set_result(0, &[1], || {});
        assert_eq!(cells.returned(0, BAD).last_words(), Some(&words), "a result takes nothing");
    }

    #[test]
    fn the_value_of_a_call_is_told_and_only_final_words_replace_it() {
        let cells = cells();
        cells.cluster().set_last_words(0, &LastWords::of_panic("caught", ""), false, || {});
        let written = || assert!(cells.returned(0, GOOD).is_nothing(), "not before the swap");
        cells.cluster().set_value(0, &[], written);
        assert_eq!(cells.returned(0, GOOD).value(), Some(&[][..]));
        cells.cluster().set_last_words(0, &LastWords::of_panic("late", ""), false, || {});
        cells.cluster().set_result(0, &[4], || {});
        assert_eq!(cells.returned(0, GOOD).value(), Some(&[][..]));
        assert_eq!(cells.returned(0, GOOD).result(), Some(&[4][..]));
        for cause in [BAD, signal(6), signal(9), ExitCause::Exited(7)] {
            assert_eq!(cells.returned(0, cause).value(), Some(&[][..]), "told, and not counted");
            assert_eq!(cells.returned(0, cause).result(), None, "{cause}");
        }
        cells.cluster().set_cleanup_mark(0, true);
        assert!(cells.returned(0, GOOD).is_nothing());
        let words = LastWords::of_panic("after all", "");
        cells.cluster().set_last_words(0, &words, true, || {});
        assert_eq!(cells.returned(0, BAD).last_words(), Some(&words));
    }

    #[test]
    fn bits_that_no_worker_writes_give_nothing_and_count_as_the_mark() {
        let cells = cells();
        let cell = |bits: u64| {
            let cell = cells.cluster().writable(0, SLOT_CLEANUP_MARK).unwrap();
            cell.store(bits, Ordering::Release);
        };
        for bit in 0..64 {
            cell(1 << bit);
            let marked = bit < 32 && bit != 1 && bit != 2;
            assert_eq!(cells.cluster().cleanup_needed(0), marked, "bit {bit}");
            let _ = (cells.returned(0, GOOD), cells.returned(0, BAD), cells.returned(0, signal(6)));
        }
        cell(u64::MAX);
        assert!(cells.returned(0, GOOD).is_nothing() && cells.returned(0, BAD).is_nothing());
        cells.cluster().set_result(0, &[5], || {});
        assert!(cells.cluster().cleanup_needed(0), "and stay");
    }
}
