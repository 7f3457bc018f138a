//! Plain data into a slot and out of it, never torn.
//!
//! A payload is copied word by word, by relaxed atomics. It does not change while it is published,
//! but a slow reader may be overtaken by the end of the tenancy and the next claim. So:
//!
//! | | writer (claimer) | reader |
//! |---|---|---|
//! | 1 | swaps the word to `Reserved`, next generation | loads the word (R1): its generation |
//! | 2 | release fence (W2) | copies |
//! | 3 | stores the payload | acquire fence (R2) |
//! | 4 | swaps the word to `Published` (W1) | loads the word again: same generation, or the copy is void |
//!
//! If a copy contains anything that a later claimer stored in step 3, then the reader's fence R2
//! pairs with that claimer's fence W2, and the second load sees the claim's swap or something
//! later. The generation differs, and the copy is thrown away.
//!
//! A slow writer is never overtaken. A slot that is reserved becomes free in two ways only: its
//! owner gives it back, or its owner is dead. A reset *revokes* the slot instead: the claimer can
//! no longer publish it, and no other process can claim it before the claimer has noticed (its
//! `Claim` is dropped) or is dead (`sweep`). So no store of a claim ever lands in the payload of
//! another tenant.
//!
//! Trailing words that are zero are neither stored nor copied: the length says how many words
//! count. It is as untrusted as the rest, and clamped when it is read.

use crate::claim::Claim;
use crate::error::{ClaimLost, ReadError};
use crate::fault;
use crate::keep::LASTING;
use crate::memory::Memory;
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::slots::Slots;
use crate::word::{Key, State};
use crate::words;
use bytemuck::Pod;

impl<T: Pod, R: Pod, M: Memory> Claim<'_, T, R, M> {
    /// Writes the payload. May be called again before the slot is published.
    ///
    /// # Errors
    /// The slot was taken away: swept, or reset.
    pub fn write(&mut self, value: &T) -> Result<(), ClaimLost> {
        let key = self.key();
        if self.slots.look(key).map(|word| word.state()) != Some(State::Reserved) {
            return Err(ClaimLost { key });
        }
        let bytes = bytemuck::bytes_of(value);
        let used = words::used(bytes);
        let (head, tail) = self.slots.payload_cells(self.index);
        let (first, rest) = bytes.split_at((used * 8).min(head.len() * 8));
        words::store(head, first);
        words::store(tail, rest.get(..(used * 8).saturating_sub(first.len())).unwrap_or(&[]));
        fault::point("claim:payload_written");
        self.slots.payload_len(self.index).store(used as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// The cells of a payload: its head, and its tail.
    fn payload_cells(&self, index: u32) -> (&[AtomicU64], &[AtomicU64]) {
        let (head, tail) = (self.layout.head(index), self.layout.tail(index));
        // In range, as in `cell`.
        (&self.memory.cells().0[head], &self.memory.cells().0[tail])
    }

    /// Copies the payload of the tenancy of `key`. It can be read until the slot is claimed again,
    /// also after the tenant has ended.
    ///
    /// # Errors
    /// The tenancy has not begun, is over, or was overtaken during the copy; a damaged region.
    pub fn read(&self, key: Key) -> Result<T, ReadError> {
        let mut value = T::zeroed();
        self.read_into(key, &mut value).map(|()| value)
    }

    /// The same into a place of the caller's, for large payloads. After an error it holds nothing
    /// of use.
    ///
    /// # Errors
    /// As [`Slots::read`].
    pub fn read_into(&self, key: Key, value: &mut T) -> Result<(), ReadError> {
        let readable = || {
            let word = self.look(key)?;
            matches!(word.state(), State::Published | State::Free | State::Ended).then_some(())
        };
        if self.is_damaged() {
            return Err(ReadError::Damaged);
        }
        readable().ok_or(ReadError::Stale)?; // R1, pairs with W1
        let len = self.payload_len(key.index).load(Ordering::Relaxed) & !LASTING;
        let all = self.layout.shape.payload_cells;
        let used = usize::try_from(len).map_or(all, |len| len.min(all));
        *value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(value);
        let (head, tail) = self.payload_cells(key.index);
        let (first, rest) = bytes.split_at_mut((used * 8).min(head.len() * 8));
        words::load(head, first);
        words::load(
            tail,
            rest.get_mut(..(used * 8).saturating_sub(first.len())).unwrap_or_default(),
        );
        fence(Ordering::Acquire); // R2, pairs with W2
        let whole = readable();
        // The truncation may have happened during the copy.
        if self.is_damaged() {
            return Err(ReadError::Damaged);
        }
        whole.ok_or(ReadError::Stale)
    }
}
