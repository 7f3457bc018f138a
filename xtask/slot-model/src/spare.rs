//! The steps of a spare that whoever registers wakes: look at its cell, begin, copy the slot,
//! accept the offer by one swap, or step back.
//!
//! As in `bgw-postmaster/src/child/taker.rs` and `sleep` in `child/mailbox.rs`. The cell and the
//! word of a spare are changed by `shmem_slots::taker` itself. The bits that say which spares
//! sleep are left out: a registrant may try any.

use crate::config::{Broken, Config};
use crate::publish;
use crate::state::{Job, Process, Spare, SpareAt as At, State};
use crate::words::{SPARE, STARTED};
use shmem_slots::taker::{TakerCell, TakerWord};
use shmem_slots::{Key, Snapshot, State as SlotState};
use std::sync::atomic::{AtomicU64, Ordering};

/// A spare that sleeps, and that nobody may wake yet.
pub(crate) const fn asleep() -> Spare {
    Spare {
        alive: true,
        stopped: false,
        at: At::Asleep,
        cell: 0,
        word: 0,
        copy: None,
        runs: None,
        mail: false,
        refused: None,
        listed: true,
        open: false,
        used: false,
        ghost_former: false,
        seen: None,
    }
}

/// Its process.
pub(crate) fn pid(place: usize) -> u32 {
    SPARE + place as u32
}

/// One access to the cell of a spare.
pub(crate) fn cell<R>(me: &mut Spare, access: impl FnOnce(TakerCell<'_>) -> R) -> R {
    let bits = AtomicU64::new(me.cell);
    let done = access(TakerCell::new(&bits));
    me.cell = bits.load(Ordering::Relaxed);
    done
}

/// One access to its word.
pub(crate) fn word<R>(me: &mut Spare, access: impl FnOnce(TakerWord<'_>) -> R) -> R {
    let bits = AtomicU64::new(me.word);
    let done = access(TakerWord::new(&bits));
    me.word = bits.load(Ordering::Relaxed);
    done
}

/// In a registrant: gives it the slot of `key`.
pub(crate) fn give(state: &mut State, place: usize, key: Key) -> bool {
    cell(&mut state.spares[place], |cell| cell.give(key))
}

/// `FUTEX_WAKE` on its cell, or on its mailbox.
pub(crate) fn wake(state: &mut State, place: usize) {
    let me = &mut state.spares[place];
    if me.at == At::Asleep {
        me.at = At::Look;
    }
}

/// Somebody writes what he likes.
pub(crate) fn scribble(state: &mut State, place: usize, key: Key) {
    cell(&mut state.spares[place], |cell| {
        cell.open();
        cell.give(key)
    });
    wake(state, place);
}

/// True when it has a step to take.
pub(crate) fn can_go(state: &State, place: usize) -> bool {
    let me = &state.spares[place];
    let waits = matches!(me.at, At::Asleep | At::Works | At::Over);
    me.alive && !me.stopped && state.postmaster.alive && !waits
}

/// True if the worker is no spare's, or that spare has come to its main.
pub(crate) fn may_end(state: &State, job: Job) -> bool {
    state.spares.iter().all(|me| me.runs != Some(job) || me.at == At::Works)
}

/// The worker of `job` has ended well.
pub(crate) fn ends(config: &Config, state: &mut State, job: Job) {
    let Some(place) = state.spares.iter().position(|me| me.runs == Some(job)) else { return };
    if !config.reuses {
        state.spares[place].alive = false;
        return;
    }
    state.spares[place].at = At::Over;
    // It tells the postmaster.
    if let Some(key) = state.fate(job).ghost_key {
        mark(state, key);
    }
    state.bell = true;
}

/// The process of `job` has ended.
pub(crate) fn dies_with(state: &mut State, job: Job) {
    for me in state.spares.iter_mut().filter(|me| me.runs == Some(job)) {
        me.alive = false;
    }
}

/// SIGKILL to a spare, and to its worker if it has one.
pub(crate) fn kill(state: &mut State, place: usize) {
    let me = &mut state.spares[place];
    me.alive = false;
    if let Some(job) = me.runs {
        let fate = state.fate_mut(job);
        if fate.process == Process::Running {
            fate.process = Process::Ended { crashed: false };
        }
    }
}

/// The postmaster has reaped the life of `job`: its process is a spare again, unless it has ended.
pub(crate) fn comes_back(state: &mut State, job: Job, stays: bool) {
    let Some(place) = state.spares.iter().position(|me| me.runs == Some(job)) else { return };
    let me = &mut state.spares[place];
    if stays && me.alive && me.at == At::Over {
        let cell = me.cell;
        *me = Spare { at: At::Look, cell, used: true, ..asleep() };
    } else {
        me.alive = false;
        me.runs = None;
    }
}

/// The slots begin anew: those that have had a worker may remember what lay there, and end.
pub(crate) fn end_used(config: &Config, state: &mut State) {
    for place in 0..state.spares.len() {
        let me = &mut state.spares[place];
        if me.used && me.listed {
            me.ghost_former = true;
            if config.broken != Broken::UsedOutliveReset {
                (me.alive, me.listed) = (false, false);
            }
        }
    }
}

/// Takes the next step.
pub(crate) fn go(config: &Config, state: &mut State, place: usize) {
    let me = &mut state.spares[place];
    let next = match me.at {
        At::Look | At::Sleep { .. } if me.mail => At::Works,
        At::Look => {
            let given = cell(me, |cell| cell.given());
            match given.filter(|_| me.refused != given) {
                Some(key) => At::Begin { key },
                None => At::Sleep { seen: me.cell },
            }
        }
        At::Sleep { seen } => {
            if me.cell == seen {
                At::Asleep
            } else {
                At::Look
            }
        }
        At::Begin { key } => {
            if word(me, |word| word.begin(key)) {
                At::Copy { key }
            } else {
                me.refused = Some(key);
                At::Look
            }
        }
        At::Copy { key } => copy(state, place, key),
        At::Accept { key } => accept(config, state, place, key),
        At::Run { key } => {
            word(me, |word| word.run(key));
            publish::wake(state, key.index as usize);
            At::Works
        }
        At::StepBack { key } => {
            word(me, |word| word.step_back(key));
            me.refused = Some(key);
            At::Mark { key }
        }
        At::Mark { key } => {
            mark(state, key);
            At::Ring
        }
        At::Ring => {
            state.bell = true;
            At::Look
        }
        At::Asleep | At::Works | At::Over => return,
    };
    state.spares[place].at = next;
}

fn mark(state: &mut State, key: Key) {
    let slot = &mut state.slots[key.index as usize];
    slot.changed |=
        slot.word.state() == SlotState::Published && slot.word.generation() == key.generation;
}

/// The description, if the slot still has that tenant.
fn copy(state: &mut State, place: usize, key: Key) -> At {
    let slot = &state.slots[key.index as usize];
    let there =
        slot.word.state() == SlotState::Published && slot.word.generation() == key.generation;
    let Some(job) = slot.payload.filter(|_| there) else { return At::StepBack { key } };
    state.spares[place].copy = Some(job);
    At::Accept { key }
}

/// One swap of the word as it was offered.
fn accept(config: &Config, state: &mut State, place: usize, key: Key) -> At {
    let shared = &mut state.slots[key.index as usize];
    let seen = shared.word;
    let same = seen.generation() == key.generation || config.broken == Broken::AcceptAnyTenant;
    let offered = seen.is_offered() && seen.flags() == 0;
    let stores = config.broken == Broken::AcceptStores && seen.state() == SlotState::Published;
    let new = Snapshot::managed(seen.generation(), pid(place), STARTED, seen.is_kept());
    let Some(new) = new.filter(|_| same && (offered || stores)) else {
        return At::StepBack { key };
    };
    shared.word = new;
    let tenant = Key { index: key.index, generation: seen.generation() };
    state.ghost_began_late |= state.ghost_closed;
    let me = &mut state.spares[place];
    state.ghost_remembers |= me.ghost_former;
    me.runs = me.copy.take();
    if let Some(job) = me.runs {
        let fate = state.fate_mut(job);
        fate.process = Process::Running;
        fate.ghost_starts += 1;
        let is_stranger = fate.ghost_key != Some(tenant);
        state.ghost_stranger |= is_stranger;
    }
    At::Run { key }
}
