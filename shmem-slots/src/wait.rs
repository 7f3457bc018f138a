//! Waiting for a slot to change.
//!
//! A waiter hands over the word that it saw. The kernel compares both halves with it before it puts
//! the waiter to sleep, the low half first, and every change wakes the low half.
//!
//! Why both halves: the low half alone could be the same again after the slot was freed and claimed
//! by others 16 times in between, and the waiter would sleep on a stranger's word. The generation
//! only grows. So if the high half, compared *after* the waiter was queued on the low half, is still
//! what was seen, then it was so when the low half was compared, too: at that moment the whole word
//! was the one seen, and every change since then wakes the queue.

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

    /// Sleeps until the word of slot `index` is no longer `seen`, or one of `also` has changed, or
    /// the deadline passes, or a signal handler ran.
    ///
    /// Woken are the waiters of a slot when its manager updates or frees it, and by
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
