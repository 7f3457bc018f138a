//! How a worker is made to end: a terminate request, stop signals, and SIGKILL when its time is over.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::registry::{Progress, StopSignal};
use super::timers::Due;
use bgw_core::NotStarted;
use shmem_slots::Key;
use std::time::Instant;

impl Cluster {
    pub(super) fn terminate_requested(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if entry.terminate {
            return;
        }
        entry.terminate = true;
        let clearing = matches!(entry.progress, Progress::Clearing { .. });
        if entry.pid().is_some() {
            self.terminate_running(key, now, out);
        } else if !self.crashed && !clearing {
            self.drop_unstarted(key, NotStarted::Terminated, out);
        }
    }

    /// SIGTERM now, and SIGKILL after the grace time, if there is one.
    pub(super) fn terminate_running(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        self.stop(key, StopSignal::Terminate, out);
        let Some(grace) = self.policy.terminate_grace else { return };
        let at = self.timers.add_after(now, grace, Due::Kill(key.into()));
        if let Some(entry) = self.registry.get_mut(key) {
            entry.kill_at = at;
        }
    }

    /// Sends a running worker a stop signal, unless it was sent one as strict before.
    pub(super) fn stop(&mut self, key: Key, signal: StopSignal, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if let Progress::Running { stop_signal: sent, .. } = &mut entry.progress {
            if sent.is_none_or(|sent| sent < signal) {
                *sent = Some(signal);
                out.push(Action::Stop(key, signal));
            }
        }
    }

    /// Sends every running worker a stop signal.
    pub(super) fn stop_all(&mut self, signal: StopSignal, out: &mut Vec<Action>) {
        for key in self.registry.keys() {
            self.stop(key, signal, out);
        }
    }

    /// The grace time of one worker is over.
    pub(super) fn kill_due(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get(key) else { return };
        let sent = Some(StopSignal::Terminate);
        if matches!(entry.progress, Progress::Running { stop_signal, .. } if stop_signal == sent) {
            out.push(Action::Log(Note::Killing(entry.worker.name().into())));
            self.stop(key, StopSignal::Kill, out);
        }
    }

    /// The time of all workers is over.
    pub(super) fn kill_all_due(&mut self, out: &mut Vec<Action>) {
        let ending = self.crashed || self.is_stopping();
        if !ending || self.all_ended() {
            return;
        }
        if self.registry.running() > 0 {
            out.push(Action::Log(Note::KillingAll(self.registry.running())));
        }
        self.stop_all(StopSignal::Kill, out);
        let groups = self.groups.keys();
        out.extend(groups.map(|&leader| Action::StopGroup(leader, StopSignal::Kill)));
    }
}
