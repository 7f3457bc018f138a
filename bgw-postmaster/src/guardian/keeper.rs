//! The postmaster's side of its guardian: it forks one, forks another when that has died, and ends it.

use super::watch::Watch;
use crate::sys::fork::NewChild;
use crate::sys::roster::Roster;
use crate::sys::title::Title;
use crate::sys::wait;
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use rustix::process::Signal;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after a guardian could not be forked, or after one died that was as young, the next one is
/// forked.
const DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    started: Instant,
}

/// The guardian of this postmaster.
#[derive(Debug)]
pub(crate) struct Guardian {
    watch: Watch,
    process: Option<Process>,
    /// When the next one is to be forked; `None`: there is one.
    due: Option<Instant>,
}

impl Guardian {
    /// None is forked yet.
    pub(crate) const fn new(
        roster: Arc<Roster>,
        postmaster: Arc<OwnedFd>,
        lock: Option<Arc<OwnedFd>>,
    ) -> Self {
        Self { watch: Watch { roster, postmaster, lock }, process: None, due: None }
    }

    /// Forks a guardian by `fork`, whose child calls what it gets, and ends with the result.
    pub(crate) fn start(
        &mut self,
        title: &[&str],
        fork: impl FnOnce(&dyn Fn(&mut Title) -> i32) -> io::Result<NewChild>,
    ) -> io::Result<&OwnedFd> {
        // Unless there is a guardian at the end of this call, another one is due.
        self.due = Some(Instant::now() + DELAY);
        self.watch.roster.show_to_next_child()?;
        let child = fork(&|shown| self.watch.keep(shown, title));
        // Before anything else is forked: no worker has the roster.
        let hidden = self.watch.roster.hide_from_later_children();
        let NewChild { pid, pidfd } = child?;
        let pidfd = hidden.and(pidfd).inspect_err(|_| {
            // It is our unreaped child.
            let _ = wait::kill_and_peek(pid).and_then(|_| wait::reap_by_pid(pid));
        })?;
        self.due = None;
        Ok(&self.process.insert(Process { pid, pidfd, started: Instant::now() }).pidfd)
    }

    /// When the next guardian is to be forked.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// True if `pid` is the guardian's.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.process.as_ref().is_some_and(|process| process.pid == pid)
    }

    /// Its pidfd is readable: it has died. Another one is due: at once, unless it was young.
    pub(crate) fn died(&mut self) {
        let Some(process) = self.process.take() else { return };
        tracing::warn!("guardian process {} died; forking another one", process.pid);
        process.reap();
        let now = Instant::now();
        let young = process.started.elapsed() < DELAY;
        self.due = Some(if young { now + DELAY } else { now });
    }

    /// Ends it: the postmaster ends in order, and has no children left.
    pub(crate) fn end(&mut self) {
        self.due = None;
        if let Some(process) = self.process.take() {
            // ESRCH: it is dead already.
            let _ = pidfd::send(&process.pidfd, Signal::KILL);
            process.reap();
        }
    }
}

impl Process {
    fn reap(&self) {
        if let Err(error) = wait::reap_blocking(&self.pidfd) {
            tracing::error!("reaping guardian process {} failed: {error}", self.pid);
        }
    }
}
