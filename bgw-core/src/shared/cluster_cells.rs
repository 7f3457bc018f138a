//! Names for the cells beside the slots: those of the whole cluster, and those of one slot.
//!
//! | cells of the cluster | writer | read by |
//! |---|---|---|
//! | incarnation, phase, registrable entry kinds, number of general slots (one line) | postmaster, rarely | everybody |
//! | count of changes (a line of its own) | postmaster at each change | waits for many workers |
//! | liveness words | postmaster once, the kernel at its death | waits, through the kernel |
//!
//! | cells of a slot (one line) | writer |
//! |---|---|
//! | latch | the worker, and whoever sets it |
//! | clean-up mark | the worker; the postmaster before a start |
//! | start time | the postmaster |
//! | wait event | the worker |
//!
//! The postmaster writes through `PostmasterCells`, a worker through `WorkerProcess`.

use super::layout::{
    CHANGES, GENERAL_SLOTS, INCARNATION, LIVENESS, LIVENESS_WORDS, PHASE, REGISTRABLE, WorkerSlots,
};
use crate::sys::robust;
use crate::worker::{EntryKinds, StartTime};
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::{CellRef, Latch};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SLOT_LATCH: usize = 0;
const SLOT_CLEANUP_MARK: usize = 1;
pub(super) const SLOT_STARTED_AT: usize = 2;
const SLOT_WAIT_EVENT: usize = 3;
const WAIT_EVENT_CELLS: usize = 5;

/// The longest name of a wait event, in bytes. Longer ones are cut between two characters.
const WAIT_EVENT_LIMIT: usize = WAIT_EVENT_CELLS * 8;

/// The cells beside the slots of one region.
///
/// Attach checks that a region has them all. Where a cell is missing all the same, the answer is the
/// harmless one.
#[derive(Clone, Copy, Debug)]
pub struct ClusterCells<'a> {
    slots: &'a WorkerSlots,
}

impl<'a> ClusterCells<'a> {
    /// The cells beside `slots`.
    #[must_use]
    pub const fn new(slots: &'a WorkerSlots) -> Self {
        Self { slots }
    }

    fn load(&self, cell: u32) -> u64 {
        self.slots.shared_cell(cell).map_or(0, CellRef::load)
    }

    /// A cell of a slot to store into; `None` in a region that is attached read-only.
    fn writable(&self, index: u32, place: usize) -> Option<&'a AtomicU64> {
        self.slots.writable_cells().ok()?.slot_cell(index, place)
    }

    /// The number of the current life of the slots. It changes with each postmaster and each crash
    /// reset. A handle of another incarnation answers `Stopped`.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.load(INCARNATION) as u32
    }

    /// The phase that the cluster has reached.
    #[must_use]
    pub fn phase(&self) -> StartTime {
        u32::try_from(self.load(PHASE)).ok().and_then(StartTime::from_code).unwrap_or_default()
    }

    /// What backends may register besides functions. The postmaster does not rely on this cell.
    #[must_use]
    pub fn registrable(&self) -> EntryKinds {
        EntryKinds::from_bits_truncate(self.load(REGISTRABLE) as u32)
    }

    /// The slots of a class of workers. The parallel class has slots of its own, behind the others. So
    /// its cap is how many it has, neither class takes slots from the other, and there is no count that
    /// a process could leave half changed when it dies.
    #[must_use]
    pub fn slots_of(&self, parallel: bool) -> Range<u32> {
        let all = self.slots.capacity();
        let general = u32::try_from(self.load(GENERAL_SLOTS)).map_or(all, |count| count.min(all));
        if parallel { general..all } else { 0..general }
    }

    /// A watch that ends a wait when any worker of the cluster changes after this call. For waits on
    /// more workers than one system call can watch: take it, look at the workers, then sleep.
    #[must_use]
    pub fn watch_changes(&self) -> Option<Watch<'a>> {
        let cell = self.slots.shared_cell(CHANGES)?;
        let seen = cell.load() as u32;
        Some(Watch { cell, half: Half::Low, seen })
    }

    /// Which liveness word session number `session` waits on.
    #[must_use]
    pub const fn liveness_of_session(session: u64) -> u32 {
        1 + (session % (LIVENESS_WORDS as u64 - 1)) as u32
    }

    /// A watch that ends a wait when the kernel marks liveness word `word`, or `None` if it has.
    #[must_use]
    pub fn watch_postmaster(&self, word: u32) -> Option<Watch<'a>> {
        let cell = self.slots.shared_cell(LIVENESS + word % LIVENESS_WORDS)?;
        let seen = cell.load() as u32;
        (seen & robust::OWNER_DIED == 0).then_some(Watch { cell, half: Half::Low, seen })
    }

    /// True if every liveness word is marked.
    pub(crate) fn postmaster_is_dead_to_all(&self) -> bool {
        (0..LIVENESS_WORDS).all(|word| self.watch_postmaster(word).is_none())
    }

    /// Wakes all who wait on any liveness word.
    pub fn wake_liveness_waiters(&self) {
        let words = (0..LIVENESS_WORDS).filter_map(|at| self.slots.shared_cell(LIVENESS + at));
        words.for_each(futex::wake_all);
    }

    /// The latch of the worker in slot `index`; `None` outside the array, and in a region that is attached
    /// read-only.
    #[must_use]
    pub fn latch(&self, index: u32) -> Option<Latch<'a>> {
        self.writable(index, SLOT_LATCH).map(Latch::new)
    }

    pub(crate) fn set_cleanup_mark(&self, index: u32, needed: bool) {
        if let Some(cell) = self.writable(index, SLOT_CLEANUP_MARK) {
            cell.store(u64::from(needed), Ordering::Release);
        }
    }

    /// True if the worker of slot `index` has left its clean-up mark behind.
    #[must_use]
    pub fn cleanup_needed(&self, index: u32) -> bool {
        self.slots.slot_cell(index, SLOT_CLEANUP_MARK).is_some_and(|cell| cell.load() != 0)
    }

    /// When the process of slot `index` was started, by the wall clock; for views.
    #[must_use]
    pub fn started_at(&self, index: u32) -> Option<SystemTime> {
        let nanos = self.slots.slot_cell(index, SLOT_STARTED_AT)?.load();
        UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).filter(|_| nanos != 0)
    }

    pub(crate) fn set_wait_event(&self, index: u32, name: Option<&str>) {
        let name = name.unwrap_or_default();
        let whole = |&at: &usize| name.is_char_boundary(at);
        let end = (0..=name.len().min(WAIT_EVENT_LIMIT)).rev().find(whole);
        let mut bytes = name.bytes().take(end.unwrap_or(0));
        for place in SLOT_WAIT_EVENT..SLOT_WAIT_EVENT + WAIT_EVENT_CELLS {
            let mut word = [0u8; 8];
            for (to, from) in word.iter_mut().zip(&mut bytes) {
                *to = from;
            }
            if let Some(cell) = self.writable(index, place) {
                cell.store(u64::from_le_bytes(word), Ordering::Release);
            }
        }
    }

    /// What the worker of slot `index` waits for, by the name that it gave; for views. A name that
    /// changes while it is read may come out mixed.
    #[must_use]
    pub fn wait_event(&self, index: u32) -> Option<String> {
        let mut bytes = Vec::with_capacity(WAIT_EVENT_LIMIT);
        for place in SLOT_WAIT_EVENT..SLOT_WAIT_EVENT + WAIT_EVENT_CELLS {
            let word = self.slots.slot_cell(index, place)?.load();
            bytes.extend(word.to_le_bytes());
        }
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        let name = String::from_utf8_lossy(&bytes).into_owned();
        let harmless = !name.is_empty() && !name.chars().any(char::is_control);
        harmless.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use crate::shared::postmaster_cells::PostmasterCells;

    #[test]
    fn a_wait_event_comes_back_up_to_its_limit_and_is_cut_between_characters() {
        let cells = PostmasterCells::create(2, 0).unwrap();
        let cells = cells.cluster();
        let [fits, long] = [39, 40].map(|len| format!("{}ä", "x".repeat(len - 1)));
        for (name, read) in [("a", "a"), (fits.as_str(), fits.as_str()), (&long, &long[..39])] {
            cells.set_wait_event(1, Some(name));
            assert_eq!(cells.wait_event(1).as_deref(), Some(read));
            cells.set_wait_event(1, None);
            assert_eq!(cells.wait_event(1), None, "nothing is left of it");
        }
        cells.set_wait_event(2, Some("outside of the array"));
        assert_eq!(cells.wait_event(2), None);
    }
}
