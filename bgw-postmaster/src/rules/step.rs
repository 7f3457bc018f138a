//! Gives each event to its rule.

use super::action::Action;
use super::cluster::Cluster;
use super::event::Event;
use super::registry::Newcomer;
use super::timers::Due;
use bgw_core::{AskedBy, NotStarted};
use std::time::Instant;

impl Cluster {
    /// What follows from `event` at `now`.
    ///
    /// A start and an end have rules of their own out of line, and so has the rest: a page of the
    /// stack that is written to between two forks costs a copy, so no rule's frame is part of
    /// another event's.
    #[inline(never)]
    pub(crate) fn step(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        match event {
            Event::Registered { key, worker, notify, terminate, registered_at } => {
                let new = Newcomer { key, worker, notify, terminate, registered_at };
                self.registered(new, out);
            }
            Event::Forked { key, pid, random } => self.forked(key, pid, random, now, out),
            Event::ChildExited { key, exit } => self.child_exited(key, exit, now, out),
            other => self.rarer(other, now, out),
        }
        if !self.rolls.is_empty() {
            self.go_on_rolling(now, out);
        }
        if !self.berths.due.is_empty() {
            self.lend_berths(out);
        }
        self.settle(now, out);
    }

    #[inline(never)]
    fn rarer(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        match event {
            // `step` has them.
            Event::Registered { .. } | Event::Forked { .. } | Event::ChildExited { .. } => {}
            Event::TerminateRequested(key) => {
                self.terminate_requested(key, AskedBy::Terminate, now, out);
            }
            Event::Orphaned(key) => self.terminate_requested(key, AskedBy::Submitter, now, out),
            Event::ForkFailed { key, errno, random } => {
                self.fork_failed(key, errno, random, now, out);
            }
            Event::TemplateFailed { key, random } => {
                self.not_started(key, NotStarted::TemplateFailed, random, now, out);
            }
            Event::Ready(key) => self.ready(key, now, out),
            Event::ReadyBeside(key) => self.ready_beside(key, now, out),
            Event::BesideStillStarts { key, until } => {
                self.beside_still_starts(key, until, now, out);
            }
            Event::JobsDone(key) => self.jobs_done(key, now, out),
            Event::MemoryRead { key, bytes } => self.memory_read(key, bytes, now, out),
            Event::Hangs(key) => self.hangs(key, now, out),
            Event::BeatsRead { look, beats } => self.beats_read(look, &beats, now, out),
            Event::StillStarts { key, until } => self.still_starts(key, until, now, out),
            Event::KillRequested(key) => self.kill_requested(key, now, out),
            Event::RestartRequested(key) => self.restart_requested(key, now),
            Event::GroupEnded { leader } => self.group_ended(leader, now, out),
            Event::StartLost { key, pid } => self.start_lost(key, pid, now, out),
            Event::SlotsReset { new_keys } => self.slots_reset(&new_keys, now, out),
            Event::PhaseReached(phase) => self.phase_reached(phase, out),
            Event::ShutdownRequested(mode) => self.shutdown_requested(mode, now, out),
            Event::LauncherGone => self.launcher_gone(now, out),
            Event::SessionOpened => self.sessions += 1,
            Event::SessionClosed => self.session_closed(now, out),
            Event::Tick => self.tick(now, out),
            Event::ReloadRequested => self.reload_requested(now, out),
            Event::RollRequested(roll) => self.roll_requested(roll),
        }
    }

    #[cold]
    #[inline(never)]
    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Due::Restart(key) => self.restart_due(key.into(), now),
                Due::Start(key) => self.start_due(key.into(), out),
                Due::Look(every) => self.look_due(every, now, out),
                Due::Kill(key) => self.kill_due(key.into(), out),
                Due::KillGroup(leader) => self.kill_group_due(leader, out),
                Due::Recycle(key) => self.lifetime_over(key.into(), now, out),
                Due::Beside(key) => self.beside_due(key.into(), now, out),
                // Rolls are looked at after each event.
                Due::Roll(_) => {}
                Due::Memory => self.memory_due(now, out),
                Due::Reload => self.reload_due(now, out),
                Due::KillAll => self.kill_all_due(out),
            }
        }
    }
}
