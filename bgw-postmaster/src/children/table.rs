//! The worker processes that run, by berth and by pid.
//!
//! A child is found by the number of its berth, which is that of its slot, in a table that a fork
//! leaves out (`sys/private_table.rs`). The pid finds the children that a registration names as
//! notify target.

use super::spent::Spent;
use crate::child::Mailbox;
use crate::fault;
use crate::quick_map::QuickMap;
use crate::rules::{NotifyTarget, StopLevel};
use crate::sys::private_table::PrivateTable;
use crate::sys::roster::{Place, Roster};
use crate::sys::{process_memory, process_stat, signals, wait};
use bgw_core::internals::{is_emptied, pidfd};
use bgw_core::{Pid, StopSignal};
use rustix::process::Signal;
use shmem_slots::Key;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// Initial capacity; compact, so that few pages are copied after a fork.
const CAPACITY: usize = 8;

/// A running worker process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) key: Key,
    /// Where it has its cells.
    pub(crate) berth: u32,
    pub(crate) pid: Pid,
    /// Its place in the roster.
    pub(crate) place: Place,
    pub(crate) pidfd: OwnedFd,
    pub(crate) started: Instant,
    /// The mailbox of one that was a spare.
    pub(crate) mailbox: Option<Mailbox>,
    /// Its stop signal.
    pub(crate) stop: StopSignal,
    /// Whether SIGHUP is a reload to it.
    pub(crate) hears_reload: HearsReload,
    /// Of a command that is to attach. Closed with this: its process has descriptors of its own by
    /// then.
    pub(crate) invitation: Option<OwnedFd>,
}

/// Whether SIGHUP is a reload to a worker.
///
/// | | another stop signal | SIGHUP is its stop signal |
/// |---|---|---|
/// | function | yes | no |
/// | command that is to attach | once it has taken its invitation | no |
/// | other command | no: it would end | no |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HearsReload {
    No,
    Yes,
    OnceAttached,
}

impl HearsReload {
    pub(crate) const fn of(is_command: bool, attaches: bool, stop: StopSignal) -> Self {
        match (stop, is_command) {
            (StopSignal::Hup, _) => Self::No,
            (_, false) => Self::Yes,
            (_, true) if attaches => Self::OnceAttached,
            (_, true) => Self::No,
        }
    }
}

impl Child {
    /// A program ignores SIGHUP before it takes its invitation (`bgw-core/src/invitation`).
    fn hears_reload(&self) -> bool {
        match self.hears_reload {
            HearsReload::No => false,
            HearsReload::Yes => true,
            HearsReload::OnceAttached => self.invitation.as_ref().is_some_and(is_emptied),
        }
    }
}

/// All running worker processes.
#[derive(Debug)]
pub(crate) struct Children {
    pub(super) by_berth: PrivateTable<Child>,
    pub(super) by_pid: QuickMap<Pid, (Key, u32)>,
    /// Groups that live on without their leader.
    pub(super) left_groups: Vec<LeftGroup>,
    /// Processes of these groups that send no SIGCHLD.
    pub(super) silent: Vec<(Pid, OwnedFd)>,
    /// The last look for orphans ended at a child of ours.
    pub(super) orphan_may_wait: bool,
    /// The children that this process had before it was a postmaster.
    pub(super) inherited: Vec<Pid>,
    pub(super) roster: Arc<Roster>,
    pub(crate) spent: Spent,
}

/// A group whose leader has ended. It stays in the roster.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftGroup {
    pub(super) leader: Pid,
    pub(super) place: Place,
    pub(super) stop: StopSignal,
}

impl Children {
    pub(crate) fn new(roster: Arc<Roster>) -> Self {
        Self {
            by_berth: PrivateTable::default(),
            by_pid: QuickMap::with_capacity_and_hasher(CAPACITY, Default::default()),
            left_groups: Vec::new(),
            silent: Vec::new(),
            orphan_may_wait: false,
            inherited: wait::children_of_this_process(),
            roster,
            spent: Spent::default(),
        }
    }

    /// Adds a child whose end the poller reports.
    pub(crate) fn insert(&mut self, child: Child) {
        self.by_pid.insert(child.pid, (child.key, child.berth));
        self.by_berth.put(child.berth as usize, child);
    }

    /// After the fork of `pid`, which is no worker yet, when nobody waits: has the kernel copy what
    /// the next start and the next end write to.
    pub(crate) fn touch(&mut self, pid: Pid) {
        self.by_pid.insert(pid, (Key { index: u32::MAX, generation: 0 }, u32::MAX));
        self.by_pid.remove(&pid);
    }

    /// The notify target that `pid` means now, if it is a child.
    pub(crate) fn target(&self, pid: Pid) -> Option<NotifyTarget> {
        self.by_pid.get(&pid).map(|&(key, _)| NotifyTarget::Child { key, pid })
    }

    /// The berth of a child.
    pub(crate) fn berth_of(&self, pid: Pid) -> Option<u32> {
        self.by_pid.get(&pid).map(|&(_, berth)| berth)
    }

    /// Sends SIGUSR1 to a child, if it still runs this worker.
    pub(crate) fn notify(&self, key: Key, pid: Pid) {
        let berth = self.by_pid.get(&pid).filter(|&&(of, _)| of == key).map(|&(_, berth)| berth);
        let child = berth.and_then(|berth| self.at(berth));
        if let Some(child) = child.filter(|child| child.pid == pid) {
            tell(child, Signal::USR1);
        }
    }

    /// Sends a stop signal to the process of berth `berth` and to its group.
    pub(crate) fn stop(&self, berth: u32, level: StopLevel) {
        if let Some(child) = self.at(berth) {
            if level == StopLevel::Abort {
                // The process that is silent shows where it is; its children did nothing wrong.
                signal(child, Signal::ABORT);
                return signal(child, Signal::CONT);
            }
            let stop = signal_of(level, child.stop);
            fault::point("stop:before_signal");
            if defers(child, stop) {
                signal(child, Signal::CONT);
            } else if !signals::signal_group(child.pid, stop) {
                // It has no group yet: it has just been forked.
                signal(child, stop);
                signal(child, Signal::CONT);
            }
            fault::point("stop:after_signal");
        }
    }

    /// True if somebody traces the process of berth `berth`.
    pub(crate) fn is_traced(&self, berth: u32) -> bool {
        self.at(berth).is_some_and(|child| process_stat::is_traced(child.pid))
    }

    /// Sends SIGHUP to every function and every attached command, but those that it would stop. A
    /// worker that did not ask for reloads ignores it.
    pub(crate) fn reload_all(&self) {
        for child in self.by_berth.iter().filter(|child| child.hears_reload()) {
            tell(child, Signal::HUP);
        }
    }

    /// How many bytes of memory the process of berth `berth` uses; `None` if that cannot be said.
    pub(crate) fn memory_of(&self, berth: u32) -> Option<u64> {
        process_memory::anonymous_bytes(self.at(berth)?.pid)
    }

    /// The process of berth `berth`.
    pub(crate) fn pid_at(&self, berth: u32) -> Option<Pid> {
        Some(self.at(berth)?.pid)
    }

    /// True if the process of berth `berth` has not ended, and its worker is not over.
    pub(crate) fn lives(&self, berth: u32) -> bool {
        self.at(berth).is_some_and(|child| {
            let ended = pidfd::wait_for_end(&child.pidfd, Some(Instant::now()));
            matches!(ended, Ok(false)) && !self.says_over(berth)
        })
    }

    /// Ends a sleep of the process of berth `berth` in `ppoll`: its latch is set.
    pub(crate) fn wake(&self, berth: u32) {
        if let Some(child) = self.at(berth) {
            tell(child, Signal::URG);
        }
    }

    pub(super) fn at(&self, berth: u32) -> Option<&Child> {
        self.by_berth.get(berth as usize)
    }
}

/// The signal of a level, for a worker with the stop signal `own`.
pub(super) const fn signal_of(level: StopLevel, own: StopSignal) -> Signal {
    match (level, own) {
        (StopLevel::Kill, _) => Signal::KILL,
        (StopLevel::Abort, _) => Signal::ABORT,
        (StopLevel::Quit, _) | (StopLevel::Terminate, StopSignal::Quit) => Signal::QUIT,
        (StopLevel::Terminate, StopSignal::Term) => Signal::TERM,
        (StopLevel::Terminate, StopSignal::Int) => Signal::INT,
        (StopLevel::Terminate, StopSignal::Hup) => Signal::HUP,
        (StopLevel::Terminate, StopSignal::Usr2) => Signal::USR2,
        (StopLevel::Terminate, StopSignal::Usr1) => Signal::USR1,
        (StopLevel::Terminate, StopSignal::Winch) => Signal::WINCH,
    }
}

/// True if the child raises `stop` itself, once it has taken its worker: it may be about to discard
/// what has come for the one before. What ends a process at once is not put off.
fn defers(child: &Child, stop: Signal) -> bool {
    let ends_at_once = matches!(stop, Signal::KILL | Signal::QUIT);
    !ends_at_once && child.mailbox.as_ref().is_some_and(|mailbox| mailbox.defers(stop))
}

/// Sends a signal that the worker is to hear.
fn tell(child: &Child, what: Signal) {
    if !defers(child, what) {
        signal(child, what);
    }
}

fn signal(child: &Child, signal: Signal) {
    // ESRCH: it has ended, and the poller reports it.
    if let Err(error) = pidfd::send(&child.pidfd, signal) {
        tracing::debug!("signalling worker process {} failed: {error}", child.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_reaches_functions_and_attached_commands_that_it_does_not_stop() {
        let rows = [
            (false, false, StopSignal::Term, HearsReload::Yes),
            (false, false, StopSignal::Hup, HearsReload::No),
            (true, false, StopSignal::Term, HearsReload::No),
            (true, false, StopSignal::Hup, HearsReload::No),
            (true, true, StopSignal::Quit, HearsReload::OnceAttached),
            (true, true, StopSignal::Hup, HearsReload::No),
        ];
        for (is_command, attaches, stop, hears) in rows {
            assert_eq!(HearsReload::of(is_command, attaches, stop), hears, "{stop:?}");
        }
    }
}
