//! The steps of a process that waits for a worker which another one has registered.

use crate::model::Config;
use crate::registrant::{look, read_report};
use crate::state::{State, WaiterAt as At};

/// True when waiter `place` has a step to take.
pub(crate) fn can_go(state: &State, place: usize) -> bool {
    let me = &state.waiters[place];
    match me.at {
        At::Done | At::Asleep => false,
        // The handle is passed on by its registrant.
        At::Start => handle(state, place).is_some(),
        At::Look | At::Sleep { .. } | At::Report => true,
    }
}

fn handle(state: &State, place: usize) -> Option<shmem_slots::Key> {
    let job = state.waiters[place].job;
    let registrant = &state.registrants[job.registrant as usize];
    registrant.key.filter(|_| registrant.job == job)
}

/// Takes the next step.
pub(crate) fn go(config: &Config, state: &mut State, place: usize) {
    let job = state.waiters[place].job;
    // The handle of a published registration: it is where it was claimed.
    let Some(key) = state.fate(job).ghost_key else { return };
    let next = match state.waiters[place].at {
        At::Start => At::Look,
        At::Look => look(state, key).map_or(At::Report, |seen| At::Sleep { seen }),
        At::Sleep { .. } if !state.postmaster.alive => At::Done,
        At::Sleep { seen } if state.slots[key.index as usize].word == seen => At::Asleep,
        At::Sleep { .. } => At::Look,
        At::Report => {
            state.ghost_wrong_report |= read_report(config, state, key).is_some_and(|of| of != job);
            At::Done
        }
        At::Asleep | At::Done => return,
    };
    state.waiters[place].at = next;
}
