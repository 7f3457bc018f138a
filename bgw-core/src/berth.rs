//! Where a run has its cells.

use crate::handle::WorkerHandle;

/// The cells of one process: its latch, its mark, what it says of itself and gives back. There is
/// one for each slot. They are apart from it, so that the next run of a worker can have its own
/// while the present one serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Berth {
    /// Which set of cells.
    pub index: u32,
    /// The run began beside one that serves. It says what it has to say in its cells alone, since
    /// the word of the slot is the other one's.
    pub beside: bool,
}

impl Berth {
    /// That of a worker whose runs have never overlapped.
    #[must_use]
    pub const fn own(handle: WorkerHandle) -> Self {
        Self { index: handle.slot(), beside: false }
    }
}
