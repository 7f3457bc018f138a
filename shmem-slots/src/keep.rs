//! No end is lost: a slot stays until its report was read.
//!
//! A claimer that wants to know how its tenant ends publishes the slot as *kept*. When the tenant
//! ends, a kept slot becomes `Ended` instead of `Free`: no claim takes it while any slot is free, so
//! the report stays however many other slots come and go. Whoever keeps it reads the report and then
//! releases the slot; it also releases it when it no longer wants to know, at any time.
//!
//! | the keeper | the slot |
//! |---|---|
//! | releases it before the end | becomes free at the end |
//! | reads the report, then releases it | becomes free at once |
//! | is dead at the end | becomes free at the end: the manager passes no keeper |
//! | dies after the end | becomes free by `sweep`, which finds ended slots by a hint tree |
//! | does none of these | is taken by a claim that finds no free slot, the oldest end first |
//!
//! In the last case the report is lost in the end, and a reader is told so: `Overwritten`, which is
//! neither "no report yet" nor a report. The order of ends is a number that the manager writes into
//! the slot's line before the word.
//!
//! The mark is a bit of the slot's word, and each change of it is a swap of the whole word. So a
//! release and an end at the same time leave a free slot, whichever comes first: either the manager
//! sees the bit cleared, or the release sees an ended slot.

use crate::fault;
use crate::memory::Memory;
use crate::slots::{Slots, swap};
use crate::word::{Key, State};
use bytemuck::Pod;

/// How often a release is tried. Each further try needs another change of the slot meanwhile.
const TRIES: u32 = 64;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Stops keeping the slot of `key` (see [`Claim::publish_kept`](crate::Claim::publish_kept)).
    /// Returns true if it was kept until now.
    ///
    /// After the end of its tenant the slot becomes free at once, before it as soon as it ends.
    /// Harmless when the slot is not kept, or has another tenant, or cannot be written: returns
    /// false.
    pub fn release(&self, key: Key) -> bool {
        if self.memory.writable_cells().is_err() {
            return false;
        }
        for _ in 0..TRIES {
            let Some(seen) = self.look(key) else { return false };
            let Some(released) = seen.released() else { return false };
            fault::point("release:before_swap");
            let done = if seen.state() == State::Ended {
                self.vacate(key.index, seen, released)
            } else {
                swap(self.word(key.index), seen, released.bits())
            };
            if done {
                return true;
            }
        }
        false
    }
}
