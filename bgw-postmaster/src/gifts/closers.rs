//! The children that close what takes time to close: what nobody has taken, large segments, what
//! commands send with what they say of themselves.
//!
//! A closer has the files open until the postmaster has closed its own, and ends. So the
//! postmaster's are never the last, and closing them takes no time. The closer takes as long as it
//! must, and nobody waits for it but the run whose datagram it takes out.

use super::envelope::{Condemned, Office, Run, What};
use crate::sys::credential_socket;
use crate::sys::descriptors::keep_only;
use crate::sys::fork::NewChild;
use crate::sys::title::Title;
use crate::sys::{signals, wait};
use bgw_core::internals::pidfd;
use bgw_core::{ExitCause, Pid};
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
    /// What it closes.
    all: Vec<What>,
}

/// All closers that have not ended.
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
        let all = condemned.iter().map(|condemned| condemned.what).collect();
        // The child has them, and keeps them until its end of the pipe says that these are closed.
        drop(condemned);
        drop(hold);
        self.next += 1;
        let number = self.next;
        self.running.push(Closer { number, pid, pidfd, all });
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

    /// The runs whose first datagram one of them was to take out that has ended. False: it is still
    /// there.
    pub(crate) fn take_done(&mut self) -> Vec<(Run, bool)> {
        let done = self.office.take_done();
        if done.iter().any(|(_, taken_out)| !taken_out) {
            // Somebody kills them.
            self.not_before = Some(Instant::now() + DELAY);
        }
        done
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
        let ended = match wait::reap(&self.pidfd) {
            Ok(None) => return false,
            ended => ended.ok().flatten(),
        };
        let in_order = ended.is_some_and(|ended| ended.cause == ExitCause::Exited(0));
        self.all.iter().for_each(|&what| office.closer_ended(what, in_order));
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
    for one in condemned.iter().filter(|one| matches!(one.what, What::FirstOf(_))) {
        if credential_socket::take_out(&one.file).is_err() {
            return 1;
        }
    }
    // Nothing is written to it.
    let _ = gate.read(&mut [0]);
    0
}
