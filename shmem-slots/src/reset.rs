//! A reset: after a crash that puts the region in doubt, no key from before it is valid.
//!
//! A claim under way is revoked, not freed: its owner may be in the middle of a store. The slot is
//! free again once the owner has noticed that it can no longer publish (it drops the claim), or is
//! dead and swept. So nothing that a claim of before the reset stores can land in the payload of a
//! tenant of after it.
//!
//! Reports stay: they can still be read by their keys until later ones overwrite them.

use crate::claim::Claim;
use crate::error::ManageError;
use crate::futex;
use crate::memory::Memory;
use crate::primitive::Ordering;
use crate::slots::Slots;
use crate::word::{Key, Snapshot, State};
use bytemuck::Pod;

/// How often a reset tries to swap one word before it writes over it. Each further try needs a
/// change by another process in between; only corruption changes a slot this fast.
const SWAP_TRIES: u32 = 8;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Frees every slot with a new generation, so that every key from before is stale, and wakes all
    /// waiters. Looks at every slot. For the manager.
    ///
    /// A claim under way can no longer be published. Its slot becomes free when its owner drops the
    /// claim, or by [`Slots::sweep`] when the owner is dead. A slot that is claimed during the reset
    /// and published is a new tenancy, or is freed too.
    ///
    /// # Errors
    /// A region that cannot be written.
    pub fn reset_all(&self) -> Result<(), ManageError> {
        self.reset_all_but(0, |_| false, |_, _| ()).map(drop)
    }

    /// Resets as [`Slots::reset_all`] does, but claims the slots for which `keep` returns true for
    /// `owner` in the same swap, so that no other process gets them in between. These must be slots
    /// that the manager has taken in. One whose generations are used up is not among the claims.
    ///
    /// `gone` is called with each published word that was replaced. A flag that was set at the last
    /// moment is in that word; one set later is refused as stale.
    ///
    /// # Errors
    /// As [`Slots::reset_all`].
    pub fn reset_all_but(
        &self,
        owner: u32,
        mut keep: impl FnMut(u32) -> bool,
        mut gone: impl FnMut(Key, Snapshot),
    ) -> Result<Vec<Claim<'_, T, R, M>>, ManageError> {
        self.memory.writable_cells()?;
        self.changed_hints().clear_all();
        self.ended_hints().clear_all();
        let mut kept = Vec::new();
        for index in 0..self.capacity() {
            let owner = keep(index).then_some(owner);
            if owner.is_some() {
                // Marked before it is claimed, as every claim is: a sweep looks there.
                self.changed_hints().set(index);
            }
            let (before, after) = self.reset(index, owner);
            if before.state() == State::Published {
                gone(Key { index, generation: before.generation() }, before);
            }
            match after.state() {
                State::Revoked => self.changed_hints().set(index),
                State::Reserved => kept.push(Claim::of_reserved(self, index, after)),
                _ => {}
            }
            futex::wake_all(self.word(index));
        }
        self.free_hints().set_all();
        for claim in &kept {
            self.free_hints().clear(claim.index);
        }
        Ok(kept)
    }

    /// Resets slot `index`, or claims it for `owner`. Returns the word before and the word after.
    ///
    /// By compare and swap: a key that another process gets meanwhile has the generation of the word
    /// that the swap then fails on, and the next try goes beyond it.
    fn reset(&self, index: u32, owner: Option<u32>) -> (Snapshot, Snapshot) {
        let successor = |seen: Snapshot| {
            let vacant = Snapshot::vacant(seen.generation());
            owner.and_then(|owner| vacant.reserved_by(owner)).unwrap_or_else(|| seen.reset())
        };
        let cell = self.word(index);
        let mut seen = Snapshot::from_bits(cell.load(Ordering::Acquire));
        for _ in 0..SWAP_TRIES {
            let new = successor(seen);
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire); // W1
            match cell.compare_exchange(seen.bits(), new.bits(), success, failure) {
                Ok(_) => return (seen, new),
                Err(now) => seen = Snapshot::from_bits(now),
            }
        }
        let new = successor(seen);
        (Snapshot::from_bits(cell.swap(new.bits(), Ordering::AcqRel)), new) // W1
    }
}
