//! What the manager does with published slots: exactly one process, which takes them in, keeps them
//! up to date, and ends them.
//!
//! Nothing here waits for another process. Each write to a word is one swap and returns the word
//! before, so that a flag set meanwhile is not lost. A swap that fails is tried again; only
//! corruption makes it fail often, and then the manager writes over it.
//!
//! Order of an end: the change mark first, while the slot is still published (afterwards it could
//! be the mark of a new claim), then the word, then the hint that the slot is free, then the
//! waiters.

use crate::claim::Claim;
use crate::error::ManageError;
use crate::fault;
use crate::futex;
use crate::keep::NEVER_TAKEN;
use crate::layout::ENDS;
use crate::memory::Memory;
use crate::primitive::Ordering;
use crate::slots::Slots;
use crate::word::{Key, MAX_GENERATION, Snapshot, State};
use bytemuck::Pod;

/// How often the manager tries to swap a word before it writes over it. Each further try needs a
/// change by another process in between: flags, or a release.
const SWAP_TRIES: u32 = 8;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Calls `changed` for each published slot that has changed since the last call: published, or
    /// given flags. The cost depends on how many changed, not on how many slots there are.
    ///
    /// No change is lost: a slot that changes during the call is in this one or in the next. The
    /// word passed is the one found after the mark was taken; it is as untrusted as the whole
    /// region. Does nothing in a region that cannot be written.
    pub fn drain_changes(&self, mut changed: impl FnMut(u32, Snapshot)) {
        if self.memory.writable_cells().is_err() {
            return;
        }
        let hints = self.changed_hints();
        hints.find(|index| {
            match self.snapshot(index).map(Snapshot::state) {
                Some(State::Published) => {
                    hints.clear(index);
                    // Loaded after the mark was taken: any later change marks the slot again.
                    if let Some(word) = self.snapshot(index) {
                        changed(index, word);
                    }
                }
                Some(State::Retired) => hints.clear(index),
                // The mark of a claim under way, or of one whose owner died: `sweep` needs it.
                Some(State::Free | State::Ended | State::Reserved | State::Revoked) | None => {}
            }
            None::<()>
        });
    }

    /// Writes pid and flags of a published slot and wakes its waiters. Returns the word before.
    ///
    /// # Errors
    /// [`ManageError::Corrupt`] when the slot did not hold a published word of this tenancy. The
    /// new word is written nevertheless.
    pub fn update(&self, key: Key, pid: u32, flags: u8) -> Result<Snapshot, ManageError> {
        self.update_then(key, pid, flags, || {})
    }

    /// As [`Slots::update`]; calls `published` once the word is written, before it wakes anybody.
    ///
    /// # Errors
    /// As [`Slots::update`].
    pub fn update_then(
        &self,
        key: Key,
        pid: u32,
        flags: u8,
        published: impl FnOnce(),
    ) -> Result<Snapshot, ManageError> {
        let range = ManageError::OutOfRange { index: key.index };
        let unkept = Snapshot::managed(key.generation, pid, flags, false).ok_or(range)?;
        let kept = Snapshot::managed(key.generation, pid, flags, true).ok_or(range)?;
        self.check(key)?;
        let (before, _) = self.replace(key, unkept, kept);
        published();
        fault::point("update:before_wake");
        futex::wake_all(self.word(key.index));
        ours(key, before)
    }

    /// Frees a published slot, whether somebody keeps it or not, and wakes its waiters. Returns the
    /// word before.
    ///
    /// # Errors
    /// As [`Slots::update`].
    pub fn free(&self, key: Key) -> Result<Snapshot, ManageError> {
        self.free_then(key, || {})
    }

    fn free_then(&self, key: Key, published: impl FnOnce()) -> Result<Snapshot, ManageError> {
        self.check(key)?;
        let vacant = Snapshot::vacant(key.generation.min(MAX_GENERATION));
        self.unmark(key.index);
        let before = self.word(key.index).swap(vacant.bits(), Ordering::AcqRel); // W1
        self.announce_end(key.index, vacant, published);
        ours(key, Snapshot::from_bits(before))
    }

    /// Ends the tenancy of a published slot and wakes its waiters. Returns the word before.
    ///
    /// A slot that somebody keeps stays as [`State::Ended`] in the name of `keeper` (its pid, or 0
    /// when it is gone) until it is released; see [`Slots::release`]. One that waiters hold stays
    /// until they have given it back; see [`Slots::hold`]. Any other one becomes free. Write the
    /// report first.
    ///
    /// # Errors
    /// As [`Slots::update`].
    pub fn end(&self, key: Key, keeper: u32) -> Result<Snapshot, ManageError> {
        self.end_then(key, keeper, || {})
    }

    /// As [`Slots::end`]; calls `published` once the word is written, before it wakes anybody.
    ///
    /// # Errors
    /// As [`Slots::update`].
    pub fn end_then(
        &self,
        key: Key,
        keeper: u32,
        published: impl FnOnce(),
    ) -> Result<Snapshot, ManageError> {
        self.check(key)?;
        let range = ManageError::OutOfRange { index: key.index };
        let unkept = Snapshot::ended(key.generation, 0).ok_or(range)?;
        let kept = Snapshot::ended(key.generation, keeper).unwrap_or(unkept);
        // Both before the word: a claim compares the number, a sweep follows the hint.
        self.number_end(key.index);
        let is_kept = keeper != 0 && self.look(key).is_some_and(Snapshot::is_kept);
        if is_kept {
            self.ended_hints().set(key.index);
        }
        self.unmark(key.index);
        let (before, after) = self.replace(key, unkept, kept);
        fault::point("end:before_settle");
        if after.pid() == 0 && !self.settle(key) {
            self.ended_hints().set(key.index);
            // Whoever gave it back before the hint and was killed then.
            self.settle(key);
        }
        self.announce_end(key.index, after, published);
        ours(key, before)
    }

    /// Ends the tenancy of a published slot, kept or not, and claims the slot for `owner`, the
    /// manager itself, in the same swap: nobody can claim it in between. The report of the old
    /// tenancy stays until the new one's is written. Calls `published` once the word is written,
    /// then wakes the waiters.
    ///
    /// # Errors
    /// As [`Slots::update`], and the slot is free then. Also [`ManageError::OutOfRange`] if its
    /// generations are used up or `owner` is no pid; then nothing has changed.
    pub fn end_and_claim(
        &self,
        key: Key,
        owner: u32,
        published: impl FnOnce(),
    ) -> Result<Claim<'_, T, R, M>, ManageError> {
        self.check(key)?;
        let range = ManageError::OutOfRange { index: key.index };
        let fits = key.generation < MAX_GENERATION;
        let next = Snapshot::vacant(key.generation.min(MAX_GENERATION)).reserved_by(owner);
        let next = next.filter(|_| fits).ok_or(range)?;
        // A mark of the tenancy that ends stays: it leads to the next one, which is harmless.
        let before = self.word(key.index).swap(next.bits(), Ordering::AcqRel); // W1
        // Dropped, it frees the slot.
        let claim = Claim::of_reserved(self, key.index, next);
        self.announce_end(key.index, next, published);
        ours(key, Snapshot::from_bits(before))?;
        Ok(claim)
    }

    /// Writes down that the tenant of slot `index` ends after all others so far.
    pub(crate) fn number_end(&self, index: u32) {
        let ends = self.cell(ENDS);
        let number = ends.load(Ordering::Relaxed).wrapping_add(1);
        ends.store(number, Ordering::Relaxed);
        let number = if self.is_lasting(index) { NEVER_TAKEN } else { number };
        self.ended_at(index).store(number, Ordering::Relaxed);
    }

    fn check(&self, key: Key) -> Result<(), ManageError> {
        self.memory.writable_cells()?;
        if key.index >= self.capacity() {
            return Err(ManageError::OutOfRange { index: key.index });
        }
        Ok(())
    }

    fn unmark(&self, index: u32) {
        fault::point("free:before_mark");
        self.changed_hints().clear(index);
        fault::point("free:before_swap");
    }

    fn announce_end(&self, index: u32, word: Snapshot, published: impl FnOnce()) {
        fault::point("free:before_hint");
        if word.state() == State::Free {
            self.free_hints().set(index);
        }
        published();
        fault::point("free:before_wake");
        futex::wake_all(self.word(index));
    }

    /// Writes `kept` over a word of the tenancy of `key` that somebody keeps, else `unkept`.
    /// Returns the word before and the word written.
    fn replace(&self, key: Key, unkept: Snapshot, kept: Snapshot) -> (Snapshot, Snapshot) {
        let cell = self.word(key.index);
        let mut seen = Snapshot::from_bits(cell.load(Ordering::Relaxed));
        for _ in 0..SWAP_TRIES {
            let is_kept = ours(key, seen).is_ok_and(Snapshot::is_kept);
            let new = if is_kept { kept } else { unkept };
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed); // W1
            match cell.compare_exchange(seen.bits(), new.bits(), success, failure) {
                Ok(_) => return (seen, new),
                Err(now) => seen = Snapshot::from_bits(now),
            }
        }
        let before = Snapshot::from_bits(cell.swap(unkept.bits(), Ordering::AcqRel)); // W1
        (before, unkept)
    }
}

/// The word before, if the manager left it there.
fn ours(key: Key, before: Snapshot) -> Result<Snapshot, ManageError> {
    if before.state() == State::Published && before.generation() == key.generation {
        return Ok(before);
    }
    Err(ManageError::Corrupt { index: key.index, found: before })
}
