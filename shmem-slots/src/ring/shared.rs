//! The ring in shared memory: its cells. See the head of `ring`.

use super::layout::{COUNT, Layout, RingOptions};
use crate::memory::{Heap, Memory};
use crate::primitive::AtomicU64;
use bytemuck::Pod;
use std::marker::PhantomData;

/// A ring of values of `T` over cells of `M`.
#[derive(Debug)]
pub struct Ring<T, M = crate::Region> {
    pub(super) memory: M,
    pub(super) layout: Layout,
    values: PhantomData<fn() -> T>,
}

impl<T: Pod> Ring<T, Heap> {
    /// Creates a ring in the private memory of this process, between threads.
    ///
    /// Returns `None` when the sizes are out of range.
    #[must_use]
    pub fn heap(options: &RingOptions) -> Option<Self> {
        let layout = Layout::new(options.entries, size_of::<T>())?;
        let memory = Heap::zeroed(layout.total());
        layout.write(memory.cells().0, options.tag);
        Some(Self::new(memory, layout))
    }
}

impl<T: Pod, M: Memory> Ring<T, M> {
    pub(super) const fn new(memory: M, layout: Layout) -> Self {
        Self { memory, layout, values: PhantomData }
    }

    /// How many values the ring keeps.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.layout.entries
    }

    /// The memory that holds the cells.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    pub(super) fn count_cell(&self) -> &AtomicU64 {
        // In range: the memory was checked for all its cells when it was created or attached.
        &self.memory.cells().0[COUNT]
    }

    /// The number and the value of the entry of value `number`.
    pub(super) fn entry(&self, number: u64) -> (&AtomicU64, &[AtomicU64]) {
        let first = self.layout.entry(number);
        // In range, as in `count_cell`.
        let cells = self.memory.cells().0;
        (&cells[first], &cells[first + 1..first + 1 + self.layout.value])
    }
}
