//! Shutdown: smart, fast, immediate.
//!
//! | mode | programs attached | workers | when |
//! |---|---|---|---|
//! | smart | may finish, and have workers started | SIGTERM | after the last program has gone |
//! | fast | | SIGTERM | at once |
//! | immediate | | SIGQUIT, SIGKILL after [`super::QUIT_GRACE`] | at once |
//!
//! A stricter mode overrides a milder one, never the reverse. Workers that have not started go off
//! the list, and whoever waits for them is told.

use super::{Action, Cluster, Note, QUIT_GRACE, Stage};
use crate::registry::Told;
use crate::timers::Due;
use bgw_core::NotStarted;
use bgw_core::control::ShutdownMode;
use std::time::Instant;

impl Cluster {
    pub(super) fn shutdown_asked(
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
            // Everybody is quitting already; the end of the reset finds the request.
            return self.finish_if_all_gone(out);
        }
        match mode {
            ShutdownMode::Smart if self.sessions > 0 => self.stage = Stage::Draining,
            ShutdownMode::Smart | ShutdownMode::Fast => {
                self.stop_workers(Told::Terminate, now, out);
            }
            ShutdownMode::Immediate => self.stop_workers(Told::Quit, now, out),
        }
    }

    /// Enters the stopping stage, or is stricter in it.
    pub(super) fn stop_workers(&mut self, told: Told, now: Instant, out: &mut Vec<Action>) {
        self.stage = Stage::Stopping;
        self.drop_all_unstarted(NotStarted::ShuttingDown, out);
        for key in self.registry.keys() {
            self.tell(key, told, out);
        }
        if told == Told::Quit {
            self.timers.add(now + QUIT_GRACE, Due::KillAll);
        }
        self.finish_if_all_gone(out);
    }
}
