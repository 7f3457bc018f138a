//! The rules: what follows from what. Pure: no system call, no shared memory, no clock.
//!
//! [`Cluster::step`] takes what happened ([`Event`]) and the time, changes the private state, and
//! says what is to be done ([`Action`]), in order. The executor does it and feeds back what came of
//! it (a fork's pid, a fork's failure) as further events. So every start, restart, crash and
//! shutdown rule is tested by a table, without a process.
//!
//! As in PostgreSQL's postmaster, *where* we are ([`Stage`]) is kept apart from *why*
//! ([`Cluster::shutdown`], [`Cluster::crashed`]).
//!
//! ```text
//!             smart, sessions attached        last session gone
//!  Accepting ──────────────────────▶ Draining ───────────────▶ Stopping ──▶ Over(code)
//!      │  fast, immediate; smart without sessions                 ▲
//!      └──────────────────────────────────────────────────────────┘
//!      crash: `crashed` is set, everybody is told to quit; when the last is gone the slots are made
//!      anew and `crashed` is cleared (or, with a shutdown asked for or no restart wanted: Over(1))
//! ```

mod crash;
mod exit;
mod shutdown;
mod start;
#[cfg(test)]
mod tests;

pub use exit::{Verdict, judge};

use crate::registry::{Entry, NotifyTarget, Progress, Registry, Told};
use crate::timers::{Due, Timers};
use bgw_core::control::ShutdownMode;
use bgw_core::{BackgroundWorker, ExitCause, NotStarted, Pid, StartTime};
use shmem_slots::Key;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a process that was told to quit at once may take.
pub const QUIT_GRACE: Duration = Duration::from_secs(5);

/// How soon a failed fork is tried again, at the earliest. The system is short of something, or the
/// process has a second thread: at once it would fail again, and an interval of 0 would be a busy loop
/// that fills the log.
pub const FORK_RETRY: Duration = Duration::from_millis(100);

/// What happened. Closed on purpose: this list is everything that can move the postmaster.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new slot was found, its contents copied and checked.
    Registered {
        /// Its slot and generation.
        key: Key,
        /// The checked copy.
        worker: Box<BackgroundWorker>,
        /// Who is told; already resolved to a living process.
        notify: Option<NotifyTarget>,
        /// Its end was asked for before we saw it.
        terminate: bool,
    },
    /// Somebody asked for the end of a worker.
    TerminateAsked(Key),
    /// A fork succeeded.
    Forked {
        /// Whose.
        key: Key,
        /// The new process.
        pid: Pid,
    },
    /// A fork failed.
    ForkFailed {
        /// Whose.
        key: Key,
        /// The error number.
        errno: i32,
    },
    /// A worker process ended.
    ChildExited {
        /// Whose.
        key: Key,
        /// How.
        cause: ExitCause,
        /// It left its clean-up mark behind.
        dirty: bool,
    },
    /// A spare that was to become the worker died before it took it: the worker has not begun.
    StartLost {
        /// Whose.
        key: Key,
    },
    /// The embedding program says that the cluster has come so far.
    PhaseReached(StartTime),
    /// Somebody asked for a shutdown.
    ShutdownAsked(ShutdownMode),
    /// A program attached.
    SessionOpened,
    /// An attached program went.
    SessionClosed,
    /// Time has passed.
    Tick,
    /// SIGHUP: the settings are to be read again.
    ReloadAsked,
}

/// What is to be done. An order, carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish that the worker runs, and wake its waiters.
    ReportStarted(Key, Pid),
    /// Publish that the worker has not started after all.
    ReportUnstarted(Key),
    /// Publish that the worker has ended and will come again, and wake its waiters.
    ReportStopped(Key, Ending),
    /// Publish how the worker ended for good, free its slot, and wake its waiters.
    Unregister(Key, Ending),
    /// SIGUSR1 to whoever asked to be told. Always after the fact.
    Notify(NotifyTarget),
    /// Tell a worker to end.
    Tell(Key, Told),
    /// SIGHUP to every worker.
    PassReload,
    /// All processes are gone: make the slots anew and call [`Cluster::rebuild`].
    ResetShared,
    /// Publish the phase.
    PublishPhase(StartTime),
    /// Say a line.
    Log(Note),
}

/// How a worker ended, as far as the rules know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Exit code, signal, or why it never ran.
    pub cause: ExitCause,
    /// How many times it was started after the first.
    pub restarts: u32,
    /// Somebody asked for its end.
    pub requested: bool,
}

impl Ending {
    fn of(entry: &Entry, cause: ExitCause) -> Self {
        let told = matches!(entry.progress, Progress::Running { told: Some(_), .. });
        Self { cause, restarts: entry.restarts, requested: entry.terminate || told }
    }
}

/// What the postmaster says of itself. Names the worker, which may be off the list by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A worker was put on the list: its name.
    Registering(Box<str>),
    /// A worker was taken off the list: its name.
    Unregistering(Box<str>),
    /// A worker ended: its type.
    Exited(Box<str>, ExitCause),
    /// Everybody is told to quit because one of this type crashed.
    TerminatingOthers(Box<str>),
    /// The crash is dealt with.
    Reinitialising,
    /// A fork failed: the worker's name, the error number.
    ForkFailed(Box<str>, i32),
    /// A shutdown began.
    ShuttingDown(ShutdownMode),
    /// Those that did not quit in time are killed.
    KillingStragglers(usize),
    /// One of this name that did not terminate in its grace time is killed.
    KillingStraggler(Box<str>),
}

/// Where the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Normal service.
    Accepting,
    /// Smart shutdown: attached programs may finish, and may still have workers started.
    Draining,
    /// No worker starts any more; the last ones end.
    Stopping,
    /// Nothing is left; the postmaster ends with this exit code.
    Over(u8),
}

/// Settings of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// After a crash: begin again (`true`) or end.
    pub restart_after_crash: bool,
    /// How long a worker that was asked to terminate may take before it is killed; `None`: for ever.
    pub terminate_grace: Option<Duration>,
    /// The phase that the cluster reaches by itself; later ones are driven by the program.
    pub initial_phase: StartTime,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart_after_crash: true,
            terminate_grace: None,
            initial_phase: StartTime::RecoveryFinished,
        }
    }
}

/// The private state of the postmaster.
#[derive(Debug)]
pub struct Cluster {
    policy: Policy,
    stage: Stage,
    phase: StartTime,
    shutdown: Option<ShutdownMode>,
    crashed: bool,
    sessions: usize,
    /// The registered workers.
    pub registry: Registry,
    queue: VecDeque<Key>,
    timers: Timers,
}

impl Cluster {
    /// A cluster without workers.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            stage: Stage::Accepting,
            phase: policy.initial_phase,
            shutdown: None,
            crashed: false,
            sessions: 0,
            registry: Registry::default(),
            queue: VecDeque::new(),
            timers: Timers::default(),
        }
    }

    /// Where the cluster is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// The phase that it has reached.
    #[must_use]
    pub const fn phase(&self) -> StartTime {
        self.phase
    }

    /// Which shutdown was asked for.
    #[must_use]
    pub const fn shutdown(&self) -> Option<ShutdownMode> {
        self.shutdown
    }

    /// True from a crash until the slots were made anew.
    #[must_use]
    pub const fn crashed(&self) -> bool {
        self.crashed
    }

    /// When [`Event::Tick`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// True when new workers may be put on the list.
    #[must_use]
    pub const fn takes_registrations(&self) -> bool {
        matches!(self.stage, Stage::Accepting | Stage::Draining) && !self.crashed
    }

    /// True when programs may attach.
    #[must_use]
    pub const fn takes_sessions(&self) -> bool {
        matches!(self.stage, Stage::Accepting)
    }

    /// What follows from `event` at `now`.
    pub fn step(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        match event {
            Event::Registered { key, worker, notify, terminate } => {
                self.registered(key, *worker, notify, terminate, out);
            }
            Event::TerminateAsked(key) => self.terminate_asked(key, now, out),
            Event::Forked { key, pid } => self.forked(key, pid, now, out),
            Event::ForkFailed { key, errno } => self.fork_failed(key, errno, now, out),
            Event::ChildExited { key, cause, dirty } => {
                self.child_exited(key, cause, dirty, now, out);
            }
            Event::StartLost { key } => self.start_lost(key, out),
            Event::PhaseReached(phase) => self.phase_reached(phase, out),
            Event::ShutdownAsked(mode) => self.shutdown_asked(mode, now, out),
            Event::SessionOpened => self.sessions += 1,
            Event::SessionClosed => self.session_closed(now, out),
            Event::Tick => self.tick(now, out),
            Event::ReloadAsked => out.push(Action::PassReload),
        }
    }

    fn session_closed(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.sessions = self.sessions.saturating_sub(1);
        if self.stage == Stage::Draining && self.sessions == 0 {
            self.stop_workers(Told::Terminate, now, out);
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Due::Restart(key) => self.restart_due(key.into(), now),
                Due::Kill(key) => self.kill_due(key.into(), out),
                Due::KillAll => self.kill_all_due(out),
            }
        }
    }

    /// A worker that does not run goes off the list; its waiters and its notify target are told.
    fn drop_unstarted(&mut self, key: Key, why: NotStarted, out: &mut Vec<Action>) {
        if let Some(entry) = self.registry.remove(key) {
            self.told_gone(&entry, ExitCause::NotStarted(why), out);
        }
    }

    /// The slot is free before anybody is told, so that the one who is told finds it free.
    fn told_gone(&mut self, entry: &Entry, cause: ExitCause, out: &mut Vec<Action>) {
        out.push(Action::Log(Note::Unregistering(entry.worker.name().into())));
        out.push(Action::Unregister(entry.key, Ending::of(entry, cause)));
        out.extend(entry.notify.map(Action::Notify));
    }

    /// Tells a running worker to end, unless it was told something as strict already.
    fn tell(&mut self, key: Key, told: Told, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if let Progress::Running { told: before, .. } = &mut entry.progress {
            let strictness = |told: Option<Told>| match told {
                None => 0,
                Some(Told::Terminate) => 1,
                Some(Told::Quit) => 2,
                Some(Told::Die) => 3,
            };
            if strictness(Some(told)) > strictness(*before) {
                *before = Some(told);
                out.push(Action::Tell(key, told));
            }
        }
    }
}
