//! Holds of waiters: a process that already waits when the tenant ends gets the report, even if it
//! runs much later.
//!
//! The one keeper of a slot (`keep.rs`) is whoever published it. Any other process that waits for
//! the end writes a *hold* first: a cell that names slot, generation and its own pid. An ended slot
//! that somebody holds stays ended, with 0 in the place of the keeper's pid, until the last hold is
//! given back.
//!
//! | the waiter | the slot |
//! |---|---|
//! | holds, then looks: it has not ended | stays after the end, until the waiter has read the report |
//! | holds, then looks: it has ended | may be free already: the wait began after the end |
//! | gives its hold back before the end | is free at the end, unless somebody else keeps or holds it |
//! | is dead | its hold is given back by `sweep`, and the slot with it |
//! | finds no free hold ([`HOLDS`] are taken) | waits as before: the report can be overwritten |
//!
//! As with an unread end, a claim that finds no free slot takes the slot nevertheless, the oldest
//! end first.
//!
//! | | waiter | whoever ends a tenancy or releases a slot |
//! |---|---|---|
//! | 1 | raises the count of cells in use, writes its hold | swaps an ended word in, with or without keeper |
//! | 2 | fence (H2) | fence (H2) |
//! | 3 | looks at the word | looks for holds; only if there is none it frees the slot |
//!
//! Ordering (H2). Both fences are sequentially consistent. So either the waiter sees that the
//! tenancy is over, or the other side sees the hold. The same is true of two processes that give up
//! what they hold or keep: each gives up first and looks afterwards, so at least one of them sees
//! that nobody is left, and frees the slot.
//!
//! Crash. A waiter killed before its swap leaves a cell in use that is empty. One killed after it
//! leaves a hold with a dead pid. One killed after it has given the hold back leaves an ended slot
//! that nobody holds: `sweep` finds those by the hints of ended slots. The count of cells in use is
//! never lowered.

use crate::fault;
use crate::layout::HOLDS;
use crate::memory::Memory;
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::slots::Slots;
use crate::word::{Key, MAX_PID, State};
use bytemuck::Pod;

const PID_BITS: u32 = 22;
/// The low bits of the generation.
const GENERATION_BITS: u32 = 22;
const INDEX_SHIFT: u32 = PID_BITS + GENERATION_BITS;

/// Slot and generation as a hold names them, above the pid. The generation is cut: the hold of a
/// slow waiter may also name a tenancy four million uses later, and keeps that slot from being the
/// first to be taken.
const fn name(key: Key) -> u64 {
    let generation = key.generation & ((1 << GENERATION_BITS) - 1);
    (key.index as u64) << INDEX_SHIFT | generation << PID_BITS
}

const fn named(hold: u64) -> u64 {
    hold & !(MAX_PID as u64)
}

const fn waiter(hold: u64) -> u32 {
    hold as u32 & MAX_PID
}

/// A waiter's hold on a slot. Dropping it gives it back.
#[derive(Debug)]
pub struct Hold<'a, T: Pod, R: Pod, M: Memory> {
    slots: &'a Slots<T, R, M>,
    key: Key,
    cell: u32,
    value: u64,
}

/// A [`Hold`] that borrows nothing, for a waiter that owns its share of the slots.
#[derive(Debug)]
#[must_use = "the slot is held until this is given back"]
pub struct DetachedHold {
    key: Key,
    cell: u32,
    value: u64,
}

impl<T: Pod, R: Pod, M: Memory> Hold<'_, T, R, M> {
    /// Holds the slot from now on until [`Slots::give_back`].
    pub const fn detach(self) -> DetachedHold {
        let detached = DetachedHold { key: self.key, cell: self.cell, value: self.value };
        std::mem::forget(self);
        detached
    }
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Gives back a hold on one of these slots.
    pub fn give_back(&self, hold: DetachedHold) {
        let DetachedHold { key, cell, value } = hold;
        drop(Hold { slots: self, key, cell: cell.min(HOLDS - 1), value });
    }

    /// Holds the slot of `key` for process `waiter`, so that its report stays from the end on until
    /// the hold is dropped. Look at the slot afterwards: a tenancy that is over then may have been
    /// over before, and such a slot is not held.
    ///
    /// Any number of holds may name one slot. `None` when the region cannot be written, when all
    /// holds are taken, or when a number does not fit.
    #[must_use]
    pub fn hold(&self, key: Key, waiter: u32) -> Option<Hold<'_, T, R, M>> {
        self.memory.writable_cells().ok()?;
        if key.index >= self.capacity() || waiter == 0 || waiter > MAX_PID {
            return None;
        }
        let value = name(key) | u64::from(waiter);
        for cell in 0..HOLDS {
            if self.hold_cell(cell).load(Ordering::Relaxed) != 0 {
                continue;
            }
            self.holds_in_use().fetch_max(u64::from(cell) + 1, Ordering::AcqRel);
            fault::point("hold:before_swap");
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            let cells = self.hold_cell(cell);
            if cells.compare_exchange(0, value, success, failure).is_ok() {
                fence(Ordering::SeqCst); // H2
                fault::point("hold:after_swap");
                return Some(Hold { slots: self, key, cell, value });
            }
        }
        None
    }

    /// True if a waiter holds the slot of `key`.
    #[must_use]
    pub fn is_held(&self, key: Key) -> bool {
        fence(Ordering::SeqCst); // H2
        let name = name(key);
        self.holds().any(|(_, hold)| named(hold) == name)
    }

    /// Frees the slot of `key` if its tenant has ended and nobody keeps or holds it. Returns
    /// whether it did.
    pub(crate) fn settle(&self, key: Key) -> bool {
        // H2, between what the caller has given up and the look at what others hold or keep.
        fence(Ordering::SeqCst);
        let over = self.look(key).filter(|word| word.state() == State::Ended && word.pid() == 0);
        let Some(seen) = over else { return false };
        if self.is_held(key) {
            return false;
        }
        fault::point("settle:before_swap");
        seen.released().is_some_and(|vacant| self.vacate(key.index, seen, vacant))
    }

    /// Gives back the holds of dead waiters, and the slots that only they held.
    pub(crate) fn sweep_holds(&self, is_dead: &mut impl FnMut(u32) -> bool) -> usize {
        let mut swept = 0;
        for (cell, hold) in self.holds() {
            // Only corruption leaves a hold of nobody.
            if waiter(hold) != 0 && !is_dead(waiter(hold)) {
                continue;
            }
            let cell = self.hold_cell(cell);
            if cell.compare_exchange(hold, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            let index = u32::try_from(hold >> INDEX_SHIFT).unwrap_or(u32::MAX);
            let word = self.snapshot(index);
            let key = word.map(|word| Key { index, generation: word.generation() });
            let key = key.filter(|&key| name(key) == named(hold));
            swept += usize::from(key.is_some_and(|key| self.settle(key)));
        }
        swept
    }

    /// The holds that are taken, each with its place.
    fn holds(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let in_use = self.holds_in_use().load(Ordering::Acquire).min(u64::from(HOLDS)) as u32;
        let holds = (0..in_use).map(|cell| (cell, self.hold_cell(cell).load(Ordering::Acquire)));
        holds.filter(|&(_, hold)| hold != 0)
    }

    fn holds_in_use(&self) -> &AtomicU64 {
        self.cell(self.layout.holds)
    }

    fn hold_cell(&self, cell: u32) -> &AtomicU64 {
        self.cell(self.layout.hold(cell))
    }
}

impl<T: Pod, R: Pod, M: Memory> Drop for Hold<'_, T, R, M> {
    fn drop(&mut self) {
        let cell = self.slots.hold_cell(self.cell);
        // Another value: it was swept, or overwritten by corruption.
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        if cell.compare_exchange(self.value, 0, success, failure).is_ok() {
            fault::point("hold:given_back");
            self.slots.settle(self.key);
        }
    }
}
