//! A slot's word, found once: for whoever asks about one slot again and again.
//!
//! [`Slots::snapshot`] finds the word by the slot's index each time, which takes three loads and a
//! check more than the question itself. A pinned slot keeps the address, and the array with it.

use crate::cell::load_acquire;
use crate::region::Region;
use crate::slots::Slots;
use crate::sys::owned_ref::OwnedRef;
use crate::word::Snapshot;
use bytemuck::Pod;
use std::fmt;
use std::sync::Arc;

/// A slot of an array in a region, to be looked at by one load.
pub struct PinnedSlot<T, R> {
    word: OwnedRef<Slots<T, R, Region>>,
}

impl<T: Pod, R: Pod> PinnedSlot<T, R> {
    /// Slot `index` of `slots`; `None` outside the array.
    #[must_use]
    pub fn new(slots: Arc<Slots<T, R, Region>>, index: u32) -> Option<Self> {
        OwnedRef::new(slots, |slots| (index < slots.capacity()).then(|| slots.word(index)))
            .map(|word| Self { word })
    }

    /// The slot's word now: one load, wait-free. Compare its generation with the key's.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::from_bits(load_acquire(self.word.cell())) // R1, pairs with W1
    }

    /// The array.
    #[must_use]
    pub const fn slots(&self) -> &Arc<Slots<T, R, Region>> {
        self.word.owner()
    }
}

impl<T, R> Clone for PinnedSlot<T, R> {
    fn clone(&self) -> Self {
        Self { word: self.word.clone() }
    }
}

impl<T, R> fmt::Debug for PinnedSlot<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedSlot").finish_non_exhaustive()
    }
}
