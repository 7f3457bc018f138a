//! A reset: after a crash that puts the region in doubt, no key from before it is valid.
//!
//! A claim under way is revoked, not freed: its owner may be in the middle of a store. The slot is
//! free again once the owner has noticed that it can no longer publish (it drops the claim), or is
//! dead and swept. So nothing that a claim of before the reset stores can land in the payload of a
//! tenant of after it.
//!
//! Reports stay: they can still be read by their keys until later ones overwrite them. Those that
//! the manager has set aside for tenants that the reset ends stay until the next reset
//! ([`Slots::set_report_aside`]). And no end is lost: the slot of a tenant that somebody keeps
//! stays through any number of resets, as an ended one, until its report was read
//! ([`After::Ended`]).

use crate::claim::Claim;
use crate::error::ManageError;
use crate::futex;
use crate::memory::Memory;
use crate::primitive::Ordering;
use crate::slots::Slots;
use crate::word::{MAX_GENERATION, Snapshot, State};
use bytemuck::Pod;

/// How often a reset tries to swap one word before it writes over it. Each further try needs a
/// change by another process in between; only corruption changes a slot this fast.
const SWAP_TRIES: u32 = 8;

/// What a reset makes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Free, with a generation that no key has. A claim under way is revoked instead.
    Free,
    /// Claimed for the manager in the same swap, so that no other process gets it in between.
    Claimed,
    /// If its tenant is kept: ended, in the name of this keeper (its pid), until it is released. If
    /// that is 0: ended, until no waiter holds it. Otherwise free.
    Ended(u32),
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Frees every slot with a new generation, so that every key from before is stale, and wakes
    /// all waiters. Looks at every slot. For the manager.
    ///
    /// A claim under way can no longer be published. Its slot becomes free when its owner drops the
    /// claim, or by [`Slots::sweep`] when the owner is dead. A slot that is claimed during the
    /// reset and published is a new tenancy, or is freed too.
    ///
    /// # Errors
    /// A region that cannot be written.
    pub fn reset_all(&self) -> Result<(), ManageError> {
        self.reset_each(0, |_, _| After::Free).map(drop)?;
        self.wake_all();
        Ok(())
    }

    /// Resets each slot to what `after` says, and returns the claims for `owner` among them. Only
    /// slots that the manager has taken in or claimed before may be claimed. A slot whose
    /// generations are used up is not among the claims.
    ///
    /// `after` is called with the index and the word of each slot before the word is replaced, and
    /// again if the word changes first. A flag that was set at the last moment is in that word; a
    /// later one is refused as stale. So what `after` writes is visible before anyone finds the
    /// tenancy over.
    ///
    /// Wakes nobody: call [`Slots::wake_all`] when what waiters look for is there.
    ///
    /// # Errors
    /// As [`Slots::reset_all`].
    pub fn reset_each(
        &self,
        owner: u32,
        mut after: impl FnMut(u32, Snapshot) -> After,
    ) -> Result<Vec<Claim<'_, T, R, M>>, ManageError> {
        self.memory.writable_cells()?;
        self.changed_hints().clear_all();
        self.ended_hints().clear_all();
        let mut claims = Vec::new();
        for index in 0..self.capacity() {
            let word = self.reset(index, owner, |seen| after(index, seen));
            match word.state() {
                State::Revoked => self.changed_hints().set(index),
                State::Reserved => claims.push(Claim::of_reserved(self, index, word)),
                _ => {}
            }
        }
        self.free_hints().set_all();
        for claim in &claims {
            self.free_hints().clear(claim.index);
        }
        Ok(claims)
    }

    /// Frees every retired slot, as if its last tenant had had `generation`. Returns how many. For
    /// the manager: a process that scribbles can retire any slot, and no reset alone brings it
    /// back.
    ///
    /// A key of before may name a later tenant of such a slot. So call this only after a reset, and
    /// only if whoever holds a key can tell by something else that it is from before the reset, an
    /// incarnation number say. Slots are not revived if `generation` is the last one or beyond.
    ///
    /// # Errors
    /// A region that cannot be written.
    pub fn revive_all(&self, generation: u64) -> Result<u32, ManageError> {
        self.memory.writable_cells()?;
        let mut count = 0;
        for index in 0..self.capacity() {
            let cell = self.word(index);
            let seen = Snapshot::from_bits(cell.load(Ordering::Acquire));
            let Some(new) = seen.revived(generation) else { continue };
            self.drop_report_set_aside_after(index, generation);
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire); // W1
            if cell.compare_exchange(seen.bits(), new.bits(), success, failure).is_ok() {
                // Who found it retired has cleared the hint.
                self.free_hints().set(index);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Wakes the waiters of every slot. For the manager, after a reset.
    pub fn wake_all(&self) {
        for index in 0..self.capacity() {
            futex::wake_all(self.word(index));
        }
    }

    /// Resets slot `index`, as `after` says. Returns the word after. Calls `after` with each word
    /// that it is about to replace.
    ///
    /// By compare and swap: a key that another process gets meanwhile has the generation of the
    /// word that the swap then fails on, and the next try goes beyond it.
    fn reset(&self, index: u32, owner: u32, mut after: impl FnMut(Snapshot) -> After) -> Snapshot {
        let cell = self.word(index);
        let mut seen = Snapshot::from_bits(cell.load(Ordering::Acquire));
        for _ in 0..SWAP_TRIES {
            let new = self.successor(index, owner, seen, after(seen));
            self.drop_report_set_aside_after(index, seen.generation());
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire); // W1
            match cell.compare_exchange(seen.bits(), new.bits(), success, failure) {
                Ok(_) => return new,
                Err(now) => seen = Snapshot::from_bits(now),
            }
        }
        let new = self.successor(index, owner, seen, after(seen));
        cell.store(new.bits(), Ordering::Release); // W1
        new
    }

    /// The word that takes the place of `seen`. Marks the slot before it, as a claim and an end do.
    fn successor(&self, index: u32, owner: u32, seen: Snapshot, after: After) -> Snapshot {
        match after {
            After::Free => seen.reset(),
            After::Claimed => {
                self.changed_hints().set(index);
                let vacant = Snapshot::vacant(seen.generation());
                vacant.reserved_by(owner).unwrap_or_else(|| seen.reset())
            }
            After::Ended(keeper) => {
                let ended = Snapshot::ended(seen.generation(), keeper);
                let is_kept = match seen.state() {
                    State::Published => seen.is_kept() || keeper == 0,
                    State::Ended => true,
                    _ => false,
                };
                match ended.filter(|ended| is_kept && ended.generation() < MAX_GENERATION) {
                    Some(ended) => {
                        if seen.state() == State::Published {
                            self.number_end(index);
                        }
                        self.ended_hints().set(index);
                        ended
                    }
                    None => seen.reset(),
                }
            }
        }
    }
}
