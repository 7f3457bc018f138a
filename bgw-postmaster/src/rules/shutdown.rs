//! Shutdown: smart, fast, immediate; and its end.
//!
//! | mode | attached programs | workers | when |
//! |---|---|---|---|
//! | smart | may finish, and have workers started | stop signal, SIGKILL after the grace | after the last session has closed |
//! | fast | | stop signal, SIGKILL after the grace, or when `shutdown_timeout` has passed | at once |
//! | the launcher has gone | | as fast; a grace of "for ever" is [`BOUNDED_GRACE`](super::terminate::BOUNDED_GRACE) | at once |
//! | immediate | | SIGQUIT, SIGKILL after [`QUIT_GRACE`] | at once |
//!
//! Smart and fast tell the workers in the order of `stop_order.rs`, immediate all at once.
//!
//! A stricter mode overrides a milder one, never the reverse. Workers that have not started go off
//! the list, and their waiters wake.

use super::action::{Action, Note};
use super::cluster::{Cluster, QUIT_GRACE, Stage};
use super::stop_level::StopLevel;
use super::stop_order::{Place, StopOrder};
use super::timers::Due;
use bgw_core::Pid;
use bgw_core::{AskedBy, NotStarted, ShutdownMode};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// One that is left of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) key: Key,
    /// Its process; `None` if only others of its group are left.
    pub(crate) pid: Option<Pid>,
    /// How long ago it was told; `None`: others come first.
    pub(crate) told_for: Option<Duration>,
    /// When it is killed; `None`: never.
    pub(crate) killed_in: Option<Duration>,
}

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
        if self.crashed.is_some() {
            // All workers are quitting already; the end of the reset sees the request.
            return self.finish_if_all_ended(out);
        }
        match mode {
            ShutdownMode::Smart if self.sessions > 0 => self.stage = Stage::Draining,
            ShutdownMode::Smart => self.terminate_all(now, out),
            ShutdownMode::Fast => {
                if let Some(timeout) = self.policy.shutdown_timeout {
                    self.kill_all_at = self.timers.add_after(now, timeout, Due::KillAll);
                }
                self.terminate_all(now, out);
            }
            ShutdownMode::Immediate => self.quit_all(now, out),
        }
    }

    /// A fast shutdown that comes to its end: nobody is left who could ask for a stricter one.
    pub(super) fn launcher_gone(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.launcher_gone = true;
        self.shutdown_requested(ShutdownMode::Fast, now, out);
        for key in self.registry.keys() {
            self.kill_in_the_end(key, now);
        }
    }

    pub(super) fn session_closed(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.sessions = self.sessions.saturating_sub(1);
        if self.stage == Stage::Draining && self.sessions == 0 {
            self.terminate_all(now, out);
        }
    }

    /// Enters the stopping stage: each worker has its grace.
    fn terminate_all(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.stage = Stage::Stopping;
        self.drop_all_unstarted(NotStarted::ShuttingDown, out);
        self.stop_order = StopOrder::of(self.places(), self.policy.shutdown_order);
        for key in self.registry.keys() {
            if !self.stop_order.waits(key) {
                self.tell(key, now, out);
            }
        }
        self.finish_if_all_ended(out);
    }

    /// All that are left, for their order.
    fn places(&self) -> Vec<Place<'_>> {
        self.registry.iter().map(Place::of).collect()
    }

    /// Tells one worker to end; its grace begins.
    fn tell(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if entry.pid().is_some() {
            entry.ask(AskedBy::Shutdown);
        }
        entry.told_at.get_or_insert(now);
        self.terminate_running(key, now, out);
        if self.launcher_gone {
            self.kill_in_the_end(key, now);
        }
    }

    /// A worker is gone: tells those that have waited for it alone.
    pub(super) fn tell_next(&mut self, gone: Key, now: Instant, out: &mut Vec<Action>) {
        for key in self.stop_order.gone(gone) {
            self.tell(key, now, out);
        }
    }

    /// Who is left of a shutdown, from this slot on.
    pub(crate) fn left(&self, from: u32, now: Instant) -> impl Iterator<Item = Left> {
        let stops = self.shutdown.is_some();
        let entries = self.registry.iter().filter(move |entry| stops && entry.key.index >= from);
        entries.map(move |entry| Left {
            key: entry.key,
            pid: entry.pid(),
            told_for: entry.told_at.map(|at| now.saturating_duration_since(at)),
            killed_in: entry
                .kill_at
                .into_iter()
                .chain(self.kill_all_at)
                .min()
                .map(|at| at.saturating_duration_since(now)),
        })
    }

    /// Enters the stopping stage, or makes it stricter: all workers quit.
    fn quit_all(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.stage = Stage::Stopping;
        self.drop_all_unstarted(NotStarted::ShuttingDown, out);
        self.stop_order.clear();
        self.ask_all(AskedBy::Shutdown);
        for key in self.registry.keys() {
            if let Some(entry) = self.registry.get_mut(key) {
                entry.told_at.get_or_insert(now);
            }
        }
        self.stop_all(StopLevel::Quit, out);
        let at = self.timers.add_after(now, QUIT_GRACE, Due::KillAll);
        self.kill_all_at = self.kill_all_at.into_iter().chain(at).min();
        self.finish_if_all_ended(out);
    }

    /// After the last process: the reset continues, or the postmaster exits.
    pub(super) fn finish_if_all_ended(&mut self, out: &mut Vec<Action>) {
        if !self.all_ended() {
            return;
        }
        if self.crashed.is_some() && (self.shutdown.is_some() || !self.policy.restart_after_crash) {
            self.drop_all_unstarted(NotStarted::ShuttingDown, out);
            self.stage = Stage::Over(1);
        } else if let Some(culprit) = self.crashed {
            self.reset_slots(culprit, out);
        } else if self.stage == Stage::Stopping {
            self.stage = Stage::Over(0);
        }
    }
}
