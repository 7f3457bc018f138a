//! The running postmaster: its owners, and the queue of events.

use super::poller::Poller;
use crate::children::{Children, Spares, Spawner};
use crate::guardian::Guardian;
use crate::rules::{Action, Cluster, Event};
use crate::runtime_dir::RuntimeDir;
use crate::sessions::Sessions;
use crate::slot_table::SlotTable;
use bgw_core::internals::HeldLiveness;
use std::collections::VecDeque;
use std::time::Instant;

/// The running postmaster.
#[derive(Debug)]
pub(crate) struct Server {
    /// The rules, and what they know.
    pub(super) cluster: Cluster,
    pub(super) slot_table: SlotTable,
    pub(super) children: Children,
    pub(super) spares: Spares,
    pub(super) spawner: Spawner,
    pub(super) guardian: Guardian,
    pub(super) sessions: Sessions,
    pub(super) poller: Poller,
    pub(super) runtime_dir: Option<RuntimeDir>,
    /// What the rules have not seen yet.
    pub(super) queue: VecDeque<Event>,
    /// What follows from one event. Empty between events; it keeps its memory.
    pub(super) actions: Vec<Action>,
    /// Dropped with the server: from then on the cluster knows that its postmaster is gone.
    pub(super) _liveness: HeldLiveness,
}

impl Server {
    /// One event, and everything that follows from it.
    pub(super) fn step(&mut self, event: Event) {
        self.queue.push_back(event);
        self.run_queue();
    }

    /// All queued events, and everything that follows from them.
    pub(super) fn run_queue(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        while let Some(event) = self.queue.pop_front() {
            self.cluster.step(event, Instant::now(), &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
        self.actions = actions;
    }

    /// The slots that changed: registrations and terminate requests.
    pub(super) fn take_in_changes(&mut self) {
        let (children, sessions) = (&self.children, &self.sessions);
        let resolve = |pid| children.target(pid).or_else(|| sessions.target(pid));
        self.slot_table.take_in_changes(self.cluster.registry(), resolve, &mut self.queue);
        self.run_queue();
    }
}
