//! A child of the postmaster that is not a worker: the guardian or the output collector. It is
//! replaced when it dies, and ends last.

use crate::sys::fork::NewChild;
use crate::sys::wait;
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use rustix::process::Signal;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the postmaster waits after a fork has failed, or after a process younger than this has
/// died, before it forks the next one.
const DELAY: Duration = Duration::from_secs(1);
/// How long the postmaster, which ends itself, waits for a process that it has killed.
const END_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    started: Instant,
}

/// One such process, and those before it.
#[derive(Debug)]
pub(crate) struct Companion {
    /// What it is called in the log.
    name: &'static str,
    process: Option<Process>,
    /// Dead ones that cannot be reaped: their tracer holds their ends back.
    traced: Vec<Process>,
    /// When the next one is to be forked; `None`: there is one, or none is wanted.
    due: Option<Instant>,
}

impl Companion {
    /// None is forked yet.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, process: None, traced: Vec::new(), due: None }
    }

    /// A fork begins: unless it comes to a process another one is due.
    pub(crate) fn begin(&mut self) {
        self.due = Some(Instant::now() + DELAY);
    }

    /// It was forked.
    pub(crate) fn begun(&mut self, child: NewChild) -> io::Result<&OwnedFd> {
        let NewChild { pid, pidfd } = child;
        // It is our unreaped child.
        let pidfd = pidfd.inspect_err(|_| kill(pid))?;
        self.due = None;
        Ok(&self.process.insert(Process { pid, pidfd, started: Instant::now() }).pidfd)
    }

    /// One is wanted from now on.
    pub(crate) fn want(&mut self) {
        if self.process.is_none() && self.due.is_none() {
            self.due = Some(Instant::now());
        }
    }

    /// When the next one is to be forked.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// True if `pid` is this one's.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.process.iter().chain(&self.traced).any(|process| process.pid == pid)
    }

    /// The poller reports that the process has died, or that an earlier one can be reaped now. True
    /// if it has died. Another one is due then: at once, unless this one died young.
    pub(crate) fn ended(&mut self) -> bool {
        self.traced.retain(|process| !process.reap(self.name));
        let Some(process) = self.process.take_if(|process| process.has_ended()) else {
            return false;
        };
        tracing::warn!("{} process {} died; forking another one", self.name, process.pid);
        let now = Instant::now();
        let young = process.started.elapsed() < DELAY;
        self.due = Some(if young { now + DELAY } else { now });
        if !process.reap(self.name) {
            self.traced.push(process);
        }
        true
    }

    /// Waits until it has ended by itself. False: the time is over.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let deadline = Some(Instant::now() + limit);
        let waited = |process: &Process| pidfd::wait_for_end(&process.pidfd, deadline);
        self.process.as_ref().is_none_or(|process| waited(process).unwrap_or(false))
    }

    /// Ends it: the postmaster ends in order, and has no children left.
    pub(crate) fn end(&mut self) {
        self.due = None;
        if let Some(process) = self.process.take() {
            // ESRCH: it is dead already.
            let _ = pidfd::send(&process.pidfd, Signal::KILL);
            let _ = pidfd::wait_for_end(&process.pidfd, Some(Instant::now() + END_LIMIT));
            self.traced.push(process);
        }
        // A process that is still traced is left to its tracer.
        self.traced.retain(|process| !process.reap(self.name));
    }
}

/// Ends a child that is not kept.
pub(crate) fn kill(pid: Pid) {
    let _ = wait::kill_and_peek(pid).and_then(|_| wait::reap_by_pid(pid));
}

impl Process {
    fn has_ended(&self) -> bool {
        matches!(pidfd::wait_for_end(&self.pidfd, Some(Instant::now())), Ok(true))
    }

    /// False: it has not ended, or its tracer holds its end back.
    fn reap(&self, name: &str) -> bool {
        match wait::reap(&self.pidfd) {
            Ok(ended) => ended.is_some(),
            Err(error) => {
                tracing::error!("reaping {name} process {} failed: {error}", self.pid);
                true
            }
        }
    }
}
