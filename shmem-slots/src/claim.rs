//! Claim and publish.
//!
//! Crash. A claimer killed between any two steps:
//!
//! | killed | leaves | found by |
//! |---|---|---|
//! | before the mark in `changed` | nothing | |
//! | after the mark, before the swap | a mark on a free slot | the slot's next tenant clears it |
//! | after the swap, before `publish` | `Reserved` with a dead owner, marked | `sweep` |
//! | after `publish` | a published slot, marked | `drain_changes`, as after any publication |
//!
//! A drain keeps the marks of slots that are free or reserved, so a mark set before the swap is
//! still there at each later step.
//!
//! Full. A claim first follows the hints. If they lead nowhere, it looks at every slot of its range
//! for a free one, and notes which of the ended ones ended first. Only when none is free it takes
//! that one: its report is the one that is overwritten. One that is *lasting* is never taken. A
//! claim costs a scan only in this case.

use crate::error::{ClaimError, ClaimLost, NotWritable};
use crate::fault;
use crate::keep::NEVER_TAKEN;
use crate::memory::Memory;
use crate::primitive::{Ordering, fence};
use crate::slots::{Slots, is_occupied, swap};
use crate::word::{Key, MAX_FLAGS, MAX_GENERATION, MAX_PID, Snapshot, State};
use bytemuck::Pod;
use std::ops::Range;

/// How often a claim looks at all slots. Each further look needs another process that took or
/// released the very slot that this one chose.
const SCANS: u32 = 8;

/// How often a claim that was revoked is given back. Each further try needs another reset.
const GIVE_BACK_TRIES: u32 = 8;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Claims a slot for process `owner`: a single swap that already names the owner.
    ///
    /// Lock-free. Takes the lowest free slot. When none is free, takes the one whose tenant ended
    /// first among those that are kept for their report (see [`Slots::release`]). `Full` means that
    /// every slot is reserved or published, or kept for good.
    ///
    /// # Errors
    /// [`ClaimError`]: full, not writable, or an owner that does not fit.
    pub fn claim(&self, owner: u32) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.claim_in(0..self.capacity(), owner)
    }

    /// Claims a slot as [`Slots::claim`] does, but only one of `range`, so that no class of
    /// claimers takes the slots of another. `Full` counts that range alone.
    ///
    /// # Errors
    /// As [`Slots::claim`].
    pub fn claim_in(
        &self,
        range: Range<u32>,
        owner: u32,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.claim_one([range], owner, true)
    }

    /// Claims a slot as [`Slots::claim_in`] does, of the first range, or else of the second: the
    /// lowest free one of the first, then of the second, then the one of both whose tenant ended
    /// first. `Full` counts both.
    ///
    /// # Errors
    /// As [`Slots::claim`].
    pub fn claim_in_either(
        &self,
        ranges: [Range<u32>; 2],
        owner: u32,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.claim_one(ranges, owner, true)
    }

    /// Claims a slot as [`Slots::claim_in`] does, but only a free one: no unread end gives way.
    ///
    /// # Errors
    /// As [`Slots::claim`]; `Full` also when slots are left that are kept for their report.
    pub fn claim_free_in(
        &self,
        range: Range<u32>,
        owner: u32,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.claim_one([range], owner, false)
    }

    /// Claims a slot as [`Slots::claim_in_either`] does, but only a free one.
    ///
    /// # Errors
    /// As [`Slots::claim_free_in`].
    pub fn claim_free_in_either(
        &self,
        ranges: [Range<u32>; 2],
        owner: u32,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.claim_one(ranges, owner, false)
    }

    fn claim_one<const N: usize>(
        &self,
        ranges: [Range<u32>; N],
        owner: u32,
        takes_ended: bool,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        self.memory.writable_cells()?;
        if owner == 0 || owner > MAX_PID {
            return Err(ClaimError::BadOwner { owner, limit: MAX_PID });
        }
        let all = self.capacity();
        let ranges = ranges.map(|range| range.start.min(all)..range.end.min(all));
        let hinted = ranges.iter().find_map(|range| {
            self.free_hints().find_in(range.clone(), |index| self.try_claim(index, owner))
        });
        let claim = match hinted {
            Some(claim) => claim,
            None => self.claim_by_scan(&ranges, owner, takes_ended)?,
        };
        // If the file was truncated meanwhile, the claim is one of private zeros.
        if self.is_damaged() {
            return Err(NotWritable::Damaged.into());
        }
        Ok(claim)
    }

    /// Out of line: most claims find a slot by its hint.
    #[cold]
    fn claim_by_scan(
        &self,
        ranges: &[Range<u32>],
        owner: u32,
        takes_ended: bool,
    ) -> Result<Claim<'_, T, R, M>, ClaimError> {
        let capacity = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        let mut in_use = 0;
        for _ in 0..SCANS {
            in_use = 0;
            let mut oldest: Option<(u64, u32, Snapshot)> = None;
            for index in ranges.iter().cloned().flatten() {
                let Some(seen) = self.snapshot(index) else { continue };
                match seen.state() {
                    State::Free => {
                        if let Some(claim) = self.try_claim(index, owner) {
                            return Ok(claim);
                        }
                    }
                    State::Ended if takes_ended && seen.generation() < MAX_GENERATION => {
                        let ended_at = self.ended_at(index).load(Ordering::Relaxed);
                        if ended_at == NEVER_TAKEN {
                            in_use += 1;
                        } else if oldest.is_none_or(|(first, ..)| ended_at < first) {
                            oldest = Some((ended_at, index, seen));
                        }
                    }
                    _ => {}
                }
                in_use += u32::from(self.snapshot(index).is_some_and(is_occupied));
            }
            let Some((_, index, seen)) = oldest else { break };
            if let Some(claim) = self.take(index, seen, owner) {
                return Ok(claim);
            }
        }
        Err(ClaimError::Full { capacity, in_use })
    }

    /// Tries slot `index`, which is below the capacity.
    fn try_claim(&self, index: u32, owner: u32) -> Option<Claim<'_, T, R, M>> {
        let seen = Snapshot::from_bits(self.word(index).load(Ordering::Acquire));
        if seen.state() == State::Free && seen.generation() < MAX_GENERATION {
            return self.take(index, seen, owner);
        }
        self.drop_hint(index, seen);
        None
    }

    /// Takes a stale hint back.
    #[cold]
    fn drop_hint(&self, index: u32, seen: Snapshot) {
        let cell = self.word(index);
        if seen.state() == State::Free {
            let _ = swap(cell, seen, Snapshot::vacant(MAX_GENERATION).bits());
        }
        // Cleared before the second look: the slot may have become free since.
        self.free_hints().clear(index);
        let now = Snapshot::from_bits(cell.load(Ordering::Acquire));
        if now.state() == State::Free {
            self.free_hints().set(index);
        }
    }

    /// Swaps the claim into a slot that is free or ended.
    fn take(&self, index: u32, seen: Snapshot, owner: u32) -> Option<Claim<'_, T, R, M>> {
        let reserved = seen.reserved_by(owner)?;
        fault::point("claim:before_mark");
        self.changed_hints().set(index);
        fault::point("claim:before_swap");
        if !swap(self.word(index), seen, reserved.bits()) {
            return None;
        }
        fault::point("claim:after_swap");
        fence(Ordering::Release); // W2, pairs with R2 in payload.rs
        self.free_hints().clear(index);
        fault::point("claim:after_hint");
        Some(Claim { slots: self, index, word: reserved, published: false })
    }
}

/// A slot that this process has claimed and not yet published. Dropping it gives the slot back.
#[derive(Debug)]
pub struct Claim<'a, T: Pod, R: Pod, M: Memory> {
    pub(crate) slots: &'a Slots<T, R, M>,
    pub(crate) index: u32,
    word: Snapshot,
    published: bool,
}

impl<'a, T: Pod, R: Pod, M: Memory> Claim<'a, T, R, M> {
    /// The claim whose word was just swapped into slot `index`.
    pub(crate) fn of_reserved(slots: &'a Slots<T, R, M>, index: u32, word: Snapshot) -> Self {
        fence(Ordering::Release); // W2, pairs with R2 in payload.rs
        Self { slots, index, word, published: false }
    }
}

impl<T: Pod, R: Pod, M: Memory> Claim<'_, T, R, M> {
    /// The tenancy that this claim begins.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key { index: self.index, generation: self.word.generation() }
    }

    /// Publishes the slot: it becomes readable, and the manager's. Whoever sees the word sees what
    /// was written before. The manager is not woken; that is up to the caller.
    ///
    /// Flags beyond [`MAX_FLAGS`] are left out.
    ///
    /// # Errors
    /// The slot was taken away meanwhile: swept, reset, or lost with its file.
    pub fn publish(self, flags: u8) -> Result<Key, ClaimLost> {
        self.publish_as(flags, false)
    }

    /// Publishes the slot as [`Claim::publish`] does, and keeps it: when its tenant has ended, the
    /// slot and its report stay until [`Slots::release`] is called with the returned key.
    ///
    /// # Errors
    /// As [`Claim::publish`].
    pub fn publish_kept(self, flags: u8) -> Result<Key, ClaimLost> {
        self.publish_as(flags, true)
    }

    /// Publishes the slot as [`Claim::publish_kept`] does. No claim takes it after its end before
    /// it is released, also when no other slot is left.
    ///
    /// # Errors
    /// As [`Claim::publish`].
    pub fn publish_lasting(self, flags: u8) -> Result<Key, ClaimLost> {
        self.slots.make_lasting(self.index);
        self.publish_as(flags, true)
    }

    /// Publishes the slot as [`Claim::publish_kept`] does, or [`Claim::publish_lasting`], and
    /// offers it: one process may take it by [`Slots::accept_offer`], until the manager withdraws
    /// the offer by [`Slots::withdraw_offer`] or writes the word itself.
    ///
    /// # Errors
    /// As [`Claim::publish`].
    pub fn offer(self, lasting: bool) -> Result<Key, ClaimLost> {
        if lasting {
            self.slots.make_lasting(self.index);
        }
        let word = self.word.offered();
        self.swap_in(word)
    }

    fn publish_as(self, flags: u8, kept: bool) -> Result<Key, ClaimLost> {
        let word = self.word.published(flags & MAX_FLAGS, kept);
        self.swap_in(word)
    }

    fn swap_in(mut self, published: Option<Snapshot>) -> Result<Key, ClaimLost> {
        let key = self.key();
        fault::point("publish:before_swap");
        let Some(published) = published else {
            return Err(ClaimLost { key });
        };
        self.published = swap(self.slots.word(self.index), self.word, published.bits()); // W1
        fault::point("publish:after_swap");
        if self.published && !self.slots.is_damaged() { Ok(key) } else { Err(ClaimLost { key }) }
    }
}

impl<T: Pod, R: Pod, M: Memory> Drop for Claim<'_, T, R, M> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        fault::point("abandon:before_swap");
        let mut mine = self.word;
        for _ in 0..GIVE_BACK_TRIES {
            let Some(vacant) = mine.given_back() else { return };
            if self.slots.vacate(self.index, mine, vacant) {
                return;
            }
            // Revoked by a reset: nobody else writes to this slot until it is given back here.
            let Some(now) = self.slots.snapshot(self.index) else { return };
            let revoked = now.state() == State::Revoked && now.pid() == self.word.pid();
            if !revoked || now.generation() < self.word.generation() {
                return;
            }
            mine = now;
        }
    }
}
