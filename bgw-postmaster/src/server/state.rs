//! The running postmaster: its owners, and the queue of events.

use super::poller::Poller;
use super::random::Random;
use super::roll_answers::RollAnswers;
use crate::children::{Children, Spares, Spawner};
use crate::events::{Details, Events};
use crate::gifts::Closers;
use crate::guardian::Guardian;
use crate::notify::Notices;
use crate::outputs::Outputs;
use crate::rules::{Action, Cluster, Event};
use crate::runtime_dir::RuntimeDir;
use crate::segments::Segments;
use crate::sessions::Sessions;
use crate::slot_table::SlotTable;
use crate::sys::descriptors::Placeholders;
use crate::sys::environment::HiddenVariables;
use crate::templates::Templates;
use bgw_core::EventKind;
use bgw_core::internals::HeldLiveness;
use shmem_slots::Key;
use std::collections::VecDeque;
use std::time::Instant;

/// The running postmaster. Its children do not have it (`sys/private_box.rs`): only what lies
/// behind a pointer is theirs, too.
#[derive(Debug)]
pub(crate) struct Server {
    /// The rules, and what they know.
    pub(super) cluster: Cluster,
    pub(super) slot_table: SlotTable,
    pub(super) events: Events,
    pub(super) children: Children,
    pub(super) spares: Spares,
    /// What a child begins with.
    pub(super) spawner: Box<Spawner>,
    pub(super) guardian: Guardian,
    pub(super) closers: Closers,
    pub(super) templates: Templates,
    pub(super) outputs: Outputs,
    pub(super) notices: Notices,
    pub(super) sessions: Sessions,
    pub(super) segments: Segments,
    pub(super) rolls: RollAnswers,
    pub(super) poller: Poller,
    pub(super) runtime_dir: Option<RuntimeDir>,
    /// What the rules have not seen yet.
    pub(super) queue: VecDeque<Event>,
    /// Berths whose workers may have ended while their processes live on.
    pub(super) over: VecDeque<u32>,
    /// Slots that were given to a spare which does not take them.
    pub(super) left: Vec<Key>,
    /// When spares that were given a worker are looked at again.
    pub(super) takers_due: Option<Instant>,
    /// For the jitter of pauses.
    pub(super) random: Random,
    /// What follows from one event. Empty between events; it keeps its memory.
    pub(super) actions: Vec<Action>,
    /// Dropped with the server: from then on the cluster knows that its postmaster is gone.
    pub(super) liveness: HeldLiveness,
    /// Closed with the server.
    pub(super) _placeholders: Placeholders,
    /// Set again with the server.
    pub(super) _hidden_variables: HiddenVariables,
}

impl Server {
    /// One event, and everything that follows from it.
    pub(super) fn step(&mut self, event: Event) {
        self.close_takers_before(&event);
        self.queue.push_back(event);
        self.run_queue();
    }

    /// All queued events, and everything that follows from them.
    // Out of line, as the steps of the loop are, and what is rare: a page of the stack that is
    // written to between two forks costs a copy, so no frame is deeper than its own work needs.
    #[inline(never)]
    pub(super) fn run_queue(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        while let Some(event) = self.queue.pop_front() {
            // The end of a next run is about to be seen: it gets no place. Or the jobs were those
            // of the run before.
            let is_void = match event {
                Event::ReadyBeside(key) => !self.lives_beside(key),
                Event::JobsDone(key) => !self.slot_table.jobs_are_done(key),
                _ => false,
            };
            if is_void {
                continue;
            }
            if let Event::Ready(key) = event {
                self.events.tell(key, EventKind::Ready, Details::default());
                self.slot_table.ring_bells(key);
            }
            self.cluster.step(event, Instant::now(), &mut actions);
            self.refuse_tickets();
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
        self.actions = actions;
    }

    /// The slots that changed: registrations and terminate requests.
    #[inline(never)]
    pub(super) fn take_in_changes(&mut self) {
        self.look_at_takers();
        let (children, sessions) = (&self.children, &self.sessions);
        let resolve = |pid| children.target(pid).or_else(|| sessions.target(pid));
        let mut listed = Vec::new();
        let spares = &self.spares;
        let mut skipped = false;
        let mut is_given = |slots: &SlotTable, key| {
            let given = spares.open().any(|spare| slots.is_given(spare, key));
            skipped |= given;
            given
        };
        self.slot_table.take_in_changes(
            self.cluster.registry(),
            resolve,
            |index| listed.push(index),
            &mut is_given,
            &mut self.queue,
        );
        let slots = &self.slot_table;
        let both = |index| [Some(slots.berth(index)), slots.berth_beside(index)];
        for berth in listed.into_iter().flat_map(both).flatten() {
            self.over.extend(self.children.says_over(berth).then_some(berth));
        }
        self.run_queue();
        if self.slot_table.has_passed_over() || skipped {
            // It may have been accepted since.
            self.look_at_takers();
        }
    }
}
