//! What is left of a worker's process group when its leader has ended.
//!
//! The end of the leader is reported at once. The others in its group get a stop signal, and
//! SIGKILL after the grace, or after [`GROUP_GRACE`] if that is shorter; a clock that ran for the
//! leader goes on for them. Until the last of them has ended the worker is not restarted, its slot
//! is not freed, the slots are not made anew, and the postmaster does not exit.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::ending::Ending;
use super::registry::Progress;
use super::stop_level::StopLevel;
use super::timers::Due;
use bgw_core::{AskedBy, Pid, ShutdownMode};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// The longest time that the rest of a group gets after the end of its leader.
pub(super) const GROUP_GRACE: Duration = Duration::from_secs(5);

impl Cluster {
    /// The leader `pid`, the process of `key`, has ended, and others of its group live. If its
    /// clock ran, it was to be killed at `kill_at`.
    pub(super) fn group_left(
        &mut self,
        key: Key,
        pid: Pid,
        kill_at: Option<Instant>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let quits = self.crashed.is_some() || self.shutdown == Some(ShutdownMode::Immediate);
        let signal = if quits { StopLevel::Quit } else { StopLevel::Terminate };
        if let Some(entry) = self.registry.get(key) {
            out.push(Action::Log(Note::GroupLeft(entry.subject())));
        }
        out.push(Action::StopGroup(pid, signal));
        self.groups.insert(pid, key);
        let grace = self.registry.get(key).and_then(|entry| self.grace_of(&entry.worker));
        let grace = grace.map_or(GROUP_GRACE, |grace| grace.min(GROUP_GRACE));
        if let Some(at) = kill_at.into_iter().chain(now.checked_add(grace)).min() {
            self.timers.add(at, Due::KillGroup(pid));
            if let Some(entry) = self.registry.get_mut(key) {
                entry.kill_at = Some(at);
            }
        }
    }

    pub(super) fn kill_group_due(&mut self, leader: Pid, out: &mut Vec<Action>) {
        if self.groups.contains_key(&leader) {
            out.push(Action::StopGroup(leader, StopLevel::Kill));
        }
    }

    /// The last process of the group has ended.
    pub(super) fn group_ended(&mut self, leader: Pid, now: Instant, out: &mut Vec<Action>) {
        let Some(key) = self.groups.remove(&leader) else { return };
        self.end_clearing(key, now, out);
        self.finish_if_all_ended(out);
    }

    /// Something that was left of a worker has ended: if that was the last of it, what follows.
    pub(super) fn end_clearing(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let others = self.registry.get(key).is_some_and(|entry| entry.beside().is_some())
            || self.groups.values().any(|&of| of == key);
        if others {
            return;
        }
        let ended = self.registry.get_mut(key).filter(|entry| entry.pid().is_none());
        let ending = ended.and_then(|entry| {
            entry.kill_at = None;
            entry.cleared.take()
        });
        let entry = self.registry.get(key);
        let progress = entry.map(|entry| entry.progress);
        if let (Some(Progress::Clearing { restart }), Some(ending)) = (progress, ending) {
            let requested = entry.is_some_and(|entry| entry.terminate);
            match restart.filter(|_| !requested && !self.is_stopping()) {
                Some(_) if self.crashed.is_some() => {
                    self.registry.set_progress(key, Progress::Resting { due: now });
                }
                Some(due) => self.restart_at(key, due, now),
                None => {
                    // Who ended its run ended the registration, unless that was to go on.
                    let later = entry.and_then(|entry| entry.asked_by);
                    let later = later.max(self.is_stopping().then_some(AskedBy::Shutdown));
                    let asked_by = ending.asked_by.max(later.filter(|_| restart.is_some()));
                    self.take_off(key);
                    // Its target was notified when the leader ended.
                    out.push(Action::Unregister(key, Ending { asked_by, pause: None, ..*ending }));
                }
            }
        }
        if self.registry.get(key).is_none_or(|entry| entry.pid().is_none()) {
            self.tell_next(key, now, out);
        }
    }
}
