//! The steps of a registrant: claim, publish, ring, wait, read the end, give the slot up.
//!
//! As in `shmem-slots/src/claim.rs` and `bgw-backend/src/backend.rs`. The hints of free slots are
//! left out: a claim may look at the slots in any order, which is more than any hints can make it
//! do.

use crate::config::{Broken, Config};
use crate::holds::is_held;
use crate::spare;
use crate::state::{Job, Registrant, RegistrantAt as At, State};
use crate::words::TERMINATE;
use shmem_slots::{Key, Snapshot, State as SlotState};

/// What a registrant may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The one next step of its program.
    Go,
    /// Looks whether this slot is free.
    LookAt(usize),
    /// Asks for the end of its worker.
    Terminate,
    /// Drops its handle unread.
    Drop,
    /// Gives its slot to this spare.
    Give(usize),
}

/// The owner number of registrant `place`: 0 is nobody.
pub(crate) fn owner(place: usize) -> u32 {
    place as u32 + 1
}

/// All steps that registrant `place` may take now.
pub(crate) fn steps(config: &Config, state: &State, place: usize, out: &mut Vec<Step>) {
    let me = &state.registrants[place];
    if !me.alive {
        return;
    }
    match me.at {
        At::Done | At::Asleep => {}
        At::Looking { looked, .. } => {
            out.extend((0..config.slots).filter(|slot| looked & 1 << slot == 0).map(Step::LookAt))
        }
        At::Give => out.extend((0..state.spares.len()).map(Step::Give)),
        At::Look => {
            let asks = config.terminates && !me.terminated;
            out.push(if asks { Step::Terminate } else { Step::Go });
            if config.drops {
                out.push(Step::Drop);
            }
        }
        _ => out.push(Step::Go),
    }
}

/// Takes one step.
pub(crate) fn take(config: &Config, state: &mut State, place: usize, step: Step) {
    match step {
        Step::LookAt(slot) => look_at(config, state, place, slot),
        Step::Terminate => terminate(state, place),
        Step::Drop => {
            release(state, place);
            next_job(config, state, place);
        }
        Step::Give(spare) => {
            let key = key(&state.registrants[place]);
            let given = spare::give(state, spare, key);
            at(state, place, if given { At::WakeSpare { spare } } else { At::Ring });
        }
        Step::Go => go(config, state, place),
    }
}

fn look_at(config: &Config, state: &mut State, place: usize, slot: usize) {
    let (word, ended_at) = (state.slots[slot].word, state.slots[slot].ended_at);
    let At::Looking { looked, mut oldest } = state.registrants[place].at else { return };
    let careless = config.broken == Broken::EndedIsFree && word.state() == SlotState::Ended;
    if word.state() == SlotState::Free || careless {
        return at(state, place, At::Mark { slot, seen: word });
    }
    if word.state() == SlotState::Ended && oldest.is_none_or(|(first, ..)| ended_at < first) {
        oldest = Some((ended_at, slot, word));
    }
    let looked = looked | 1 << slot;
    let all = looked == (1 << config.slots) - 1;
    match oldest {
        _ if !all => at(state, place, At::Looking { looked, oldest }),
        Some((_, slot, seen)) => at(state, place, At::Mark { slot, seen }),
        // `ClaimError::Full`: the program gives this registration up.
        None => next_job(config, state, place),
    }
}

fn go(config: &Config, state: &mut State, place: usize) {
    let late = config.broken == Broken::MarkAfterSwap;
    match state.registrants[place].at {
        At::Mark { slot, seen } => {
            state.slots[slot].changed |= !late;
            at(state, place, At::Swap { slot, seen });
        }
        At::Swap { slot, seen } => claim(config, state, place, slot, seen),
        At::MarkLate { slot, word } => {
            state.slots[slot].changed = true;
            at(state, place, At::Write { slot, word });
        }
        At::Write { slot, word } => {
            // Whatever the slot is by now: a claimer does not look before each store.
            let shared = &mut state.slots[slot];
            let mine = shared.word == word;
            let revoked =
                shared.word.state() == SlotState::Revoked && shared.word.pid() == owner(place);
            state.ghost_torn |= !mine && !revoked;
            shared.payload = Some(state.registrants[place].job);
            at(state, place, At::Publish { slot, word });
        }
        At::Publish { slot, word } => {
            let offers = config.spares > 0;
            let published = if offers { word.offered() } else { word.published(0, true) };
            let published = published.filter(|_| state.slots[slot].word == word);
            if let Some(published) = published {
                state.slots[slot].word = published;
                let key = Key { index: slot as u32, generation: word.generation() };
                state.registrants[place].key = Some(key);
                at(state, place, if offers { At::Alarm } else { At::Ring });
            } else {
                // `ClaimLost`: a reset came in between.
                at(state, place, At::GiveBack { slot, word });
            }
        }
        At::GiveBack { slot, word } => {
            let now = state.slots[slot].word;
            let revoked = now.state() == SlotState::Revoked && now.pid() == owner(place);
            match word.given_back() {
                Some(vacant) if now == word => {
                    state.slots[slot].word = vacant;
                    next_job(config, state, place);
                }
                _ if revoked => at(state, place, At::GiveBack { slot, word: now }),
                _ => next_job(config, state, place),
            }
        }
        At::Alarm => {
            state.alarm = true;
            at(state, place, At::Give);
        }
        At::WakeSpare { spare } => {
            spare::wake(state, spare);
            at(state, place, At::Look);
        }
        At::MarkTerminate => {
            let key = key(&state.registrants[place]);
            state.slots[key.index as usize].changed = true;
            at(state, place, At::Ring);
        }
        At::Ring => {
            state.bell = true;
            at(state, place, At::Look);
        }
        At::Look => {
            let next = look(state, key(&state.registrants[place]));
            at(state, place, next.map_or(At::Report, |seen| At::Sleep { seen }));
        }
        At::Sleep { seen } => {
            let now = state.slots[key(&state.registrants[place]).index as usize].word;
            let next = if !state.postmaster.alive {
                At::Done
            } else if now == seen {
                At::Asleep
            } else {
                At::Look
            };
            at(state, place, next);
        }
        At::Report => {
            let me = &state.registrants[place];
            let (key, job) = (key(me), me.job);
            let report = read_report(config, state, key);
            let fate = state.fate_mut(job);
            match report {
                Some(of) => {
                    fate.ghost_told = of == job;
                    state.ghost_wrong_report |= of != job;
                }
                None => fate.ghost_lost = !fate.ghost_overwritten,
            }
            at(state, place, At::Release);
        }
        At::Release => {
            release(state, place);
            next_job(config, state, place);
        }
        At::Looking { .. } | At::Give | At::Asleep | At::Done => {}
    }
}

/// The swap of a claim, and what the properties want to know of it.
fn claim(
    config: &Config,
    state: &mut State,
    place: usize,
    slot: usize,
    seen: shmem_slots::Snapshot,
) {
    let reserved = seen.reserved_by(owner(place)).filter(|_| state.slots[slot].word == seen);
    let Some(word) = reserved else {
        let me = &mut state.registrants[place];
        me.tries = me.tries.saturating_sub(1);
        if me.tries == 0 {
            return next_job(config, state, place);
        }
        me.at = At::Looking { looked: 0, oldest: None };
        return;
    };
    state.ghost_reused |= word.generation() <= state.slots[slot].ghost_newest;
    if seen.state() == SlotState::Ended {
        let all = (1 << config.slots) - 1;
        state.ghost_needless |= state.registrants[place].ghost_taken | 1 << slot != all;
        let old = Key { index: slot as u32, generation: seen.generation() };
        if let Some(fate) =
            state.fates.iter_mut().flatten().find(|fate| fate.ghost_key == Some(old))
        {
            fate.ghost_overwritten = true;
        }
    }
    state.slots[slot].word = word;
    state.slots[slot].ghost_newest = word.generation();
    let key = Key { index: slot as u32, generation: word.generation() };
    let job = state.registrants[place].job;
    state.fate_mut(job).ghost_key = Some(key);
    let late = config.broken == Broken::MarkAfterSwap;
    at(state, place, if late { At::MarkLate { slot, word } } else { At::Write { slot, word } });
}

fn terminate(state: &mut State, place: usize) {
    let key = key(&state.registrants[place]);
    let slot = &mut state.slots[key.index as usize];
    let same = slot.word.generation() == key.generation;
    let flagged = slot.word.with_flags(TERMINATE).filter(|_| same);
    let me = &mut state.registrants[place];
    me.terminated = true;
    if let Some(flagged) = flagged {
        slot.word = flagged;
        me.at = At::MarkTerminate;
    }
}

/// Before the end it says that nobody wants to know; after the end it frees the slot.
fn release(state: &mut State, place: usize) {
    let key = key(&state.registrants[place]);
    let held = is_held(state, key);
    let slot = &mut state.slots[key.index as usize];
    let released = slot.word.released().filter(|_| slot.word.generation() == key.generation);
    if let Some(released) = released {
        let ended = slot.word.state() == SlotState::Ended;
        let waited = Snapshot::ended(key.generation, 0).filter(|_| ended && held);
        slot.word = waited.unwrap_or(released);
    }
}

/// The word of a tenancy that has not ended; `None` when it has, or another one has the slot.
pub(crate) fn look(state: &State, key: Key) -> Option<shmem_slots::Snapshot> {
    let word = state.slots[key.index as usize].word;
    let runs = matches!(word.state(), SlotState::Reserved | SlotState::Published);
    (word.generation() == key.generation && runs).then_some(word)
}

/// The report on the tenancy of `key`, as `Slots::read_report` gives it.
pub(crate) fn read_report(config: &Config, state: &State, key: Key) -> Option<Job> {
    let any = config.broken == Broken::AnyReport;
    let reports = state.slots[key.index as usize].reports.iter().flatten();
    let mut right = reports.filter(|(generation, _)| *generation == key.generation || any);
    right.next().map(|(_, job)| *job)
}

fn key(me: &Registrant) -> Key {
    // A handle is there from its publication on, and these steps come later.
    me.key.unwrap_or(Key { index: 0, generation: u64::MAX })
}

fn at(state: &mut State, place: usize, at: At) {
    state.registrants[place].at = at;
}

fn next_job(config: &Config, state: &mut State, place: usize) {
    let is_last = place + 1 == state.registrants.len();
    let jobs = if config.one_runs && is_last { 1 } else { config.jobs };
    let me = &mut state.registrants[place];
    me.key = None;
    me.terminated = false;
    me.tries = config.tries;
    me.ghost_taken = 0;
    me.job.number += 1;
    if me.job.number < jobs {
        me.at = At::Looking { looked: 0, oldest: None };
    } else {
        // One value for all that are done.
        me.job.number = config.jobs;
        me.at = At::Done;
    }
}
