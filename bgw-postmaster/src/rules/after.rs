//! Workers that start after others.
//!
//! | the other one | `Started` | `Ready` | `Done` |
//! |---|---|---|---|
//! | has exited with 0 before | as below | as below | met |
//! | is ready | met | met | waits |
//! | runs | met | waits | waits |
//! | is told to end, has not started, pauses | waits | waits | waits |
//! | has ended for good | lost | lost | lost |
//!
//! It is looked at before each start, for the present run of the other one. A worker that has lost
//! one of its targets goes off the list, and those after it likewise. One that runs, or pauses, is
//! left alone until its next start. What changes for others is noted in [`Cluster::changed`] while
//! an event is handled, and seen to at its end, by [`Cluster::settle`]: a list, not a recursion,
//! so a long chain takes no stack.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::registry::{Entry, Progress};
use bgw_core::{After, NotStarted};
use shmem_slots::Key;
use std::time::Instant;

/// Whether a worker may start, as far as others matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Met,
    Waits,
    /// The target of this name has ended for good.
    Lost(Box<str>),
}

/// What `condition` says of a target, whose registration may be over. `done`: it has exited with 0.
pub(super) fn standing(condition: After, target: Option<&Entry>, done: bool) -> Standing {
    if condition == After::Done && done {
        return Standing::Met;
    }
    let lost = || Standing::Lost(Box::default());
    let Some(target) = target else { return lost() };
    match (target.progress, condition) {
        (Progress::Clearing { restart: None }, _) => lost(),
        (Progress::Unstarted | Progress::Resting { .. } | Progress::Clearing { .. }, _) => {
            Standing::Waits
        }
        (Progress::Running { .. }, _) if target.terminate => Standing::Waits,
        (Progress::Running { .. }, After::Started) => Standing::Met,
        (Progress::Running { .. }, After::Ready) if target.ready_at.is_some() => Standing::Met,
        (Progress::Running { .. }, After::Ready | After::Done) => Standing::Waits,
    }
}

impl Cluster {
    /// Whether a worker may start, as far as its targets matter. One that is lost decides.
    pub(super) fn standing(&self, entry: &Entry) -> Standing {
        let mut all = Standing::Met;
        for (at, (name, condition)) in entry.worker.after().enumerate() {
            let done = entry.done & 1 << at != 0;
            match standing(condition, self.registry.owner(name), done) {
                Standing::Met => {}
                Standing::Waits => all = Standing::Waits,
                Standing::Lost(_) => return Standing::Lost(name.into()),
            }
        }
        all
    }

    /// Something has changed for those that start after this worker.
    pub(super) fn changed(&mut self, key: Key) {
        self.moved.extend(self.registry.get(key).and_then(|entry| entry.member).map(|(at, _)| at));
        if let Some(entry) = self.registry.get(key).filter(|entry| entry.worker.is_unique()) {
            self.changed.push(entry.worker.name().into());
        }
    }

    /// Takes a worker off the list.
    pub(super) fn take_off(&mut self, key: Key) {
        self.changed(key);
        if let Some(entry) = self.registry.get(key) {
            self.leave(entry.member);
            self.registry.remove(key);
        }
    }

    /// The worker has exited with 0: it has done what others wait for.
    pub(super) fn done(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key).filter(|entry| entry.worker.is_unique()) else {
            return;
        };
        let name: Box<str> = entry.worker.name().into();
        for dependent in self.registry.dependents(&name) {
            let Some(entry) = self.registry.get_mut(dependent) else { continue };
            for (at, (target, _)) in entry.worker.after().enumerate() {
                entry.done |= u8::from(*target == *name) << at;
            }
        }
        self.changed.push(name);
    }

    /// What follows for other workers, at the end of an event.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        loop {
            if let Some((key, target)) = self.lost.pop() {
                let unstarted = |entry: &&Entry| entry.progress == Progress::Unstarted;
                if let Some(entry) = self.registry.get(key).filter(unstarted) {
                    out.push(Action::Log(Note::DependencyLost(entry.subject(), target)));
                    self.drop_unstarted(key, NotStarted::Dependency, out);
                }
            } else if let Some(name) = self.changed.pop() {
                for key in self.registry.dependents(&name) {
                    self.enqueue(key);
                }
            } else if let Some(number) = self.moved.pop() {
                self.advance(number, now, out);
            } else {
                return;
            }
        }
    }
}
