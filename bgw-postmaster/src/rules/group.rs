//! What is left of a worker's process group when its leader has ended.
//!
//! The end of the leader is reported at once. The others of its group get a stop signal, and SIGKILL
//! after the grace time, at most [`GROUP_GRACE`]. Until the last of them has ended the worker is not
//! restarted, its slot is not freed, the slots are not made anew, and the postmaster does not exit.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::ending::Ending;
use super::registry::{Progress, StopSignal};
use super::timers::Due;
use bgw_core::{Pid, ShutdownMode};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// How long the processes of a group may take after their leader, at the most.
pub(super) const GROUP_GRACE: Duration = Duration::from_secs(5);

impl Cluster {
    /// The leader `pid`, the process of `key`, has ended, and others of its group live.
    pub(super) fn group_left(&mut self, key: Key, pid: Pid, now: Instant, out: &mut Vec<Action>) {
        let quits = self.crashed || self.shutdown == Some(ShutdownMode::Immediate);
        let signal = if quits { StopSignal::Quit } else { StopSignal::Terminate };
        if let Some(entry) = self.registry.get(key) {
            out.push(Action::Log(Note::GroupLeft(entry.worker.name().into(), pid)));
        }
        out.push(Action::StopGroup(pid, signal));
        self.groups.insert(pid, key);
        let grace = self.policy.terminate_grace.map_or(GROUP_GRACE, |grace| grace.min(GROUP_GRACE));
        self.timers.add_after(now, grace, Due::KillGroup(pid));
    }

    pub(super) fn kill_group_due(&mut self, leader: Pid, out: &mut Vec<Action>) {
        if self.groups.contains_key(&leader) {
            out.push(Action::StopGroup(leader, StopSignal::Kill));
        }
    }

    /// The last process of the group has ended.
    pub(super) fn group_ended(&mut self, leader: Pid, now: Instant, out: &mut Vec<Action>) {
        let Some(key) = self.groups.remove(&leader) else { return };
        let entry = self.registry.get(key);
        if let Some(Progress::Clearing { ending, restart }) = entry.map(|entry| entry.progress) {
            let requested = entry.is_some_and(|entry| entry.terminate);
            match restart.filter(|_| !requested && !self.is_stopping()) {
                Some(_) if self.crashed => {
                    self.registry.set_progress(key, Progress::Resting { due: now });
                }
                Some(due) => self.restart_at(key, due, now),
                None => {
                    self.registry.remove(key);
                    let requested = requested || ending.requested;
                    // Its target was notified when the leader ended.
                    out.push(Action::Unregister(key, Ending { requested, ..ending }));
                }
            }
        }
        self.finish_if_all_ended(out);
    }
}
