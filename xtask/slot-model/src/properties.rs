//! What must hold. Most of it in states of rest, in which nobody has a step left to take: since
//! each path of the model is finite, each ends in such a state, so what holds in all of them holds
//! in the end whatever happened before.

use crate::config::Config;
use crate::progress::progress;
use crate::state::{Job, Process, Registrant, RegistrantAt, State, WaiterAt};
use crate::words::TERMINATE;
use shmem_slots::State as SlotState;
use stateright::Property;

/// The names of those that must always hold.
pub(crate) const CHANGE_LOST: &str = "no change is lost";
/// See [`all`].
pub(crate) const STARTED_TWICE: &str = "no worker is started twice";
/// See [`all`].
pub(crate) const END_LOST: &str = "no end is lost while another slot is free";
/// See [`all`].
pub(crate) const WRONG_REPORT: &str = "no handle gets the report of another worker";
/// See [`all`].
pub(crate) const WAIT_HANGS: &str = "every wait ends";
/// See [`all`].
pub(crate) const REUSED: &str = "no generation is used again";
/// See [`all`].
pub(crate) const TORN: &str = "no claim writes into the slot of a later tenant";
/// See [`all`].
pub(crate) const HELD: &str = "no slot is held for the dead, nor after its release";

/// See [`all`].
pub(crate) const BEHIND_THE_GATE: &str = "nothing begins behind the closed gate";
/// See [`all`].
pub(crate) const STRANGER: &str = "no spare takes the slot of a stranger";
/// See [`all`].
pub(crate) const REMEMBERS: &str = "no process of before a reset has a worker after it";
/// All properties. The last ones say that the model gets to what it is about.
pub(crate) fn all() -> Vec<Property<Config>> {
    vec![
        Property::always(CHANGE_LOST, |config, state: &State| {
            !at_rest(config, state) || !state.postmaster.alive || nothing_pending(config, state)
        }),
        Property::always(STARTED_TWICE, |_, state: &State| {
            state.fates.iter().flatten().all(|fate| fate.ghost_starts <= 1)
        }),
        Property::always(END_LOST, |_, state: &State| {
            !state.ghost_needless && state.fates.iter().flatten().all(|fate| !fate.ghost_lost)
        }),
        Property::always(WRONG_REPORT, |_, state: &State| !state.ghost_wrong_report),
        Property::always(WAIT_HANGS, |config, state: &State| {
            !at_rest(config, state) || nobody_waits(config, state)
        }),
        Property::always(REUSED, |_, state: &State| !state.ghost_reused),
        Property::always(TORN, |_, state: &State| !state.ghost_torn),
        Property::always(HELD, |config, state: &State| {
            !at_rest(config, state) || !state.postmaster.alive || nothing_is_held(state)
        }),
        Property::always(BEHIND_THE_GATE, |_, state: &State| !state.ghost_began_late),
        Property::always(STRANGER, |_, state: &State| !state.ghost_stranger),
        Property::always(REMEMBERS, |_, state: &State| !state.ghost_remembers),
        Property::sometimes("a run of a spare is taken on", |_, state: &State| {
            state.ghost_taken_on
        }),
        Property::sometimes("what a spare has begun is withdrawn", |_, state: &State| {
            state.ghost_withdrawn
        }),
        Property::sometimes("an end is read", |_, state: &State| {
            state.fates.iter().flatten().any(|fate| fate.ghost_told)
        }),
        Property::sometimes("an end is overwritten, since no slot is free", |_, state: &State| {
            state.fates.iter().flatten().any(|fate| fate.ghost_overwritten && !fate.ghost_told)
        }),
        Property::sometimes("a dead claim is swept", |_, state: &State| state.ghost_swept),
        Property::sometimes("a claim is overtaken by a reset", |_, state: &State| {
            state.registrants.iter().any(|me| {
                let at = matches!(me.at, RegistrantAt::Publish { .. });
                me.alive && at && state.fate(me.job).ghost_reset
            })
        }),
    ]
}

/// Nobody has a step left.
fn at_rest(config: &Config, state: &State) -> bool {
    let asleep =
        |me: &Registrant| !me.alive || matches!(me.at, RegistrantAt::Asleep | RegistrantAt::Done);
    // Most states end here.
    if (state.bell || state.alarm) && state.postmaster.alive
        || !state.registrants.iter().all(asleep)
    {
        return false;
    }
    let mut steps = Vec::new();
    progress(config, state, &mut steps);
    steps.is_empty()
}

/// A worker that nobody has asked to end, or nobody who lived to say so.
fn may_run_on(config: &Config, state: &State, job: Job) -> bool {
    let fate = state.fate(job);
    let word = fate.ghost_key.map(|key| state.slots[key.index as usize].word);
    let asked = word.is_some_and(|word| word.flags() & TERMINATE != 0);
    let dead = !state.registrants[usize::from(job.registrant)].alive;
    config.terminates && fate.process == Process::Running && (!asked || dead)
}

/// Each published slot is that of a worker which may run on.
fn nothing_pending(config: &Config, state: &State) -> bool {
    state.slots.iter().enumerate().all(|(place, slot)| {
        let here = |job: &Job| {
            let key = state.fate(*job).ghost_key;
            key.is_some_and(|key| {
                key.index as usize == place && key.generation == slot.word.generation()
            })
        };
        slot.word.state() != SlotState::Published
            || config.jobs(state).any(|job| here(&job) && may_run_on(config, state, job))
    })
}

fn nobody_waits(config: &Config, state: &State) -> bool {
    let registrants = state
        .registrants
        .iter()
        .all(|me| !me.alive || me.at == RegistrantAt::Done || may_run_on(config, state, me.job));
    let waiters = state.waiters.iter().all(|me| {
        !me.alive
            || matches!(me.at, WaiterAt::Start | WaiterAt::Done)
            || may_run_on(config, state, me.job)
    });
    registrants && waiters
}

/// Whoever lives has come to its end, and has read or released what it kept.
fn nothing_is_held(state: &State) -> bool {
    let vacant = [SlotState::Free, SlotState::Published];
    state.slots.iter().all(|slot| vacant.contains(&slot.word.state()))
}
