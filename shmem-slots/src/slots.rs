//! The array's face: look, claim, and what every operation has in common.
//!
//! | who | may do |
//! |---|---|
//! | anybody | `look`, `read`, `read_report`, `claim`, `set_flags` |
//! | the claimer of a slot | `write`, `publish`, or give it back by dropping the claim |
//! | the manager (exactly one process) | `drain_changes`, `update`, `write_report`, `free`, `sweep`, `reset_all` |
//!
//! Ordering. (W1) `publish` and the manager's swaps are releases; (R1) a look is an acquire: who sees
//! a word sees what was written before it. The pairs W2/R2 keep payloads whole, see `payload.rs`;
//! H1 keeps hints findable, see `hints.rs`.
//!
//! Crash, between any two steps of a claim:
//!
//! | killed | leaves | found by |
//! |---|---|---|
//! | before the mark in `changed` | nothing | |
//! | after the mark, before the swap | a mark on a free slot | the slot's next tenant clears it |
//! | after the swap, before `publish` | `Reserved` with a dead owner, marked | `sweep` |
//! | after `publish` | a published slot, marked | `drain_changes`, as if it had been told |
//!
//! A drain leaves the marks of free and reserved slots alone, so the mark set before the swap is
//! still there at every later step.

use crate::cell::load_acquire;
use crate::error::{ClaimError, ClaimLost, NotWritable};
use crate::hints::Hints;
use crate::layout::{Layout, PAYLOAD_LEN, REPORT_COUNT, WORD};
use crate::memory::{Heap, Memory};
use crate::primitive::{AtomicU64, Ordering};
use crate::word::{Key, MAX_GENERATION, MAX_PID, Snapshot, State};
use crate::{fault, header, payload};
use bytemuck::Pod;
use std::marker::PhantomData;
use std::ops::Range;

/// What a new region is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many slots (1 to [`crate::MAX_CAPACITY`]).
    pub capacity: u32,
    /// A number that stands for the layout of `T` and `R`: attach refuses another one.
    pub tag: u64,
    /// Cells beside the slots, for the upper layer.
    pub shared_cells: u32,
    /// The generation that slots begin with: 0, but for tests of retirement.
    pub first_generation: u64,
}

/// An array of slots over cells of `M`: each holds a request `T`, written by its claimer, and a
/// report `R`, written by the manager.
#[derive(Debug)]
pub struct Slots<T, R, M = crate::Region> {
    pub(crate) memory: M,
    pub(crate) layout: Layout,
    payloads: PhantomData<fn() -> (T, R)>,
}

impl<T: Pod, R: Pod> Slots<T, R, Heap> {
    /// Slots in the private memory of this process.
    ///
    /// `None` when the sizes are out of range.
    #[must_use]
    pub fn heap(options: &Options) -> Option<Self> {
        let layout = payload::shape::<T, R>(options.capacity, options.shared_cells).layout()?;
        let memory = Heap::zeroed(layout.total);
        header::write(memory.cells().0, &layout, options);
        Some(Self::new(memory, layout))
    }
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// `memory` has at least the cells of `layout`.
    pub(crate) const fn new(memory: M, layout: Layout) -> Self {
        Self { memory, layout, payloads: PhantomData }
    }

    /// How many slots there are.
    #[inline]
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.layout.shape.capacity
    }

    /// True while the header in shared memory says what it said when this array was made or attached.
    /// Nothing here leans on it (sizes are private numbers); a manager asks in order to notice that
    /// somebody writes where he should not, and that nobody can attach any more.
    #[must_use]
    pub fn header_is_intact(&self) -> bool {
        header::is_intact(self.memory.cells().0, &self.layout)
    }

    /// Where the cells lie.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Cell number `number` of the layout.
    #[inline]
    pub(crate) fn cell(&self, number: usize) -> &AtomicU64 {
        // In range: callers compute `number` by the layout from an index below the capacity, and
        // that the memory has all cells of the layout is checked when it is made or attached.
        &self.memory.cells().0[number]
    }

    #[inline]
    pub(crate) fn word(&self, index: u32) -> &AtomicU64 {
        self.cell(self.layout.line(index, WORD))
    }

    pub(crate) fn payload_len(&self, index: u32) -> &AtomicU64 {
        self.cell(self.layout.line(index, PAYLOAD_LEN))
    }

    pub(crate) fn report_count(&self, index: u32) -> &AtomicU64 {
        self.cell(self.layout.line(index, REPORT_COUNT))
    }

    pub(crate) fn free_hints(&self) -> Hints<'_> {
        Hints::new(self.memory.cells().0, &self.layout.free)
    }

    pub(crate) fn changed_hints(&self) -> Hints<'_> {
        Hints::new(self.memory.cells().0, &self.layout.changed)
    }

    /// For models: a hint that may be wrong.
    #[cfg(loom)]
    #[doc(hidden)]
    pub fn hint_free(&self, index: u32) {
        self.free_hints().set(index);
    }

    #[inline]
    pub(crate) fn is_damaged(&self) -> bool {
        self.memory.check().is_err()
    }

    /// The word of slot `index` now; `None` outside the array. One acquire load.
    #[inline]
    #[must_use]
    pub fn snapshot(&self, index: u32) -> Option<Snapshot> {
        if index >= self.capacity() {
            return None;
        }
        Some(Snapshot::from_bits(load_acquire(self.word(index)))) // R1, pairs with W1
    }

    /// The word of the slot if it still belongs to the tenancy of `key`, whatever its state. One
    /// acquire load, wait-free.
    #[inline]
    #[must_use]
    pub fn look(&self, key: Key) -> Option<Snapshot> {
        self.snapshot(key.index).filter(|word| word.generation() == key.generation)
    }

    /// The slots that are reserved or published, each as it was when it was looked at. Looks at
    /// every slot.
    pub fn occupied(&self) -> impl Iterator<Item = (u32, Snapshot)> + '_ {
        (0..self.capacity())
            .filter_map(|index| Some((index, self.snapshot(index)?)))
            .filter(|(_, word)| matches!(word.state(), State::Reserved | State::Published))
    }

    /// How many slots are reserved or published. Looks at every slot.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // No more than the capacity, which is a u32.
        self.occupied().count() as u32
    }

    /// Claims a free slot for process `owner`: a single swap that already names it.
    ///
    /// Lock-free. Follows the hints, lowest slot first; only when they lead nowhere it looks at every
    /// slot, so `Full` is never said while a slot is free.
    ///
    /// # Errors
    /// [`ClaimError`]: all taken, read-only, or an owner that does not fit.
    pub fn claim(&self, owner: u32) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.claim_in(0..self.capacity(), owner)
    }

    /// As [`Slots::claim`], but only a slot of `range`: for classes of claimers of which none is to
    /// take the slots of another. `Full` counts that range alone.
    ///
    /// # Errors
    /// As [`Slots::claim`].
    pub fn claim_in(
        &self,
        range: Range<u32>,
        owner: u32,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.memory.writable_cells()?;
        if owner == 0 || owner > MAX_PID {
            return Err(ClaimError::BadOwner { owner, limit: MAX_PID });
        }
        let range = range.start.min(self.capacity())..range.end.min(self.capacity());
        let hinted = self.free_hints().find_in(range.clone(), |index| self.try_claim(index, owner));
        let claim = match hinted {
            Some(claim) => claim,
            None => self.claim_by_scan(range, owner)?,
        };
        // A file that was truncated in the meantime: the claim is one of private zeros.
        if self.is_damaged() {
            return Err(NotWritable::Damaged.into());
        }
        Ok(claim)
    }

    /// Looks at every slot: a process killed at the wrong moment may have left a free slot without
    /// its hint, and `Full` must be the truth.
    fn claim_by_scan(
        &self,
        range: Range<u32>,
        owner: u32,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        let mut in_use = 0;
        let capacity = range.end.saturating_sub(range.start);
        for index in range {
            let state = || self.snapshot(index).map(Snapshot::state);
            if state() == Some(State::Free) {
                if let Some(claim) = self.try_claim(index, owner) {
                    return Ok(claim);
                }
            }
            in_use += u32::from(matches!(state(), Some(State::Reserved | State::Published)));
        }
        Err(ClaimError::Full { capacity, in_use })
    }

    /// One try at slot `index`, which is below the capacity.
    fn try_claim(&self, index: u32, owner: u32) -> Option<Claim<'_, T, R, M>> {
        let cell = self.word(index);
        let seen = Snapshot::from_bits(cell.load(Ordering::Acquire));
        let Some(reserved) = seen.reserved_by(owner) else {
            if seen.state() == State::Free && seen.generation() == MAX_GENERATION {
                let retired = Snapshot::vacant(MAX_GENERATION).bits();
                let _ = swap(cell, seen, retired);
            }
            // A stale hint. Cleared, and looked at again: the slot may have been freed since.
            self.free_hints().clear(index);
            let now = Snapshot::from_bits(cell.load(Ordering::Acquire));
            if now.state() == State::Free {
                self.free_hints().set(index);
            }
            return None;
        };
        fault::point("claim:before_mark");
        self.changed_hints().set(index);
        fault::point("claim:before_swap");
        if !swap(cell, seen, reserved.bits()) {
            return None;
        }
        fault::point("claim:after_swap");
        payload::begin_writing(); // W2
        self.free_hints().clear(index);
        fault::point("claim:after_hint");
        Some(Claim { slots: self, index, word: reserved, published: false })
    }
}

/// One compare-and-swap of a whole word.
pub(crate) fn swap(cell: &AtomicU64, seen: Snapshot, new: u64) -> bool {
    cell.compare_exchange(seen.bits(), new, Ordering::AcqRel, Ordering::Acquire).is_ok() // W1
}

/// A slot that this process has claimed and not published yet. Dropped without that, it is given
/// back.
#[derive(Debug)]
pub struct Claim<'a, T: Pod, R: Pod, M: Memory> {
    pub(crate) slots: &'a Slots<T, R, M>,
    pub(crate) index: u32,
    word: Snapshot,
    published: bool,
}

impl<'a, T: Pod, R: Pod, M: Memory> Claim<'a, T, R, M> {
    /// The claim whose word has just been swapped into slot `index`.
    pub(crate) fn of_reserved(slots: &'a Slots<T, R, M>, index: u32, word: Snapshot) -> Self {
        payload::begin_writing(); // W2
        Self { slots, index, word, published: false }
    }
}

impl<T: Pod, R: Pod, M: Memory> Claim<'_, T, R, M> {
    /// Which tenancy of which slot this is.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key { index: self.index, generation: self.word.generation() }
    }

    /// Makes the slot readable, and the manager's. What was written before is visible to whoever
    /// sees the word. The manager is not woken: ring whatever bell there is.
    ///
    /// Flags beyond [`crate::MAX_FLAGS`] are left out.
    ///
    /// # Errors
    /// The slot was taken away meanwhile, or with it the whole file (see [`Memory::check`]).
    pub fn publish(mut self, flags: u8) -> Result<Key, ClaimLost> {
        let key = self.key();
        fault::point("publish:before_swap");
        let Some(published) = self.word.published(flags & crate::word::MAX_FLAGS) else {
            return Err(ClaimLost { key });
        };
        self.published = swap(self.slots.word(self.index), self.word, published.bits()); // W1
        fault::point("publish:after_swap");
        if self.published && !self.slots.is_damaged() { Ok(key) } else { Err(ClaimLost { key }) }
    }
}

impl<T: Pod, R: Pod, M: Memory> Drop for Claim<'_, T, R, M> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        fault::point("abandon:before_swap");
        let Some(freed) = self.word.freed() else { return };
        if swap(self.slots.word(self.index), self.word, freed.bits()) {
            // Killed here, the hint is missing: a claim that finds no other slot looks at them all.
            fault::point("abandon:before_hint");
            if freed.state() == State::Free {
                self.slots.free_hints().set(self.index);
            }
        }
    }
}
