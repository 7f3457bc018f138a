//! No end is lost: a slot stays until its report was read.
//!
//! A claimer that wants to know how its tenant ends publishes the slot as *kept*. When the tenant
//! ends, a kept slot becomes `Ended` instead of `Free`: no claim takes it while any slot is free,
//! so the report stays however many other slots come and go. Whoever keeps it reads the report and
//! then releases the slot; it also releases it when it no longer wants to know, at any time.
//!
//! | the keeper | the slot |
//! |---|---|
//! | releases it before the end | becomes free at the end |
//! | reads the report, then releases it | becomes free at once |
//! | is dead at the end | becomes free at the end: the manager passes no keeper |
//! | dies after the end | becomes free by `sweep`, which finds ended slots by a hint tree |
//! | does none of these when a reset comes | stays ended through it (`reset.rs`) |
//! | does none of these | is taken by a claim that finds no free slot, the oldest end first |
//!
//! A *lasting* slot is not taken in the last case: the array is full instead. Whoever publishes it
//! so says it by a bit beside the payload's length, in the same line as the word.
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
use crate::primitive::Ordering;
use crate::slots::{Slots, swap};
use crate::word::{Key, Snapshot, State};
use bytemuck::Pod;

/// The bit in the cell of the payload's length that says that the slot is lasting.
pub(crate) const LASTING: u64 = 1 << 63;

/// The number of the end of a lasting slot: it is never the oldest.
pub(crate) const NEVER_TAKEN: u64 = u64::MAX;

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
            if seen.state() != State::Ended {
                if swap(self.word(key.index), seen, released.bits()) {
                    return true;
                }
                continue;
            }
            if seen.pid() == 0 {
                // It is not kept: waiters hold it, or did.
                self.settle(key);
                return false;
            }
            if self.give_up(key, seen, released) {
                return true;
            }
        }
        false
    }

    /// The tenant that is about to be published in slot `index` is lasting.
    pub(crate) fn make_lasting(&self, index: u32) {
        let cell = self.payload_len(index);
        cell.store(cell.load(Ordering::Relaxed) | LASTING, Ordering::Relaxed);
    }

    /// True if the tenant of slot `index` is lasting.
    pub(crate) fn is_lasting(&self, index: u32) -> bool {
        self.payload_len(index).load(Ordering::Relaxed) & LASTING != 0
    }

    /// Takes the keeper out of the ended word `seen`: the slot is `released`, unless waiters hold
    /// it. False when the slot did not hold `seen`.
    pub(crate) fn give_up(&self, key: Key, seen: Snapshot, released: Snapshot) -> bool {
        let waited = Snapshot::ended(key.generation, 0).filter(|_| self.is_held(key));
        let Some(waited) = waited else { return self.vacate(key.index, seen, released) };
        let done = swap(self.word(key.index), seen, waited.bits());
        // The last of them may have given it back before.
        self.settle(key);
        done
    }
}
