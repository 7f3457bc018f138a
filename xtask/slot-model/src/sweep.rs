//! What the postmaster gives back: slots of the dead, and all slots in a reset.
//!
//! As in `shmem-slots/src/sweep.rs` and `reset.rs`.

use crate::config::{Broken, Config};
use crate::holds::{is_held, settle};
use crate::registrant::owner;
use crate::state::{PostmasterAt as At, State};
use shmem_slots::{Key, Snapshot, State as SlotState};

/// Of one slot: a claim of a dead registrant, or an end that it has not read.
pub(crate) fn sweep(config: &Config, state: &mut State, registrant: u8, slot: usize) {
    let waiter = usize::from(registrant).checked_sub(state.registrants.len());
    if let Some(waiter) = waiter.filter(|_| config.broken != Broken::HoldKeptForDead) {
        state.waiters[waiter].holds = false;
    }
    if state.slots[slot].ended {
        settle(state, slot);
    }
    if waiter.is_some() {
        return;
    }
    let mine = owner(registrant.into());
    let word = state.slots[slot].word;
    let key = Key { index: slot as u32, generation: word.generation() };
    let waited = Snapshot::ended(key.generation, 0).filter(|_| is_held(state, key));
    let shared = &mut state.slots[slot];
    if word.pid() != mine {
        return;
    }
    if let Some(vacant) = word.given_back().filter(|_| shared.changed) {
        shared.word = vacant;
        state.ghost_swept = true;
    }
    let ended = word.state() == SlotState::Ended && shared.ended;
    if ended && config.broken != Broken::EndKeptForDead {
        shared.word = waited.or(word.released()).unwrap_or(word);
    }
}

/// A compare and swap; when somebody changed the word since it was looked at, with the newer one.
/// An end that a living registrant has not read stays; a registration that the reset ends becomes
/// such an end.
pub(crate) fn reset(config: &Config, state: &mut State, slot: usize, seen: Snapshot) -> At {
    let before = state.slots[slot].word;
    if before != seen && config.broken != Broken::ResetStores {
        return At::ResetSwap { slot, seen: before };
    }
    let (payload, key) =
        (state.slots[slot].payload, Key { index: slot as u32, generation: seen.generation() });
    let unread = payload.filter(|job| {
        let here = state.postmaster.gone & 1 << job.registrant == 0;
        let kept = matches!(seen.state(), SlotState::Published | SlotState::Ended);
        here && kept && seen.is_kept()
    });
    let keeper = unread.filter(|_| config.broken != Broken::ResetFreesEnds);
    let keeper = keeper.map(|job| owner(job.registrant.into()));
    let stays = matches!(seen.state(), SlotState::Published | SlotState::Ended);
    let keeper = keeper.or_else(|| (stays && is_held(state, key)).then_some(0));
    let ended = keeper.and_then(|keeper| Snapshot::ended(key.generation, keeper));
    if seen.state() == SlotState::Published
        && let Some(job) = payload
    {
        let reports = &mut state.slots[slot].reports;
        *reports = [Some((key.generation, job)), reports[0]];
    }
    let frees = config.broken == Broken::ResetFreesClaims;
    let shared = &mut state.slots[slot];
    if let Some(ended) = ended {
        if seen.state() == SlotState::Published {
            state.postmaster.ends += 1;
            shared.ended_at = state.postmaster.ends;
        }
        shared.ended = true;
        shared.word = ended;
        return At::ResetWake { slot };
    }
    state.ghost_needless |= unread.is_some();
    let new = if frees { Snapshot::vacant(seen.generation() + 1) } else { seen.reset() };
    shared.word = new;
    shared.changed |= new.state() == SlotState::Revoked;
    // From now on claims count from here: no key may have this generation.
    state.ghost_reused |= new.generation() <= shared.ghost_newest;
    shared.ghost_newest = new.generation();
    for fate in state.fates.iter_mut().flatten() {
        let here = fate.ghost_key.filter(|key| key.index as usize == slot);
        fate.ghost_reset |= here.is_some_and(|key| key.generation == before.generation());
    }
    At::ResetWake { slot }
}
