//! The model as stateright sees it: initial state, actions, next state, properties.

use crate::config::Config;
use crate::progress::{Action, mishaps, progress};
use crate::properties;
use crate::registrant::owner;
use crate::state::{
    Entry, Fate, Job, Postmaster, PostmasterAt, Process, Registrant, RegistrantAt, Slot, State,
    Takers, Then, Waiter, WaiterAt,
};
use crate::words::{FORKED, STARTED};
use crate::{postmaster, registrant, spare, waiter};
use shmem_slots::{Key, Snapshot, State as SlotState};
use stateright::{Model, Property};

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let slot = Slot {
            word: Snapshot::vacant(0),
            changed: false,
            payload: None,
            ended: false,
            reports: [None; 2],
            ended_at: 0,
            ghost_newest: 0,
        };
        let registrant = |registrant| Registrant {
            alive: true,
            at: RegistrantAt::Looking { looked: 0, oldest: None },
            job: Job { registrant, number: 0 },
            key: None,
            terminated: false,
            tries: self.tries,
            ghost_taken: 0,
        };
        let waiter = Waiter {
            job: Job { registrant: 0, number: 0 },
            at: WaiterAt::Start,
            holds: false,
            alive: true,
            ghost_saw_it_run: false,
        };
        let fate = Fate {
            process: Process::None,
            ghost_starts: 0,
            ghost_key: None,
            ghost_reset: false,
            ghost_overwritten: false,
            ghost_ended: false,
            ghost_lost: false,
            ghost_told: false,
        };
        let postmaster = Postmaster {
            alive: true,
            at: PostmasterAt::Idle,
            list: vec![None; self.slots],
            gone: 0,
            resetting: false,
            ends: 0,
            takers: Takers {
                todo: 0,
                closes: false,
                left: Vec::new(),
                then: Then::Idle,
                skipped: false,
                late: false,
                stopping: false,
            },
        };
        let mut state = State {
            slots: vec![slot; self.slots],
            registrants: (0..self.registrants).map(registrant).collect(),
            waiters: vec![waiter; self.waiters.into()],
            postmaster,
            fates: vec![vec![fate; self.jobs.into()]; self.registrants.into()],
            spares: vec![spare::asleep(); self.spares.into()],
            bell: false,
            alarm: false,
            spare_deaths: self.spare_deaths,
            stops: self.stops,
            scribbles: self.scribbles,
            shutdowns: self.shutdowns,
            shutdown: false,
            ghost_closed: false,
            ghost_began_late: false,
            ghost_stranger: false,
            ghost_remembers: false,
            ghost_taken_on: false,
            ghost_withdrawn: false,
            deaths: self.deaths,
            crashes: self.crashes,
            postmaster_deaths: self.postmaster_deaths,
            ghost_reused: false,
            ghost_needless: false,
            ghost_torn: false,
            ghost_wrong_report: false,
            ghost_swept: false,
        };
        if self.one_runs {
            runs_already(&mut state);
            state.spares.iter_mut().for_each(|spare| spare.used = self.reuses);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        progress(self, state, actions);
        if state.crashes > 0 && state.postmaster.alive && !state.postmaster.resetting {
            let running =
                self.jobs(state).filter(|job| state.fate(*job).process == Process::Running);
            actions.extend(running.map(Action::WorkerCrashes));
        }
        if state.deaths > 0 {
            let registrants = state.registrants.iter().enumerate();
            let alive = registrants.filter(|(_, me)| me.alive && me.at != RegistrantAt::Done);
            actions.extend(alive.map(|(place, _)| Action::Kill(place)));
            let waiters = state.waiters.iter().enumerate();
            let alive = waiters
                .filter(|(_, me)| me.alive && !matches!(me.at, WaiterAt::Start | WaiterAt::Done));
            actions.extend(alive.map(|(place, _)| Action::KillWaiter(place)));
        }
        mishaps(self, state, actions);
        if state.postmaster_deaths > 0 && state.postmaster.alive {
            actions.push(Action::KillPostmaster);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Registrant(place, step) => registrant::take(self, &mut state, place, step),
            Action::Waiter(place) => waiter::go(self, &mut state, place),
            Action::Postmaster(step) => postmaster::take(self, &mut state, step),
            Action::WorkerEnds(job) => {
                state.fate_mut(job).process = Process::Ended { crashed: false };
                spare::ends(self, &mut state, job);
            }
            Action::WorkerCrashes(job) => {
                state.crashes -= 1;
                state.fate_mut(job).process = Process::Ended { crashed: true };
                spare::dies_with(&mut state, job);
            }
            Action::Spare(place) => spare::go(self, &mut state, place),
            Action::KillSpare(place) => {
                state.spare_deaths -= 1;
                spare::kill(&mut state, place);
            }
            Action::StopSpare(place) => {
                state.stops -= 1;
                state.spares[place].stopped = true;
            }
            Action::Scribble(place, key) => {
                state.scribbles -= 1;
                spare::scribble(&mut state, place, key);
            }
            Action::Shutdown => {
                state.shutdowns -= 1;
                state.shutdown = true;
            }
            Action::Kill(place) => {
                state.deaths -= 1;
                state.registrants[place].alive = false;
            }
            Action::KillWaiter(place) => {
                state.deaths -= 1;
                state.waiters[place].alive = false;
            }
            Action::KillPostmaster => kill_postmaster(&mut state),
        }
        note_what_is_taken(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// The last registrant waits for its worker, which the postmaster has forked into slot 0.
fn runs_already(state: &mut State) {
    let place = state.registrants.len() - 1;
    let job = Job { registrant: place as u8, number: 0 };
    let claimed = Snapshot::vacant(0).reserved_by(owner(place));
    let Some(generation) = claimed.map(Snapshot::generation) else { return };
    let Some(word) = Snapshot::managed(generation, FORKED, STARTED, true) else { return };
    let key = Key { index: 0, generation };
    let slot = &mut state.slots[0];
    (slot.word, slot.payload, slot.ghost_newest) = (word, Some(job), generation);
    let me = &mut state.registrants[place];
    (me.at, me.key) = (RegistrantAt::Asleep, Some(key));
    state.postmaster.list[0] = Some(Entry { key, job, terminate: false, started: true });
    let fate = state.fate_mut(job);
    (fate.process, fate.ghost_starts, fate.ghost_key) = (Process::Running, 1, Some(key));
}

/// The kernel marks the liveness word of each session and wakes whoever sleeps on it; the workers
/// get their death signal.
fn kill_postmaster(state: &mut State) {
    state.postmaster_deaths -= 1;
    state.postmaster.alive = false;
    for me in &mut state.registrants {
        if me.at == RegistrantAt::Asleep {
            me.at = RegistrantAt::Look;
        }
    }
    for me in &mut state.waiters {
        if me.at == WaiterAt::Asleep {
            me.at = WaiterAt::Look;
        }
    }
}

fn note_what_is_taken(state: &mut State) {
    let taken = state.slots.iter().enumerate();
    let taken = taken.filter(|(_, slot)| slot.word.state() != SlotState::Free);
    let taken = taken.fold(0, |mask, (place, _)| mask | 1 << place);
    for me in &mut state.registrants {
        let claims = matches!(
            me.at,
            RegistrantAt::Looking { .. } | RegistrantAt::Mark { .. } | RegistrantAt::Swap { .. }
        );
        me.ghost_taken = if claims { me.ghost_taken | taken } else { 0 };
    }
}
