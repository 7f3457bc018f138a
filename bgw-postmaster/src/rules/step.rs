//! One event: which rule it is for.

use super::action::Action;
use super::cluster::Cluster;
use super::event::Event;
use super::timers::Due;
use std::time::Instant;

impl Cluster {
    /// What follows from `event` at `now`.
    pub(crate) fn step(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        match event {
            Event::Registered { key, worker, notify, terminate } => {
                self.registered(key, *worker, notify, terminate, out);
            }
            Event::TerminateRequested(key) => self.terminate_requested(key, now, out),
            Event::Forked { key, pid } => self.forked(key, pid, now, out),
            Event::ForkFailed { key, errno } => self.fork_failed(key, errno, now, out),
            Event::ChildExited { key, end, dirty, group_left } => {
                self.child_exited(key, end, (dirty, group_left), now, out);
            }
            Event::GroupEnded { leader } => self.group_ended(leader, now, out),
            Event::StartLost { key } => self.start_lost(key, out),
            Event::SlotsReset { new_keys } => self.slots_reset(&new_keys, out),
            Event::PhaseReached(phase) => self.phase_reached(phase, out),
            Event::ShutdownRequested(mode) => self.shutdown_requested(mode, now, out),
            Event::LauncherGone => self.launcher_gone(now, out),
            Event::SessionOpened => self.sessions += 1,
            Event::SessionClosed => self.session_closed(now, out),
            Event::Tick => self.tick(now, out),
            Event::ReloadRequested => self.reload_requested(now, out),
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Due::Restart(key) => self.restart_due(key.into(), now),
                Due::Kill(key) => self.kill_due(key.into(), out),
                Due::KillGroup(leader) => self.kill_group_due(leader, out),
                Due::Reload => self.reload_due(now, out),
                Due::KillAll => self.kill_all_due(out),
            }
        }
    }
}
