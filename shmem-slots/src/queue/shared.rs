//! The queue in shared memory: its cells, and who has which side. See the head of `queue`.

use super::error::SideError;
use super::layout::{self, Layout, QueueOptions};
use super::side::{Side, SideState};
use crate::fault;
use crate::memory::{Heap, Memory};
use crate::primitive::{AtomicU64, Ordering};

/// A queue over cells of `M`.
#[derive(Debug)]
pub struct Queue<M = crate::Region> {
    pub(super) memory: M,
    pub(super) layout: Layout,
}

impl Queue<Heap> {
    /// Creates a queue in the private memory of this process, between threads.
    ///
    /// Returns `None` when the sizes are out of range.
    #[must_use]
    pub fn heap(options: &QueueOptions) -> Option<Self> {
        let layout = Layout::new(options.buffer, options.max_message)?;
        let memory = Heap::zeroed(layout.total());
        layout.write(memory.cells().0, options.tag);
        Some(Self { memory, layout })
    }
}

impl<M: Memory> Queue<M> {
    /// The memory that holds the cells.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Bytes of the buffer.
    #[must_use]
    pub const fn buffer(&self) -> usize {
        self.layout.words * 8
    }

    /// The longest message, in bytes.
    #[must_use]
    pub const fn max_message(&self) -> usize {
        self.layout.max_message
    }

    /// The state of a side.
    #[doc(alias = "shm_mq_get_sender")]
    #[doc(alias = "shm_mq_get_receiver")]
    #[must_use]
    pub fn side_state(&self, side: Side) -> SideState {
        SideState::of(self.state_cell(side).load(Ordering::Acquire)) // Q6, pairs with Q5
    }

    /// Gives `side` to process `owner`.
    pub(super) fn take(&self, side: Side, owner: u32) -> Result<(), SideError> {
        if owner == 0 {
            return Err(SideError::BadOwner);
        }
        // A swap: of two that come at once, one is refused. It orders nothing.
        let relaxed = Ordering::Relaxed;
        let swap = self.state_cell(side).compare_exchange(0, u64::from(owner), relaxed, relaxed);
        match swap.map_err(SideState::of) {
            Ok(_) => {
                fault::point("queue:attached");
                Ok(())
            }
            Err(SideState::Attached { owner }) => Err(SideError::Taken { side, owner }),
            // Vacant: bits that no side writes.
            Err(SideState::Detached | SideState::Vacant) => Err(SideError::Gone { side }),
        }
    }

    fn cell(&self, number: usize) -> &AtomicU64 {
        // In range: the numbers of the layout. The memory was checked for all its cells when it was
        // created or attached.
        &self.memory.cells().0[number]
    }

    pub(super) fn state_cell(&self, side: Side) -> &AtomicU64 {
        self.cell(match side {
            Side::Sender => layout::SENDER,
            Side::Receiver => layout::RECEIVER,
        })
    }

    pub(super) fn announcement(&self, side: Side) -> &AtomicU64 {
        self.cell(match side {
            Side::Sender => layout::SENDER + 1,
            Side::Receiver => layout::RECEIVER + 1,
        })
    }

    pub(super) fn position(&self, side: Side) -> &AtomicU64 {
        self.cell(match side {
            Side::Sender => layout::WRITTEN,
            Side::Receiver => layout::READ,
        })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // In range, as in `cell`.
        &self.memory.cells().0[layout::BUFFER..layout::BUFFER + self.layout.words]
    }
}
