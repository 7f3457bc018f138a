//! The steps of the postmaster: take changed slots in, start, report ends, sweep, reset.
//!
//! As in `shmem-slots/src/manage.rs` and in bgw-postmaster. It handles one event at a time, in any
//! order, and takes each step of it in turn while the others go on.

use crate::config::{Broken, Config};
use crate::holds::{is_held, settle};
use crate::registrant::owner;
use crate::state::{Entry, PostmasterAt as At, Process, RegistrantAt, State, WaiterAt};
use crate::words::{STARTED, TERMINATE};
use shmem_slots::{Key, Snapshot, State as SlotState};

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
    /// The next step of the event under way.
    Go,
}

/// All steps that the postmaster may take now.
pub(crate) fn steps(state: &State, out: &mut Vec<Step>) {
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
        }
    }
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

/// Takes one step.
pub(crate) fn take(config: &Config, state: &mut State, step: Step) {
    let next = match step {
        Step::Bell => {
            state.bell = false;
            drained(marks(state))
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
        Step::NeverStart(slot) | Step::SeeEnd(slot) => At::EndReport { slot },
        Step::SeeGone(registrant) => {
            state.postmaster.gone |= 1 << registrant;
            At::Sweep { registrant, slot: 0 }
        }
        Step::Reset => At::ResetBegin,
        Step::Go => go(config, state),
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
            take_in(config, state, slot, word);
            drained(marks)
        }
        At::Started { slot } => {
            publish(state, slot, |key, kept| Snapshot::managed(key.generation, 1, STARTED, kept));
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
            drained(marks(state))
        }
        At::ResetBegin => {
            for slot in &mut state.slots {
                slot.changed = false;
                slot.ended = false;
            }
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
            At::Idle
        }
    }
}

/// The marks as they are now: a cell of hints is read once.
fn marks(state: &State) -> u8 {
    let slots = state.slots.iter().enumerate();
    slots.filter(|(_, slot)| slot.changed).fold(0, |marks, (place, _)| marks | 1 << place)
}

fn drained(marks: u8) -> At {
    if marks == 0 { At::Idle } else { At::Drain { marks } }
}

/// Takes the next mark, if its slot is published.
fn drain(config: &Config, state: &mut State, marks: u8) -> At {
    let slot = marks.trailing_zeros() as usize;
    let marks = marks & !(1 << slot);
    let shared = &mut state.slots[slot];
    if shared.word.state() != SlotState::Published {
        return drained(marks);
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

/// One swap of the word of a listed slot, which keeps the bit that says whether somebody keeps it.
/// A flag that came in the meantime stands in the word before.
fn publish(state: &mut State, slot: usize, new: impl FnOnce(Key, bool) -> Option<Snapshot>) {
    let before = state.slots[slot].word;
    if let Some(entry) = &mut state.postmaster.list[slot] {
        if let Some(new) = new(entry.key, before.is_kept()) {
            state.slots[slot].word = new;
        }
        entry.terminate |= before.flags() & TERMINATE != 0;
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
    if crashed && !state.postmaster.resetting {
        state.postmaster.resetting = true;
        // SIGQUIT, then SIGKILL: all of them end. Those that have not started never do.
        let listed: Vec<Entry> = state.postmaster.list.iter().flatten().copied().collect();
        for other in listed {
            let fate = state.fate_mut(other.job);
            if fate.process == Process::Running {
                fate.process = Process::Ended { crashed: false };
            }
        }
        for entry in &mut state.postmaster.list {
            if entry.is_some_and(|entry| !entry.started) {
                *entry = None;
            }
        }
    }
}

/// Of one slot: a claim of a dead registrant, or an end that it has not read.
fn sweep(config: &Config, state: &mut State, registrant: u8, slot: usize) {
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
fn reset(config: &Config, state: &mut State, slot: usize, seen: Snapshot) -> At {
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

/// `FUTEX_WAKE` on the word of `slot`: all that sleep on it look again.
fn wake(state: &mut State, slot: usize) {
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
