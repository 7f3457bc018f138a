//! The worker processes that run, by slot and by pid.
//!
//! A child is found by the index of its slot, in a table that a fork leaves out
//! (`sys/private_table.rs`). The pid finds the children that a registration names as notify target.

use crate::child::Mailbox;
use crate::fault;
use crate::rules::{NotifyTarget, StopSignal};
use crate::sys::private_table::PrivateTable;
use crate::sys::roster::{Place, Roster};
use crate::sys::{signals, wait};
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use rustix::process::Signal;
use shmem_slots::Key;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// Initial capacity; compact, so that few pages are copied after a fork.
const CAPACITY: usize = 8;

/// A running worker process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) key: Key,
    pub(crate) pid: Pid,
    /// Its place in the roster.
    pub(crate) place: Place,
    pub(crate) pidfd: OwnedFd,
    pub(crate) started: Instant,
    /// The mailbox of one that was a spare.
    pub(crate) mailbox: Option<Mailbox>,
    /// A program: SIGHUP would end it, and it has no way to ask for it.
    pub(crate) is_command: bool,
}

/// All running worker processes.
#[derive(Debug)]
pub(crate) struct Children {
    pub(super) by_slot: PrivateTable<Child>,
    pub(super) by_pid: HashMap<Pid, Key>,
    /// Groups that live on without their leader.
    pub(super) left_groups: Vec<LeftGroup>,
    /// The last look for orphans ended at a child of ours.
    pub(super) orphan_may_wait: bool,
    /// The children that this process had before it was a postmaster.
    pub(super) inherited: Vec<Pid>,
    pub(super) roster: Arc<Roster>,
}

/// A group whose leader has ended. It stays in the roster.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftGroup {
    pub(super) leader: Pid,
    pub(super) place: Place,
}

impl Children {
    pub(crate) fn new(roster: Arc<Roster>) -> Self {
        Self {
            by_slot: PrivateTable::default(),
            by_pid: HashMap::with_capacity(CAPACITY),
            left_groups: Vec::new(),
            orphan_may_wait: false,
            inherited: wait::children_of_this_process(),
            roster,
        }
    }

    /// Adds a child whose end the poller reports.
    pub(crate) fn insert(&mut self, child: Child) {
        self.by_pid.insert(child.pid, child.key);
        self.by_slot.put(child.key.index as usize, child);
    }

    /// The notify target that `pid` means now, if it is a child.
    pub(crate) fn target(&self, pid: Pid) -> Option<NotifyTarget> {
        self.by_pid.get(&pid).map(|&key| NotifyTarget::Child { key, pid })
    }

    /// Sends SIGUSR1 to a child, if it is still the same process.
    pub(crate) fn notify(&self, key: Key, pid: Pid) {
        if let Some(child) = self.get(key).filter(|child| child.pid == pid) {
            signal(child, Signal::USR1);
        }
    }

    /// Sends a stop signal to the process of `key` and to its group.
    pub(crate) fn stop(&self, key: Key, stop: StopSignal) {
        if let Some(child) = self.get(key) {
            fault::point("stop:before_signal");
            if !signals::signal_group(child.pid, signal_number(stop)) {
                // It has no group yet: it has just been forked.
                signal(child, signal_number(stop));
                signal(child, Signal::CONT);
            }
            fault::point("stop:after_signal");
        }
    }

    /// Sends SIGHUP to every function: those that did not ask for it ignore it.
    pub(crate) fn reload_all(&self) {
        for child in self.by_slot.iter().filter(|child| !child.is_command) {
            signal(child, Signal::HUP);
        }
    }

    fn get(&self, key: Key) -> Option<&Child> {
        self.by_slot.get(key.index as usize).filter(|child| child.key == key)
    }
}

/// The signal that a stop signal is.
pub(super) const fn signal_number(stop: StopSignal) -> Signal {
    match stop {
        StopSignal::Terminate => Signal::TERM,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Kill => Signal::KILL,
    }
}

fn signal(child: &Child, signal: Signal) {
    // ESRCH: it has ended, and the poller reports it.
    if let Err(error) = pidfd::send(&child.pidfd, signal) {
        tracing::debug!("signalling worker process {} failed: {error}", child.pid);
    }
}
