//! Rolls: a request becomes one of the rules, and its answer goes to whoever asked.
//!
//! The answer has a connection of its own: the session is free for other requests meanwhile, and a
//! caller that dies changes nothing.

use super::state::Server;
use crate::rules::{Event, Roll, RollObjection};
use bgw_core::internals::{Reply, RollPart, RollRequest};
use bgw_core::{ControlSocket, Refusal, WorkerHandle};
use shmem_slots::Key;
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Duration;

impl Server {
    /// Some of the workers of a roll that is to follow.
    pub(super) fn keep_for_roll(&mut self, session: u64, part: RollPart) {
        self.rolls.lists.add(session, part);
    }

    /// Begins a roll, or refuses it.
    pub(super) fn roll(&mut self, session: u64, mut request: RollRequest) {
        // What the peer has asked for before.
        self.take_in_changes();
        let last = std::mem::take(&mut request.last);
        let list = self.rolls.lists.complete(session, request.before, last);
        let list = list.ok_or_else(|| {
            let detail = "not all workers of the roll came: another one names as many".to_owned();
            (Refusal::Malformed, detail)
        });
        let list = list.and_then(|list| self.may_overlap(&request).map(|()| list));
        let begun = list.and_then(|list| self.workers_to_roll(&list)).and_then(|workers| {
            let pair = self.rolls.pair();
            let (ours, theirs) = pair.map_err(|error| (Refusal::NotAllowed, error.to_string()))?;
            Ok((workers, ours, theirs))
        });
        let (workers, ours, theirs) = match begun {
            Ok(begun) => begun,
            Err((reason, detail)) => {
                return self.reply(session, &Reply::Refused { reason, detail }, None);
            }
        };
        self.reply(session, &Reply::Done, Some(&theirs));
        let number = self.rolls.add(ours);
        let at_once = usize::try_from(request.at_once).unwrap_or(usize::MAX);
        let ready_within = Duration::from_millis(request.ready_within.into());
        let stop_first = request.stop_first;
        self.step(Event::RollRequested(Roll {
            number,
            at_once,
            ready_within,
            stop_first,
            workers,
        }));
    }

    pub(super) fn reply(&mut self, session: u64, reply: &Reply, with: Option<&ControlSocket>) {
        let descriptors: Vec<_> = with.into_iter().map(AsFd::as_fd).collect();
        if !self.sessions.reply(session, reply, &descriptors) {
            self.close_session(session);
        }
    }

    /// Refuses more workers at once than may have a next run beside the present one.
    fn may_overlap(&self, request: &RollRequest) -> Result<(), (Refusal, String)> {
        let (at_once, limit) = (request.at_once, self.cluster.overlap());
        if request.stop_first || at_once <= limit {
            return Ok(());
        }
        let detail = format!("at_once is {at_once}, the limit is {limit}, the cluster's overlap");
        Err((Refusal::NotAllowed, detail))
    }

    fn workers_to_roll(&self, list: &[WorkerHandle]) -> Result<Vec<Key>, (Refusal, String)> {
        if !self.cluster.accepts_rolls() {
            let detail = "the postmaster shuts down, or resets the cluster".to_owned();
            return Err((Refusal::ShuttingDown, detail));
        }
        let mut workers: Vec<Key> = Vec::with_capacity(list.len());
        let mut named = HashSet::with_capacity(list.len());
        for &worker in list {
            let key = Key { index: worker.slot(), generation: worker.generation() };
            // Otherwise it is of an earlier incarnation of the slots.
            let known = self.slot_table.handle(key) == worker;
            let objection = match self.cluster.objection_to_roll(key) {
                _ if !known => Some(RollObjection::NotRegistered),
                None if !named.insert(key) => Some(RollObjection::NamedTwice),
                objection => objection,
            };
            if let Some(objection) = objection {
                let reason = match objection {
                    RollObjection::NotRegistered => Refusal::NotRegistered,
                    _ => Refusal::NotAllowed,
                };
                return Err((reason, format!("worker {worker} {}", objection.text())));
            }
            workers.push(key);
        }
        Ok(workers)
    }
}
