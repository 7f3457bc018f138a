//! Holds of waiters: who holds a slot, and when the last of them frees it.
//!
//! As in `shmem-slots/src/hold.rs`.

use crate::state::State;
use shmem_slots::{Key, State as SlotState};

/// True if a waiter holds the slot of `key`. Also a dead one, until it is swept.
pub(crate) fn is_held(state: &State, key: Key) -> bool {
    let held = |job| state.fate(job).ghost_key == Some(key);
    state.waiters.iter().any(|me| me.holds && held(me.job))
}

/// Frees `slot` if its tenant has ended and nobody keeps or holds it, as `Slots::settle` does.
pub(crate) fn settle(state: &mut State, slot: usize) {
    let word = state.slots[slot].word;
    let key = Key { index: slot as u32, generation: word.generation() };
    let over = word.state() == SlotState::Ended && word.pid() == 0;
    if over && !is_held(state, key) {
        state.slots[slot].word = word.released().unwrap_or(word);
    }
}
