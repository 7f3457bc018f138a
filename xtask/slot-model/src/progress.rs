//! What may happen next, and what the parties do by themselves.

use crate::config::Config;
use crate::state::{Job, Process, State};
use crate::{postmaster, registrant, waiter};

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A registrant takes a step.
    Registrant(usize, registrant::Step),
    /// A waiter takes its next step.
    Waiter(usize),
    /// The postmaster takes a step.
    Postmaster(postmaster::Step),
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
    let mut steps = Vec::new();
    postmaster::steps(state, &mut steps);
    out.extend(steps.into_iter().map(Action::Postmaster));
    let running = config.jobs(state).filter(|job| state.fate(*job).process == Process::Running);
    let may_end = |job: &Job| !config.terminates || is_told(state, *job);
    out.extend(running.filter(may_end).map(Action::WorkerEnds));
}

/// The postmaster has sent SIGTERM to the worker, or has died.
fn is_told(state: &State, job: Job) -> bool {
    let entry = state.postmaster.list.iter().flatten().find(|entry| entry.job == job);
    !state.postmaster.alive || entry.is_none_or(|entry| entry.terminate)
}
