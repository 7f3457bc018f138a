//! Waiting for a slot to change.
//!
//! A waiter passes the word that it saw. The kernel compares both halves with it before it puts the
//! waiter to sleep, the low half first, and every change wakes the low half.
//!
//! Why both halves: the low half alone could be the same again after the slot was freed and claimed
//! eight times in between, and the waiter would sleep on another tenant's word. The generation only
//! grows. So if the high half, compared *after* the waiter was queued on the low half, is still as
//! seen, then it was so when the low half was compared: at that moment the whole word was the one
//! seen, and every change since then wakes the queue.
//!
//! A release of a kept slot before its end (`keep.rs`) is no change in this sense: it wakes nobody,
//! and at most makes a wait return without a reason.

use crate::cell::CellRef;
use crate::futex::{self, Half, WaitError, Watch, Woken};
use crate::memory::Memory;
use crate::slots::Slots;
use crate::word::Snapshot;
use bytemuck::Pod;
use std::time::Instant;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// The watches that end a wait when the word of slot `index` is no longer `seen`; none outside
    /// the array.
    pub fn watches(&self, index: u32, seen: Snapshot) -> impl Iterator<Item = Watch<'_>> {
        self.watch_pair(index, seen).into_iter().flatten()
    }

    fn watch_pair(&self, index: u32, seen: Snapshot) -> Option<[Watch<'_>; 2]> {
        let cell = (index < self.capacity()).then(|| CellRef(self.word(index)))?;
        Some([
            Watch { cell, half: Half::Low, seen: seen.low() },
            Watch { cell, half: Half::High, seen: seen.high() },
        ])
    }

    /// Sleeps until the word of slot `index` is no longer `seen`, one of `also` changes, the
    /// deadline passes, or a signal handler runs.
    ///
    /// The waiters of a slot are woken when its manager updates or ends it, and by
    /// [`Slots::set_flags_and_wake`]; a claim, a publication and [`Slots::set_flags`] wake nobody.
    /// The fact is written before the wake, so look again after each return. Works on a region that
    /// is attached read-only, too.
    ///
    /// # Errors
    /// [`WaitError`]: too many watches, or a kernel without `futex_waitv`.
    pub fn wait(
        &self,
        index: u32,
        seen: Snapshot,
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<Woken, WaitError> {
        let pair = self.watch_pair(index, seen);
        futex::wait_both(pair.as_ref().map_or(&[], |pair| pair), also, deadline)
    }
}
