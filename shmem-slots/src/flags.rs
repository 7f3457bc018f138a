//! Flags of a published slot, which any process may set.

use crate::error::FlagError;
use crate::fault;
use crate::futex;
use crate::memory::Memory;
use crate::slots::{Slots, swap};
use crate::word::{Key, MAX_FLAGS, Snapshot, State};
use bytemuck::Pod;
use crossbeam_utils::Backoff;

/// How often a flag is tried. A slot changes a few times in a tenancy; only corruption changes it
/// more often.
const TRIES: u32 = 64;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Adds `flags` to a published slot, if and only if it still belongs to the tenancy of `key`,
    /// and marks it as changed. Returns the word before.
    ///
    /// # Errors
    /// [`FlagError`]: the tenancy is over, or the region cannot be written.
    pub fn set_flags(&self, key: Key, flags: u8) -> Result<Snapshot, FlagError> {
        self.memory.writable_cells()?;
        let backoff = Backoff::new();
        for _ in 0..TRIES {
            let seen = self.look(key).ok_or(FlagError::Stale)?;
            let new = seen.with_flags(flags & MAX_FLAGS).ok_or(FlagError::Stale)?;
            fault::point("set_flags:before_swap");
            // The whole word is compared, so no flag ever lands on the slot's next tenant.
            if swap(self.word(key.index), seen, new.bits()) {
                fault::point("set_flags:before_mark");
                self.changed_hints().set(key.index);
                return Ok(seen);
            }
            backoff.spin();
        }
        Err(FlagError::Contended)
    }

    /// Marks a published slot as changed, though its word is as it was: the next
    /// [`Slots::drain_changes`] passes it. For news that lie elsewhere. The manager is not woken.
    ///
    /// # Errors
    /// As [`Slots::set_flags`].
    pub fn mark_changed(&self, key: Key) -> Result<(), FlagError> {
        self.memory.writable_cells()?;
        let word = self.look(key).filter(|word| word.state() == State::Published);
        word.ok_or(FlagError::Stale)?;
        self.changed_hints().set(key.index);
        Ok(())
    }

    /// Sets flags as [`Slots::set_flags`] does, and wakes the waiters of the slot.
    ///
    /// # Errors
    /// As [`Slots::set_flags`].
    pub fn set_flags_and_wake(&self, key: Key, flags: u8) -> Result<Snapshot, FlagError> {
        let before = self.set_flags(key, flags)?;
        futex::wake_all(self.word(key.index));
        Ok(before)
    }
}
