//! The array: what it consists of, and looking at it.
//!
//! | who | may call |
//! |---|---|
//! | any process | `look`, `read`, `read_report`, `claim`, `set_flags`, `wait` |
//! | the claimer of a slot | `write`, `publish`; it drops the claim to give the slot back |
//! | whoever published a slot as kept, or stands in for it | `release` |
//! | whoever waits | `hold` |
//! | the manager (exactly one process) | `drain_changes`, `update`, `write_report`, `end`, `free`, `sweep`, `reset_each` |
//!
//! Ordering. (W1) `publish` and every other swap of a word is a release; (R1) a look is an acquire.
//! So whoever sees a word sees what was written before it. The pairs W2/R2 and W3/R3 keep payloads
//! and reports whole, see `payload.rs` and `report.rs`; H1 keeps hints findable, see `hints.rs`.

use crate::cell::load_acquire;
use crate::error::NotWritable;
use crate::fault;
use crate::format;
use crate::hints::Hints;
use crate::layout::{ENDED_AT, Layout, PAYLOAD_LEN, REPORT_COUNT, WORD};
use crate::memory::{Heap, Memory};
use crate::options::{Options, Shape};
use crate::primitive::{AtomicU64, Ordering};
use crate::word::{Key, Snapshot, State};
use bytemuck::Pod;
use std::marker::PhantomData;

/// An array of slots over cells of `M`. Each slot holds a request `T`, written by its claimer, and
/// a report `R`, written by the manager.
#[derive(Debug)]
pub struct Slots<T, R, M = crate::Region> {
    pub(crate) memory: M,
    pub(crate) layout: Layout,
    header: format::Said,
    payloads: PhantomData<fn() -> (T, R)>,
}

impl<T: Pod, R: Pod> Slots<T, R, Heap> {
    /// Creates slots in the private memory of this process.
    ///
    /// Returns `None` when the sizes are out of range.
    #[must_use]
    pub fn heap(options: &Options) -> Option<Self> {
        let layout = Shape::of::<T, R>(options).layout()?;
        let memory = Heap::zeroed(layout.total);
        format::write(memory.cells().0, &layout, options);
        Some(Self::new(memory, layout))
    }
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// `memory` has at least the cells of `layout`.
    pub(crate) fn new(memory: M, layout: Layout) -> Self {
        let header = format::said(memory.cells().0, &layout);
        Self { memory, layout, header, payloads: PhantomData }
    }

    /// How many slots there are.
    #[inline]
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.layout.shape.capacity
    }

    /// How many sets of slot cells there are: one for each slot, then the spare ones.
    #[must_use]
    pub const fn sets(&self) -> u32 {
        self.layout.shape.sets()
    }

    /// The memory that holds the cells.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns true while the header in shared memory says what it said when this array was created
    /// with `tag`, or attached.
    ///
    /// Nothing here depends on the header: sizes are kept privately. A manager checks it to notice
    /// that another process corrupts the region, and that no process can attach any more.
    #[must_use]
    pub fn header_is_intact(&self, tag: u64) -> bool {
        format::is_intact(self.memory.cells().0, &self.header, tag)
    }

    /// Writes the header again, and the end mark, so that processes can attach again. For the
    /// manager.
    ///
    /// # Errors
    /// A region that cannot be written.
    pub fn restore_header(&self, tag: u64) -> Result<(), NotWritable> {
        format::restore(self.memory.writable_cells()?, &self.layout, tag);
        Ok(())
    }

    /// The word of slot `index` now, or `None` outside the array. One load, wait-free.
    #[inline]
    #[must_use]
    pub fn snapshot(&self, index: u32) -> Option<Snapshot> {
        if index >= self.capacity() {
            return None;
        }
        Some(Snapshot::from_bits(load_acquire(self.word(index)))) // R1, pairs with W1
    }

    /// The word of the slot if it still belongs to the tenancy of `key`, whatever its state. One
    /// load, wait-free.
    #[inline]
    #[must_use]
    pub fn look(&self, key: Key) -> Option<Snapshot> {
        self.snapshot(key.index).filter(|word| word.generation() == key.generation)
    }

    /// The slots that are reserved, published, or revoked, each with its word. Looks at every slot.
    pub fn occupied(&self) -> impl Iterator<Item = (u32, Snapshot)> + '_ {
        (0..self.capacity())
            .filter_map(|index| Some((index, self.snapshot(index)?)))
            .filter(|(_, word)| is_occupied(*word))
    }

    /// How many slots are reserved, published, or revoked. Looks at every slot.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // At most the capacity, which is a u32.
        self.occupied().count() as u32
    }

    /// Cell `number` of the layout.
    #[inline]
    pub(crate) fn cell(&self, number: usize) -> &AtomicU64 {
        // In range: callers compute `number` by the layout from an index below the capacity, and
        // the memory was checked for all cells of the layout when it was created or attached.
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

    pub(crate) fn ended_at(&self, index: u32) -> &AtomicU64 {
        self.cell(self.layout.line(index, ENDED_AT))
    }

    pub(crate) fn free_hints(&self) -> Hints<'_> {
        Hints::new(self.memory.cells().0, &self.layout.free)
    }

    pub(crate) fn changed_hints(&self) -> Hints<'_> {
        Hints::new(self.memory.cells().0, &self.layout.changed)
    }

    pub(crate) fn ended_hints(&self) -> Hints<'_> {
        Hints::new(self.memory.cells().0, &self.layout.ended)
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

    /// Swaps a word in which the slot is vacant into slot `index`, and hints at it. False when the
    /// slot did not hold `seen`.
    pub(crate) fn vacate(&self, index: u32, seen: Snapshot, vacant: Snapshot) -> bool {
        let swapped = swap(self.word(index), seen, vacant.bits());
        if swapped && vacant.state() == State::Free {
            fault::point("vacate:before_hint");
            // A process killed before this line leaves a free slot without its hint: a claim that
            // finds no other slot looks at all of them.
            self.free_hints().set(index);
        }
        swapped
    }
}

/// True for a slot that no claim takes.
pub(crate) const fn is_occupied(word: Snapshot) -> bool {
    matches!(word.state(), State::Reserved | State::Published | State::Revoked)
}

/// Compares and swaps a whole word, once.
pub(crate) fn swap(cell: &AtomicU64, seen: Snapshot, new: u64) -> bool {
    cell.compare_exchange(seen.bits(), new, Ordering::AcqRel, Ordering::Acquire).is_ok() // W1
}
