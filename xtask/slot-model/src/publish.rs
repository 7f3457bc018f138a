//! What the postmaster may do next, and how it tells others of it.

use crate::state::{RegistrantAt, State, WaiterAt};
use crate::words::TERMINATE;
use shmem_slots::{Key, Snapshot};

/// An event that the postmaster may take up, or the next step of the one under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The doorbell rang.
    Bell,
    /// The worker in this slot is to be started.
    Start(usize),
    /// The worker in this slot is to end and has not been started.
    NeverStart(usize),
    /// The process of the worker in this slot has ended.
    SeeEnd(usize),
    /// This registrant, or behind them waiter, has gone.
    SeeGone(u8),
    /// All workers have ended after a crash.
    Reset,
    /// The alarm rang.
    Alarm,
    /// This spare may be woken by others from now on.
    Open(usize),
    /// This spare has been left alone long enough.
    Late(usize),
    /// This spare has ended.
    SpareEnded(usize),
    /// The worker in this slot is to be started in this spare.
    StartIn(usize, usize),
    /// A shutdown was asked for.
    Stop,
    /// The next step of the event under way.
    Go,
}

/// The marks as they are now: a cell of hints is read once.
pub(crate) fn marks(state: &State) -> u8 {
    let slots = state.slots.iter().enumerate();
    slots.filter(|(_, slot)| slot.changed).fold(0, |marks, (place, _)| marks | 1 << place)
}

/// One swap of the word of a listed slot, which keeps the bit that says whether somebody keeps it.
/// A flag that came in the meantime stands in the word before.
pub(crate) fn publish(
    state: &mut State,
    slot: usize,
    new: impl FnOnce(Key, bool) -> Option<Snapshot>,
) {
    let before = state.slots[slot].word;
    if let Some(entry) = &mut state.postmaster.list[slot] {
        if let Some(new) = new(entry.key, before.is_kept()) {
            state.slots[slot].word = new;
        }
        entry.terminate |= before.flags() & TERMINATE != 0;
    }
}

/// `FUTEX_WAKE` on the word of `slot`: all that sleep on it look again.
pub(crate) fn wake(state: &mut State, slot: usize) {
    for registrant in &mut state.registrants {
        let here = registrant.key.is_some_and(|key| key.index as usize == slot);
        if registrant.at == RegistrantAt::Asleep && here {
            registrant.at = RegistrantAt::Look;
        }
    }
    for place in 0..state.waiters.len() {
        let waiter = &state.waiters[place];
        let key = state.fate(waiter.job).ghost_key;
        if waiter.at == WaiterAt::Asleep && key.is_some_and(|key| key.index as usize == slot) {
            state.waiters[place].at = WaiterAt::Look;
        }
    }
}
