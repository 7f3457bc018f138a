//! The postmaster's private list of registered workers, by slot.
//!
//! Shared memory mirrors facts of this list and is never asked for them: what a backend scribbles
//! there changes nothing here. Every look-up is by slot index, so its cost does not grow with the
//! number of workers. Children do not get it (`sys/private_table.rs`).

use crate::sys::private_table::PrivateTable;
use bgw_core::{BackgroundWorker, Pid, RestartPolicy, WorkerFlags};
use shmem_slots::Key;
use std::time::Instant;

/// Who is told by SIGUSR1 about a worker. Names one life of one process, never a bare pid: a child
/// by its slot's tenancy and pid, a peer by its session's number, which is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyTarget {
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

/// Where one registered worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No process yet: its phase is not reached, or it stands in the start queue.
    Unstarted,
    /// A process runs.
    Running {
        /// The process.
        pid: Pid,
        /// The signal that somebody's request, or a shutdown, made us send last.
        told: Option<Told>,
    },
    /// It has ended and waits for its restart.
    Resting {
        /// When it is due.
        due: Instant,
    },
}

/// What a running worker was told to do by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// SIGTERM: end in order.
    Terminate,
    /// SIGQUIT: end at once, touch nothing.
    Quit,
    /// SIGKILL.
    Die,
}

/// One registered worker.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its slot and generation.
    pub key: Key,
    /// The checked copy of its description.
    pub worker: BackgroundWorker,
    /// Who is told when it starts or ends.
    pub notify: Option<NotifyTarget>,
    /// Where it stands.
    pub progress: Progress,
    /// Somebody asked for its end.
    pub terminate: bool,
    /// How many times it was started after the first.
    pub restarts: u32,
    /// True once a process was started for it.
    pub started_before: bool,
    /// True while its key stands in the start queue.
    pub queued: bool,
}

impl Entry {
    /// A worker that was just registered.
    #[must_use]
    pub fn new(key: Key, worker: BackgroundWorker, notify: Option<NotifyTarget>) -> Self {
        Self {
            key,
            worker,
            notify,
            progress: Progress::Unstarted,
            terminate: false,
            restarts: 0,
            started_before: false,
            queued: false,
        }
    }

    /// How many times it will have been restarted once it starts again.
    #[must_use]
    pub const fn next_restarts(&self) -> u32 {
        self.restarts + self.started_before as u32
    }

    /// The process, if one runs.
    #[must_use]
    pub const fn pid(&self) -> Option<Pid> {
        match self.progress {
            Progress::Running { pid, .. } => Some(pid),
            Progress::Unstarted | Progress::Resting { .. } => None,
        }
    }

    /// True when its crash puts shared state in doubt.
    #[must_use]
    pub fn shares_memory(&self) -> bool {
        self.worker.flags().contains(WorkerFlags::SHMEM_ACCESS)
    }

    /// True when it is never started a second time.
    #[must_use]
    pub fn never_restarts(&self) -> bool {
        self.worker.restart() == RestartPolicy::Never
    }
}

/// All registered workers.
#[derive(Debug, Default)]
pub struct Registry {
    by_slot: PrivateTable<Entry>,
    running: usize,
    len: usize,
}

impl Registry {
    /// How many workers are registered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many worker processes run.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// The worker of `key`, or `None` when that tenancy is over.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&Entry> {
        self.at(key.index).filter(|entry| entry.key == key)
    }

    /// The worker in slot `index`.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&Entry> {
        self.by_slot.get(index as usize)
    }

    /// The worker of `key`, to change anything but whether it runs.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let entry = self.by_slot.get_mut(key.index as usize)?;
        (entry.key == key).then_some(entry)
    }

    /// Adds a worker; an older tenant of the slot is replaced.
    pub fn insert(&mut self, entry: Entry) {
        self.running += usize::from(entry.pid().is_some());
        self.len += 1;
        if let Some(old) = self.by_slot.put(entry.key.index as usize, entry) {
            self.running -= usize::from(old.pid().is_some());
            self.len -= 1;
        }
    }

    /// Takes a worker off the list.
    pub fn remove(&mut self, key: Key) -> Option<Entry> {
        self.get(key)?;
        let entry = self.by_slot.take(key.index as usize)?;
        self.running -= usize::from(entry.pid().is_some());
        self.len -= 1;
        Some(entry)
    }

    /// Moves a worker to another progress.
    pub fn set_progress(&mut self, key: Key, progress: Progress) {
        let Some(entry) = self.get_mut(key) else { return };
        let before = entry.pid().is_some();
        entry.progress = progress;
        let after = entry.pid().is_some();
        self.running = self.running + usize::from(after) - usize::from(before);
    }

    /// All workers, in slot order. Costs a look at every slot that was ever used: for events that
    /// concern all workers (a phase, a shutdown, a crash), never for those that concern one.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_slot.iter()
    }

    /// The keys of all workers, so that each can be looked up and changed.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|entry| entry.key).collect()
    }

    /// Empties the list.
    pub fn take_all(&mut self) -> Vec<Entry> {
        self.running = 0;
        self.len = 0;
        let keys = self.keys();
        keys.into_iter().filter_map(|key| self.by_slot.take(key.index as usize)).collect()
    }
}
