//! The worker processes that run, by slot and by pid.
//!
//! A child is found by the index of its slot, in a table that a fork leaves out
//! (`sys/private_table.rs`). The pid finds the children that a registration names as notify target.

use crate::child::Mailbox;
use crate::fault;
use crate::rules::{NotifyTarget, StopSignal};
use crate::sys::private_table::PrivateTable;
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use rustix::process::Signal;
use shmem_slots::Key;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Initial capacity; compact, so that few pages are copied after a fork.
const CAPACITY: usize = 8;

/// A running worker process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) key: Key,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) started: Instant,
    /// The mailbox of one that was a spare.
    pub(crate) mailbox: Option<Mailbox>,
}

/// All running worker processes.
#[derive(Debug)]
pub(crate) struct Children {
    pub(super) by_slot: PrivateTable<Child>,
    pub(super) by_pid: HashMap<Pid, Key>,
}

impl Children {
    pub(crate) fn new() -> Self {
        Self { by_slot: PrivateTable::default(), by_pid: HashMap::with_capacity(CAPACITY) }
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

    /// Sends a stop signal to the process of `key`.
    pub(crate) fn stop(&self, key: Key, stop: StopSignal) {
        let number = match stop {
            StopSignal::Terminate => Signal::TERM,
            StopSignal::Quit => Signal::QUIT,
            StopSignal::Kill => Signal::KILL,
        };
        if let Some(child) = self.get(key) {
            fault::point("stop:before_signal");
            signal(child, number);
            fault::point("stop:after_signal");
        }
    }

    /// Sends SIGHUP to every child.
    pub(crate) fn reload_all(&self) {
        for child in self.by_slot.iter() {
            signal(child, Signal::HUP);
        }
    }

    fn get(&self, key: Key) -> Option<&Child> {
        self.by_slot.get(key.index as usize).filter(|child| child.key == key)
    }
}

fn signal(child: &Child, signal: Signal) {
    // ESRCH: it has ended, and the poller reports it.
    if let Err(error) = pidfd::send(&child.pidfd, signal) {
        tracing::debug!("signalling worker process {} failed: {error}", child.pid);
    }
}
