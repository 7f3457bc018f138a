//! Named groups: whom the end of a member concerns, and how they stop and start again.
//!
//! | a member | one_for_one | rest_for_one | one_for_all |
//! |---|---|---|---|
//! | ends U | nobody | nobody | nobody |
//! | ends R | it | it and later | all |
//! | fails while the round starts | it | it and later | all, those started stop again |
//! | X | reset | reset | reset |
//!
//! The letters are those of `verdict`. A round is what one failure leads to: those concerned stop,
//! the last one first, one after the other; the failed one's pause; they start in order, each when
//! the one before is ready. While a round stops or pauses, those concerned are *held*: their ends
//! belong to the round, and they do not start. A member that waits for its phase, or for a worker
//! that it starts after, is passed over, and starts by itself later.
//!
//! A round looks at its members and at nothing else, whenever one of them has changed: so it goes
//! on whichever of them is terminated, or lost, meanwhile.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::ending::{Ending, Exit};
use super::members::{Place, Round};
use super::registry::{Entry, Progress};
use super::timers::Due;
use super::verdict::Verdict;
use bgw_core::{AskedBy, GivenUp, NotStarted, WorkerHandle};
use shmem_slots::Key;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

impl Cluster {
    /// The number of the group of this name.
    pub(super) fn group_named(&self, name: &str) -> Option<usize> {
        self.named.iter().position(|members| members.name() == name)
    }

    /// A worker that is on the list joins its group.
    pub(super) fn join(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(number) = entry.worker.group().and_then(|name| self.group_named(name)) else {
            return;
        };
        let registered_at = entry.registered_at;
        let place = self.named.get_mut(number).map(|members| members.join(key, registered_at));
        if let Some(entry) = self.registry.get_mut(key) {
            entry.member = place.map(|place| (number, place));
        }
    }

    /// A worker that is off the list leaves its group.
    pub(super) fn leave(&mut self, member: Option<(usize, Place)>) {
        if let Some((number, place)) = member {
            if let Some(members) = self.named.get_mut(number) {
                members.leave(place);
                self.moved.push(number);
            }
        }
    }

    /// What the end of a held member leads to: it belongs to the round.
    pub(super) fn in_round(&self, key: Key, verdict: Verdict) -> Verdict {
        let Some(entry) = self.registry.get(key).filter(|entry| entry.held) else { return verdict };
        match verdict {
            Verdict::Reset => Verdict::Reset,
            _ if entry.terminate || entry.never_restarts() || entry.given_up.is_some() => {
                Verdict::Unregister
            }
            _ => Verdict::InRound,
        }
    }

    /// A member has ended while its round stops: it starts with the others.
    pub(super) fn waits_for_round(
        &mut self,
        key: Key,
        exit: Exit,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.recycled = None;
        let pause = Some(Duration::ZERO);
        let ending = Ending { pause, ..entry.ending_of_process(exit.end) };
        self.rests(key, ending, exit.group_left, now, now, out);
    }

    /// Counts the failure of a member. True: its group is given up.
    pub(super) fn group_fails(
        &mut self,
        key: Key,
        exit: Exit,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let member = self.registry.get(key).and_then(|entry| entry.member);
        let Some((number, _)) = member else { return false };
        let Some(members) = self.named.get_mut(number) else { return false };
        let Some(limit) = members.failed(now) else { return false };
        let others: Vec<_> =
            members.all().map(|(_, key)| key).filter(|&other| other != key).collect();
        // The incarnation is that of the report in which it is.
        let with = GivenUp::WithGroup { failed: WorkerHandle::new(key.index, key.generation, 0) };
        for &other in &others {
            self.hold(other, now);
            if let Some(entry) = self.registry.get_mut(other).filter(|entry| !entry.terminate) {
                entry.given_up = Some(with);
            }
        }
        let round = Round { stopping: others, starting: [].into(), failed: key, over: true };
        if let Some(members) = self.named.get_mut(number) {
            members.round = Some(round);
            self.moved.push(number);
        }
        if let Some(entry) = self.registry.get_mut(key) {
            entry.given_up = Some(limit);
            out.push(Action::Log(Note::GivenUp(entry.subject(), exit.end.cause, limit)));
        }
        true
    }

    /// A member is to be restarted: a round begins, if that concerns others.
    pub(super) fn begin_round(&mut self, key: Key, now: Instant) {
        let member = self.registry.get(key).and_then(|entry| entry.member);
        let Some((number, place)) = member else { return };
        let Some(members) = self.named.get_mut(number) else { return };
        let mut all: BTreeMap<_, _> = members.concerned(place);
        if all.is_empty() || members.round.as_ref().is_some_and(|round| round.over) {
            return;
        }
        // Those of the round before that have not started yet start in this one.
        let before = members.round.take();
        all.extend(before.into_iter().flat_map(|round| round.starting));
        for &other in all.values() {
            if other != key {
                self.hold(other, now);
            }
        }
        if let Some(entry) = self.registry.get_mut(key) {
            entry.held = true;
        }
        let stopping = all.values().copied().collect();
        let round =
            Round { stopping, starting: all.into_iter().collect(), failed: key, over: false };
        if let Some(members) = self.named.get_mut(number) {
            members.round = Some(round);
            self.moved.push(number);
        }
    }

    /// After a reset the members start in order.
    pub(super) fn start_in_order(&mut self) {
        for (number, members) in self.named.iter_mut().enumerate() {
            let starting = members.all().collect::<std::collections::VecDeque<_>>();
            let Some(&(_, failed)) = starting.front() else { continue };
            for &(_, key) in &starting {
                if let Some(entry) = self.registry.get_mut(key) {
                    entry.held = true;
                }
            }
            members.round = Some(Round { stopping: Vec::new(), starting, failed, over: false });
            self.moved.push(number);
        }
    }

    /// A member takes part in a round that stops. Its own pause is over.
    fn hold(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.held = true;
        match entry.progress {
            Progress::Resting { due } => {
                self.timers.remove(due, Due::Restart(key.into()));
                self.registry.set_progress(key, Progress::Unstarted);
            }
            Progress::Clearing { restart: Some(_) } => {
                let progress = Progress::Clearing { restart: Some(now) };
                self.registry.set_progress(key, progress);
            }
            _ => {}
        }
    }

    /// Something has changed in a group: its round goes as far as it can.
    pub(super) fn advance(&mut self, number: usize, now: Instant, out: &mut Vec<Action>) {
        if !self.accepts_workers() {
            return;
        }
        let Some(mut round) = self.named.get_mut(number).and_then(|members| members.round.take())
        else {
            return;
        };
        let waits = self.stops(&mut round, now, out) || self.starts(&mut round);
        if let Some(members) = self.named.get_mut(number).filter(|_| waits) {
            members.round = Some(round);
        }
    }

    /// True while somebody has to stop, or the pause of the failed one lasts.
    fn stops(&mut self, round: &mut Round, now: Instant, out: &mut Vec<Action>) -> bool {
        while let Some(&key) = round.stopping.last() {
            match self.registry.get(key).map(|entry| entry.progress) {
                Some(Progress::Running { stop_signal, .. }) => {
                    if stop_signal.is_none() {
                        self.stop_member(key, now, out);
                    }
                    return true;
                }
                Some(Progress::Clearing { .. }) => return true,
                Some(Progress::Unstarted | Progress::Resting { .. }) if round.over => {
                    self.drop_unstarted(key, NotStarted::GroupGivenUp, out);
                }
                Some(Progress::Unstarted | Progress::Resting { .. }) | None => {}
            }
            round.stopping.pop();
        }
        let failed = self.registry.get(round.failed).filter(|entry| entry.held);
        failed.is_some_and(|entry| {
            matches!(entry.progress, Progress::Resting { .. } | Progress::Clearing { .. })
        })
    }

    /// The stop signal now, and SIGKILL after the grace, which is not for ever.
    fn stop_member(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        if let Some(entry) = self.registry.get_mut(key) {
            entry.ask(AskedBy::Group);
        }
        self.make_place(key, now, out);
    }

    /// Starts the next members of a round. True while one that has been released is not ready yet.
    fn starts(&mut self, round: &mut Round) -> bool {
        while let Some(&(_, key)) = round.starting.front() {
            if let Some(entry) = self.registry.get_mut(key) {
                if std::mem::take(&mut entry.held) {
                    self.enqueue(key);
                }
            }
            if self.registry.get(key).is_some_and(still_starts) {
                return true;
            }
            round.starting.pop_front();
        }
        false
    }
}

/// True for a member that was let go, and for which the next one waits.
fn still_starts(entry: &Entry) -> bool {
    match entry.progress {
        // Neither its phase nor another worker keeps it from starting.
        Progress::Unstarted => entry.queued,
        Progress::Running { .. } => entry.worker.ready().is_some() && entry.ready_at.is_none(),
        Progress::Resting { .. } | Progress::Clearing { .. } => true,
    }
}
