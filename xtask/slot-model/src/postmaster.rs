//! The steps of the postmaster: take changed slots in, start, report ends, sweep, reset.
//!
//! As in `shmem-slots/src/manage.rs` and in bgw-postmaster. It handles one event at a time, in any
//! order, and takes each step of it in turn while the others go on.

use crate::config::{Broken, Config};
use crate::holds::settle;
use crate::publish::{Step, publish, wake};
use crate::registrant::owner;
use crate::state::{Entry, PostmasterAt as At, Process, State, Then};
use crate::sweep::{reset, sweep};
use crate::takers::drained;
use crate::words::{FORKED, STARTED, TERMINATE};
use crate::{spare, takers};
use shmem_slots::{Key, Snapshot, State as SlotState};

/// All steps that the postmaster may take now.
pub(crate) fn steps(config: &Config, state: &State, out: &mut Vec<Step>) {
    let me = &state.postmaster;
    if !me.alive {
        return;
    }
    if me.at != At::Idle {
        return out.push(Step::Go);
    }
    if state.bell {
        out.push(Step::Bell);
    }
    for (slot, entry) in me.list.iter().enumerate() {
        let Some(entry) = entry else { continue };
        let ended = matches!(state.fate(entry.job).process, Process::Ended { .. });
        if entry.started && ended {
            out.push(Step::SeeEnd(slot));
        } else if !entry.started && entry.terminate {
            out.push(Step::NeverStart(slot));
        } else if !entry.started && !me.resetting {
            out.push(Step::Start(slot));
            // Of several, the sizes are about what these take by themselves.
            let one = (0..state.spares.len()).filter(|_| state.spares.len() == 1);
            let spares = one.filter(|&place| may_start_in(state, place));
            out.extend(spares.map(|place| Step::StartIn(slot, place)));
        }
    }
    takers::steps(config, state, out);
    let registrants = state.registrants.iter().map(|me| me.alive);
    let alive = registrants.chain(state.waiters.iter().map(|me| me.alive));
    for (place, alive) in alive.enumerate() {
        if !alive && me.gone & 1 << place == 0 {
            out.push(Step::SeeGone(place as u8));
        }
    }
    let running = me.list.iter().flatten().any(|entry| entry.started);
    if me.resetting && !running {
        out.push(Step::Reset);
    }
}

/// A spare that has begun nothing: one that has would be passed over.
fn may_start_in(state: &State, place: usize) -> bool {
    let mut me = state.spares[place].clone();
    me.listed && spare::word(&mut me, |word| word.look().key()).is_none()
}

/// Takes one step.
pub(crate) fn take(config: &Config, state: &mut State, step: Step) {
    let next = match step {
        Step::Bell => {
            state.bell = false;
            takers::look(state, Then::Drain)
        }
        Step::Start(slot) => {
            let Some(entry) = &mut state.postmaster.list[slot] else { return };
            entry.started = true;
            let job = entry.job;
            let fate = state.fate_mut(job);
            fate.process = Process::Running;
            fate.ghost_starts += 1;
            At::Started { slot }
        }
        Step::SeeEnd(slot) if crashed(state, slot) => {
            takers::close(config, state, Then::Crashed { slot })
        }
        Step::NeverStart(slot) | Step::SeeEnd(slot) => At::EndReport { slot },
        Step::SeeGone(registrant) => {
            state.postmaster.gone |= 1 << registrant;
            At::Sweep { registrant, slot: 0 }
        }
        Step::Reset => At::ResetBegin,
        Step::Go => go(config, state),
        _ => takers::take(config, state, step),
    };
    state.postmaster.at = next;
}

fn go(config: &Config, state: &mut State) -> At {
    match state.postmaster.at {
        At::Idle => At::Idle,
        At::Drain { marks } => drain(config, state, marks),
        At::Drained { marks, slot, seen } => {
            let mut word = state.slots[slot].word;
            if config.broken == Broken::MarkClearedLast {
                state.slots[slot].changed = false;
                word = seen;
            }
            let key = Key { index: slot as u32, generation: word.generation() };
            let is_new = word.state() == SlotState::Published && !is_listed(config, state, key);
            // It may be offered, or have been accepted.
            if is_new && word.pid() != 0 && takers::is_given(state, key) {
                state.postmaster.takers.skipped = true;
            } else if is_new && config.spares > 0 {
                return At::TakeIn { marks, slot, word };
            } else {
                take_in(config, state, slot, word);
            }
            drained(state, marks)
        }
        At::TakeIn { marks, slot, word } => {
            let key = Key { index: slot as u32, generation: word.generation() };
            takers::take_in(config, state, key, word);
            drained(state, marks)
        }
        At::Takers(at) => takers::go(config, state, at),
        At::Started { slot } => {
            publish(state, slot, |key, kept| {
                Snapshot::managed(key.generation, FORKED, STARTED, kept)
            });
            wake(state, slot);
            At::Idle
        }
        At::EndReport { slot } => {
            if config.broken != Broken::ReportLast {
                report(state, slot);
            }
            if config.broken == Broken::WakeFirst {
                wake(state, slot);
            }
            // A keeper that has gone is none.
            let registrant = state.postmaster.list[slot].map(|entry| entry.job.registrant);
            let keeper = registrant.filter(|place| state.postmaster.gone & 1 << place == 0);
            At::EndHints { slot, keeper: keeper.map_or(0, |place| owner(place.into())) }
        }
        At::EndHints { slot, keeper } => {
            state.postmaster.ends += 1;
            let shared = &mut state.slots[slot];
            let kept = keeper != 0 && shared.word.is_kept();
            if kept {
                shared.ended_at = state.postmaster.ends;
                shared.ended = true;
            }
            shared.changed = false;
            At::EndWord { slot, keeper: if kept { keeper } else { 0 } }
        }
        At::EndWord { slot, keeper } => {
            end_word(config, state, slot, keeper);
            At::EndSettle { slot }
        }
        At::EndSettle { slot } => {
            settle(state, slot);
            state.slots[slot].ended |= state.slots[slot].word.state() == SlotState::Ended;
            At::EndWake { slot }
        }
        At::EndWake { slot } => {
            if config.broken == Broken::ReportLast {
                report(state, slot);
            }
            if config.broken != Broken::WakeFirst {
                wake(state, slot);
            }
            reap(state, slot);
            At::Idle
        }
        At::Sweep { registrant, slot } => {
            sweep(config, state, registrant, slot);
            let next = slot + 1;
            if next < config.slots {
                return At::Sweep { registrant, slot: next };
            }
            // What it had published without ringing is taken in, too.
            takers::look(state, Then::Drain)
        }
        At::ResetBegin => {
            for slot in &mut state.slots {
                slot.changed = false;
                slot.ended = false;
            }
            let runs = state.fates.iter().flatten().any(|fate| fate.process == Process::Running);
            state.ghost_began_late |= runs;
            spare::end_used(config, state);
            // What was registered meanwhile is forgotten, too: its slot is freed.
            state.postmaster.list.fill(None);
            At::ResetLook { slot: 0 }
        }
        At::ResetLook { slot } => At::ResetSwap { slot, seen: state.slots[slot].word },
        At::ResetSwap { slot, seen } => reset(config, state, slot, seen),
        At::ResetWake { slot } => {
            wake(state, slot);
            if slot + 1 < config.slots {
                return At::ResetLook { slot: slot + 1 };
            }
            state.postmaster.resetting = false;
            state.ghost_closed = state.postmaster.takers.stopping;
            At::Idle
        }
    }
}

fn is_listed(config: &Config, state: &State, key: Key) -> bool {
    let listed = state.postmaster.list[key.index as usize].is_some_and(|entry| entry.key == key);
    listed && config.broken != Broken::ListNotAsked
}

fn crashed(state: &State, slot: usize) -> bool {
    let job = state.postmaster.list[slot].map(|entry| entry.job);
    job.is_some_and(|job| state.fate(job).process == Process::Ended { crashed: true })
        && !state.postmaster.resetting
}

/// Takes the next mark, if its slot is published.
fn drain(config: &Config, state: &mut State, marks: u8) -> At {
    let slot = marks.trailing_zeros() as usize;
    let marks = marks & !(1 << slot);
    let shared = &mut state.slots[slot];
    if shared.word.state() != SlotState::Published {
        return drained(state, marks);
    }
    shared.changed = config.broken == Broken::MarkClearedLast;
    At::Drained { marks, slot, seen: shared.word }
}

fn report(state: &mut State, slot: usize) {
    if let Some(entry) = state.postmaster.list[slot] {
        let reports = &mut state.slots[slot].reports;
        *reports = [Some((entry.key.generation, entry.job)), reports[0]];
    }
}

fn take_in(config: &Config, state: &mut State, slot: usize, word: Snapshot) {
    if word.state() != SlotState::Published {
        return;
    }
    let key = Key { index: slot as u32, generation: word.generation() };
    let terminate = word.flags() & TERMINATE != 0;
    let forgets = config.broken == Broken::ListNotAsked;
    if let Some(entry) = state.postmaster.list[slot].as_mut().filter(|_| !forgets) {
        entry.terminate |= terminate && entry.key == key;
        return;
    }
    if let Some(job) = state.slots[slot].payload {
        state.postmaster.list[slot] = Some(Entry { key, job, terminate, started: false });
    }
}

fn end_word(config: &Config, state: &mut State, slot: usize, keeper: u32) {
    let Some(entry) = state.postmaster.list[slot] else { return };
    state.fate_mut(entry.job).ghost_ended = true;
    let ignores = config.broken == Broken::ReleaseIgnored;
    publish(state, slot, |key, kept| {
        let keeper = if kept || ignores { keeper } else { 0 };
        Snapshot::ended(key.generation, keeper)
    });
}

fn reap(state: &mut State, slot: usize) {
    let Some(entry) = state.postmaster.list[slot].take() else { return };
    let fate = state.fate_mut(entry.job);
    let crashed = fate.process == Process::Ended { crashed: true };
    fate.process = Process::Reaped;
    spare::comes_back(state, entry.job, !crashed);
    if crashed && !state.postmaster.resetting {
        state.postmaster.resetting = true;
        // SIGQUIT, then SIGKILL: all of them end. Those that have not started never do.
        let listed: Vec<Entry> = state.postmaster.list.iter().flatten().copied().collect();
        for other in listed {
            let fate = state.fate_mut(other.job);
            if fate.process == Process::Running {
                fate.process = Process::Ended { crashed: false };
                spare::dies_with(state, other.job);
            }
        }
        for entry in &mut state.postmaster.list {
            if entry.is_some_and(|entry| !entry.started) {
                *entry = None;
            }
        }
    }
}
