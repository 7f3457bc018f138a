//! The private state of the postmaster, and how a worker leaves it.

use super::action::{Action, News, Note};
use super::ending::{Culprit, Ending, ProcessEnd};
use super::lapse::reported;
use super::members::Members;
use super::overlap::Berths;
use super::pulse::Rhythms;
use super::registry::{Entry, Progress, Registry};
use super::rolls::Rolling;
use super::run_limits::Watched;
use super::shutdown_order::ShutdownOrder;
use super::stop_order::StopOrder;
use super::timers::{Due, Timers};
use crate::named_group::Group;
use crate::quick_map::QuickMap;
use bgw_core::{ExitCause, NotStarted, Pid, ShutdownMode, StartTime};
use shmem_slots::Key;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a process may take after SIGQUIT.
pub(super) const QUIT_GRACE: Duration = Duration::from_secs(5);

/// Where the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Normal service.
    Accepting,
    /// Smart shutdown: attached programs may finish, and may still have workers started.
    Draining,
    /// No worker starts any more; the last ones end.
    Stopping,
    /// Nothing is left; the postmaster exits with this code.
    Over(u8),
}

/// Settings of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// After a crash: reset the cluster (`true`) or shut down.
    pub(crate) restart_after_crash: bool,
    /// How long a worker may take to end before it is killed; `None`: for ever.
    pub(crate) terminate_grace: Option<Duration>,
    /// How long a fast shutdown may take before whoever is left is killed; `None`: for ever.
    pub(crate) shutdown_timeout: Option<Duration>,
    /// In which order a shutdown stops the workers.
    pub(crate) shutdown_order: ShutdownOrder,
    /// The phase that the cluster begins in; the program reports later ones.
    pub(crate) initial_phase: StartTime,
    /// How many workers may have a second process at a time.
    pub(crate) overlap: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart_after_crash: true,
            terminate_grace: None,
            shutdown_timeout: None,
            shutdown_order: ShutdownOrder::default(),
            initial_phase: StartTime::RecoveryFinished,
            overlap: 1,
        }
    }
}

/// The private state of the postmaster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(super) policy: Policy,
    pub(super) stage: Stage,
    pub(super) phase: StartTime,
    /// The strictest shutdown that was requested.
    pub(super) shutdown: Option<ShutdownMode>,
    /// Who has still to be told to end.
    pub(super) stop_order: StopOrder,
    /// When whoever is left is killed.
    pub(super) kill_all_at: Option<Instant>,
    /// Nobody is left who could ask for a stricter shutdown.
    pub(super) launcher_gone: bool,
    /// Whose crash it was, from then until the slots are made anew.
    pub(super) crashed: Option<Culprit>,
    /// How many programs are attached.
    pub(super) sessions: usize,
    pub(super) registry: Registry,
    /// Workers to start, in this order.
    pub(super) start_queue: VecDeque<Key>,
    pub(super) timers: Timers,
    pub(super) rhythms: Rhythms,
    /// Workers whose memory is looked at.
    pub(super) watched: Watched,
    pub(super) berths: Berths,
    /// The rolls under way.
    pub(super) rolls: Vec<Rolling>,
    /// Process groups that live on without their leader, which was this worker's process.
    pub(super) groups: QuickMap<Pid, Key>,
    /// Unique names whose workers have changed in a way that others may wait for.
    pub(super) changed: Vec<Box<str>>,
    /// Workers that cannot start any more, each with the name of the worker that it has lost.
    pub(super) lost: Vec<(Key, Box<str>)>,
    /// The names of the templates.
    pub(super) templates: Vec<Box<str>>,
    /// The named groups.
    pub(super) named: Vec<Members>,
    /// Named groups in which something has changed.
    pub(super) moved: Vec<usize>,
    /// Until when further reload requests are postponed.
    pub(super) reload_after: Option<Instant>,
}

impl Cluster {
    /// A cluster without workers.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            stage: Stage::Accepting,
            phase: policy.initial_phase,
            shutdown: None,
            stop_order: StopOrder::default(),
            kill_all_at: None,
            launcher_gone: false,
            crashed: None,
            sessions: 0,
            registry: Registry::default(),
            start_queue: VecDeque::new(),
            timers: Timers::default(),
            rhythms: Rhythms::default(),
            watched: Watched::default(),
            berths: Berths::default(),
            rolls: Vec::new(),
            groups: QuickMap::default(),
            changed: Vec::new(),
            templates: Vec::new(),
            named: Vec::new(),
            moved: Vec::new(),
            lost: Vec::new(),
            reload_after: None,
        }
    }

    /// The same with these named groups.
    pub(crate) fn with_groups(mut self, groups: Vec<Group>) -> Self {
        self.named = groups.into_iter().map(Members::new).collect();
        self
    }

    /// The same with templates of these names.
    pub(crate) fn with_templates(mut self, names: Vec<Box<str>>) -> Self {
        self.templates = names;
        self
    }

    /// Where the cluster is.
    pub(crate) const fn stage(&self) -> Stage {
        self.stage
    }

    /// The phase that it has reached.
    pub(crate) const fn phase(&self) -> StartTime {
        self.phase
    }

    /// The registered workers.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// When the next [`super::Event::Tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// True when programs may attach.
    pub(crate) const fn accepts_sessions(&self) -> bool {
        matches!(self.stage, Stage::Accepting)
    }

    /// True when workers may start.
    pub(crate) const fn starts_workers(&self) -> bool {
        matches!(self.stage, Stage::Accepting | Stage::Draining)
    }

    /// True when a new worker is put on the list.
    pub(crate) const fn accepts_workers(&self) -> bool {
        self.starts_workers() && self.crashed.is_none()
    }

    /// True when any worker that needs nothing else may start at once: in normal service, with the
    /// last phase reached, and with no start before it.
    pub(crate) fn starts_at_once(&self) -> bool {
        self.stage == Stage::Accepting
            && self.crashed.is_none()
            && self.phase == StartTime::RecoveryFinished
            && self.start_queue.is_empty()
    }

    /// How many workers may have a second process at a time.
    pub(crate) const fn overlap(&self) -> u32 {
        self.policy.overlap
    }

    /// True when a roll may begin.
    pub(crate) const fn accepts_rolls(&self) -> bool {
        self.accepts_workers()
    }

    /// True when the cluster stops.
    pub(super) const fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping | Stage::Over(_))
    }

    /// True when no process of a worker is left.
    pub(super) fn all_ended(&self) -> bool {
        self.registry.running() == 0 && self.groups.is_empty() && self.berths.lent == 0
    }

    /// Takes a worker that has no process off the list.
    pub(super) fn drop_unstarted(&mut self, key: Key, why: NotStarted, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get(key) else { return };
        if let Progress::Resting { due } = entry.progress {
            self.timers.remove(due, Due::Restart(key.into()));
        }
        let ending = entry.ending_without_process(ExitCause::NotStarted(why));
        let ending = Ending { reset: self.crashed, ..ending };
        unregister(entry, ending, out);
        self.take_off(key);
    }

    /// A worker whose process has ended goes off the list: at once, or when its group has ended.
    pub(super) fn ended_for_good(
        &mut self,
        key: Key,
        end: ProcessEnd,
        group_left: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let ending = Ending { reset: self.crashed, ..entry.ending_of_process(end) };
        if group_left {
            report_clearing(entry, ending, out);
            self.registry.set_clearing(key, ending, None);
            self.changed(key);
        } else {
            unregister(entry, ending, out);
            self.take_off(key);
        }
    }

    /// Counts the failure that the end of a process is. True: the worker is given up.
    pub(super) fn count_failure(
        &mut self,
        key: Key,
        end: ProcessEnd,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(entry) = self.registry.get_mut(key) else { return false };
        let after_good_run = entry.was_good_run(end.ran_for, now);
        entry.given_up = entry.streak.failed(&entry.worker, after_good_run, now);
        let Some(limit) = entry.given_up else { return false };
        let cause = reported(end.cause, entry.lapse);
        out.push(Action::Log(Note::GivenUp(entry.subject(), cause, limit)));
        true
    }

    /// Takes all workers that have no process off the list.
    pub(super) fn drop_all_unstarted(&mut self, why: NotStarted, out: &mut Vec<Action>) {
        for key in self.registry.keys() {
            let unstarted = |entry: &Entry| {
                matches!(entry.progress, Progress::Unstarted | Progress::Resting { .. })
            };
            if self.registry.get(key).is_some_and(unstarted) {
                self.drop_unstarted(key, why, out);
            }
        }
    }
}

/// What follows when a worker leaves the list, or never gets on it. The slot is free before the
/// notify target gets its signal, so it finds the slot free.
pub(super) fn unregister(entry: &Entry, ending: Ending, out: &mut Vec<Action>) {
    out.push(Action::Log(Note::Unregistering(entry.subject())));
    out.push(Action::Unregister(entry.key, ending));
    out.extend(entry.notify.map(|target| Action::Notify(target, News::Ended)));
}

/// What follows when a worker has ended for good, and its slot is freed later.
pub(super) fn report_clearing(entry: &Entry, ending: Ending, out: &mut Vec<Action>) {
    out.push(Action::ReportClearing(entry.key, ending));
    out.extend(entry.notify.map(|target| Action::Notify(target, News::Ended)));
}

/// What follows when a worker ends that stays on the list to be restarted.
pub(super) fn report_stopped(entry: &Entry, ending: Ending, out: &mut Vec<Action>) {
    out.push(Action::ReportStopped(entry.key, ending));
    out.extend(entry.notify.map(|target| Action::Notify(target, News::Ended)));
}
