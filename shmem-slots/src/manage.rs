//! What the manager does: exactly one process, which takes slots in and gives them back.
//!
//! Nothing here waits for anybody or tries again: each write to a word is one swap, and what stood
//! there before comes back, so that a flag that somebody set in the meantime is not lost.
//!
//! Order of `free`: the change mark first, while the slot is still published (after that it could be
//! a claimer's intent mark), then the word, then the hint that the slot is free, then the waiters.

use crate::error::{FlagError, ManageError};
use crate::fault;
use crate::futex;
use crate::memory::Memory;
use crate::primitive::Ordering;
use crate::slots::{Claim, Slots, swap};
use crate::word::{Key, MAX_FLAGS, MAX_GENERATION, Snapshot, State};
use bytemuck::Pod;
use crossbeam_utils::Backoff;

/// How often `set_flags` tries before it says that the slot changes without end. A slot changes a
/// few times in a tenancy; only a scribbler changes it more often.
const FLAG_TRIES: u32 = 64;

/// How often `reset_all` tries to free one slot.
const VACATE_TRIES: u32 = 8;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Calls `changed` for each published slot that changed since the last call: newly published, or
    /// given flags. Costs as much as has changed, not as many slots as there are.
    ///
    /// No change is lost: a slot that changes during the call is in this one or in the next. The
    /// word given is the one found after the mark was taken; it is as untrusted as all the region.
    /// Does nothing in a region that cannot be written.
    pub fn drain_changes(&self, mut changed: impl FnMut(u32, Snapshot)) {
        if self.memory.writable_cells().is_err() {
            return;
        }
        let hints = self.changed_hints();
        hints.find(|index| {
            match self.snapshot(index).map(Snapshot::state) {
                Some(State::Published) => {
                    hints.clear(index);
                    // Looked at after the mark was taken: whoever changes it later marks it again.
                    if let Some(word) = self.snapshot(index) {
                        changed(index, word);
                    }
                }
                Some(State::Retired) => hints.clear(index),
                // The mark of somebody who claims it, or of a claimer that died: `sweep` needs it.
                Some(State::Free | State::Reserved) | None => {}
            }
            None::<()>
        });
    }

    /// Writes pid and flags of a published slot and wakes its waiters. Returns the word before.
    ///
    /// # Errors
    /// [`ManageError::Corrupt`] when the slot did not hold a published word of this tenancy; the new
    /// word stands all the same.
    pub fn update(&self, key: Key, pid: u32, flags: u8) -> Result<Snapshot, ManageError> {
        let range = ManageError::OutOfRange { index: key.index };
        let new = Snapshot::manager(key.generation, pid, flags).ok_or(range)?;
        let before = self.replace(key, new)?;
        fault::point("update:before_wake");
        futex::wake_all(self.word(key.index));
        before
    }

    /// Frees a published slot and wakes its waiters. Returns the word before.
    ///
    /// # Errors
    /// As [`Slots::update`].
    pub fn free(&self, key: Key) -> Result<Snapshot, ManageError> {
        self.memory.writable_cells()?;
        if key.index < self.capacity() {
            fault::point("free:before_mark");
            self.changed_hints().clear(key.index);
        }
        let vacant = Snapshot::vacant(key.generation.min(MAX_GENERATION));
        fault::point("free:before_swap");
        let before = self.replace(key, vacant)?;
        fault::point("free:before_hint");
        if vacant.state() == State::Free {
            self.free_hints().set(key.index);
        }
        fault::point("free:before_wake");
        futex::wake_all(self.word(key.index));
        before
    }

    /// The outer error: nothing was written. The inner one: it was, over something strange.
    fn replace(
        &self,
        key: Key,
        new: Snapshot,
    ) -> Result<Result<Snapshot, ManageError>, ManageError> {
        let index = key.index;
        self.memory.writable_cells()?;
        if index >= self.capacity() {
            return Err(ManageError::OutOfRange { index });
        }
        let before = Snapshot::from_bits(self.word(index).swap(new.bits(), Ordering::AcqRel)); // W1
        let ours = before.state() == State::Published && before.generation() == key.generation;
        Ok(if ours { Ok(before) } else { Err(ManageError::Corrupt { index, found: before }) })
    }

    /// Adds `flags` to a published slot, if and only if it still belongs to the tenancy of `key`,
    /// and marks it as changed. For anybody. Returns the word before.
    ///
    /// # Errors
    /// [`FlagError`]: a tenancy that is over, a read-only region.
    pub fn set_flags(&self, key: Key, flags: u8) -> Result<Snapshot, FlagError> {
        self.memory.writable_cells()?;
        let backoff = Backoff::new();
        for _ in 0..FLAG_TRIES {
            let seen = self.look(key).ok_or(FlagError::Stale)?;
            let new = seen.with_flags(flags & MAX_FLAGS).ok_or(FlagError::Stale)?;
            fault::point("set_flags:before_swap");
            // The whole word is compared, so the flag can never land on the slot's next tenant.
            if swap(self.word(key.index), seen, new.bits()) {
                fault::point("set_flags:before_mark");
                self.changed_hints().set(key.index);
                return Ok(seen);
            }
            backoff.spin();
        }
        Err(FlagError::Contended)
    }

    /// As [`Slots::set_flags`], and wakes the waiters of the slot.
    ///
    /// # Errors
    /// As [`Slots::set_flags`].
    pub fn set_flags_and_wake(&self, key: Key, flags: u8) -> Result<Snapshot, FlagError> {
        let before = self.set_flags(key, flags)?;
        futex::wake_all(self.word(key.index));
        Ok(before)
    }

    /// Gives back the slots that dead owners have claimed and not published; says how many.
    /// `is_dead` gets the owner's number. Costs as much as there are claims under way.
    pub fn sweep(&self, mut is_dead: impl FnMut(u32) -> bool) -> usize {
        let mut swept = 0;
        if self.memory.writable_cells().is_err() || self.changed_hints().is_empty() {
            return swept;
        }
        self.changed_hints().find(|index| {
            let word = self.snapshot(index)?;
            if word.state() == State::Reserved && is_dead(word.pid()) {
                let freed = word.freed()?;
                fault::point("sweep:before_swap");
                if swap(self.word(index), word, freed.bits()) {
                    fault::point("sweep:before_hint");
                    if freed.state() == State::Free {
                        self.free_hints().set(index);
                    }
                    swept += 1;
                }
            }
            None::<()>
        });
        swept
    }

    /// After a crash that puts the region in doubt: frees every slot with a new generation, so that
    /// every key from before is stale, and wakes all waiters. Looks at every slot. Claims under way
    /// fail when they publish; a claim that comes in between and publishes is a new tenancy, or is
    /// freed too.
    ///
    /// # Errors
    /// A region that cannot be written.
    pub fn reset_all(&self) -> Result<(), ManageError> {
        self.reset_all_but(0, |_| false, |_, _| ()).map(drop)
    }

    /// As [`Slots::reset_all`], but slots of which `keep` says true are claimed for `owner` in the same
    /// swap, also with a new generation, so that nobody else gets them in between. One whose
    /// generations are used up is not among the claims.
    ///
    /// `gone` is called with each published word that was replaced: a flag that somebody set in the last
    /// moment stands in it, or was refused as stale.
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
        let mut kept = Vec::new();
        for index in 0..self.capacity() {
            let owner = keep(index).then_some(owner);
            if owner.is_some() {
                // Marked before it is claimed, as every claim is: a sweep looks there.
                self.changed_hints().set(index);
            }
            let word = self.vacate(index, owner, &mut gone);
            self.report_count(index).store(0, Ordering::Release);
            futex::wake_all(self.word(index));
            if word.state() == State::Reserved {
                kept.push(Claim::of_reserved(self, index, word));
            }
        }
        self.free_hints().set_all();
        for claim in &kept {
            self.free_hints().clear(claim.index);
        }
        Ok(kept)
    }

    /// Frees slot `index`, or claims it for `owner`, with a generation that no key so far has. A swap,
    /// not a store: if somebody claimed and published between the look and the swap, his key has the
    /// very generation that was about to be written, so another one is written. Bounded; each further
    /// try needs another claim in between. Returns what was written last.
    fn vacate(
        &self,
        index: u32,
        owner: Option<u32>,
        gone: &mut impl FnMut(Key, Snapshot),
    ) -> Snapshot {
        let word = self.word(index);
        let mut expected = Snapshot::from_bits(word.load(Ordering::Acquire));
        let mut newest = expected.generation();
        for _ in 0..VACATE_TRIES {
            let retired = expected.state() == State::Retired;
            let vacant = Snapshot::vacant(if retired { MAX_GENERATION } else { newest + 1 });
            let new = owner.and_then(|owner| vacant.reserved_by(owner)).unwrap_or(vacant);
            let before = Snapshot::from_bits(word.swap(new.bits(), Ordering::AcqRel)); // W1
            if before.state() == State::Published {
                gone(Key { index, generation: before.generation() }, before);
            }
            if before == expected {
                return new;
            }
            newest = new.generation().max(before.generation());
            expected = new;
        }
        expected
    }
}
