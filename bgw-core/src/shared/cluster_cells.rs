//! Names for the cells beside the slots: those of the whole cluster, and those of one slot.
//!
//! | cells of the cluster | writer | read by |
//! |---|---|---|
//! | incarnation, phase, registrable entry kinds, number of general slots, if somebody waits for one (one line) | postmaster, rarely | everybody |
//! | count of changes (a line of its own) | postmaster at each change | waits for many workers |
//! | liveness words | postmaster once, the kernel at its death | waits, through the kernel |
//! | bells | postmaster at a change of a slot, if somebody asked | who asked |
//! | interests | who asks, postmaster at a change | the same; see `shmem_slots::bells` |
//!
//! | cells of a berth (one line) | writer |
//! |---|---|
//! | latch | the worker, and whoever sets it |
//! | clean-up mark, and what it gives back | the worker; the postmaster before a start; see `returned_cells.rs` |
//! | start time | the postmaster |
//! | wait event | the worker |
//! | further cells, in lines of their own | see `run_cells.rs` |
//!
//! The postmaster writes through `PostmasterCells`, a worker through `WorkerProcess`.

use super::layout::{
    BELL, CHANGES, CLASS, CLASS_CELLS, CLASS_NAME_CELLS, INCARNATION, INTEREST, INTERESTS,
    LIVENESS, LIVENESS_WORDS, PHASE, REGISTRABLE, SLOT_COUNTS, WAITING, WorkerSlots,
};
use super::slot_classes::{MOST_CLASSES, SlotClasses};
use crate::pid::Pid;
use crate::sys::robust;
use crate::worker::{EntryKinds, StartTime};
use shmem_slots::bells::{BELLS, Interest};
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::{CellRef, Latch};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SLOT_LATCH: usize = 0;
pub(super) const SLOT_CLEANUP_MARK: usize = 1;
pub(super) const SLOT_STARTED_AT: usize = 2;
const SLOT_WAIT_EVENT: usize = 3;
const WAIT_EVENT_CELLS: usize = 5;

/// The longest name of a wait event, in bytes. Longer ones are cut between two characters.
const WAIT_EVENT_LIMIT: usize = WAIT_EVENT_CELLS * 8;

/// The cells beside the slots of one region.
///
/// Attach checks that a region has them all. If one is missing nevertheless, the answer is the
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

    pub(super) const fn slots(&self) -> &'a WorkerSlots {
        self.slots
    }

    fn load(&self, cell: u32) -> u64 {
        self.slots.shared_cell(cell).map_or(0, CellRef::load)
    }

    /// A cell of a set to store into; `None` in a region that is attached read-only.
    pub(super) fn writable(&self, index: u32, place: usize) -> Option<&'a AtomicU64> {
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

    /// True if somebody waits for a slot. Asked after one was given back: then the postmaster,
    /// which says it before it looks for free slots, finds that one, or is to be rung.
    #[must_use]
    pub fn somebody_waits(&self) -> bool {
        fence(Ordering::SeqCst);
        self.load(WAITING) != 0
    }

    /// The slots of the parallel class, or those that everybody else may have. The parallel class
    /// has slots of its own, behind the others.
    /// So its cap is how many it has, neither class takes slots from the other, and there is no
    /// count that a process could leave half changed when it dies.
    #[must_use]
    pub fn slots_of(&self, parallel: bool) -> Range<u32> {
        let all = self.slots.capacity();
        let counts = self.load(SLOT_COUNTS);
        let count = |bits: u64| (bits as u32).min(all);
        if parallel { count(counts >> 32)..all } else { 0..count(counts) }
    }

    /// Which slots whose are.
    #[must_use]
    pub fn slot_classes(&self) -> SlotClasses {
        let parallel = self.slots_of(true);
        let mut reserved = Vec::new();
        for class in (0..MOST_CLASSES as u32).map(|number| CLASS + number * CLASS_CELLS) {
            let count = u32::try_from(self.load(class)).unwrap_or(0);
            let name = (1..=CLASS_NAME_CELLS).map(|place| self.load(class + place).to_le_bytes());
            let name: Vec<u8> = name.flatten().take_while(|&byte| byte != 0).collect();
            if count > 0 {
                reserved.push((String::from_utf8_lossy(&name).into_owned(), count));
            }
        }
        SlotClasses::new(parallel.start, parallel.end - parallel.start, reserved)
    }

    /// A watch that ends a wait when any worker of the cluster changes after this call. For waits
    /// on more workers than one system call can watch: take it, look at the workers, then sleep.
    #[must_use]
    pub fn watch_changes(&self) -> Option<Watch<'a>> {
        let cell = self.slots.shared_cell(CHANGES)?;
        let seen = cell.load() as u32;
        Some(Watch { cell, half: Half::Low, seen })
    }

    /// The bell that process `owner` sleeps on. Others may have the same.
    #[must_use]
    pub const fn bell_of(owner: Pid) -> u32 {
        owner.get() % BELLS
    }

    /// A watch that ends a wait when bell `bell` is rung after this call.
    #[must_use]
    pub fn watch_bell(&self, bell: u32) -> Option<Watch<'a>> {
        let cell = self.slots.shared_cell(BELL + bell % BELLS)?;
        let seen = cell.load() as u32;
        Some(Watch { cell, half: Half::Low, seen })
    }

    /// The number of the interest that slot `index` shares with others.
    #[must_use]
    pub const fn interest_of(index: u32) -> u32 {
        index % INTERESTS
    }

    /// Interest number `number`; `None` in a region that is attached read-only.
    #[must_use]
    pub fn interest(&self, number: u32) -> Option<Interest<'a>> {
        let cell = INTEREST + number % INTERESTS;
        self.slots.writable_cells().ok()?.shared_cell(cell).map(Interest::new)
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

    /// The latch of the run in berth `index`; `None` outside the array, and in a region that is
    /// attached read-only.
    #[must_use]
    pub fn latch(&self, index: u32) -> Option<Latch<'a>> {
        self.writable(index, SLOT_LATCH).map(Latch::new)
    }

    /// When the process of berth `index` was started, by the wall clock; for display.
    #[must_use]
    pub fn started_at(&self, index: u32) -> Option<SystemTime> {
        let nanos = self.slots.slot_cell(index, SLOT_STARTED_AT)?.load();
        UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).filter(|_| nanos != 0)
    }

    pub(crate) fn set_wait_event(&self, index: u32, name: Option<&str>) {
        let Some(name) = name else {
            // A name ends at its first 0.
            let first = self.writable(index, SLOT_WAIT_EVENT);
            return first.map_or((), |cell| cell.store(0, Ordering::Release));
        };
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

    /// What the run in berth `index` waits for, by the name that it gave; for display. A name that
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
