//! What the postmaster does with spares that others may wake: opens them, takes their runs on,
//! takes back what they do not take, and closes the gate.
//!
//! As in `bgw-postmaster/src/server/takers.rs` and `slot_table/takers.rs`. Time is left out: a
//! spare that has not taken its slot may be left alone as long as one likes, or not at all.

use crate::config::{Broken, Config};
use crate::publish::{Step, marks, publish, wake};
use crate::spare;
use crate::state::{Entry, PostmasterAt as At, Process, SpareAt, State, TakersAt as T, Then};
use crate::words::{STARTED, TERMINATE};
use shmem_slots::{Key, Offer, Snapshot, State as SlotState};

/// What the postmaster may take up.
pub(crate) fn steps(config: &Config, state: &State, out: &mut Vec<Step>) {
    let me = &state.postmaster;
    if state.alarm {
        out.push(Step::Alarm);
    }
    if state.shutdown && !me.takers.stopping {
        out.push(Step::Stop);
    }
    let resets = me.resetting && config.broken != Broken::OpenInReset;
    let serves = !resets && !me.takers.stopping;
    for (place, spare) in state.spares.iter().enumerate().filter(|(_, spare)| spare.listed) {
        if !spare.alive {
            out.push(Step::SpareEnded(place));
            continue;
        }
        if serves && !spare.open {
            out.push(Step::Open(place));
        }
        if spare.open && spare.seen.is_some() && config.broken != Broken::Patient {
            out.push(Step::Late(place));
        }
    }
}

/// Looks at all spares that are open.
pub(crate) fn look(state: &mut State, then: Then) -> At {
    let todo = open(state);
    begin(state, todo, false, then)
}

/// Closes all of them.
pub(crate) fn close(config: &Config, state: &mut State, then: Then) -> At {
    let todo = if config.broken == Broken::GateLeftOpen { 0 } else { open(state) };
    begin(state, todo, true, then)
}

fn open(state: &State) -> u8 {
    let open = state.spares.iter().enumerate().filter(|(_, spare)| spare.listed && spare.open);
    open.fold(0, |all, (place, _)| all | 1 << place)
}

fn begin(state: &mut State, todo: u8, closes: bool, next: Then) -> At {
    let takers = &mut state.postmaster.takers;
    (takers.todo, takers.closes, takers.then) = (todo, closes, next);
    if todo == 0 && takers.left.is_empty() { then(state) } else { At::Takers(T::Next) }
}

/// Takes one of the steps of [`steps`].
pub(crate) fn take(config: &Config, state: &mut State, step: Step) -> At {
    match step {
        Step::Alarm => {
            state.alarm = false;
            look(state, Then::Drain)
        }
        Step::Stop => close(config, state, Then::Stop),
        Step::Open(spare) => At::Takers(T::OpenWord { spare }),
        Step::SpareEnded(place) => {
            let open = state.spares[place].open && config.broken != Broken::DeadSpareForgotten;
            begin(state, u8::from(open) << place, true, Then::Gone { spare: place })
        }
        Step::Late(place) => {
            // It looks again: nothing is late that has been accepted, or is another one.
            let seen = state.spares[place].seen;
            let key = given(state, place).filter(|_| given(state, place) == seen);
            let Some(key) = key.filter(|&key| !runs_in(state, place, key)) else {
                return begin(state, 1 << place, false, Then::Idle);
            };
            let offered = look_at(state, key).is_some_and(Snapshot::is_offered);
            state.postmaster.takers.late = offered;
            if config.broken != Broken::LateForgotten {
                state.postmaster.takers.left.push(key);
            }
            begin(state, 1 << place, true, Then::Idle)
        }
        Step::StartIn(slot, spare) => {
            let open = u8::from(state.spares[spare].open);
            begin(state, open << spare, true, Then::Start { slot, spare })
        }
        _ => At::Idle,
    }
}

pub(crate) fn drained(state: &mut State, marks: u8) -> At {
    if marks != 0 {
        At::Drain { marks }
    } else if std::mem::take(&mut state.postmaster.takers.skipped) {
        // It may have been accepted since.
        look(state, Then::Idle)
    } else {
        At::Idle
    }
}

/// What a spare was given, or has begun.
fn given(state: &State, place: usize) -> Option<Key> {
    let mut me = state.spares[place].clone();
    let begun = spare::word(&mut me, |word| word.look().key());
    begun.or_else(|| spare::cell(&mut me, |cell| cell.given()))
}

/// True if a spare that is open was given `key`.
pub(crate) fn is_given(state: &State, key: Key) -> bool {
    let mut open = (0..state.spares.len())
        .filter(|&place| state.spares[place].listed && state.spares[place].open);
    open.any(|place| given(state, place) == Some(key))
}

fn look_at(state: &State, key: Key) -> Option<Snapshot> {
    let word = state.slots[key.index as usize].word;
    (word.generation() == key.generation).then_some(word)
}

fn runs_in(state: &State, place: usize, key: Key) -> bool {
    let mut me = state.spares[place].clone();
    let begun = spare::word(&mut me, |word| word.look().key());
    let word = look_at(state, key);
    begun == Some(key) && word.is_some_and(|word| word.pid() == spare::pid(place))
}

/// As `Slots::withdraw_offer`, which tries until its swap comes in between nothing.
pub(crate) fn withdraw(config: &Config, state: &mut State, key: Key) -> Offer {
    let published = |word: &Snapshot| word.state() == SlotState::Published;
    let Some(seen) = look_at(state, key).filter(published) else { return Offer::Over };
    if seen.pid() == 0 || (seen.is_offered() && config.broken == Broken::OfferStands) {
        return Offer::Withdrawn(seen);
    }
    if !seen.is_offered() {
        return Offer::Accepted(seen);
    }
    let Some(new) = seen.updated(0, seen.flags()) else { return Offer::Over };
    state.slots[key.index as usize].word = new;
    Offer::Withdrawn(new)
}

/// The next step.
pub(crate) fn go(config: &Config, state: &mut State, at: T) -> At {
    At::Takers(match at {
        T::OpenWord { spare } => {
            let me = &mut state.spares[spare];
            (me.open, me.seen) = (true, None);
            spare::word(me, |word| word.open());
            T::OpenCell { spare }
        }
        T::OpenCell { spare } => {
            spare::cell(&mut state.spares[spare], |cell| cell.open());
            return At::Idle;
        }
        T::Next => {
            let takers = &mut state.postmaster.takers;
            if takers.todo == 0 {
                T::Attend
            } else {
                let spare = takers.todo.trailing_zeros() as usize;
                takers.todo &= !(1 << spare);
                if takers.closes { T::CloseWord { spare } } else { T::Look { spare } }
            }
        }
        T::Look { spare } => {
            let key = given(state, spare);
            state.spares[spare].seen = key;
            key.map_or(T::Next, |key| T::Accepted { spare, key })
        }
        T::Accepted { spare, key } if runs_in(state, spare, key) => T::CloseWord { spare },
        T::Accepted { .. } => T::Next,
        T::CloseWord { spare } => {
            let me = &mut state.spares[spare];
            let left = config.broken == Broken::WordLeftOpen;
            let taking = spare::word(me, |word| if left { word.look() } else { word.close() });
            let begun = taking.key().filter(|_| config.broken != Broken::BegunIgnored);
            if begun.is_some() && matches!(state.postmaster.takers.then, Then::Start { .. }) {
                // It is passed over, and keeps what it has.
                T::Settled { spare }
            } else {
                T::CloseCell { spare, begun }
            }
        }
        T::CloseCell { spare, begun } => {
            let me = &mut state.spares[spare];
            let forgets = config.broken == Broken::GivenForgotten;
            // What it has begun is looked after below.
            let given = spare::cell(me, |cell| cell.close());
            let given = given.filter(|&key| begun != Some(key) && !forgets);
            me.open = begun.is_some();
            state.postmaster.takers.left.extend(given);
            match begun {
                Some(was) => T::Begun { spare, was },
                None => T::Settled { spare },
            }
        }
        T::Begun { spare, was } => {
            let now = spare::word(&mut state.spares[spare], |word| word.look().key());
            if now != Some(was) {
                // It has stepped back since, and may be killed before it says so.
                state.postmaster.takers.left.push(was);
            }
            match now {
                Some(key) => T::Withdraw { spare, key },
                None => T::CloseWord { spare },
            }
        }
        T::Withdraw { spare, key } => {
            state.spares[spare].listed = false;
            let offer = withdraw(config, state, key);
            if matches!(offer, Offer::Accepted(word) if word.pid() == spare::pid(spare)) {
                T::TakeOn { spare, key }
            } else {
                // It may still be about to accept, in vain.
                spare::kill(state, spare);
                state.postmaster.takers.left.push(key);
                state.ghost_withdrawn = true;
                T::Settled { spare }
            }
        }
        T::TakeOn { spare, key } => take_on(state, spare, key),
        T::Publish { spare, slot } => {
            let pid = spare::pid(spare);
            publish(state, slot, |key, kept| Snapshot::managed(key.generation, pid, STARTED, kept));
            wake(state, slot);
            T::Settled { spare }
        }
        T::Settled { spare } => {
            if std::mem::take(&mut state.postmaster.takers.late) && state.spares[spare].listed {
                state.spares[spare].listed = false;
                spare::kill(state, spare);
            }
            T::Next
        }
        T::Attend => match state.postmaster.takers.left.pop() {
            Some(key) => {
                attend(config, state, key);
                T::Attend
            }
            None => return then(state),
        },
    })
}

/// The run that a spare has begun is registered, by the copy that the spare has made.
fn take_on(state: &mut State, spare: usize, key: Key) -> T {
    let slot = key.index as usize;
    let job = state.spares[spare].runs;
    let Some(job) = job.filter(|_| state.postmaster.list[slot].is_none()) else {
        spare::kill(state, spare);
        state.postmaster.takers.left.push(key);
        return T::Settled { spare };
    };
    let terminate = state.postmaster.takers.stopping;
    state.postmaster.list[slot] = Some(Entry { key, job, terminate, started: true });
    state.ghost_taken_on = true;
    T::Publish { spare, slot }
}

/// Takes in what no spare takes.
fn attend(config: &Config, state: &mut State, key: Key) {
    let listed = state.postmaster.list[key.index as usize].is_some_and(|entry| entry.key == key);
    let Some(word) = look_at(state, key).filter(|_| !listed) else { return };
    let mut open = (0..state.spares.len())
        .filter(|&place| state.spares[place].listed && state.spares[place].open);
    let runner = open.find(|&place| runs_in(state, place, key));
    if let Some(place) = runner.filter(|_| config.broken != Broken::OthersRunIgnored) {
        // It is looked at again.
        state.spares[place].seen = Some(key);
        return;
    }
    take_in(config, state, key, word);
}

/// Takes in a slot whose tenant is not registered and whose word was `word`.
pub(crate) fn take_in(config: &Config, state: &mut State, key: Key, word: Snapshot) {
    let slot = key.index as usize;
    if word.state() != SlotState::Published {
        return;
    }
    let word = if word.is_offered() {
        match withdraw(config, state, key) {
            Offer::Withdrawn(now) => now,
            Offer::Accepted(_) => {
                state.postmaster.takers.skipped = true;
                return;
            }
            Offer::Over => return,
        }
    } else {
        word
    };
    let terminate = word.flags() & TERMINATE != 0 || state.postmaster.takers.stopping;
    if let (Some(job), None) = (state.slots[slot].payload, state.postmaster.list[slot]) {
        state.postmaster.list[slot] = Some(Entry { key, job, terminate, started: false });
    }
}

/// All spares are looked after.
fn then(state: &mut State) -> At {
    match state.postmaster.takers.then {
        Then::Idle => At::Idle,
        Then::Drain => drained(state, marks(state)),
        Then::Crashed { slot } => {
            state.ghost_closed = true;
            At::EndReport { slot }
        }
        Then::Stop => {
            state.ghost_closed = true;
            state.postmaster.takers.stopping = true;
            for entry in state.postmaster.list.iter_mut().flatten() {
                entry.terminate = true;
            }
            At::Idle
        }
        Then::Gone { spare } => {
            state.spares[spare].listed = false;
            At::Idle
        }
        Then::Start { slot, spare } => start(state, slot, spare),
    }
}

/// Gives the worker in `slot` to a spare, unless that has begun another one by itself or has died.
fn start(state: &mut State, slot: usize, place: usize) -> At {
    let me = &mut state.spares[place];
    let Some(entry) = state.postmaster.list[slot].as_mut().filter(|_| !me.open && me.listed) else {
        return At::Idle;
    };
    me.listed = false;
    // One that is stopped would be a stopped worker, as any other may be: left out.
    if !me.alive || me.stopped {
        me.alive = false;
        return At::Idle;
    }
    entry.started = true;
    let job = entry.job;
    state.ghost_remembers |= me.ghost_former;
    (me.mail, me.runs) = (true, Some(job));
    if me.at == SpareAt::Asleep {
        me.at = SpareAt::Look;
    }
    let fate = state.fate_mut(job);
    fate.process = Process::Running;
    fate.ghost_starts += 1;
    At::Started { slot }
}
