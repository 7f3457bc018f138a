//! A slot's word, found once: for whoever asks about one slot again and again.
//!
//! [`Slots::snapshot`] finds the word by the slot's number each time: three loads and a check more than
//! the question itself. Here the address is kept, together with the array, whose mapping stays where
//! it is (I1).

use crate::cell::load_acquire;
use crate::primitive::AtomicU64;
use crate::region::Region;
use crate::slots::Slots;
use crate::word::Snapshot;
use bytemuck::Pod;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// A slot of an array in a region, to be looked at by one load.
pub struct PinnedSlot<T, R> {
    word: NonNull<AtomicU64>,
    slots: Arc<Slots<T, R, Region>>,
}

// SAFETY: the pointer is to an atomic in a mapping that `slots` keeps; the array itself is shared by
// reference only, and so must be `Sync` (and, since the last holder drops it, `Send`).
unsafe impl<T, R> Send for PinnedSlot<T, R> where Arc<Slots<T, R, Region>>: Send {}
// SAFETY: as above.
unsafe impl<T, R> Sync for PinnedSlot<T, R> where Arc<Slots<T, R, Region>>: Sync {}

impl<T: Pod, R: Pod> PinnedSlot<T, R> {
    /// Slot `index` of `slots`; `None` outside the array.
    #[must_use]
    pub fn new(slots: Arc<Slots<T, R, Region>>, index: u32) -> Option<Self> {
        let word = (index < slots.capacity()).then(|| NonNull::from(slots.word(index)))?;
        Some(Self { word, slots })
    }

    /// The slot's word as it is now: one acquire load, wait-free. Compare its generation with the key's.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        // SAFETY: found in `self.slots`, whose mapping does not move while it lives (I1), and
        // touched by atomic operations only (I2).
        let word = unsafe { self.word.as_ref() };
        Snapshot::from_bits(load_acquire(word)) // R1, pairs with W1
    }

    /// The array.
    #[must_use]
    pub const fn slots(&self) -> &Arc<Slots<T, R, Region>> {
        &self.slots
    }
}

impl<T, R> Clone for PinnedSlot<T, R> {
    fn clone(&self) -> Self {
        Self { word: self.word, slots: Arc::clone(&self.slots) }
    }
}

impl<T, R> fmt::Debug for PinnedSlot<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedSlot").finish_non_exhaustive()
    }
}
