//! The children that close what takes time to close: what nobody has taken, large segments.
//!
//! A closer has the files open until the postmaster has closed its own, and ends. So the
//! postmaster's are never the last, and closing them takes no time. The closer takes as long as it
//! must, and nobody waits for it.

use super::envelope::{Condemned, Office};
use crate::sys::descriptors::keep_only;
use crate::sys::fork::NewChild;
use crate::sys::title::Title;
use crate::sys::{signals, wait};
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use nix::fcntl::OFlag;
use rustix::process::Signal;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// When a closer is forked after the fork of one has failed.
const DELAY: Duration = Duration::from_secs(1);
/// How long a postmaster that ends waits for them.
const END_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Closer {
    number: u64,
    pid: Pid,
    pidfd: OwnedFd,
    /// Whose envelopes it has, one of a session for each.
    sessions: Vec<u64>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Closers {
    postmaster: Pid,
    office: Rc<Office>,
    running: Vec<Closer>,
    next: u64,
    /// No closer is forked before.
    not_before: Option<Instant>,
}

impl Closers {
    pub(crate) const fn new(postmaster: Pid, office: Rc<Office>) -> Self {
        Self { postmaster, office, running: Vec::new(), next: 0, not_before: None }
    }

    /// When the next one is to be forked; `None`: nothing is to be closed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.office.has_condemned().then(|| self.not_before.unwrap_or_else(Instant::now))
    }

    /// Has a closer, forked by `fork`, close what nobody has taken. Returns its number and pidfd,
    /// to be watched. The child of the fork, which has descriptors of its own, calls what `fork`
    /// gets, and ends.
    pub(crate) fn start(
        &mut self,
        fork: impl FnOnce(&mut dyn FnMut(&mut Title) -> i32) -> io::Result<NewChild>,
    ) -> io::Result<(u64, &OwnedFd)> {
        let office = &self.office;
        // One that could not be watched.
        self.running.retain(|closer| !closer.reap(office));
        let condemned = self.office.take_condemned();
        let started = self.start_with(&condemned, fork);
        let (pid, pidfd, hold) = match started {
            Ok(started) => started,
            Err(error) => {
                condemned.into_iter().for_each(|envelope| self.office.condemn(envelope));
                self.not_before = Some(Instant::now() + DELAY);
                return Err(error);
            }
        };
        self.not_before = None;
        let sessions = condemned.iter().filter_map(|condemned| condemned.session).collect();
        // The child has them, and keeps them until its end of the pipe says that these are closed.
        drop(condemned);
        drop(hold);
        self.next += 1;
        let number = self.next;
        self.running.push(Closer { number, pid, pidfd, sessions });
        let last = self.running.last().ok_or(io::ErrorKind::NotFound)?;
        Ok((number, &last.pidfd))
    }

    fn start_with(
        &self,
        condemned: &[Condemned],
        fork: impl FnOnce(&mut dyn FnMut(&mut Title) -> i32) -> io::Result<NewChild>,
    ) -> io::Result<(Pid, OwnedFd, OwnedFd)> {
        let (gate, hold) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let mut gate = File::from(gate);
        let postmaster = self.postmaster;
        let NewChild { pid, pidfd } =
            fork(&mut |title| hold_until_closed(&mut gate, condemned, postmaster, title))?;
        // Without one it could not be reaped later.
        let pidfd = pidfd.inspect_err(|_| crate::companion::kill(pid))?;
        Ok((pid, pidfd, hold))
    }

    /// True if `pid` is one of theirs.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.running.iter().any(|closer| closer.pid == pid)
    }

    /// The poller reports closer `number`.
    pub(crate) fn ended(&mut self, number: u64) {
        let office = &self.office;
        // One that is traced is reported again.
        self.running.retain(|closer| closer.number != number || !closer.reap(office));
    }

    /// Ends all: the postmaster itself ends. One that hangs is left to its end.
    pub(crate) fn end_all(&mut self) {
        let deadline = Instant::now() + END_LIMIT;
        let office = &self.office;
        for closer in self.running.drain(..) {
            let _ = pidfd::wait_for_end(&closer.pidfd, Some(deadline));
            closer.reap(office);
        }
    }
}

impl Closer {
    /// False: it has not ended, or its tracer holds its end back.
    fn reap(&self, office: &Office) -> bool {
        if matches!(wait::reap(&self.pidfd), Ok(None)) {
            return false;
        }
        self.sessions.iter().for_each(|&session| office.closed(session));
        true
    }
}

/// The life of a closer. Its end closes the envelopes: a process that ends waits for no
/// connection's end.
fn hold_until_closed(
    gate: &mut File,
    condemned: &[Condemned],
    postmaster: Pid,
    title: &mut Title,
) -> i32 {
    let files = condemned.iter().map(|condemned| condemned.file.as_fd());
    let kept: Vec<_> = files.chain([gate.as_fd()]).collect();
    let alone = matches!(signals::die_with(postmaster, Signal::KILL), Ok(true));
    if !alone || keep_only(kept.into_iter()).is_err() {
        return 1;
    }
    title.show(&["bgw closer"]);
    // Nothing is written to it.
    let _ = gate.read(&mut [0]);
    0
}
