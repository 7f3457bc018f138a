//! Shutdown: smart, fast, immediate; and its end.
//!
//! | mode | attached programs | workers | when |
//! |---|---|---|---|
//! | smart | may finish, and have workers started | SIGTERM, SIGKILL after the grace time | after the last session has closed |
//! | fast | | SIGTERM, SIGKILL after the grace time | at once |
//! | the launcher has gone | | as fast; a grace time of "for ever" is [`LAUNCHER_GRACE`] | at once |
//! | immediate | | SIGQUIT, SIGKILL after [`QUIT_GRACE`] | at once |
//!
//! A stricter mode overrides a milder one, never the reverse. Workers that have not started go off
//! the list, and their waiters wake.

use super::action::{Action, Note};
use super::cluster::{Cluster, QUIT_GRACE, Stage};
use super::registry::StopSignal;
use super::timers::Due;
use bgw_core::{NotStarted, ShutdownMode};
use std::time::{Duration, Instant};

/// How long a worker may take to end when the launcher has gone and no grace time is set.
pub(super) const LAUNCHER_GRACE: Duration = Duration::from_secs(60);

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

    /// A fast shutdown that comes to its end: nobody is left who could ask for a stricter one.
    pub(super) fn launcher_gone(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.shutdown_requested(ShutdownMode::Fast, now, out);
        // Beyond the clock is for ever, too.
        let grace = self.policy.terminate_grace.filter(|&grace| now.checked_add(grace).is_some());
        self.timers.add_after(now, grace.unwrap_or(LAUNCHER_GRACE), Due::KillAll);
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
        match (signal, self.policy.terminate_grace) {
            (StopSignal::Terminate, None) => {}
            (StopSignal::Terminate, Some(grace)) => {
                self.timers.add_after(now, grace, Due::KillAll);
            }
            (StopSignal::Quit | StopSignal::Kill, _) => {
                self.timers.add_after(now, QUIT_GRACE, Due::KillAll);
            }
        }
        self.finish_if_all_ended(out);
    }

    /// After the last process: the reset continues, or the postmaster exits.
    pub(super) fn finish_if_all_ended(&mut self, out: &mut Vec<Action>) {
        if !self.all_ended() {
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
