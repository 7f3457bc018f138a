//! Plain data in and out of a slot, never torn.
//!
//! A payload is copied word by word, by relaxed atomics. That it is immutable while published is not
//! enough: a slow reader may be overtaken by the slot's free and its next claim. So:
//!
//! | | writer (claimer) | reader |
//! |---|---|---|
//! | 1 | swaps the word to `Reserved`, next generation | loads the word (R1): its generation |
//! | 2 | release fence (W2) | copies |
//! | 3 | stores the payload | acquire fence (R2) |
//! | 4 | swaps the word to `Published` (W1) | loads the word again: must be the same generation |
//!
//! If a reader's copy holds anything that a later claimer stored in step 3, then its fence R2 pairs
//! with that claimer's fence W2, and the second load sees the claim's swap or something later: the
//! generation differs, and the copy is thrown away.
//!
//! Trailing words that are zero are neither stored nor copied: the length says how many words count.
//! It is clamped when it is read, since it is as untrusted as the rest.

use crate::error::{ClaimLost, ReadError};
use crate::fault;
use crate::layout::Shape;
use crate::memory::Memory;
use crate::primitive::{Ordering, fence};
use crate::slots::{Claim, Slots};
use crate::word::{Key, State};
use bytemuck::Pod;

/// The sizes of `T` and `R` in cells. Both are multiples of 8 bytes (checked when compiled).
pub(crate) const fn shape<T, R>(capacity: u32, shared_cells: u32) -> Shape {
    const {
        assert!(size_of::<T>() % 8 == 0, "the size of a payload must be a multiple of 8 bytes");
        assert!(size_of::<R>() % 8 == 0, "the size of a report must be a multiple of 8 bytes");
    }
    Shape {
        capacity,
        payload_cells: size_of::<T>() / 8,
        report_cells: size_of::<R>() / 8,
        shared_cells,
    }
}

/// After the swap of a claim, before the first store to its payload.
pub(crate) fn begin_writing() {
    fence(Ordering::Release); // W2, pairs with R2
}

/// The words of a value.
pub(crate) fn words<T: Pod>(value: &T) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
    let bytes: &[u8] = bytemuck::bytes_of(value);
    bytes.chunks_exact(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}

/// A value out of words; what is missing is zero.
pub(crate) fn from_words<T: Pod>(words: impl Iterator<Item = u64>) -> T {
    let mut value = T::zeroed();
    let chunks = bytemuck::bytes_of_mut(&mut value).chunks_exact_mut(8);
    for (chunk, word) in chunks.zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    value
}

impl<T: Pod, R: Pod, M: Memory> Claim<'_, T, R, M> {
    /// Writes the payload. May be called again before the slot is published.
    ///
    /// # Errors
    /// The slot was taken away meanwhile. (The store may then lie in a slot that is free or belongs
    /// to the next claimer of it; that one's own store, later, is what its readers see.)
    pub fn write(&mut self, value: &T) -> Result<(), ClaimLost> {
        let key = self.key();
        if self.slots.look(key).map(|word| word.state()) != Some(State::Reserved) {
            return Err(ClaimLost { key });
        }
        let used = words(value).rposition(|word| word != 0).map_or(0, |last| last + 1);
        let layout = &self.slots.layout;
        for (at, word) in words(value).take(used).enumerate() {
            let cell = layout.payload(self.index, at);
            self.slots.cell(cell).store(word, Ordering::Relaxed);
        }
        fault::point("claim:payload_written");
        self.slots.payload_len(self.index).store(used as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// A whole copy of the payload of `key`'s tenancy; also after it was freed, until the slot is
    /// claimed again.
    ///
    /// # Errors
    /// That tenancy is over, or ended during the copy.
    pub fn read(&self, key: Key) -> Result<T, ReadError> {
        let readable = || {
            let word = self.look(key)?;
            matches!(word.state(), State::Published | State::Free).then_some(())
        };
        if self.is_damaged() {
            return Err(ReadError::Damaged);
        }
        readable().ok_or(ReadError::Stale)?; // R1, pairs with W1
        let len = self.payload_len(key.index).load(Ordering::Relaxed);
        let all = self.layout.shape.payload_cells;
        let used = usize::try_from(len).map_or(all, |len| len.min(all));
        let copied = (0..used)
            .map(|at| self.cell(self.layout.payload(key.index, at)).load(Ordering::Relaxed));
        let value = from_words::<T>(copied);
        fence(Ordering::Acquire); // R2, pairs with W2
        let whole = readable();
        // The truncation may have come during the copy.
        if self.is_damaged() {
            return Err(ReadError::Damaged);
        }
        whole.map(|()| value).ok_or(ReadError::Stale)
    }
}
