//! What may happen next, and what the parties do by themselves.

use crate::config::Config;
use crate::state::{Job, Process, SpareAt, State};
use crate::{postmaster, publish, registrant, spare, waiter};
use shmem_slots::Key;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A registrant takes a step.
    Registrant(usize, registrant::Step),
    /// A waiter takes its next step.
    Waiter(usize),
    /// The postmaster takes a step.
    Postmaster(publish::Step),
    /// A spare takes its next step.
    Spare(usize),
    /// A spare is killed.
    KillSpare(usize),
    /// A spare is stopped, and does not go on.
    StopSpare(usize),
    /// Somebody writes a key into the cell of a spare, and wakes it.
    Scribble(usize, Key),
    /// A shutdown is asked for.
    Shutdown,
    /// A worker ends, as it should.
    WorkerEnds(Job),
    /// A worker crashes.
    WorkerCrashes(Job),
    /// A registrant is killed.
    Kill(usize),
    /// A waiter is killed.
    KillWaiter(usize),
    /// The postmaster is killed.
    KillPostmaster,
}

/// What the parties themselves may do next, without anybody's being killed.
pub(crate) fn progress(config: &Config, state: &State, out: &mut Vec<Action>) {
    for place in 0..state.registrants.len() {
        let mut steps = Vec::new();
        registrant::steps(config, state, place, &mut steps);
        out.extend(steps.into_iter().map(|step| Action::Registrant(place, step)));
    }
    let waiters = 0..state.waiters.len();
    out.extend(waiters.filter(|&place| waiter::can_go(state, place)).map(Action::Waiter));
    let spares = 0..state.spares.len();
    out.extend(spares.filter(|&place| spare::can_go(state, place)).map(Action::Spare));
    let mut steps = Vec::new();
    postmaster::steps(config, state, &mut steps);
    out.extend(steps.into_iter().map(Action::Postmaster));
    let running = config.jobs(state).filter(|job| state.fate(*job).process == Process::Running);
    let may_end = |job: &Job| !config.terminates || is_told(state, *job);
    let running = running.filter(may_end).filter(|job| spare::may_end(state, *job));
    out.extend(running.map(Action::WorkerEnds));
}

/// The postmaster has sent SIGTERM to the worker, or has died.
fn is_told(state: &State, job: Job) -> bool {
    let entry = state.postmaster.list.iter().flatten().find(|entry| entry.job == job);
    !state.postmaster.alive || entry.is_none_or(|entry| entry.terminate)
}

/// What may happen to spares.
pub(crate) fn mishaps(config: &Config, state: &State, actions: &mut Vec<Action>) {
    if !state.postmaster.alive {
        return;
    }
    for (place, me) in state.spares.iter().enumerate() {
        let sleeps = !matches!(me.at, SpareAt::Works | SpareAt::Over) && !me.mail;
        if state.spare_deaths > 0 && me.alive && sleeps {
            actions.push(Action::KillSpare(place));
        }
        // Later on it is a worker, which may be stopped as any other.
        if state.stops > 0 && me.alive && !me.stopped && sleeps && me.runs.is_none() {
            actions.push(Action::StopSpare(place));
        }
        if state.scribbles > 0 && me.alive && me.runs.is_none() {
            let keys = config.jobs(state).filter_map(|job| state.fate(job).ghost_key);
            actions.extend(keys.map(|key| Action::Scribble(place, key)));
        }
    }
    if state.shutdowns > 0 {
        actions.push(Action::Shutdown);
    }
}
