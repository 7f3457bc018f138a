//! Names for the cells beside the slots: those of the whole cluster, and those of one slot.
//!
//! | cells of the cluster | writer | read by |
//! |---|---|---|
//! | incarnation, phase, postmaster pid, where the parallel class begins (one line) | postmaster, rarely | everybody |
//! | count of changes (a line of its own) | postmaster at each change | waiters for many workers |
//! | liveness words | postmaster once, the kernel at its death | waiters, through the kernel |
//!
//! | cells of a slot (one line) | writer |
//! |---|---|
//! | latch | the worker, and whoever sets it |
//! | clean-up mark | the worker |
//! | when it was started | the postmaster |
//! | what it waits for, by name | the worker |

use super::WorkerSlots;
use crate::sys::robust;
use crate::worker::StartTime;
use shmem_slots::futex::{Half, Watch};
use shmem_slots::{CellRef, Latch, WritableCells};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many liveness words there are. Word 0 is the one of the workers (who are told of the
/// postmaster's death by a signal besides); session `n` has word `1 + n % (LIVENESS_WORDS - 1)`.
/// Sessions beyond that share, and pass a wake-up on.
pub const LIVENESS_WORDS: u32 = 512;

const INCARNATION: u32 = 0;
const PHASE: u32 = 1;
const POSTMASTER: u32 = 2;
const GENERAL_SLOTS: u32 = 3;
const CHANGES: u32 = 8;
const LIVENESS: u32 = 16;

/// How many cells of the cluster a region must have.
pub const CLUSTER_CELLS: u32 = LIVENESS + LIVENESS_WORDS;

const SLOT_LATCH: usize = 0;
const SLOT_CLEANUP_MARK: usize = 1;
const SLOT_STARTED_AT: usize = 2;
const SLOT_WAIT_EVENT: usize = 3;
const WAIT_EVENT_CELLS: usize = 5;

/// How long the name of a wait event may be, in bytes; longer ones are cut between two characters.
pub const WAIT_EVENT_LIMIT: usize = WAIT_EVENT_CELLS * 8;

/// The cells beside the slots of one region.
///
/// A region that was checked at attach has them all; where a cell is missing all the same, the
/// answer is the harmless one.
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

    /// Does nothing in a region that is attached read-only, as every setter here.
    fn store(&self, cell: u32, value: u64) {
        if let Some(cell) = self.writable_cell(cell) {
            cell.store(value, Ordering::Release);
        }
    }

    fn writable_cell(&self, cell: u32) -> Option<&'a AtomicU64> {
        self.slots.writable_cells().ok()?.shared_cell(cell)
    }

    fn writable_slot_cell(&self, index: u32, place: usize) -> Option<&'a AtomicU64> {
        self.slots.writable_cells().ok()?.slot_cell(index, place)
    }

    /// The number of the current life of the slots: another one after each crash reset and for each
    /// postmaster. A handle from another life answers `Stopped`.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.load(INCARNATION) as u32
    }

    /// For the postmaster: begins a new life of the slots.
    pub fn set_incarnation(&self, incarnation: u32) {
        self.store(INCARNATION, u64::from(incarnation));
    }

    /// The phase that the cluster has reached, for views.
    #[must_use]
    pub fn phase(&self) -> StartTime {
        match self.load(PHASE) {
            0 => StartTime::PostmasterStart,
            1 => StartTime::ConsistentState,
            _ => StartTime::RecoveryFinished,
        }
    }

    /// For the postmaster: tells the phase.
    pub fn set_phase(&self, phase: StartTime) {
        let code = match phase {
            StartTime::PostmasterStart => 0,
            StartTime::ConsistentState => 1,
            StartTime::RecoveryFinished => 2,
        };
        self.store(PHASE, code);
    }

    /// The postmaster's pid as the region tells it: for views, never for a signal.
    #[must_use]
    pub fn postmaster_pid(&self) -> u32 {
        self.load(POSTMASTER) as u32
    }

    /// For the postmaster: tells its pid.
    pub fn set_postmaster_pid(&self, pid: u32) {
        self.store(POSTMASTER, u64::from(pid));
    }

    /// The slots of a class of workers. The parallel class has slots of its own, behind the others: so
    /// its cap is the number of them, it can take none from the rest and the rest none from it, and
    /// there is no count that a process could die in the middle of changing.
    #[must_use]
    pub fn slots_of(&self, parallel: bool) -> Range<u32> {
        let all = self.slots.capacity();
        let general = u32::try_from(self.load(GENERAL_SLOTS)).map_or(all, |count| count.min(all));
        if parallel { general..all } else { 0..general }
    }

    /// For the postmaster: says how many slots are not for the parallel class.
    pub fn set_general_slots(&self, count: u32) {
        self.store(GENERAL_SLOTS, u64::from(count));
    }

    /// For a wait on more workers than one system call can watch: ends it when any worker of the cluster
    /// changes after this call. The caller looks at its workers between this and the sleep.
    #[must_use]
    pub fn watch_changes(&self) -> Option<Watch<'a>> {
        let cell = self.slots.shared_cell(CHANGES)?;
        let seen = cell.load() as u32;
        Some(Watch { cell, half: Half::Low, seen })
    }

    /// For the postmaster, after a slot's word has changed: counts the change, and wakes those that
    /// sleep on the count.
    pub fn count_change(&self) {
        if let Some(cell) = self.writable_cell(CHANGES) {
            cell.fetch_add(1, Ordering::AcqRel);
            shmem_slots::futex::wake_all(cell);
        }
    }

    /// All liveness words, for [`robust::hold`]; none in a region that is attached read-only.
    #[must_use]
    pub fn liveness_words(&self) -> &'a [AtomicU64] {
        let cells = self.slots.writable_cells().map_or(&[][..], WritableCells::shared_cells);
        cells.get(LIVENESS as usize..(LIVENESS + LIVENESS_WORDS) as usize).unwrap_or(&[])
    }

    /// Which liveness word session number `session` waits on.
    #[must_use]
    pub const fn liveness_of_session(session: u64) -> u32 {
        1 + (session % (LIVENESS_WORDS as u64 - 1)) as u32
    }

    /// A watch that ends a wait when the postmaster dies, or `None` when it is dead already.
    #[must_use]
    pub fn watch_postmaster(&self, word: u32) -> Option<Watch<'a>> {
        let cell = self.slots.shared_cell(LIVENESS + word % LIVENESS_WORDS)?;
        let seen = cell.load() as u32;
        (seen & robust::OWNER_DIED == 0).then_some(Watch { cell, half: Half::Low, seen })
    }

    /// Passes the news of the postmaster's death on to whoever shares liveness word `word`: the
    /// kernel wakes one waiter alone.
    pub fn pass_on_postmaster_death(&self, word: u32) {
        if let Some(cell) = self.slots.shared_cell(LIVENESS + word % LIVENESS_WORDS) {
            shmem_slots::futex::wake_all(cell);
        }
    }

    /// The latch of the worker in slot `index`; `None` outside the array, and in a region that is
    /// attached read-only.
    #[must_use]
    pub fn latch(&self, index: u32) -> Option<Latch<'a>> {
        self.writable_slot_cell(index, SLOT_LATCH).map(Latch::new)
    }

    /// For the worker of a slot: says that it is inside shared state (`true`) or has left it in
    /// order (`false`). A worker that ends while the mark stands has crashed, whatever its exit
    /// code says.
    #[doc(alias = "MarkPostmasterChildActive")]
    pub fn mark_cleanup_needed(&self, index: u32, needed: bool) {
        if let Some(cell) = self.writable_slot_cell(index, SLOT_CLEANUP_MARK) {
            cell.store(u64::from(needed), Ordering::Release);
        }
    }

    /// True when the worker of slot `index` has left its clean-up mark behind.
    #[must_use]
    pub fn cleanup_needed(&self, index: u32) -> bool {
        self.slots.slot_cell(index, SLOT_CLEANUP_MARK).is_some_and(|cell| cell.load() != 0)
    }

    /// For the postmaster: when the process of slot `index` was started, by the wall clock.
    pub fn set_started_at(&self, index: u32, at: SystemTime) {
        let nanos = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        if let Some(cell) = self.writable_slot_cell(index, SLOT_STARTED_AT) {
            cell.store(u64::try_from(nanos).unwrap_or(0), Ordering::Release);
        }
    }

    /// When the process of slot `index` was started, by the wall clock; for views.
    #[must_use]
    pub fn started_at(&self, index: u32) -> Option<SystemTime> {
        let nanos = self.slots.slot_cell(index, SLOT_STARTED_AT)?.load();
        UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).filter(|_| nanos != 0)
    }

    /// For the worker of a slot: says what it is about to wait for (`None`: for nothing).
    #[doc(alias = "pgstat_report_wait_start")]
    pub fn set_wait_event(&self, index: u32, name: Option<&str>) {
        let name = name.unwrap_or_default();
        let whole = |&at: &usize| name.is_char_boundary(at);
        let end = (0..=name.len().min(WAIT_EVENT_LIMIT)).rev().find(whole);
        let mut bytes = name.bytes().take(end.unwrap_or(0));
        for place in SLOT_WAIT_EVENT..SLOT_WAIT_EVENT + WAIT_EVENT_CELLS {
            let mut word = [0u8; 8];
            for (to, from) in word.iter_mut().zip(&mut bytes) {
                *to = from;
            }
            if let Some(cell) = self.writable_slot_cell(index, place) {
                cell.store(u64::from_le_bytes(word), Ordering::Release);
            }
        }
    }

    /// What the worker of slot `index` waits for, by the name it gave; for views. A name that changes
    /// while it is read may be a mixture of both.
    #[must_use]
    pub fn wait_event(&self, index: u32) -> Option<String> {
        let mut bytes = Vec::with_capacity(WAIT_EVENT_LIMIT);
        for place in SLOT_WAIT_EVENT..SLOT_WAIT_EVENT + WAIT_EVENT_CELLS {
            let word = self.slots.slot_cell(index, place)?.load();
            bytes.extend(word.to_le_bytes());
        }
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        let name: String = String::from_utf8_lossy(&bytes).into_owned();
        let harmless = !name.is_empty() && !name.chars().any(char::is_control);
        harmless.then_some(name)
    }
}
