//! The model as stateright sees it: initial state, actions, next state, properties.

use crate::properties;
use crate::state::{
    Fate, Job, Postmaster, PostmasterAt, Process, Registrant, RegistrantAt, Slot, State, Waiter,
    WaiterAt,
};
use crate::{postmaster, registrant, waiter};
use shmem_slots::{Snapshot, State as SlotState};
use stateright::{Model, Property};

/// A mistake that somebody might make, built in to see that the properties find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No mistake.
    Nothing,
    /// The postmaster clears a change mark after it has looked at the slot.
    MarkClearedLast,
    /// The postmaster takes any published slot for a new registration.
    ListNotAsked,
    /// A claim takes an ended slot like a free one.
    EndedIsFree,
    /// The postmaster wakes the waiters before it publishes the end.
    WakeFirst,
    /// A reset stores without comparing.
    ResetStores,
    /// A reset frees a slot whose claim is under way.
    ResetFreesClaims,
    /// A claim is marked as a change after its swap.
    MarkAfterSwap,
    /// An end is kept for a registrant that has died.
    EndKeptForDead,
    /// An end is kept although the registrant has released the slot.
    ReleaseIgnored,
    /// A report is written after the word that announces it.
    ReportLast,
    /// A reader takes the report of a slot without comparing generations.
    AnyReport,
}

/// How big the model is, and what may happen in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// What this size is for.
    pub(crate) name: &'static str,
    /// Slots.
    pub(crate) slots: usize,
    /// Programs that register.
    pub(crate) registrants: u8,
    /// Registrations of each.
    pub(crate) jobs: u8,
    /// Races that a claim may lose before it gives up.
    pub(crate) tries: u8,
    /// Processes that wait for the first registration besides.
    pub(crate) waiters: u8,
    /// Registrants that are killed, at any step.
    pub(crate) deaths: u8,
    /// Workers that crash: each resets the slots.
    pub(crate) crashes: u8,
    /// Postmasters that are killed, at any step.
    pub(crate) postmaster_deaths: u8,
    /// Workers run until their end is asked for.
    pub(crate) terminates: bool,
    /// A registrant may drop its handle before it has read the end.
    pub(crate) drops: bool,
    /// The mistake.
    pub(crate) broken: Broken,
}

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
    /// The postmaster is killed.
    KillPostmaster,
}

impl Config {
    /// What the parties themselves may do next, without anybody's being killed.
    pub(crate) fn progress(&self, state: &State, out: &mut Vec<Action>) {
        for place in 0..state.registrants.len() {
            let mut steps = Vec::new();
            registrant::steps(self, state, place, &mut steps);
            out.extend(steps.into_iter().map(|step| Action::Registrant(place, step)));
        }
        let waiters = 0..state.waiters.len();
        out.extend(waiters.filter(|&place| waiter::can_go(state, place)).map(Action::Waiter));
        let mut steps = Vec::new();
        postmaster::steps(state, &mut steps);
        out.extend(steps.into_iter().map(Action::Postmaster));
        let running = self.jobs(state).filter(|job| state.fate(*job).process == Process::Running);
        let may_end = |job: &Job| !self.terminates || is_told(state, *job);
        out.extend(running.filter(may_end).map(Action::WorkerEnds));
    }

    /// All registrations.
    pub(crate) fn jobs<'a>(&self, state: &'a State) -> impl Iterator<Item = Job> + use<'a> {
        let per = self.jobs;
        (0..state.registrants.len() as u8)
            .flat_map(move |registrant| (0..per).map(move |number| Job { registrant, number }))
    }
}

/// The postmaster has sent SIGTERM to the worker, or has died.
fn is_told(state: &State, job: Job) -> bool {
    let entry = state.postmaster.list.iter().flatten().find(|entry| entry.job == job);
    !state.postmaster.alive || entry.is_none_or(|entry| entry.terminate)
}

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
        let waiter = Waiter { job: Job { registrant: 0, number: 0 }, at: WaiterAt::Start };
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
        };
        vec![State {
            slots: vec![slot; self.slots],
            registrants: (0..self.registrants).map(registrant).collect(),
            waiters: vec![waiter; self.waiters.into()],
            postmaster,
            fates: vec![vec![fate; self.jobs.into()]; self.registrants.into()],
            bell: false,
            deaths: self.deaths,
            crashes: self.crashes,
            postmaster_deaths: self.postmaster_deaths,
            ghost_reused: false,
            ghost_needless: false,
            ghost_torn: false,
            ghost_wrong_report: false,
            ghost_swept: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        if state.crashes > 0 && state.postmaster.alive && !state.postmaster.resetting {
            let running =
                self.jobs(state).filter(|job| state.fate(*job).process == Process::Running);
            actions.extend(running.map(Action::WorkerCrashes));
        }
        if state.deaths > 0 {
            let registrants = state.registrants.iter().enumerate();
            let alive = registrants.filter(|(_, me)| me.alive && me.at != RegistrantAt::Done);
            actions.extend(alive.map(|(place, _)| Action::Kill(place)));
        }
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
            }
            Action::WorkerCrashes(job) => {
                state.crashes -= 1;
                state.fate_mut(job).process = Process::Ended { crashed: true };
            }
            Action::Kill(place) => {
                state.deaths -= 1;
                state.registrants[place].alive = false;
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

/// The kernel marks the liveness word of each session and wakes whoever sleeps on it; the workers get
/// their death signal.
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
