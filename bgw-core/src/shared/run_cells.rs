//! What a run says of itself in the further cells of its berth.
//!
//! A berth is a set of slot cells. Each slot has that with its own number. A region may have spare
//! ones, for runs that begin beside others; the cell that says which berth a slot has is for them.
//!
//! | cell | writer | read by |
//! |---|---|---|
//! | which berth the slot of this number has | the postmaster | setters of latches, views |
//! | that it is ready, that it has done its jobs | the worker; the postmaster before a start | the postmaster |
//! | until when it asks for time to start | the worker; the postmaster before a start | the postmaster, when that time is over |
//! | count of beats | the worker; the postmaster before a start | the postmaster, for a worker with a heartbeat |
//! | which segments it caches | see `cached_cells.rs` | |
//! | status text, 127 bytes | the worker; for a command the postmaster | views |
//!
//! Trust. The postmaster takes any value. A wrong one harms this worker alone.

use super::cluster_cells::ClusterCells;
use super::postmaster_cells::PostmasterCells;
use crate::worker::BackgroundWorker;
use shmem_slots::CellRef;
use std::sync::atomic::Ordering;
use std::time::Duration;

const START_UNTIL: usize = 8;
const BEATS: usize = 9;
const BERTH: usize = 10;
const SAID: usize = 11;
const STATUS: usize = 16;
const STATUS_CELLS: usize = 16;

/// What a run says to the postmaster in its berth.
pub mod said {
    /// It is ready. Of a run that began beside another one; others say so in the word.
    pub const READY: u64 = 1;
    /// It has done its jobs.
    pub const JOBS_DONE: u64 = 2;
}

/// The longest status text, in bytes. Longer ones are cut between two characters.
const STATUS_LIMIT: usize = STATUS_CELLS * 8 - 1;

impl ClusterCells<'_> {
    /// The berth of slot `index`: where the cells of its present run are. A number that is none
    /// counts as the slot's own.
    #[must_use]
    pub fn berth_of(&self, index: u32) -> u32 {
        let stored = self.slots().slot_cell(index, BERTH).map_or(0, CellRef::load);
        let berth = stored.checked_sub(1).and_then(|berth| u32::try_from(berth).ok());
        berth.filter(|&berth| berth < self.slots().sets()).unwrap_or(index)
    }

    /// How many runs can begin beside others at a time.
    #[must_use]
    pub fn overlap(&self) -> u32 {
        self.slots().sets() - self.slots().capacity()
    }

    /// The run in berth `index` says `bits` of [`said`].
    pub(crate) fn say(&self, index: u32, bits: u64) {
        if let Some(cell) = self.writable(index, SAID) {
            cell.fetch_or(bits, Ordering::Release);
        }
    }

    /// What the run in berth `index` has said, as bits of [`said`].
    #[must_use]
    pub fn said(&self, index: u32) -> u64 {
        self.slots().slot_cell(index, SAID).map_or(0, CellRef::load)
    }

    /// The run in berth `index` asks for time to start until then, by `CLOCK_MONOTONIC`.
    pub(crate) fn extend_start(&self, index: u32, until: Duration) {
        if let Some(cell) = self.writable(index, START_UNTIL) {
            let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
            cell.fetch_max(nanos, Ordering::Release);
        }
    }

    /// The run in berth `index` is alive. One load and one store: beats of two threads at once
    /// may count as one.
    pub(crate) fn beat(&self, index: u32) {
        if let Some(cell) = self.writable(index, BEATS) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// A number that differs after each beat.
    #[must_use]
    pub fn beats(&self, index: u32) -> u64 {
        self.slots().slot_cell(index, BEATS).map_or(0, CellRef::load)
    }

    /// What the run in berth `index` says of itself. Control characters become `?`.
    pub fn set_status_text(&self, index: u32, text: &str) {
        let clean = text.trim().chars().map(|c| if c.is_control() { '?' } else { c });
        let mut bytes = [0u8; STATUS_CELLS * 8];
        let mut end = 0;
        for c in clean {
            let Some(place) = bytes.get_mut(end..end + c.len_utf8()) else { break };
            if end + c.len_utf8() > STATUS_LIMIT {
                break;
            }
            c.encode_utf8(place);
            end += c.len_utf8();
        }
        for (place, word) in (STATUS..).zip(bytes.chunks_exact(8)) {
            // A chunk has that length.
            let word = <[u8; 8]>::try_from(word).unwrap_or_default();
            if let Some(cell) = self.writable(index, place) {
                cell.store(u64::from_le_bytes(word), Ordering::Release);
            }
        }
    }

    /// What the run in berth `index` says of itself; for display. A text that changes while it is
    /// read may come out mixed.
    #[must_use]
    pub fn status_text(&self, index: u32) -> Option<String> {
        let mut bytes = Vec::with_capacity(STATUS_CELLS * 8);
        for place in STATUS..STATUS + STATUS_CELLS {
            bytes.extend(self.slots().slot_cell(index, place)?.load().to_le_bytes());
        }
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(STATUS_LIMIT);
        bytes.truncate(end.min(STATUS_LIMIT));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let harmless = !text.is_empty() && !text.chars().any(char::is_control);
        harmless.then_some(text)
    }

    /// Until when it has asked; zero if it has not.
    #[must_use]
    pub fn start_extended_until(&self, index: u32) -> Duration {
        Duration::from_nanos(self.slots().slot_cell(index, START_UNTIL).map_or(0, CellRef::load))
    }
}

impl ClusterCells<'_> {
    pub(super) fn clear_run(&self, index: u32, worker: &BackgroundWorker) {
        let asked = [
            // A next run that is to be ready has a time without a timeout, too.
            (START_UNTIL, worker.ready().is_some()),
            (BEATS, worker.heartbeat().is_some()),
        ];
        for (place, _) in asked.into_iter().filter(|&(_, is_asked)| is_asked) {
            if let Some(cell) = self.writable(index, place) {
                cell.store(0, Ordering::Release);
            }
        }
        if self.said(index) != 0
            && let Some(cell) = self.writable(index, SAID)
        {
            cell.store(0, Ordering::Release);
        }
        // A text ends at its first 0.
        if self.slots().slot_cell(index, STATUS).is_some_and(|cell| cell.load() != 0) {
            self.set_status_text(index, "");
        }
    }
}

impl PostmasterCells {
    /// The cells of the present run of slot `index` are those of `berth`.
    pub fn set_berth(&self, index: u32, berth: u32) {
        let stored = if berth == index { 0 } else { u64::from(berth) + 1 };
        if let Some(cell) = self.cluster().writable(index, BERTH) {
            // Before the word names the process: whoever sees that finds this.
            cell.store(stored, Ordering::SeqCst);
        }
    }

    /// Clears what an earlier process of berth `index` has said of itself, as far as anybody asks
    /// what the next one, of `worker`, says. For most workers this looks at one word.
    pub fn clear_run(&self, index: u32, worker: &BackgroundWorker) {
        self.cluster().clear_run(index, worker);
    }
}

#[cfg(test)]
mod tests {
    use super::said;
    use crate::Ready;
    use crate::shared::postmaster_cells::PostmasterCells;
    use crate::shared::slot_classes::SlotClasses;
    use crate::worker::BackgroundWorker;
    use std::time::Duration;

    #[test]
    fn a_status_text_comes_back_cleaned_and_cut_and_is_gone_with_its_run() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let long = format!("{}ä", "x".repeat(126));
        let full = "y".repeat(127);
        for (said, read) in [
            ("serving", "serving"),
            (" a\u{1b}[31m\tb ", "a?[31m?b"),
            (long.as_str(), &long[..126]),
            (full.as_str(), full.as_str()),
            (&format!("{full}z"), full.as_str()),
        ] {
            cells.cluster().set_status_text(1, said);
            assert_eq!(cells.cluster().status_text(1).as_deref(), Some(read));
            assert_eq!(cells.cluster().status_text(0), None);
        }
        let worker = BackgroundWorker::builder("w").function("f").build().unwrap();
        cells.clear_run(1, &worker);
        assert_eq!(cells.cluster().status_text(1), None);
    }

    /// Breaks if a run could take as long as an earlier one in its berth has asked for.
    #[test]
    fn the_time_that_a_run_has_asked_for_is_gone_with_it() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let worker = BackgroundWorker::builder("w").function("f").ready(Ready::Call);
        for timeout in [None, Some(Duration::from_secs(1))] {
            let worker = worker.clone();
            let worker = timeout.map_or(worker.clone(), |timeout| worker.start_timeout(timeout));
            cells.cluster().extend_start(1, Duration::from_secs(7));
            assert_eq!(cells.cluster().start_extended_until(1), Duration::from_secs(7));
            cells.clear_run(1, &worker.build().unwrap());
            assert_eq!(cells.cluster().start_extended_until(1), Duration::ZERO);
        }
    }

    #[test]
    fn a_slot_has_the_berth_that_the_postmaster_says_and_a_wrong_number_is_its_own() {
        let cells = PostmasterCells::create_with(SlotClasses::new(2, 1, Vec::new()), 2).unwrap();
        assert_eq!((cells.cluster().overlap(), cells.cluster().berth_of(1)), (2, 1));
        for (said, read) in [(3, 3), (4, 4), (0, 0), (1, 1), (5, 1), (u32::MAX, 1)] {
            cells.set_berth(1, said);
            assert_eq!(cells.cluster().berth_of(1), read);
            assert_eq!(cells.cluster().berth_of(0), 0);
        }
        let worker = BackgroundWorker::builder("w").function("f").build().unwrap();
        cells.cluster().say(4, said::READY);
        cells.cluster().say(4, said::JOBS_DONE);
        assert_eq!(cells.cluster().said(4), said::READY | said::JOBS_DONE);
        assert_eq!(cells.cluster().said(3), 0);
        cells.clear_run(4, &worker);
        assert_eq!((cells.cluster().said(4), cells.cluster().said(5)), (0, 0));
    }
}
