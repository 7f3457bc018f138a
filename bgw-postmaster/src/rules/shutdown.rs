//! Shutdown: smart, fast, immediate; and its end.
//!
//! | mode | attached programs | workers | when |
//! |---|---|---|---|
//! | smart | may finish, and have workers started | SIGTERM | after the last session has closed |
//! | fast | | SIGTERM | at once |
//! | immediate | | SIGQUIT, SIGKILL after [`QUIT_GRACE`] | at once |
//!
//! A stricter mode overrides a milder one, never the reverse. Workers that have not started go off
//! the list, and their waiters wake.

use super::action::{Action, Note};
use super::cluster::{Cluster, QUIT_GRACE, Stage};
use super::registry::StopSignal;
use super::timers::Due;
use bgw_core::{NotStarted, ShutdownMode};
use std::time::Instant;

impl Cluster {
    pub(super) fn shutdown_requested(
        &mut self,
        mode: ShutdownMode,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.shutdown.is_some_and(|before| before >= mode) {
            return;
        }
        self.shutdown = Some(mode);
        out.push(Action::Log(Note::ShuttingDown(mode)));
        if self.crashed {
            // All workers are quitting already; the end of the reset sees the request.
            return self.finish_if_all_ended(out);
        }
        match mode {
            ShutdownMode::Smart if self.sessions > 0 => self.stage = Stage::Draining,
            ShutdownMode::Smart | ShutdownMode::Fast => {
                self.stop_cluster(StopSignal::Terminate, now, out);
            }
            ShutdownMode::Immediate => self.stop_cluster(StopSignal::Quit, now, out),
        }
    }

    pub(super) fn session_closed(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.sessions = self.sessions.saturating_sub(1);
        if self.stage == Stage::Draining && self.sessions == 0 {
            self.stop_cluster(StopSignal::Terminate, now, out);
        }
    }

    /// Enters the stopping stage, or makes it stricter.
    fn stop_cluster(&mut self, signal: StopSignal, now: Instant, out: &mut Vec<Action>) {
        self.stage = Stage::Stopping;
        self.drop_all_unstarted(NotStarted::ShuttingDown, out);
        self.stop_all(signal, out);
        if signal == StopSignal::Quit {
            self.timers.add(now + QUIT_GRACE, Due::KillAll);
        }
        self.finish_if_all_ended(out);
    }

    /// After the last process: the reset continues, or the postmaster exits.
    pub(super) fn finish_if_all_ended(&mut self, out: &mut Vec<Action>) {
        if self.registry.running() > 0 {
            return;
        }
        if self.crashed && (self.shutdown.is_some() || !self.policy.restart_after_crash) {
            self.drop_all_unstarted(NotStarted::ShuttingDown, out);
            self.stage = Stage::Over(1);
        } else if self.crashed {
            self.reset_slots(out);
        } else if self.stage == Stage::Stopping {
            self.stage = Stage::Over(0);
        }
    }
}
