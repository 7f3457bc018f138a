//! The steps of a process that waits for a worker which another one has registered.

use crate::config::{Broken, Config};
use crate::holds::settle;
use crate::registrant::{look, read_report};
use crate::state::{State, WaiterAt as At};

/// True when waiter `place` has a step to take.
pub(crate) fn can_go(state: &State, place: usize) -> bool {
    let me = &state.waiters[place];
    if !me.alive {
        return false;
    }
    match me.at {
        At::Done | At::Asleep => false,
        // The handle is passed on by its registrant.
        At::Start => handle(state, place).is_some(),
        At::Hold | At::Look | At::Sleep { .. } | At::Report | At::GiveBack | At::Settle => true,
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
        At::Start => At::Hold,
        At::Hold => {
            state.waiters[place].holds = config.broken != Broken::WaiterHoldsNothing;
            At::Look
        }
        At::Look => match look(state, key) {
            Some(seen) => {
                state.waiters[place].ghost_saw_it_run = true;
                At::Sleep { seen }
            }
            None => At::Report,
        },
        At::Sleep { .. } if !state.postmaster.alive => At::Done,
        At::Sleep { seen } if state.slots[key.index as usize].word == seen => At::Asleep,
        At::Sleep { .. } => At::Look,
        At::Report => {
            let report = read_report(config, state, key);
            state.ghost_wrong_report |= report.is_some_and(|of| of != job);
            let was_there = state.waiters[place].ghost_saw_it_run;
            let lost = report.is_none() && was_there && !state.fate(job).ghost_overwritten;
            state.fate_mut(job).ghost_lost |= lost;
            At::GiveBack
        }
        At::GiveBack => {
            state.waiters[place].holds = false;
            At::Settle
        }
        At::Settle => {
            settle(state, key.index as usize);
            At::Done
        }
        At::Asleep | At::Done => return,
    };
    state.waiters[place].at = next;
}
