//! The postmaster's private list of registered workers, by slot.
//!
//! Shared memory mirrors facts of this list and is never asked for them: what a backend writes
//! there changes nothing here. Every look-up is by slot index, so its cost does not grow with the
//! number of workers. Children do not have it (`sys/private_table.rs`).

use super::ending::{Ending, ProcessEnd};
use super::lapse::{Lapse, StartClock, reported};
use super::members::Place;
use super::names::Names;
use super::overlap::Overlap;
use super::pulse::Pulse;
use super::run_limits::RunLimits;
use super::stop_level::StopLevel;
use super::streak::Streak;
use super::subject::Subject;
use crate::sys::private_table::PrivateTable;
use bgw_core::internals::check_targets;
use bgw_core::{
    AskedBy, BackgroundWorker, ExitCause, GivenUp, NotStarted, Pid, Recycled, RelationError,
    RestartPolicy, WorkerFlags,
};
use shmem_slots::Key;
use std::time::{Duration, Instant};

// Signals are below 256.
const SIGKILL: u8 = libc::SIGKILL as u8;

/// Who gets SIGUSR1 about a worker. It names one life of one process, never a bare pid: a child by
/// its slot's tenancy and pid, a peer by its session's number, which is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotifyTarget {
    /// A worker of this postmaster.
    Child {
        /// Its slot and generation.
        key: Key,
        /// Its process.
        pid: Pid,
    },
    /// An attached program.
    Session(u64),
}

/// How far one registered worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has no process: its phase is not reached, or it waits in the start queue.
    Unstarted,
    /// A process runs.
    Running {
        pid: Pid,
        /// The strictest stop level that it was sent.
        stop_signal: Option<StopLevel>,
    },
    /// It has ended and waits for its restart.
    Resting {
        /// When it is due.
        due: Instant,
    },
    /// It has ended, and processes of its group are left. What follows waits for their end.
    Clearing {
        /// When it is restarted; `None`: it goes off the list.
        restart: Option<Instant>,
    },
}

/// One registered worker.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its slot and generation.
    pub(crate) key: Key,
    /// The checked copy of its description.
    pub(crate) worker: BackgroundWorker,
    /// Who gets SIGUSR1 when it starts or ends.
    pub(crate) notify: Option<NotifyTarget>,
    /// How far it is.
    pub(crate) progress: Progress,
    /// Its end was requested.
    pub(crate) terminate: bool,
    /// Who asked for its end, or for that of its run.
    pub(crate) asked_by: Option<AskedBy>,
    /// How many times it was started after the first.
    pub(crate) restarts: u32,
    /// A process was started for it, so that the next start is a restart.
    pub(crate) started_before: bool,
    /// How many processes were started for it. It wraps around.
    pub(crate) run: u32,
    /// True while its key is in the start queue.
    pub(crate) queued: bool,
    /// How many were registered before it.
    pub(crate) registered: u64,
    /// When a shutdown told it to end.
    pub(crate) told_at: Option<Instant>,
    /// When it is killed, if it has not ended by then, or what it has left behind is.
    pub(crate) kill_at: Option<Instant>,
    /// When its process said that it is ready.
    pub(crate) ready_at: Option<Instant>,
    /// The clock of its start, while it runs.
    pub(crate) start_clock: Option<StartClock>,
    /// What looks at its beats have found, while they are watched.
    pub(crate) pulse: Option<Pulse>,
    /// What the postmaster makes its process end for.
    pub(crate) lapse: Option<Lapse>,
    /// Its failures.
    pub(crate) streak: Streak,
    /// The limit that it was given up at.
    pub(crate) given_up: Option<GivenUp>,
    /// What its run may use.
    pub(crate) limits: RunLimits,
    /// It was told to end so that its next run takes its place.
    pub(crate) recycled: Option<Recycled>,
    /// When it was registered, as its registrant says, by any clock.
    pub(crate) registered_at: u64,
    /// Its group, by number, and its place there.
    pub(crate) member: Option<(usize, Place)>,
    /// It does not start: its group stops, or others start first.
    pub(crate) held: bool,
    /// Which of the workers that it starts after have exited with 0: a bit for each.
    pub(crate) done: u8,
    /// How it ended, while it is [`Progress::Clearing`]. Boxed, as the next one: few have it, and
    /// an entry is built on the stack.
    pub(crate) cleared: Option<Box<Ending>>,
    /// How far it is with a second process.
    pub(crate) overlap: Option<Overlap>,
    /// It caused the reset under way, by this end, and starts at this time.
    pub(crate) culprit: Option<Box<(Ending, Instant)>>,
}

/// A worker that was registered, and is not on the list yet.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) key: Key,
    pub(crate) worker: Box<BackgroundWorker>,
    pub(crate) notify: Option<NotifyTarget>,
    pub(crate) terminate: bool,
    pub(crate) registered_at: u64,
}

impl Newcomer {
    /// How a log line names it.
    pub(super) fn subject(&self) -> Subject {
        Subject { name: self.worker.name().into(), key: self.key, pid: None }
    }

    /// As it is on the list.
    #[inline]
    pub(super) fn into_entry(self) -> Entry {
        let Self { key, worker, notify, terminate, registered_at } = self;
        Entry { terminate, registered_at, ..Entry::new(key, *worker, notify) }
    }
}

impl Entry {
    /// A new worker.
    pub(crate) fn new(key: Key, worker: BackgroundWorker, notify: Option<NotifyTarget>) -> Self {
        Self {
            key,
            worker,
            notify,
            progress: Progress::Unstarted,
            terminate: false,
            asked_by: None,
            restarts: 0,
            started_before: false,
            run: 0,
            queued: false,
            registered: 0,
            told_at: None,
            kill_at: None,
            ready_at: None,
            start_clock: None,
            pulse: None,
            lapse: None,
            streak: Streak::default(),
            given_up: None,
            limits: RunLimits::default(),
            recycled: None,
            registered_at: 0,
            member: None,
            held: false,
            done: 0,
            cleared: None,
            overlap: None,
            culprit: None,
        }
    }

    /// Somebody asks for its end.
    pub(super) fn ask(&mut self, by: AskedBy) {
        self.asked_by = self.asked_by.max(Some(by));
    }

    /// How a log line names it.
    pub(super) fn subject(&self) -> Subject {
        Subject { name: self.worker.name().into(), key: self.key, pid: self.pid() }
    }

    /// How a log line names one of its processes.
    pub(super) fn subject_of(&self, pid: Pid) -> Subject {
        Subject { pid: Some(pid), ..self.subject() }
    }

    /// The number of restarts once it starts again. A next run beside the present one is none.
    pub(crate) const fn next_restarts(&self) -> u32 {
        self.restarts + (self.started_before && !self.is_lent()) as u32
    }

    /// The process, if one runs.
    pub(crate) const fn pid(&self) -> Option<Pid> {
        match self.progress {
            Progress::Running { pid, .. } => Some(pid),
            Progress::Unstarted | Progress::Resting { .. } | Progress::Clearing { .. } => None,
        }
    }

    /// Its process ended. If it never became the worker's program, the worker did not run.
    pub(super) fn ending_of_process(&self, end: ProcessEnd) -> Ending {
        let ran = !matches!(end.cause, ExitCause::NotStarted(_));
        let told = Some(StopLevel::Kill);
        let killed = matches!(self.progress, Progress::Running { stop_signal, .. } if stop_signal == told)
            && matches!(end.cause, ExitCause::Signaled { signal: SIGKILL, .. });
        let ending = self.ending_without_process(reported(end.cause, self.lapse));
        Ending { process: ran.then_some(end), killed, ..ending }
    }

    /// It ended without a process.
    pub(super) fn ending_without_process(&self, cause: ExitCause) -> Ending {
        Ending {
            cause,
            restarts: self.restarts,
            asked_by: self.asked_by.max(implied_by(cause)),
            killed: false,
            streak: self.streak.failures,
            pause: None,
            given_up: self.given_up,
            recycled: None,
            reset: None,
            process: None,
        }
    }

    /// True if a run that ended at `now` was long enough to end a streak of failures.
    pub(super) fn was_good_run(&self, ran_for: Duration, now: Instant) -> bool {
        let ran_for = match (self.worker.ready(), self.ready_at) {
            (None, _) => ran_for,
            (Some(_), None) => return false,
            (Some(_), Some(at)) => now.saturating_duration_since(at).min(ran_for),
        };
        self.worker.reset_after().is_some_and(|least| ran_for >= least)
    }

    /// True if its next run is to start beside the present one.
    pub(crate) const fn is_lent(&self) -> bool {
        matches!(self.overlap, Some(Overlap::Lent(_))) && self.pid().is_some()
    }

    /// Its second process.
    pub(crate) fn beside(&self) -> Option<Pid> {
        Some(self.overlap.as_ref()?.process()?.pid)
    }

    /// True when its crash leaves shared state in doubt.
    pub(crate) fn shares_memory(&self) -> bool {
        self.worker.flags().contains(WorkerFlags::SHMEM_ACCESS)
    }

    /// True when it is never started a second time.
    pub(crate) fn never_restarts(&self) -> bool {
        self.worker.restart() == RestartPolicy::Never
    }
}

/// Who has asked for the end of a worker that did not run for this reason.
const fn implied_by(cause: ExitCause) -> Option<AskedBy> {
    match cause {
        ExitCause::NotStarted(NotStarted::Terminated) => Some(AskedBy::Terminate),
        ExitCause::NotStarted(NotStarted::ShuttingDown) => Some(AskedBy::Shutdown),
        ExitCause::NotStarted(NotStarted::ClusterReset) => Some(AskedBy::Reset),
        ExitCause::NotStarted(NotStarted::GroupGivenUp) => Some(AskedBy::Group),
        _ => None,
    }
}

/// All registered workers.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_slot: PrivateTable<Entry>,
    names: Names,
    running: usize,
    /// How many have been registered.
    registered: u64,
}

impl Registry {
    /// How many worker processes run.
    pub(crate) const fn running(&self) -> usize {
        self.running
    }

    /// The worker of `key`, or `None` when that tenancy is over.
    pub(crate) fn get(&self, key: Key) -> Option<&Entry> {
        self.at(key.index).filter(|entry| entry.key == key)
    }

    /// The worker in slot `index`.
    pub(crate) fn at(&self, index: u32) -> Option<&Entry> {
        self.by_slot.get(index as usize)
    }

    /// The worker of `key`, mutably. Progress changes through [`Registry::set_progress`].
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let entry = self.by_slot.get_mut(key.index as usize)?;
        (entry.key == key).then_some(entry)
    }

    /// Adds a worker; an older tenant of the slot is replaced.
    pub(crate) fn insert(&mut self, mut entry: Entry) {
        self.registered += 1;
        if entry.registered == 0 {
            entry.registered = self.registered;
        }
        self.running += usize::from(entry.pid().is_some());
        if let Some(old) = self.by_slot.get(entry.key.index as usize) {
            self.running -= usize::from(old.pid().is_some());
            self.names.remove(old.key, &old.worker);
        }
        self.names.insert(entry.key, &entry.worker);
        self.by_slot.put(entry.key.index as usize, entry);
    }

    /// Takes a worker off the list.
    pub(crate) fn remove(&mut self, key: Key) {
        let entry = self.by_slot.get(key.index as usize).filter(|entry| entry.key == key);
        if let Some(entry) = entry {
            self.running -= usize::from(entry.pid().is_some());
            self.names.remove(key, &entry.worker);
            self.by_slot.clear(key.index as usize);
        }
    }

    /// Checks a new worker against those that are registered.
    pub(super) fn check_relations(&self, worker: &BackgroundWorker) -> Result<(), RelationError> {
        let awaited = self.names.dependents(worker.name()).next().is_some();
        check_targets(worker, awaited, |name| self.owner(name).map(|entry| &entry.worker))
    }

    /// The worker that has this unique name.
    pub(crate) fn owner(&self, name: &str) -> Option<&Entry> {
        self.names.owner(name).and_then(|key| self.get(key))
    }

    /// Those that start after the worker of this unique name.
    pub(super) fn dependents(&self, name: &str) -> Vec<Key> {
        self.names.dependents(name).collect()
    }

    /// The worker has ended like this, and waits for the end of what it has left behind.
    pub(super) fn set_clearing(&mut self, key: Key, ending: Ending, restart: Option<Instant>) {
        self.set_progress(key, Progress::Clearing { restart });
        if let Some(entry) = self.get_mut(key) {
            entry.cleared = Some(Box::new(ending));
        }
    }

    /// Changes how far a worker is, and keeps count of the running ones.
    pub(crate) fn set_progress(&mut self, key: Key, progress: Progress) {
        let Some(entry) = self.get_mut(key) else { return };
        let before = entry.pid().is_some();
        entry.progress = progress;
        let after = entry.pid().is_some();
        self.running = self.running + usize::from(after) - usize::from(before);
    }

    /// All workers, in slot order. Looks at every slot that was ever used: for events that concern
    /// all workers (a phase, a shutdown, a crash), never for those that concern one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_slot.iter()
    }

    /// The keys of all workers, to look each up and change it.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|entry| entry.key).collect()
    }

    /// Empties the list.
    pub(crate) fn take_all(&mut self) -> Vec<Entry> {
        self.running = 0;
        self.names = Names::default();
        let keys = self.keys();
        keys.into_iter().filter_map(|key| self.by_slot.take(key.index as usize)).collect()
    }
}
