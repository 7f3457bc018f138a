//! The postmaster's private list of registered workers, by slot.
//!
//! Shared memory mirrors facts of this list and is never asked for them: what a backend writes there
//! changes nothing here. Every look-up is by slot index, so its cost does not grow with the number of
//! workers. Children do not have it (`sys/private_table.rs`).

use super::ending::{Ending, ProcessEnd};
use crate::sys::private_table::PrivateTable;
use bgw_core::{BackgroundWorker, ExitCause, Pid, RestartPolicy, WorkerFlags};
use shmem_slots::Key;
use std::time::Instant;

/// Who gets SIGUSR1 about a worker. It names one life of one process, never a bare pid: a child by its
/// slot's tenancy and pid, a peer by its session's number, which is never used again.
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
        /// The strictest stop signal that it was sent.
        stop_signal: Option<StopSignal>,
    },
    /// It has ended and waits for its restart.
    Resting {
        /// When it is due.
        due: Instant,
    },
    /// It has ended, and processes of its group are left. What follows waits for their end.
    Clearing {
        /// How it ended.
        ending: Ending,
        /// When it is restarted; `None`: it goes off the list.
        restart: Option<Instant>,
    },
}

/// A signal that makes a worker end. A stricter one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopSignal {
    /// SIGTERM: end in order.
    Terminate,
    /// SIGQUIT: end at once, touch nothing.
    Quit,
    /// SIGKILL.
    Kill,
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
    /// How many times it was started after the first.
    pub(crate) restarts: u32,
    /// True once a process was started for it.
    pub(crate) started_before: bool,
    /// True while its key is in the start queue.
    pub(crate) queued: bool,
    /// When it is killed, if it has not ended by then.
    pub(crate) kill_at: Option<Instant>,
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
            restarts: 0,
            started_before: false,
            queued: false,
            kill_at: None,
        }
    }

    /// The number of restarts once it starts again.
    pub(crate) const fn next_restarts(&self) -> u32 {
        self.restarts + self.started_before as u32
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
        Ending { process: ran.then_some(end), ..self.ending_without_process(end.cause) }
    }

    /// It ended without a process.
    pub(super) fn ending_without_process(&self, cause: ExitCause) -> Ending {
        let stopped = matches!(self.progress, Progress::Running { stop_signal: Some(_), .. });
        let requested = self.terminate || stopped;
        Ending { cause, restarts: self.restarts, requested, process: None }
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

/// All registered workers.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_slot: PrivateTable<Entry>,
    running: usize,
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
    pub(crate) fn insert(&mut self, entry: Entry) {
        self.running += usize::from(entry.pid().is_some());
        if let Some(old) = self.by_slot.put(entry.key.index as usize, entry) {
            self.running -= usize::from(old.pid().is_some());
        }
    }

    /// Takes a worker off the list.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Entry> {
        self.get(key)?;
        let entry = self.by_slot.take(key.index as usize)?;
        self.running -= usize::from(entry.pid().is_some());
        Some(entry)
    }

    /// Changes how far a worker is, and keeps count of the running ones.
    pub(crate) fn set_progress(&mut self, key: Key, progress: Progress) {
        let Some(entry) = self.get_mut(key) else { return };
        let before = entry.pid().is_some();
        entry.progress = progress;
        let after = entry.pid().is_some();
        self.running = self.running + usize::from(after) - usize::from(before);
    }

    /// All workers, in slot order. Looks at every slot that was ever used: for events that concern all
    /// workers (a phase, a shutdown, a crash), never for those that concern one.
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
        let keys = self.keys();
        keys.into_iter().filter_map(|key| self.by_slot.take(key.index as usize)).collect()
    }
}
